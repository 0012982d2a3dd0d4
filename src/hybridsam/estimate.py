"""How long a study trains on this machine, by the law of hybridsam.cost, before anything has run.

Nothing here needs PyTorch until a task is estimated for the first time, so that a second estimate comes at once.
"""

import json
import logging
import os
import platform
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hybridsam.errors import UserError
from hybridsam.settings import Settings, constants, digest

if TYPE_CHECKING:
    import xarray as xr

    from hybridsam.data import Samples
    from hybridsam.hybrid import HybridModel
    from hybridsam.methods import Method
    from hybridsam.train import Training

START_SECONDS = 3.0  # of a job: to start Python, to read the data, to write the runs
MOST_IMAGES = 10  # of a twin from which only the shape of an image is wanted

Grid = Mapping[str, Sequence[str]]
Estimate = dict[str, Any]

logger = logging.getLogger(__name__)


def log_training(
    model: "HybridModel", method: "Method", data: "Samples", validation: "Samples", training: "Training", members: int
) -> None:
    """Say in the log how long a training takes on this CPU; nothing where it is on a GPU."""
    from hybridsam.cost import cost_of, gradient_of, multiplication_rate

    if data.targets.device.type != "cpu":
        return
    try:
        cost = cost_of(model, method, gradient_of(model, method, data), training, len(data), len(validation))
        seconds = training.iterations * cost.iteration(members, multiplication_rate(data.targets.dtype))
        logger.info(f"about {in_words(seconds)} in all (estimated)")
    except Exception as error:  # such as of a model for which a few copies of a sample are no data
        logger.info(f"no estimate of the time: {error}")


def in_words(seconds: float) -> str:
    """``45 s``, ``3 min``, ``7 h``, ``12 days``."""
    for unit, length, most in (("s", 1, 100), ("min", 60, 100), ("h", 3600, 72)):
        if seconds < most * length:
            return f"{max(1, round(seconds / length))} {unit}"
    return f"{seconds / 86400:.0f} days"


def study(
    tasks: Sequence[Settings], datasets: Sequence[Path | None], grid: Grid, blocks: Sequence[int], cache: Path | None
) -> Estimate:
    """Estimates of all tasks, and a line that sums them up.

    datasets: dataset.nc of each task, used if it is there. grid: method -> strengths. blocks: numbers of seeds. cache:
    folder where estimates of unchanged tasks are found again.

    Returns ``tasks``: title -> ``seconds`` of all trainings and ``seconds_per_iteration`` of each method, for the
    largest block, or the ``reason`` why there are none; ``summary``: the line.
    """
    found = {}
    for task, dataset in zip(tasks, datasets, strict=True):
        title = task.get("title", task["module"])
        try:
            found[title] = _cached(task, dataset, grid, blocks, cache)
        except Exception as error:  # whatever is wrong with a task, its data or its code: training will say it better
            found[title] = {"reason": str(error).partition("\n")[0]}
    return {"tasks": found, "summary": _summary(found, grid, blocks)}


def _summary(found: Mapping[str, Estimate], grid: Grid, blocks: Sequence[int]) -> str:
    settings = sum(map(len, grid.values()))
    runs, jobs = (len(found) * settings * n for n in (sum(blocks), len(blocks)))
    known = {title: estimate["seconds"] for title, estimate in found.items() if "seconds" in estimate}
    said = [f"Training: {runs} runs in {jobs} jobs"]
    if known:
        seconds, workers = sum(known.values()), min(_cores(), jobs)
        parallel = f" ({in_words(seconds / workers)} with {workers} cores)" if workers > 1 else ""
        said.append(f"about {in_words(seconds)} of CPU time on this machine{parallel}")
    missing = [f"{title} ({estimate['reason']})" for title, estimate in found.items() if title not in known]
    said += [f"{'without' if known else 'no estimate of the time for'} {', '.join(missing)}"] if missing else []
    return ", ".join(said) + ("; estimate by docs/performance.md" if known else "")


def _cores() -> int:
    """CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _cached(task: Settings, dataset: Path | None, grid: Grid, blocks: Sequence[int], cache: Path | None) -> Estimate:
    numbers = {method: len(strengths) for method, strengths in grid.items()}
    law = Path(__file__).with_name("cost.py").read_text(encoding="utf-8")
    file = cache and cache / f"{digest([task, numbers, list(blocks), platform.node(), law])}.json"
    if file and file.exists():
        return json.loads(file.read_text())
    estimate = of_task(task, dataset, numbers, blocks)
    if file:
        from hybridsam.records import write_whole

        write_whole(file, lambda part: part.write_text(json.dumps(estimate)))
    return estimate


def of_task(task: Settings, dataset: Path | None, strengths: Mapping[str, int], blocks: Sequence[int]) -> Estimate:
    """Estimate of one task; raises UserError if it is not known what its data look like."""
    import torch

    from hybridsam import tasks
    from hybridsam.cost import cost_of, gradient_of, multiplication_rate
    from hybridsam.fused import accelerate
    from hybridsam.methods import get_method
    from hybridsam.settings import build
    from hybridsam.train import Training

    torch.set_num_threads(1)
    model = tasks.load(task["module"]).build(task["model"])
    training = build(Training, task["training"], "training")
    few, sizes = few_data(task, dataset)
    data = model.data(few, "train", getattr(torch, training.dtype), "cpu")
    accelerate(model, data)
    methods = {name: get_method(name) for name in strengths}
    # Methods with the same penalty differ in how many gradients they take, not in what one takes.
    gradients = {m.penalty: gradient_of(model, m, data) for m in {m.penalty: m for m in methods.values()}.values()}
    rate = multiplication_rate(data.targets.dtype)
    costs = {
        name: cost_of(model, method, gradients[method.penalty], training, sizes["train"], sizes["validation"])
        for name, method in methods.items()
    }
    seconds = sum(
        strengths[name] * (START_SECONDS + training.iterations * cost.iteration(members, rate))
        for name, cost in costs.items()
        for members in blocks
    )
    per_iteration = {name: cost.iteration(max(blocks), rate) for name, cost in costs.items()}
    return {"seconds": seconds, "seconds_per_iteration": per_iteration}


def few_data(task: Settings, dataset: Path | None) -> "tuple[xr.Dataset, Mapping[str, int]]":
    """A dataset with the shapes of the task's, but few samples; and how many samples the splits really have.

    Two for training, as one alone cannot be standardised.
    """
    from hybridsam import tasks

    if dataset and dataset.exists() and (found := _beginning(dataset, task)):
        return found
    module, data = tasks.load(task["module"]), constants(task["data"])
    few = data | {"train": 2, "validation": 1, "test": 1}
    if "archive" not in task:
        return module.simulate(few), data
    if "twin_module" not in task:
        raise UserError("its data are measured and not here yet")
    twin = constants(task["twin"])
    if "images" in twin:
        few["images"] = twin["images"] = MOST_IMAGES
    with tempfile.TemporaryDirectory() as folder:
        archive = Path(folder) / task["archive"]
        tasks.load(task["twin_module"]).simulate(twin, archive)
        return module.convert(archive, few), data


def _beginning(path: Path, task: Settings) -> "tuple[xr.Dataset, Mapping[str, int]] | None":
    """As :func:`few_data`, from dataset.nc; None if that was made with other constants."""
    import numpy as np
    import xarray as xr

    with xr.open_dataset(path, engine="netcdf4") as whole:
        if whole.attrs.get("constants") != json.dumps(task["data"]):
            return None
        split = whole["split"].values
        sizes = {name: int((split == name).sum()) for name in ("train", "validation")}
        return whole.isel(sample=np.flatnonzero(split == "train")[:2]).load(), sizes
