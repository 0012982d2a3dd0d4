"""Needs tables and figures. Makes report/index.html, a page for each task, and the executed notebooks beside them."""

TEMPLATE = [shipped(f"notebooks/templates/page/{file}") for file in ("index.html.j2", "conf.json")]


localrules:
    index,
    document,


rule page:
    """The page of one task: its notebook, executed."""
    input:
        notebook=shipped("notebooks/task.ipynb"),
        template=TEMPLATE,
        execute=shipped("notebooks/execute.py"),
        cube="results/{experiment}/{task}/cube.nc",
        table=lambda wc: results("{table}.csv", table=table_of(wc.task)),
        selection="results/{experiment}/{task}/selection.csv",
        identifiability="results/{experiment}/{task}/identifiability.csv",
        identification=multiext(
            "results/{experiment}/{task}/", "identification.nc", "identification.csv", "verdict.csv"
        ),
        figures=results("{{task}}/figures/{figure}.{kind}", figure=FIGURES, kind=["png", "csv"]),
        profile=multiext("results/{experiment}/{task}/profile", ".png", ".csv") if experiment["profiles"] else [],
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
    shell:
        logged(
            "python {input.execute:q} {input.notebook:q} {output.notebook:q} task={wildcards.task} "
            "results={params.results:q} experiment={wildcards.experiment}"
        )


rule index:
    """The entry page of the report."""
    input:
        notebook=shipped("notebooks/overview.ipynb"),
        template=TEMPLATE,
        execute=shipped("notebooks/execute.py"),
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
        tables=" ".join(TABLES),
        twins=", ".join(twins_of(TASKS)),
        left_out=" ".join(LEFT_OUT),
    shell:
        logged(
            "python {input.execute:q} {input.notebook:q} {output.notebook:q} "
            "results={params.results:q} experiment={wildcards.experiment} "
            "table_names='{params.tables}' left_out='{params.left_out}'"
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
