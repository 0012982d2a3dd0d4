"""Commands that train, and that say beforehand what it takes and what can be known of theta."""

import json
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from hybridsam.cli.command import DATASET, DATASET_OF_RUNS, SETTINGS, command, option, output

if TYPE_CHECKING:
    import xarray as xr

    from hybridsam.core.blocks import Block
    from hybridsam.core.settings import Settings
    from hybridsam.training.warm import Held

OF_TRAINING = (
    option("--device", "auto (a GPU when there is one), cpu, cuda, cuda:1 …", default="auto"),
    option("--threads", "CPU threads of this process", type=int, default=1),
    option(
        "--checkpoints",
        "folder for checkpoints and locks; a killed training resumes from there",
        type=Path,
        default=None,
    ),
    option("--checkpoint-seconds", "time between checkpoints", type=float, default=60.0),
)


@command(
    "train one block of runs: a method, a rho, some seeds",
    DATASET,
    SETTINGS,
    option("--method", "erm, l2reg, freg, sam, asam, fsam, science or black_box"),
    option("--rho", "radius of the perturbation or weight of the penalty; 0 where there is none"),
    option("--seeds", "first-last, such as 0-4"),
    option("--ensemble", "start theta at places that are far apart, from which it is identified", action="store_true"),
    output("run file to write; the weights go beside it"),
    *OF_TRAINING,
)
def train(
    dataset: Path,
    settings: Path,
    method: str,
    rho: str,
    seeds: str,
    ensemble: bool,
    output: Path,
    device: str,
    threads: int,
    checkpoints: Path | None,
    checkpoint_seconds: float,
) -> None:
    import torch

    from hybridsam.core import records
    from hybridsam.core.blocks import Block, canonical, parse_seeds
    from hybridsam.core.settings import load

    torch.set_num_threads(threads)
    task, data = load(settings), records.read(dataset, "dataset")
    if ensemble:
        from hybridsam.training.ensemble import with_starts_apart

        task = with_starts_apart(task)
    block = Block(method, float(canonical(rho)), parse_seeds(seeds))
    _train(task, data, block, device, checkpoints, checkpoint_seconds, output)


@command(
    "train phi anew with theta held, at what an assumption makes of runs of erm, or at their own",
    option("runs", "run file; its weights lie beside it", type=Path),
    DATASET_OF_RUNS,
    SETTINGS,
    option("--method", "erm_small, erm_straight or erm_depends_on; refit: at their own", default="refit"),
    option("--theta", "parameter=value in its unit, several; with refit, in place of their own", nargs="+", default=[]),
    output("run file to write; the weights go beside it"),
    *OF_TRAINING,
)
def refit(
    runs: Path,
    dataset: Path,
    settings: Path,
    method: str,
    theta: Sequence[str],
    output: Path,
    device: str,
    threads: int,
    checkpoints: Path | None,
    checkpoint_seconds: float,
) -> None:
    import torch

    from hybridsam.analysis import refitting as held
    from hybridsam.analysis.runs import load_runs
    from hybridsam.core import records
    from hybridsam.core.blocks import Block
    from hybridsam.core.errors import UserError
    from hybridsam.core.methods import BASELINE, METHODS, get_method
    from hybridsam.core.settings import load

    torch.set_num_threads(threads)
    if not get_method(method).holds:
        raise UserError(f"method: {method!r} is not one of {', '.join(of.name for of in METHODS.values() if of.holds)}")
    (model, begun), task, data = load_runs(runs), load(settings), records.read(dataset, "dataset")
    block = Block(method, 0.0, tuple(begun["seed"].values.tolist()))
    if kind := get_method(method).assumes:
        if theta:
            raise UserError(f"theta: given beside method {method}, which finds it; allowed is one of both")
        if (of := begun["training_method"].item()) != BASELINE:
            raise UserError(f"{runs}: runs of {of}; {method} begins from those of {BASELINE}")
        assumption = held.of_kind(kind, task.get("assume"))
        start = held.by_assumption(model, begun, data, assumption, task.get("thresholds", {}))
    else:
        start = held.at(model, begun, data, held.parsed_theta(theta))
    _train(task, data, block, device, checkpoints, checkpoint_seconds, output, start)


def _train(
    task: "Settings",
    data: "xr.Dataset",
    block: "Block",
    device: str,
    checkpoints: Path | None,
    checkpoint_seconds: float,
    output: Path,
    held: "Held | None" = None,
) -> None:
    """Train a block, from its checkpoint if there is one, and write its run file."""
    from hybridsam.core.settings import digest
    from hybridsam.training.block import checkpoint_for, train_task, write_runs
    from hybridsam.training.checkpoint import locked
    from hybridsam.training.devices import chosen_device
    from hybridsam.training.estimate import log_training

    checkpoint = None
    alone: AbstractContextManager = nullcontext()
    if checkpoints:
        checkpoint = checkpoint_for(task, data, block, device, checkpoints, checkpoint_seconds, held)
        alone = locked(checkpoints / f"{digest(str(output.resolve()))}.lock")
    with alone:
        if chosen_device(device) == "cpu":
            log_training(task, data, block)
        write_runs(*train_task(task, data, block, device, checkpoint, held), output)


@command(
    "how long all trainings of some tasks take on this machine, as JSON",
    option("--settings", "of each task, a YAML or JSON file", type=Path, nargs="+"),
    option("--dataset", "dataset.nc of each task, used if it is there", type=Path, nargs="+", default=None),
    option("--datasets", "of each task: on how many such datasets it is trained", type=int, nargs="+", default=None),
    option("--grid", "JSON, method -> values of rho"),
    option("--seeds", "of each task: first-last, several, joined by commas, where some are left out", nargs="+"),
    option("--seeds-per-job", "of each task: how many one job trains", type=int, nargs="+"),
    option("--cache", "folder where estimates of unchanged tasks are found again", type=Path, default=None),
)
def estimate(
    settings: Sequence[Path],
    dataset: Sequence[Path] | None,
    datasets: Sequence[int] | None,
    grid: str,
    seeds: Sequence[str],
    seeds_per_job: Sequence[int],
    cache: Path | None,
) -> None:
    from hybridsam.core.blocks import parse_seeds, seed_ranges
    from hybridsam.core.errors import UserError
    from hybridsam.core.settings import load
    from hybridsam.training.estimate import study

    files: Sequence[Path | None] = dataset or [None] * len(settings)
    numbers = datasets or [1] * len(settings)
    given = {"dataset": files, "datasets": numbers, "seeds": seeds, "seeds-per-job": seeds_per_job}
    for name, values in given.items():
        if len(values) != len(settings):
            raise UserError(f"{name}: {len(values)} for {len(settings)} tasks")
    every = [[seed for part in text.split(",") for seed in parse_seeds(part)] for text in seeds]
    ranges = [seed_ranges(own, size) for own, size in zip(every, seeds_per_job, strict=True)]
    sizes = [[len(parse_seeds(part)) for part in own] * n for own, n in zip(ranges, numbers, strict=True)]
    print(json.dumps(study([load(path) for path in settings], files, json.loads(grid), sizes, cache)))


@command("what can be known about theta before training", DATASET, SETTINGS, output("identifiability.csv to write"))
def diagnose(dataset: Path, settings: Path, output: Path) -> None:
    from hybridsam.analysis.identifiability import as_table
    from hybridsam.core import modules, records
    from hybridsam.core.files import write_whole
    from hybridsam.core.settings import load
    from hybridsam.data.units import log_unknown

    task = load(settings)
    model = modules.build(task)
    log_unknown((f"theta.{row.name}", row.unit) for row in model.parameters.rows)
    table = as_table(model, records.read(dataset, "dataset"))
    write_whole(output, lambda part: table.to_csv(part, index=False))
