"""Needs the task file. Makes results/<experiment>/<task>/dataset.nc by simulation.

A task with data of another origin brings a rule of its own in rules/tasks/<task>.smk and says so with ruleorder.
"""


rule simulate:
    """Simulate the data of a task."""
    input:
        code=lambda wc: library("hybridsam.records", task_settings(wc.task)["module"]),
    output:
        "results/{experiment}/{task}/dataset.nc",
    log:
        "logs/{experiment}/{task}/simulate.log",
    conda:
        "../../envs/environment.yaml"
    params:
        settings=settings("data"),
    shell:
        "python -m hybridsam simulate --settings {params.settings:q} --output {output:q} 2> {log:q}"
