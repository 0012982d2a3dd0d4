"""Needs the task file. Makes results/<experiment>/NAME/dataset.nc: here simulated, by NAME.py.

Where data are measured, let the shell line fetch or convert them: whatever it runs has to write `output`.
"""


ruleorder: NAME_data > simulate


rule NAME_data:
    """Make the data of NAME."""
    input:
        code=library("hybridsam.data.simulate", "hybridsam.core.records", task_settings("NAME")["module"]),
    output:
        "results/{experiment}/NAME/dataset.nc",
    log:
        "logs/{experiment}/NAME/data.log",
    conda:
        "../../../envs/environment.yaml"
    params:
        settings=lambda wc: written({key: task_settings("NAME")[key] for key in ("module", "data")}),
    shell:
        logged("python -m hybridsam simulate --settings {params.settings:q} --output {output:q}")
