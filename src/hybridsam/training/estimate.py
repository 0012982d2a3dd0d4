"""What a study takes on this machine, by the laws of hybridsam.training.cost, before anything has run.

Nothing here needs PyTorch until a task is estimated for the first time, so that a second estimate comes at once.
"""

import json
import logging
import os
import platform
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hybridsam.core.blocks import Block
from hybridsam.core.errors import UserError
from hybridsam.core.provenance import code_hash
from hybridsam.core.settings import Settings, digest, values_of
from hybridsam.data.splits import SPLITS

if TYPE_CHECKING:
    import xarray as xr

    from hybridsam.training.cost import Cost
    from hybridsam.training.loop import Training

START_SECONDS = 3.0  # of a job: to start Python, to read the data, to write the runs
COPIES = 3  # of the data in memory: the file's, those of the splits, and what passes between them
MOST_IMAGES = 10  # of a twin from which only the shape of an image is wanted

Grid = Mapping[str, Sequence[str]]
Estimate = dict[str, Any]

logger = logging.getLogger(__name__)


class NotHereError(Exception):
    """The data of a task will come, and nobody knows yet what they look like."""


def log_training(task: Settings, dataset: "xr.Dataset", block: Block) -> None:
    """Say in the log how long a block of runs trains on this CPU."""
    try:
        few, sizes = _beginning(dataset)
        training, costs, rate = _costs(task, few, sizes, [block.method])
    except UserError:  # training will say it
        return
    except Exception as error:  # such as of a model for which a few copies of a sample are no data
        logger.info(f"no estimate of the time: {_first_line(error)}")
        return
    seconds = training.iterations * costs[block.method].iteration(len(block.seeds), rate)
    logger.info(f"about {in_words(seconds)} in all (estimated)")


def in_words(seconds: float) -> str:
    """``45 s``, ``3 min``, ``7 h``, ``12 days``."""
    for unit, length, most in (("s", 1, 100), ("min", 60, 100), ("h", 3600, 72)):
        if seconds < most * length:
            return f"{max(1, round(seconds / length))} {unit}"
    return f"{seconds / 86400:.0f} days"


def study(
    tasks: Sequence[Settings],
    datasets: Sequence[Path | None],
    grid: Grid,
    blocks: Sequence[Sequence[int]],
    cache: Path | None,
) -> Estimate:
    """Estimates of all tasks, and a line that sums them up.

    datasets: dataset.nc of each task, used if it is there. grid: method -> values of rho. blocks: of each task, how
    many seeds its jobs train. cache: folder where estimates of unchanged tasks are found again.

    Returns ``tasks``, in their order: ``seconds`` of all trainings, and ``jobs``: method -> ``seconds``, ``megabytes``
    of the largest block; or the ``reason`` why there are none, and the ``mistake``, if it is one, at which jobs would
    fail too. And ``summary``: the line.
    """
    found = []
    for task, dataset, sizes in zip(tasks, datasets, blocks, strict=True):
        try:
            found.append(_cached(task, dataset, grid, sizes, cache))
        except UserError as error:
            found.append({"reason": _first_line(error), "mistake": _first_line(error)})
        except Exception as error:  # of the estimate, or of a model for which a few copies of a sample are no data
            found.append({"reason": _first_line(error)})
    titles = [task.get("title", task["module"]) for task in tasks]
    return {"tasks": found, "summary": _summary(titles, found, grid, blocks)}


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]


def _summary(titles: Sequence[str], found: Sequence[Estimate], grid: Grid, blocks: Sequence[Sequence[int]]) -> str:
    settings = sum(map(len, grid.values()))
    runs, jobs = settings * sum(map(sum, blocks)), settings * sum(map(len, blocks))
    known = [estimate["seconds"] for estimate in found if "seconds" in estimate]
    said = [f"Training: {runs} runs in {jobs} jobs"]
    if known:
        seconds, workers = sum(known), min(_cores(), jobs)
        parallel = f" ({in_words(seconds / workers)} with {workers} cores)" if workers > 1 else ""
        said.append(f"about {in_words(seconds)} of CPU time on this machine{parallel}")
    named = zip(titles, found, strict=True)
    missing = [f"{title} ({estimate['reason']})" for title, estimate in named if "reason" in estimate]
    said += [f"{'without' if known else 'no estimate of the time for'} {', '.join(missing)}"] if missing else []
    return ", ".join(said) + ("; estimate by docs/performance.md" if known else "")


def _cores() -> int:
    """CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _cached(task: Settings, dataset: Path | None, grid: Grid, blocks: Sequence[int], cache: Path | None) -> Estimate:
    numbers = {method: len(rhos) for method, rhos in grid.items()}
    code = code_hash(task["module"], "hybridsam.training.cost")
    known_by: list = [task, numbers, list(blocks), platform.node(), code]
    if "table" in task and (table := Path(task["table"]["file"])).is_file():  # which may have grown
        known_by += [table.stat().st_size, table.stat().st_mtime_ns]
    file = cache and cache / f"{digest(known_by)}.json"
    if file and file.exists():
        return json.loads(file.read_text())
    estimate = of_task(task, dataset, numbers, blocks)
    if file:
        from hybridsam.core.files import write_whole

        write_whole(file, lambda part: part.write_text(json.dumps(estimate)))
    return estimate


def of_task(task: Settings, dataset: Path | None, rhos: Mapping[str, int], blocks: Sequence[int]) -> Estimate:
    """Estimate of one task; raises NotHereError if it is not known what its data look like, UserError for mistakes."""
    import torch

    torch.set_num_threads(1)
    few, sizes = few_data(task, dataset)
    training, costs, rate = _costs(task, few, sizes, list(rhos))

    def seconds(name: str, members: int) -> float:
        return START_SECONDS + training.iterations * costs[name].iteration(members, rate)

    data_megabytes = COPIES * few.nbytes / few.sizes["sample"] * sum(sizes[split] for split in SPLITS) / 1e6
    jobs = {
        name: {"seconds": seconds(name, max(blocks)), "megabytes": data_megabytes + cost.megabytes(max(blocks))}
        for name, cost in costs.items()
    }
    total = sum(rhos[name] * times * seconds(name, n) for name in costs for n, times in Counter(blocks).items())
    return {"seconds": total, "jobs": jobs}


def _costs(
    task: Settings, few: "xr.Dataset", sizes: Mapping[str, int], methods: Sequence[str]
) -> "tuple[Training, dict[str, Cost], float]":
    """How to train, method -> what it costs, and the floating-point operations a second of this CPU.

    few, sizes: as of :func:`few_data`.
    """
    import torch

    from hybridsam.core import modules
    from hybridsam.core.methods import get_method
    from hybridsam.core.settings import typed
    from hybridsam.models.check import check, check_parts
    from hybridsam.models.parts import trained_part
    from hybridsam.training.compiled import faster_loss
    from hybridsam.training.cost import cost_of, gradient_of, multiplication_rate
    from hybridsam.training.loop import Training

    model = modules.build(task)
    training = typed(Training, task["training"], "training")
    check_parts(model, few)
    data = model.data(few, "train", getattr(torch, training.dtype), "cpu")
    chosen = {name: get_method(name) for name in methods}
    # Methods of the same penalty and part of the model differ in how many gradients they take, not in what one takes.
    alike = {(method.penalty, method.lacks): method for method in chosen.values()}
    try:
        gradients = {}
        for key, method in alike.items():
            part = trained_part(model, method.name)
            gradients[key] = gradient_of(part, faster_loss(part, data, quiet=True), method, data)
    except Exception:
        check(model, few, data)  # which says what is wrong with a model
        raise
    costs = {
        name: cost_of(
            model, method, gradients[method.penalty, method.lacks], training, sizes["train"], sizes["validation"]
        )
        for name, method in chosen.items()
    }
    return training, costs, multiplication_rate(data.targets.dtype)


def few_data(task: Settings, dataset: Path | None) -> "tuple[xr.Dataset, Mapping[str, int]]":
    """A dataset with the shapes of the task's, but few samples; and how many samples the splits really have.

    Two for training, as one alone cannot be standardised.
    """
    from hybridsam.core import modules

    if "table" in task:
        from hybridsam.data.table import read_dataset

        return _beginning(read_dataset(task["table"]))
    if dataset and dataset.exists() and (found := _beginning_of(dataset, task)):
        return found
    data = values_of(task["data"])
    few = data | {"train": 2, "validation": 1, "test": 1}
    if "archive" not in task:
        return modules.call(task["module"], "simulate", few), data
    if "twin_module" not in task:
        raise NotHereError("its data are measured and not here yet")
    twin = values_of(task["twin"])
    if "images" in twin:
        few["images"] = twin["images"] = MOST_IMAGES
    with tempfile.TemporaryDirectory() as folder:
        archive = Path(folder) / task["archive"]
        modules.call(task["twin_module"], "simulate", twin, archive)
        return modules.call(task["module"], "convert", archive, few), data


def _beginning_of(path: Path, task: Settings) -> "tuple[xr.Dataset, Mapping[str, int]] | None":
    """As :func:`few_data`, from dataset.nc; None if that was made with other constants."""
    import xarray as xr

    with xr.open_dataset(path, engine="netcdf4") as whole:
        return _beginning(whole) if whole.attrs.get("constants") == json.dumps(task["data"]) else None


def _beginning(whole: "xr.Dataset") -> "tuple[xr.Dataset, Mapping[str, int]]":
    import numpy as np

    split = whole["split"].values
    sizes = {name: int((split == name).sum()) for name in SPLITS}
    return whole.isel(sample=np.flatnonzero(split == "train")[:2]).load(), sizes
