"""The training of one block of runs, from data to a Dataset of results, and from what it can be resumed."""

import json
import logging
import os
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

import torch
import xarray as xr
from safetensors.torch import save_file
from torch import Tensor

from hybridsam.core import modules, records
from hybridsam.core.blocks import Block
from hybridsam.core.files import write_whole
from hybridsam.core.methods import get_method
from hybridsam.core.provenance import code_hash, fingerprint
from hybridsam.core.scales import in_words
from hybridsam.core.settings import digest, typed
from hybridsam.data.splits import SPLITS
from hybridsam.models.check import check, check_parts
from hybridsam.models.hybrid import HybridModel
from hybridsam.models.parts import NO_NETWORK_ALONE, part_of
from hybridsam.training.compiled import faster_loss
from hybridsam.training.describe import describe, untrained, without_science
from hybridsam.training.devices import arithmetic, chosen_device, keep_freed_memory, peak_megabytes, without_old_garbage
from hybridsam.training.loop import Checkpoint, State, Training, constrained, initial_state, train
from hybridsam.training.loss import Loss
from hybridsam.training.warm import Held

logger = logging.getLogger(__name__)


def train_task(
    settings: Mapping,
    dataset: xr.Dataset,
    block: Block,
    device: str = "auto",
    checkpoint: Checkpoint | None = None,
    held: Held | None = None,
) -> tuple[xr.Dataset, dict[str, Tensor]]:
    """As :func:`train_block`, of the task file's ``module``, ``model`` and ``training``, which the runs then name."""
    model = modules.build(settings)
    training = typed(Training, settings["training"], "training")
    runs, weights = train_block(model, training, dataset, block, device, checkpoint, held=held)
    runs.attrs |= {
        "source": f"hybridsam, task module {settings['module']}",
        "configuration": json.dumps(dict(settings)),
        "configuration_hash": block.hash(settings, fingerprint(dataset)),
    }
    return runs, weights


def train_block(
    model: HybridModel,
    training: Training,
    dataset: xr.Dataset,
    block: Block,
    device: str = "auto",
    checkpoint: Checkpoint | None = None,
    each_step: Callable[[State], None] | None = None,
    held: Held | None = None,
) -> tuple[xr.Dataset, dict[str, Tensor]]:
    """Train the runs of a block; return them and their weights.

    dataset: as ``dataset.nc``. device: ``auto`` takes a GPU when there is one. checkpoint: of :func:`checkpoint_for`,
    whose file stays for the caller to remove when the result is safe; without it a killed training starts anew.
    each_step: called with the state after each step. held: what stays of theta. A run that cannot be trained is
    described all the same: see :func:`untrained`. Raises UserError for what makes no sense.
    """
    method = get_method(block.method)
    device = chosen_device(device)
    dtype = getattr(torch, training.dtype)
    check_parts(model, dataset)
    data = {split: model.data(dataset, split, dtype, device) for split in SPLITS}
    check(model, dataset, data["train"])
    part = part_of(model, method)
    left_out = [NO_NETWORK_ALONE] * len(block.seeds) if part is None else held.left_out if held else ()
    model = part or model
    if (offered := os.environ.get("CUDA_VISIBLE_DEVICES")) and not torch.cuda.is_available():
        logger.warning(f"CUDA_VISIBLE_DEVICES={offered}: no GPU for PyTorch {torch.__version__}, training on the CPU")

    faster = faster_loss(model, data["train"])
    loss = faster or Loss(model)
    if "target_scale" in dataset and data["train"].standard:
        logger.info(f"errors are in units of the standard deviation: {in_words(dataset)}")
    logger.info(f"{block}, seeds {list(block.seeds)}, {training.iterations} iterations on {device}")
    keep_freed_memory()
    began = datetime.now(UTC)
    with arithmetic(training.tf32), without_old_garbage():
        splits, rhos = (data["train"], data["validation"]), [block.rho] * len(block.seeds)
        warm = held.start(model.parameters, block.seeds) if held else None
        if left_out and all(left_out):
            state = initial_state(model, block.seeds, training, device, warm)
        else:
            state = train(loss, method, rhos, block.seeds, *splits, training, checkpoint, each_step, warm)

    ended = datetime.now(UTC)
    runs = describe(loss, state, training, data, dataset, block)
    if method.lacks == "science":
        runs = without_science(runs)
    if held:
        runs["gradients"] = runs["gradients"] + held.gradients
        runs = untrained(runs, "diverged", held.failed)
    runs = untrained(runs, "missing", left_out)
    ended_as = list(zip(runs["status"].values.ravel(), runs["reason"].values.ravel(), strict=True))
    for status, why in dict.fromkeys(pair for pair in ended_as if pair[1]):
        seeds = [seed for seed, own in zip(block.seeds, ended_as, strict=True) if own == (status, why)]
        logger.warning(f"{block}, seeds {seeds}: {'not trained' if status == 'missing' else status}: {why}")
    runs.attrs |= {
        "source": "hybridsam",
        "synthetic": dataset.attrs.get("synthetic", "unknown"),
        "device": torch.cuda.get_device_name() if device.startswith("cuda") else "cpu",
        "losses_by": "compiled C++" if faster else "PyTorch",
        "seconds": state.seconds,
        # A resumed training counts as if there had been no pause.
        "started": min(began, ended - timedelta(seconds=state.seconds)).isoformat(timespec="milliseconds"),
        "ended": ended.isoformat(timespec="milliseconds"),
        "peak_memory_megabytes": peak_megabytes(),
    }
    theta, phi = constrained(model, state)
    layers = model.network.unflatten(phi) | model.network.unflatten_running(state.running)
    weights = {"theta": theta} | {f"network.{name}": values for name, values in layers.items()}
    return runs, {name: values.contiguous().cpu() for name, values in weights.items()}


def checkpoint_for(
    settings: Mapping,
    dataset: xr.Dataset,
    block: Block,
    device: str,
    folder: Path,
    every_seconds: float,
    held: Held | None = None,
) -> Checkpoint:
    """The checkpoint of a block: a file in ``folder`` whose name holds everything that the result depends on."""
    code = code_hash("hybridsam.training.block", settings["module"])
    configuration = block.hash(settings, fingerprint(dataset))
    order = digest(json.dumps(settings["model"]))  # of theta, which the hash of the configuration leaves open
    start = "" if held is None else f"-{digest(held.theta.tolist())}"
    key = f"{configuration}-{order}-{code}-torch{torch.__version__}-{chosen_device(device)}{start}"
    return Checkpoint(folder / f"{key}.safetensors", every_seconds)


def write_runs(runs: xr.Dataset, weights: Mapping[str, Tensor], path: Path) -> None:
    """Write what :func:`train_task` returns: a run file, and the weights beside it, which are there first."""
    [method], [rho], seeds = (runs[name].values.tolist() for name in records.RUN)
    block, configuration = Block(method, rho, tuple(seeds)), json.loads(runs.attrs["configuration"])
    about = {name: runs.attrs[name] for name in ("configuration", "configuration_hash")}
    about |= {"seeds": f"{seeds[0]}-{seeds[-1]}", "data": records.origin(runs)}
    metadata = {"run": json.dumps(about)}  # one entry: several are written in random order
    write_whole(path.with_suffix(".safetensors"), lambda part: save_file(dict(weights), part, metadata))
    records.write(runs, path, "runs", f"{configuration['module']}: {block}")
