"""Needs dataset.nc. Makes identifiability.csv: what can be known about theta before any training."""


rule diagnose:
    """Rank of the science-only Jacobian, science-only and least-norm theta."""
    input:
        dataset=first_data,
        code=lambda wc: library(
            "hybridsam.analysis.identifiability",
            "hybridsam.core.records",
            "hybridsam.data.units",
            task_settings(wc.task)["module"],
        ),
    output:
        report(
            "results/{experiment}/{task}/identifiability.csv",
            caption="../report/identifiability.rst",
            category="{task}",
            labels={"kind": "table", "content": "identifiability"},
        ),
    log:
        "logs/{experiment}/{task}/diagnose.log",
    conda:
        "../../envs/environment.yaml"
    params:
        settings=settings("model"),
        data=lambda wc: data_of(wc.task),
    shell:
        logged("python -m hybridsam diagnose {input.dataset:q} --settings {params.settings:q} --output {output:q}")
