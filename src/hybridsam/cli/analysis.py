"""Commands that put runs together, choose among them and export what was chosen."""

import json
import logging
from collections.abc import Sequence
from pathlib import Path

from hybridsam.cli.command import DATASET_OF_RUNS, RULE, SETTINGS, command, option, output

logger = logging.getLogger(__name__)

CUBE = option("cube", "cube.nc; it leads to the run files", type=Path)
SELECTION = option("--selection", "selection.csv", type=Path)


@command(
    "put all runs of a task on labelled axes",
    option("runs", "folder of the run files, <method>/rho=<rho>/seeds=<first>-<last>.nc", type=Path, nargs="+"),
    option("--dataset", "dataset.nc; of several folders one each", type=Path, nargs="+"),
    SETTINGS,
    option("--grid", "JSON, method -> values of rho; without it every file found", default=""),
    option("--seeds", "with --grid: first-last, several where some are left out", nargs="+", default=[]),
    option("--seeds-per-job", "with --grid: the most seeds in a file", type=int, default=1),
    option("--threads", "processes that read at once", type=int, default=1),
    output("cube.nc to write"),
)
def collect(
    runs: Sequence[Path],
    dataset: Sequence[Path],
    settings: Path,
    grid: str,
    seeds: Sequence[str],
    seeds_per_job: int,
    threads: int,
    output: Path,
) -> None:
    from hybridsam.analysis import collect as from_files
    from hybridsam.analysis.arrival import remarks, ways
    from hybridsam.analysis.cube import diverged_in_words, together
    from hybridsam.core import records
    from hybridsam.core.blocks import blocks_of, parse_seeds
    from hybridsam.core.errors import UserError
    from hybridsam.core.settings import load

    if len(dataset) != len(runs):
        raise UserError(f"dataset: {len(dataset)} files for {len(runs)} folders of runs")
    every = [seed for part in seeds for seed in parse_seeds(part)]
    blocks = [block.path for block in blocks_of(json.loads(grid), every, seeds_per_job)] if grid else []
    cubes = []
    for folder, data in zip(runs, dataset, strict=True):
        paths = [folder / path for path in blocks] if grid else sorted(folder.glob("*/rho=*/seeds=*.nc"))
        cubes.append(from_files.collect(load(settings), records.read(data, "dataset"), paths, output.parent, threads))
    cube = together(cubes)
    records.write(cube, output, "cube", f"{cube.attrs['task_title']}: all runs")
    for remark in remarks(ways(cube)):
        logger.warning(remark)
    if said := diverged_in_words(cube):
        print(f"{cube.attrs['task_title']}: {said}")  # on the terminal: the runs go on, so that nobody need look


@command(
    "theta from the fitted whole of an ensemble, by each assumption about what the science lacks",
    option("ensemble", "run file of the ensemble; its weights lie beside it", type=Path),
    DATASET_OF_RUNS,
    SETTINGS,
    option("--profile", "profile.nc, for what the data say whatever is assumed", type=Path, default=None),
    output("identification.nc to write"),
    option("--table", "identification.csv to write", type=Path),
    option("--verdict", "verdict.csv to write", type=Path),
)
def identify(
    ensemble: Path, dataset: Path, settings: Path, profile: Path | None, output: Path, table: Path, verdict: Path
) -> None:
    from hybridsam.analysis import trust
    from hybridsam.analysis.identification import as_table, in_words
    from hybridsam.analysis.runs import load_runs
    from hybridsam.analysis.thresholds import TOLERANCE
    from hybridsam.core import records
    from hybridsam.core.files import write_whole
    from hybridsam.core.settings import load

    model, runs = load_runs(ensemble)
    task, data = load(settings), records.read(dataset, "dataset")
    asked = task.get("assume"), task.get("tolerance", TOLERANCE), task.get("thresholds", {})
    held = records.read(profile, "profile") if profile else None
    found = trust.identify(model, runs, data, *asked, held)
    for line in in_words(found) or [found.attrs["reason"]]:
        logger.info(line)
    words = found[["parameter_units", "verdict", "sentence"]].reset_coords().to_dataframe().reset_index()
    words = words.rename(columns={"parameter_units": "unit"})
    for of in words.itertuples():
        print(f"theta.{of.parameter}: {of.verdict}: {of.sentence}")
    rows = as_table(found)
    write_whole(table, lambda part: rows.to_csv(part, index=False))
    write_whole(verdict, lambda part: words.to_csv(part, index=False))
    records.write(found, output, "identification", "theta by assumptions about what the science lacks")


@command(
    "hold each parameter at values on a grid and refit phi: which of them the data allow, and how sharp the loss is",
    option("ensemble", "run file of the ensemble; its weights lie beside it", type=Path),
    DATASET_OF_RUNS,
    SETTINGS,
    output("profile.nc to write"),
    option("--table", "profile.csv to write", type=Path),
    option("--device", "auto (a GPU when there is one), cpu, cuda, cuda:1 …", default="auto"),
    option("--threads", "CPU threads of this process", type=int, default=1),
    option("--checkpoints", "folder for a checkpoint; a killed training resumes from there", type=Path, default=None),
)
def profile(
    ensemble: Path,
    dataset: Path,
    settings: Path,
    output: Path,
    table: Path,
    device: str,
    threads: int,
    checkpoints: Path | None,
) -> None:
    import torch

    from hybridsam.analysis import profiles
    from hybridsam.analysis.ensemble import ensemble_in
    from hybridsam.analysis.runs import load_runs
    from hybridsam.core import records
    from hybridsam.core.files import write_whole
    from hybridsam.core.provenance import code_hash, fingerprint
    from hybridsam.core.settings import digest, load, typed
    from hybridsam.training.checkpoint import Checkpoint
    from hybridsam.training.loop import Training

    torch.set_num_threads(threads)
    model, runs = load_runs(ensemble)
    task, data = load(settings), records.read(dataset, "dataset")
    training = typed(Training, task["training"], "training")
    grid = typed(profiles.Grid, task.get("profile", {}), "profile")
    checkpoint = None
    if checkpoints:
        code = code_hash("hybridsam.analysis.profiles", task["module"])
        of_this = [dict(task), fingerprint(data), fingerprint(runs), code, torch.__version__]
        checkpoint = Checkpoint(checkpoints / f"{digest(json.dumps(of_this))}.safetensors")
    found = profiles.of_members(model, training, ensemble_in(runs, data), data, grid, device, checkpoint)
    for line in profiles.in_words(found):
        print(line)
    rows = profiles.as_table(found)
    write_whole(table, lambda part: rows.to_csv(part, index=False))
    records.write(found, output, "profile", "profile of the loss over theta")


@command(
    "how often verdicts are right: truths of a science whose missing part is drawn at random, identified without them",
    option("science", "pendulum, spring, hardening_spring or damper"),
    option("--fields", "how many truths are identified from fields that are known but for small errors", type=int),
    option("--trained", "how many are identified from an ensemble that is trained for them", type=int),
    option("--threads", "CPU threads of this process", type=int, default=1),
    output("table to write, a row a truth and assumption"),
)
def calibrate(science: str, fields: int, trained: int, threads: int, output: Path) -> None:
    import torch

    from hybridsam.analysis import calibration
    from hybridsam.core.errors import UserError
    from hybridsam.core.files import write_whole

    if science not in calibration.SCIENCES:
        raise UserError(f"science: {science!r} is not one of {', '.join(calibration.SCIENCES)}")
    torch.set_num_threads(threads)
    table = calibration.calibrate(science, fields, trained)
    write_whole(output, lambda part: table.to_csv(part, index=False))


@command("choose each method's rho by every rule", CUBE, output("selection.csv to write"))
def select(cube: Path, output: Path) -> None:
    from hybridsam.analysis import selection
    from hybridsam.core import records
    from hybridsam.core.files import write_whole

    table = selection.select(records.read(cube, "cube"))
    write_whole(output, lambda part: table.to_csv(part, index=False))


@command(
    "a selected model as a PyTorch module without members, and theta as a PEtab parameter table",
    CUBE,
    DATASET_OF_RUNS,
    SELECTION,
    option("--method", "at whose selected rho the best seed is exported"),
    RULE,
    output("safetensors file to write"),
    option("--parameters", "parameters.tsv to write", type=Path),
    option("--verdict", "verdict.csv, for what may be believed of them", type=Path, default=None),
)
def export(
    cube: Path,
    dataset: Path,
    selection: Path,
    method: str,
    rule: str,
    output: Path,
    parameters: Path,
    verdict: Path | None,
) -> None:
    import pandas as pd
    from safetensors.torch import save_file

    from hybridsam.analysis.cube import not_run
    from hybridsam.analysis.selection import read_selection
    from hybridsam.core import records
    from hybridsam.core.files import write_whole
    from hybridsam.export import parameter_table, selected, selected_module, without_model

    every = records.read(cube, "cube")
    if reason := not_run(every).get(method):
        (table, about), weights = without_model(reason), {}
    else:
        runs = selected(every, read_selection(selection), method, rule)
        if verdict:
            words = pd.read_csv(verdict).set_index("parameter").loc[runs["parameter"].values]
            runs = runs.assign({name: ("parameter", words[name].values) for name in ("verdict", "sentence")})
        module, about = selected_module(cube.parent, runs, records.read(dataset, "dataset"))
        table, weights = parameter_table(module.model, runs), module.state_dict()
    write_whole(parameters, lambda part: table.to_csv(part, sep="\t", index=False))
    write_whole(output, lambda part: save_file(weights, part, about))
