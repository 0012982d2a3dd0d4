"""Needs the run files. Makes cube.nc and selection.csv of each task, and table.csv, table.md, table.html of them all.

Where some tasks are measured and others are twins of measurements, table_measured.* holds the measured ones.
"""

# Sections of the task file on which the runs of methods depend that take theta by an assumption.
OF_TWO_STAGES = ["assume", "thresholds"] if any(get_method(method).assumes for method in METHODS) else []


localrules:
    select,
    make_table,


rule collect:
    """Put all runs of a task on labelled axes."""
    input:
        datasets=all_data,
        runs=all_runs,
        code=lambda wc: library(
            "hybridsam.analysis.collect", "hybridsam.analysis.arrival", task_settings(wc.task)["module"]
        ),
    output:
        "results/{experiment}/{task}/cube.nc",
    log:
        "logs/{experiment}/{task}/collect.log",
    conda:
        "../../envs/environment.yaml"
    threads: lambda wc, input: min(4, 1 + len(input.runs) // 1000)
    params:
        runs=lambda wc, input: [str(Path(dataset).parent / "runs") for dataset in input.datasets],
        checkpoints=lambda wc, input: [str(Path(dataset).parent / "checkpoints") for dataset in input.datasets],
        settings=settings_and_changes("title", "model", "training", *OF_TWO_STAGES),
        grid=json.dumps(GRID),
        seeds=lambda wc: seed_ranges_of(wc.task),  # not the blocks, thousands of which do not fit on a line
        seeds_per_job=lambda wc: seeds_per_job(wc.task),
    shell:
        logged(
            "(python -m hybridsam collect {params.runs:q} --dataset {input.datasets:q} "
            "--settings {params.settings:q} --grid {params.grid:q} --seeds {params.seeds} "
            "--seeds-per-job {params.seeds_per_job} --threads {threads} --output {output:q} "
            "&& rm -rf {params.checkpoints:q})"
        )


rule select:
    """Choose each method's rho by every selection rule."""
    input:
        cube="results/{experiment}/{task}/cube.nc",
        code=library("hybridsam.analysis.selection"),
    output:
        report(
            "results/{experiment}/{task}/selection.csv",
            caption="../report/selection.rst",
            category="{task}",
            labels={"kind": "table", "content": "selected ρ"},
        ),
    log:
        "logs/{experiment}/{task}/select.log",
    conda:
        "../../envs/environment.yaml"
    params:
        data=lambda wc: data_of(wc.task),
    shell:
        logged("python -m hybridsam select {input.cube:q} --output {output:q}")


rule make_table:
    """Table 1 of the paper, for each selection rule."""
    input:
        selections=lambda wc: results("{task}/selection.csv", task=tasks_in(wc.table)),
        code=library("hybridsam.report.table_one"),
    output:
        csv="results/{experiment}/{table}.csv",
        markdown="results/{experiment}/{table}.md",
        html=report(
            "results/{experiment}/{table}.html",
            caption="../report/table.rst",
            category="Table 1",
            labels={"kind": "table", "content": "{table}"},
        ),
    log:
        "logs/{experiment}/{table}.log",
    conda:
        "../../envs/environment.yaml"
    params:
        twins=lambda wc: ", ".join(twins_of(tasks_in(wc.table))),
    shell:
        logged("python -m hybridsam table {input.selections:q} --output {output:q}")


rule table:
    """Table 1 of the experiment, and what it takes."""
    input:
        results("{table}.{kind}", table=TABLES, kind=["csv", "md", "html"]),
