"""Needs dataset.nc. Makes identifiability.csv: what can be known about theta before any training."""


rule diagnose:
    """Rank of the science-only Jacobian, science-only and least-norm theta."""
    input:
        dataset="results/{experiment}/{task}/dataset.nc",
        code=lambda wc: library("hybridsam.diagnose", "hybridsam.records", task_settings(wc.task)["module"]),
    output:
        "results/{experiment}/{task}/identifiability.csv",
    log:
        "logs/{experiment}/{task}/diagnose.log",
    conda:
        "../../envs/environment.yaml"
    params:
        settings=settings("model"),
    shell:
        "python -m hybridsam diagnose {input.dataset:q} --settings {params.settings:q} --output {output:q} 2> {log:q}"
