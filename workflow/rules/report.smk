"""Needs tables and figures. Makes report/index.html, a page for each task, and the executed notebooks beside them."""

TO_HTML = "jupyter nbconvert --log-level WARN --to html --no-input"


rule page:
    """The page of one task: its notebook, executed."""
    input:
        notebook="notebooks/task.ipynb",
        cube="results/{experiment}/{task}/cube.nc",
        selection="results/{experiment}/{task}/selection.csv",
        figures=results("{{task}}/figures/{figure}.png", figure=FIGURES),
        code=library("hybridsam.evaluate"),
    output:
        notebook="results/{experiment}/report/{task}.ipynb",
        html="results/{experiment}/report/{task}.html",
    log:
        "logs/{experiment}/report/{task}.log",
    conda:
        "../../envs/environment.yaml"
    shell:
        "(papermill {input.notebook:q} {output.notebook:q} --no-progress-bar -p task {wildcards.task} "
        "-p experiment {wildcards.experiment} && " + TO_HTML + " {output.notebook:q}) 2> {log:q}"


rule index:
    """The entry page of the report."""
    input:
        notebook="notebooks/overview.ipynb",
        table="results/{experiment}/table.csv",
        cubes=results("{task}/cube.nc", task=TASKS),
        pages=results("report/{task}.html", task=TASKS),
        code=library("hybridsam.evaluate"),
    output:
        notebook="results/{experiment}/report/index.ipynb",
        html="results/{experiment}/report/index.html",
    log:
        "logs/{experiment}/report/index.log",
    conda:
        "../../envs/environment.yaml"
    shell:
        "(papermill {input.notebook:q} {output.notebook:q} --no-progress-bar "
        "-p experiment {wildcards.experiment} && " + TO_HTML + " {output.notebook:q}) 2> {log:q}"


rule report:
    """The report of the experiment, and all it takes."""
    input:
        results("report/index.html"),
