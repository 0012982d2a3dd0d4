"""Needs tables and figures. Makes report/index.html, a page for each task, and the executed notebooks beside them."""

TEMPLATE = [shipped(f"notebooks/templates/page/{file}") for file in ("index.html.j2", "conf.json")]
# The kernel of notebooks is the Python that runs papermill, whatever python3 stands for in an environment or a module of a
# cluster: by Jupyter, "python" in the kernel.json that is found first is the Python that looks for it.
EXECUTE = (
    f"JUPYTER_PATH={shlex.quote(shipped('notebooks/kernel'))}${{JUPYTER_PATH:+:$JUPYTER_PATH}} "
    "papermill --no-progress-bar"
)
TO_HTML = (
    "jupyter nbconvert --log-level WARN --to html --template page "
    f"--TemplateExporter.extra_template_basedirs={shlex.quote(shipped('notebooks/templates'))}"
)


localrules:
    index,
    document,


rule page:
    """The page of one task: its notebook, executed."""
    input:
        notebook=shipped("notebooks/task.ipynb"),
        template=TEMPLATE,
        cube="results/{experiment}/{task}/cube.nc",
        table=lambda wc: results("{table}.csv", table=table_of(wc.task)),
        selection="results/{experiment}/{task}/selection.csv",
        identifiability="results/{experiment}/{task}/identifiability.csv",
        identification=multiext(
            "results/{experiment}/{task}/", "identification.nc", "identification.csv", "verdict.csv"
        ),
        figures=results("{{task}}/figures/{figure}.{kind}", figure=FIGURES, kind=["png", "csv"]),
        code=lambda wc: library(
            "hybridsam.report.task_page",
            "hybridsam.report.belief",
            "hybridsam.report.table_one",
            task_settings(wc.task)["module"],
        ),
    output:
        notebook="results/{experiment}/report/{task}.ipynb",
        html="results/{experiment}/report/{task}.html",
    log:
        "logs/{experiment}/report/{task}.log",
    conda:
        "../../envs/environment.yaml"
    params:
        results=lambda wc, output: Path(output.notebook).parents[2],
        execute=EXECUTE,
        to_html=TO_HTML,
    shell:
        logged(
            "({params.execute} {input.notebook:q} {output.notebook:q} -r task {wildcards.task} "
            "-r results {params.results:q} -r experiment {wildcards.experiment} "
            "&& {params.to_html} {output.notebook:q})"
        )


rule index:
    """The entry page of the report."""
    input:
        notebook=shipped("notebooks/overview.ipynb"),
        template=TEMPLATE,
        tables=results("{table}.csv", table=TABLES),
        cubes=results("{task}/cube.nc", task=TASKS),
        identifiability=results("{task}/identifiability.csv", task=TASKS),
        verdicts=results("{task}/verdict.csv", task=TASKS),
        pages=results("report/{task}.html", task=TASKS),
        code=library("hybridsam.report.index_page", "hybridsam.report.belief", "hybridsam.report.table_one"),
    output:
        notebook="results/{experiment}/report/index.ipynb",
        html=report(
            "results/{experiment}/report/index.html",
            caption="../report/report.rst",
            category="Report",
            labels={"kind": "page", "content": "index"},
        ),
    log:
        "logs/{experiment}/report/index.log",
    conda:
        "../../envs/environment.yaml"
    params:
        results=lambda wc, output: Path(output.notebook).parents[2],
        execute=EXECUTE,
        to_html=TO_HTML,
        tables=" ".join(TABLES),
        twins=", ".join(twins_of(TASKS)),
        left_out=" ".join(LEFT_OUT),
    shell:
        logged(
            "({params.execute} {input.notebook:q} {output.notebook:q} "
            "-r results {params.results:q} -r experiment {wildcards.experiment} "
            "-r table_names {params.tables:q} -r left_out '{params.left_out}' "
            "&& {params.to_html} {output.notebook:q})"
        )


rule document:
    """Write down what the experiment found, in the documentation."""
    input:
        table=results("table.csv"),
        cubes=results("{task}/cube.nc", task=TABLES["table"]),
        identifiability=results("{task}/identifiability.csv", task=TABLES["table"]),
        code=library("hybridsam.report.markdown_page"),
    output:
        "docs/results.md",
    log:
        f"logs/{experiment['experiment']}/document.log",
    conda:
        "../../envs/environment.yaml"
    params:
        folder=results(""),
        tasks=TABLES["table"],
        command=f"snakemake --cores 2 --configfile {' '.join(map(relpath, workflow.configfiles))} -- docs/results.md",
    shell:
        logged(
            "python -m hybridsam results {params.folder} --tasks {params.tasks} --made-by {params.command:q} "
            "--output {output:q}"
        )


rule report:
    """The report of the experiment, and all it takes."""
    input:
        results("report/index.html"),
