"""Needs dataset.nc, cube.nc, selection.csv, identification.nc. Makes figures/<figure>.pdf, .svg, .png and the .csv each was drawn from."""

FIGURES = ["predictions", "residuals", "theta_training", "errors_rho", "tradeoff", "losses", "landscape"]
OF_RUNS = ["predictions", "residuals"]  # figures of what lies in the run files alone
OF_IDENTIFICATION = ["landscape"]  # of what is known of theta without its truth

if workflow.is_main_process:  # which makes Snakemake's own report, where ../report/figure.rst is read
    from docutils.parsers.rst.directives import register_directive

    from hybridsam.report.directive import Caption

    register_directive("caption", Caption)


localrules:
    figure,


rule figure:
    """Draw one figure of a task."""
    input:
        dataset=first_data,
        cube="results/{experiment}/{task}/cube.nc",
        selection="results/{experiment}/{task}/selection.csv",
        runs=lambda wc: first_runs(wc) if wc.figure in OF_RUNS else [],
        identification=lambda wc: (
            results("{task}/identification.nc", task=wc.task) if wc.figure in OF_IDENTIFICATION else []
        ),
        code=library("hybridsam.figures.registry"),
    output:
        "results/{experiment}/{task}/figures/{figure}.pdf",
        "results/{experiment}/{task}/figures/{figure}.svg",
        report(
            "results/{experiment}/{task}/figures/{figure}.png",
            caption="../report/figure.rst",
            category="{task}",
            labels={"kind": "figure", "content": "{figure}"},
        ),
        csv="results/{experiment}/{task}/figures/{figure}.csv",
    log:
        "logs/{experiment}/{task}/figures/{figure}.log",
    conda:
        "../../envs/environment.yaml"
    params:
        rule=experiment["selection_rule"],
    shell:
        logged(
            "python -m hybridsam figure {wildcards.figure} --dataset {input.dataset:q} --cube {input.cube:q} "
            "--selection {input.selection:q} --rule {params.rule} --output {output:q}"
        )


rule figures:
    """All figures of the experiment."""
    input:
        results("{task}/figures/{figure}.png", task=TASKS, figure=FIGURES),
