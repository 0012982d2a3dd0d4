"""Needs dataset.nc. Makes runs/<method>/rho=<rho>/seeds=<first>-<last>.nc and the trained weights beside it.

Checkpoints lie beside the folder runs, in checkpoints, which no rule declares: Snakemake would delete them before a
retry. The rule collect removes them.
"""


rule train:
    """Train one block of seeds of a task, on one of its datasets, by a method at a rho."""
    input:
        dataset="results/{experiment}/{task}/{data}dataset.nc",
        code=lambda wc: library("hybridsam.training.block", task_settings(wc.task)["module"]),
    output:
        runs="results/{experiment}/{task}/{data}runs/{method}/rho={rho}/seeds={seeds}.nc",
        weights="results/{experiment}/{task}/{data}runs/{method}/rho={rho}/seeds={seeds}.safetensors",
    log:
        "logs/{experiment}/{task}/{data}{method}/rho={rho}/seeds={seeds}.log",
    wildcard_constraints:
        method=methods_that(hold_theta=False),
    conda:
        "../../envs/environment.yaml"
    threads: 1
    resources:
        mem_mb=memory_of_training,
        runtime=runtime_of_training,
    params:
        settings=settings("model", "training"),
        checkpoints=lambda wc, output: Path(output.runs).parents[3] / "checkpoints",
    shell:
        logged(
            "python -m hybridsam train {input.dataset:q} --settings {params.settings:q} "
            "--method {wildcards.method} --rho {wildcards.rho} --seeds {wildcards.seeds} --threads {threads} "
            "--checkpoints {params.checkpoints:q} --output {output.runs:q}"
        )


rule refit:
    """Take theta from a block of runs of erm by an assumption about the missing part, hold it, and train phi anew."""
    input:
        dataset="results/{experiment}/{task}/{data}dataset.nc",
        erm="results/{experiment}/{task}/{data}runs/erm/rho=0/seeds={seeds}.nc",
        erm_weights="results/{experiment}/{task}/{data}runs/erm/rho=0/seeds={seeds}.safetensors",
        code=lambda wc: library("hybridsam.analysis.refitting", task_settings(wc.task)["module"]),
    output:
        runs="results/{experiment}/{task}/{data}runs/{method}/rho=0/seeds={seeds}.nc",
        weights="results/{experiment}/{task}/{data}runs/{method}/rho=0/seeds={seeds}.safetensors",
    log:
        "logs/{experiment}/{task}/{data}{method}/rho=0/seeds={seeds}.log",
    wildcard_constraints:
        method=methods_that(hold_theta=True),
    conda:
        "../../envs/environment.yaml"
    threads: 1
    resources:
        mem_mb=memory_of_training,
        runtime=runtime_of_training,
    params:
        settings=settings("model", "training", "assume", "thresholds"),
        checkpoints=lambda wc, output: Path(output.runs).parents[3] / "checkpoints",
    shell:
        logged(
            "python -m hybridsam refit {input.erm:q} --dataset {input.dataset:q} --settings {params.settings:q} "
            "--method {wildcards.method} --threads {threads} --checkpoints {params.checkpoints:q} --output {output.runs:q}"
        )
