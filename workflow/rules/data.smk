"""Needs the task file. Makes results/<experiment>/<task>/dataset.nc: simulated, or measured, or from a twin.

Measured data are those of an archive, or a table of the user's own. With `data_seeds`, simulated data and twins of other
seeds than the task's own are made as well, in results/<experiment>/<task>/data=<seed>.

A task with data of another origin brings a rule of its own in rules/tasks/<task>.smk and says so with ruleorder.
"""


localrules:
    download,


rule simulate:
    """Simulate the data of a task."""
    input:
        code=lambda wc: library("hybridsam.data.simulate", "hybridsam.core.records", task_settings(wc.task)["module"]),
    output:
        "results/{experiment}/{task}/{data}dataset.nc",
    log:
        "logs/{experiment}/{task}/{data}simulate.log",
    wildcard_constraints:
        task=tasks_with("simulated"),
    conda:
        "../../envs/environment.yaml"
    params:
        settings=settings("data"),
    shell:
        logged("python -m hybridsam simulate --settings {params.settings:q} --output {output:q}")


rule download:
    """Fetch and verify an archive of measured data; only another checksum fetches it again."""
    output:
        "resources/{archive}.zip",
    log:
        "logs/download/{archive}.log",
    conda:
        "../../envs/environment.yaml"
    params:
        archives=experiment["archives"],
        md5=lambda wc: ARCHIVES[wc.archive]["md5"],
    shell:
        logged("python -m hybridsam download {wildcards.archive} --archives {params.archives:q} --output {output:q}")


rule twin:
    """Simulate a SYNTHETIC TWIN of an archive."""
    input:
        code=lambda wc: library("hybridsam.twins.archive", task_settings(wc.task)["twin_module"]),
    output:
        directory("results/{experiment}/{task}/{data}twin/{archive}"),
    log:
        "logs/{experiment}/{task}/{data}twin_{archive}.log",
    wildcard_constraints:
        task=tasks_with("twin"),
    conda:
        "../../envs/environment.yaml"
    params:
        settings=settings("archive", "twin_module", "twin"),
    shell:
        logged("python -m hybridsam twin --settings {params.settings:q} --output {output:q}")


rule convert:
    """Turn measured data, or their twin, into the data of a task."""
    input:
        archive=archive_of,
        code=lambda wc: library("hybridsam.data.chambers", "hybridsam.core.records", task_settings(wc.task)["module"]),
    output:
        "results/{experiment}/{task}/{data}dataset.nc",
    log:
        "logs/{experiment}/{task}/{data}convert.log",
    wildcard_constraints:
        task=tasks_with("measured", "twin"),
    conda:
        "../../envs/environment.yaml"
    params:
        settings=settings("archive", "data"),
        archives=lambda wc: archive_entry(task_settings(wc.task)["archive"]),
    shell:
        logged(
            "python -m hybridsam convert {input.archive:q} --archives {params.archives:q} "
            "--settings {params.settings:q} --output {output:q}"
        )


rule tabulate:
    """Turn a table of the user's own into the data of a task."""
    input:
        table=lambda wc: given(task_settings(wc.task)["table"]["file"]),
        code=library("hybridsam.data.table", "hybridsam.core.records"),
    output:
        "results/{experiment}/{task}/dataset.nc",
    log:
        "logs/{experiment}/{task}/tabulate.log",
    wildcard_constraints:
        task=tasks_with("own"),
    conda:
        "../../envs/environment.yaml"
    params:
        settings=settings("table"),
    shell:
        logged("python -m hybridsam tabulate --settings {params.settings:q} --output {output:q}")
