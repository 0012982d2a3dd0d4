"""Needs nothing. Makes docs/calibration.md: how often the verdicts on theta are right, on truths that are drawn at random."""

SCIENCES = ["pendulum", "spring", "hardening_spring", "damper"]


localrules:
    calibration,


rule calibrate:
    """Identify truths of one science, without them."""
    input:
        code=library("hybridsam.analysis.calibration"),
    output:
        "results/{experiment}/calibration/{science}.csv",
    log:
        "logs/{experiment}/calibration/{science}.log",
    conda:
        "../../envs/environment.yaml"
    threads: 1
    params:
        fields=experiment["calibration"]["fields"],
        trained=experiment["calibration"]["trained"],
    shell:
        logged(
            "python -m hybridsam calibrate {wildcards.science} --fields {params.fields} --trained {params.trained} "
            "--threads {threads} --output {output:q}"
        )


rule calibration:
    """Write down, in the documentation, how often the verdicts are right."""
    input:
        tables=results("calibration/{science}.csv", science=SCIENCES),
        code=library("hybridsam.report.calibration_page"),
    output:
        "docs/calibration.md",
    log:
        f"logs/{experiment['experiment']}/calibration.log",
    conda:
        "../../envs/environment.yaml"
    params:
        command=f"snakemake --cores 2 --configfile {' '.join(map(relpath, workflow.configfiles))} -- docs/calibration.md",
    shell:
        logged("python -m hybridsam calibration {input.tables:q} --made-by {params.command:q} --output {output:q}")
