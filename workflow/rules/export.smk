"""Needs cube.nc, selection.csv and run files. Makes models/<method>/model.safetensors and parameters.tsv of each task."""


localrules:
    export_model,


rule export_model:
    """Export a method's selected model: a PyTorch module without members, and theta as a PEtab parameter table."""
    input:
        dataset=first_data,
        cube="results/{experiment}/{task}/cube.nc",
        selection="results/{experiment}/{task}/selection.csv",
        runs=first_runs,
        weights=lambda wc: [str(Path(run).with_suffix(".safetensors")) for run in first_runs(wc)],
        verdict="results/{experiment}/{task}/verdict.csv",
        code=lambda wc: library("hybridsam.export", "hybridsam.analysis.selection", task_settings(wc.task)["module"]),
    output:
        model="results/{experiment}/{task}/models/{method}/model.safetensors",
        parameters="results/{experiment}/{task}/models/{method}/parameters.tsv",
    log:
        "logs/{experiment}/{task}/models/{method}.log",
    conda:
        "../../envs/environment.yaml"
    params:
        rule=experiment["selection_rule"],
    shell:
        logged(
            "python -m hybridsam export {input.cube:q} --dataset {input.dataset:q} --selection {input.selection:q} "
            "--method {wildcards.method} --rule {params.rule} --output {output.model:q} "
            "--parameters {output.parameters:q} --verdict {input.verdict:q}"
        )


rule models:
    """The selected models of the experiment, to take away."""
    input:
        results("{task}/models/{method}/model.safetensors", task=TASKS, method=METHODS),
