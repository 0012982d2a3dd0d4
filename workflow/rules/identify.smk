"""Needs dataset.nc. Makes ensemble.nc, and from it identification.nc and .csv: theta by assumptions on what is missing."""


rule ensemble:
    """Train plain erm from starts of theta that are far apart."""
    input:
        dataset=first_data,
        code=lambda wc: library(
            "hybridsam.training.block", "hybridsam.training.ensemble", task_settings(wc.task)["module"]
        ),
    output:
        runs="results/{experiment}/{task}/ensemble.nc",
        weights="results/{experiment}/{task}/ensemble.safetensors",
    log:
        "logs/{experiment}/{task}/ensemble.log",
    conda:
        "../../envs/environment.yaml"
    threads: 1
    resources:
        mem_mb=memory_of_training,
        runtime=runtime_of_training,
    params:
        settings=settings("model", "training", "ensemble"),
        last=lambda wc: members_of(wc.task) - 1,
        checkpoints=lambda wc, output: Path(output.runs).parent / "checkpoints_of_ensemble",
    shell:
        logged(
            "(python -m hybridsam train {input.dataset:q} --settings {params.settings:q} --ensemble "
            "--method erm --rho 0 --seeds 0-{params.last} --threads {threads} "
            "--checkpoints {params.checkpoints:q} --output {output.runs:q} && rm -rf {params.checkpoints:q})"
        )


rule identify:
    """Theta from the whole that the ensemble agrees on, by each assumption about the part that the science lacks."""
    input:
        dataset=first_data,
        runs="results/{experiment}/{task}/ensemble.nc",
        weights="results/{experiment}/{task}/ensemble.safetensors",
        code=lambda wc: library("hybridsam.analysis.trust", task_settings(wc.task)["module"]),
    output:
        file="results/{experiment}/{task}/identification.nc",
        table=report(
            "results/{experiment}/{task}/identification.csv",
            caption="../report/identification.rst",
            category="{task}",
            labels={"kind": "table", "content": "identification"},
        ),
        verdict="results/{experiment}/{task}/verdict.csv",
    log:
        "logs/{experiment}/{task}/identify.log",
    conda:
        "../../envs/environment.yaml"
    params:
        settings=settings("assume", "tolerance"),
        data=lambda wc: data_of(wc.task),
    shell:
        logged(
            "python -m hybridsam identify {input.runs:q} --dataset {input.dataset:q} --settings {params.settings:q} "
            "--output {output.file:q} --table {output.table:q} --verdict {output.verdict:q}"
        )


rule identification:
    """What the data and each assumption about the missing part say of theta, for every task."""
    input:
        results("{task}/identification.csv", task=TASKS),
