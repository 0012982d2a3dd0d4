"""Needs dataset.nc. Makes ensemble.nc, and from it identification.nc (theta by assumptions) and profile.nc (theta held)."""


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
    threads: 2  # which its members share
    resources:
        mem_mb=lambda wc, attempt: memory_of_training(wc, attempt, members_of(wc.task)),
        runtime=lambda wc, attempt: runtime_of_training(wc, attempt, members_of(wc.task)),
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
        profile="results/{experiment}/{task}/profile.nc" if experiment["profiles"] else [],
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
        settings=settings("assume", "tolerance", "thresholds"),
        profile=lambda wc, input: f"--profile {input.profile}" if experiment["profiles"] else "",
        data=lambda wc: data_of(wc.task),
    shell:
        logged(
            "python -m hybridsam identify {input.runs:q} --dataset {input.dataset:q} --settings {params.settings:q} "
            "{params.profile} --output {output.file:q} --table {output.table:q} --verdict {output.verdict:q}"
        )


rule profile:
    """Hold each parameter at values between the starts of the ensemble, and refit phi."""
    input:
        dataset=first_data,
        runs="results/{experiment}/{task}/ensemble.nc",
        weights="results/{experiment}/{task}/ensemble.safetensors",
        code=lambda wc: library("hybridsam.analysis.profiles", task_settings(wc.task)["module"]),
    output:
        file="results/{experiment}/{task}/profile.nc",
        table="results/{experiment}/{task}/profile.csv",
    log:
        "logs/{experiment}/{task}/profile.log",
    conda:
        "../../envs/environment.yaml"
    threads: 2  # which its members share
    resources:
        mem_mb=lambda wc, attempt: memory_of_training(wc, attempt, held_of(wc.task)),
        runtime=lambda wc, attempt: runtime_of_training(wc, attempt, held_of(wc.task)),
    params:
        settings=settings("model", "training", "profile"),
        checkpoints=lambda wc, output: Path(output.file).parent / "checkpoints_of_profile",
    shell:
        logged(
            "(python -m hybridsam profile {input.runs:q} --dataset {input.dataset:q} --settings {params.settings:q} "
            "--threads {threads} --checkpoints {params.checkpoints:q} --output {output.file:q} "
            "--table {output.table:q} && rm -rf {params.checkpoints:q})"
        )


rule profile_figure:
    """Draw the profile of a task."""
    input:
        file="results/{experiment}/{task}/profile.nc",
        table="results/{experiment}/{task}/profile.csv",
        code=library("hybridsam.figures.profile"),
    output:
        "results/{experiment}/{task}/profile.pdf",
        "results/{experiment}/{task}/profile.svg",
        report(
            "results/{experiment}/{task}/profile.png",
            caption="../report/profile.rst",
            category="{task}",
            labels={"kind": "figure", "content": "profile"},
        ),
    log:
        "logs/{experiment}/{task}/profile_figure.log",
    conda:
        "../../envs/environment.yaml"
    shell:
        logged("python -m hybridsam profile-figure {input.file:q} --output {output:q}")


rule profiles:
    """Which values of theta the data allow, and how sharp the loss is at each, for every task."""
    input:
        results("{task}/profile.csv", task=TASKS),
        results("{task}/profile.png", task=TASKS),


rule identification:
    """What the data and each assumption about the missing part say of theta, for every task."""
    input:
        results("{task}/identification.csv", task=TASKS),
