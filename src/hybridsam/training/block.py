"""One block of runs: a task, a method, a strength and some seeds, trained, evaluated and described as a Dataset."""

import hashlib
import json
import logging
import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from hybridsam.core import modules, records
from hybridsam.core.blocks import canonical
from hybridsam.core.errors import UserError
from hybridsam.core.methods import get_method
from hybridsam.core.provenance import configuration_hash
from hybridsam.core.records import EXAMPLES
from hybridsam.core.settings import build
from hybridsam.data.splits import SPLITS
from hybridsam.models.check import check
from hybridsam.models.hybrid import HybridModel
from hybridsam.models.networks import RunningStatistics
from hybridsam.models.samples import Samples
from hybridsam.training.compiled import SOURCE, accelerate
from hybridsam.training.devices import arithmetic, keep_freed_memory, peak_megabytes, without_old_garbage
from hybridsam.training.loop import Checkpoint, State, Training, constrained, train
from hybridsam.training.methods import mean_squared_error

LOSSES = {
    "train_loss": "mean squared error on the training data, or on the mini-batch of that step",
    "validation_loss": "mean squared error on the validation data",
}
GRADIENTS = {
    "grad_norm_theta": "norm of the applied gradient of theta (unconstrained)",
    "grad_norm_phi": "norm of the applied gradient of phi",
}

logger = logging.getLogger(__name__)


def train_task(
    settings: Mapping,
    dataset: xr.Dataset,
    method: str,
    rho: float,
    seeds: Sequence[int],
    device: str = "auto",
    checkpoint: Checkpoint | None = None,
    before: Callable | None = None,
) -> tuple[xr.Dataset, dict[str, Tensor]]:
    """As :func:`train_block`, of the task file's ``module``, ``model`` and ``training``, which the block then names."""
    model = modules.load(settings["module"]).build(settings["model"])
    training = build(Training, settings["training"], "training")
    block, weights = train_block(model, training, dataset, method, rho, seeds, device, checkpoint, before)
    block.attrs |= {
        "source": f"hybridsam, task module {settings['module']}",
        "configuration": json.dumps(dict(settings)),
        "configuration_hash": configuration_hash(settings, dataset, method, rho, seeds),
    }
    return block, weights


def train_block(
    model: HybridModel,
    training: Training,
    dataset: xr.Dataset,
    method: str,
    rho: float,
    seeds: Sequence[int],
    device: str = "auto",
    checkpoint: Checkpoint | None = None,
    before: Callable | None = None,
    each_step: Callable[[State], None] | None = None,
) -> tuple[xr.Dataset, dict[str, Tensor]]:
    """Train one run for each seed; return the block of runs and the trained weights.

    dataset: as ``dataset.nc``. device: ``auto`` takes a GPU when there is one. checkpoint: of :func:`checkpoint_for`,
    whose file stays for the caller to remove when the result is safe; without it a killed training starts anew. before:
    called before training, as estimate.log_training, which is not imported here because no result depends on
    it. each_step: called with the state after each step. Raises UserError for what makes no sense.
    """
    chosen = get_method(method)
    rho = float(canonical(rho))
    if len(set(seeds)) != len(seeds) or not seeds:
        raise UserError(f"seeds: {list(seeds)} must be different numbers, at least one")
    device = _device(device)
    dtype = getattr(torch, training.dtype)
    if model.target not in dataset:
        raise UserError(f"dataset: no variable {model.target}, which the model predicts")
    data = {split: model.data(dataset, split, dtype, device) for split in SPLITS}
    check(model, dataset, data["train"])
    if (offered := os.environ.get("CUDA_VISIBLE_DEVICES")) and not torch.cuda.is_available():
        logger.warning(f"CUDA_VISIBLE_DEVICES={offered}: no GPU for PyTorch {torch.__version__}, training on the CPU")

    fast = accelerate(model, data["train"])
    logger.info(f"{method}, rho = {canonical(rho)}, seeds {list(seeds)}, {training.iterations} iterations on {device}")
    if before:
        before(model, chosen, data["train"], data["validation"], training, len(seeds))
    keep_freed_memory()
    began = datetime.now(UTC)
    with arithmetic(training.tf32), without_old_garbage():
        splits, strengths = (data["train"], data["validation"]), [rho] * len(seeds)
        state = train(model, chosen, strengths, seeds, *splits, training, checkpoint, each_step)

    ended = datetime.now(UTC)
    block = _describe(model, state, training, data, dataset, (method, rho, seeds))
    block.attrs = {
        "source": "hybridsam",
        "synthetic": dataset.attrs.get("synthetic", "unknown"),
        "device": torch.cuda.get_device_name() if device.startswith("cuda") else "cpu",
        "losses_by": "compiled C++" if fast else "PyTorch",
        "seconds": state.seconds,
        # A resumed training counts as if there had been no pause.
        "started": min(began, ended - timedelta(seconds=state.seconds)).isoformat(timespec="milliseconds"),
        "ended": ended.isoformat(timespec="milliseconds"),
        "peak_memory_megabytes": peak_megabytes(),
    }
    theta, phi = constrained(model, state)
    layers = model.network.unflatten(phi) | model.network.unflatten_running(state.running)
    weights = {"theta": theta} | {f"network.{name}": values for name, values in layers.items()}
    return block, {name: values.contiguous().cpu() for name, values in weights.items()}


def checkpoint_for(
    settings: Mapping,
    dataset: xr.Dataset,
    method: str,
    rho: float,
    seeds: Sequence[int],
    device: str,
    folder: Path,
    every_seconds: float,
) -> Checkpoint:
    """The checkpoint of a block: a file in ``folder`` whose name holds everything that the result depends on."""
    modules.load(settings["module"])  # so that its code is among the loaded modules
    configuration = configuration_hash(settings, dataset, method, rho, seeds)
    key = f"{configuration}-{code_hash(settings['module'])}-torch{torch.__version__}-{_device(device)}"
    return Checkpoint(folder / f"{key}.safetensors", every_seconds)


def _device(name: str) -> str:
    gpu = torch.cuda.is_available()
    if name == "auto":
        return "cuda" if gpu else "cpu"
    if name != "cpu" and not (gpu and re.fullmatch(r"cuda(:\d+)?", name)):
        raise UserError(
            f"device: {name!r} is not one of auto, cpu" + (", cuda, cuda:<number>" if gpu else "; no GPU here")
        )
    return name


def code_hash(module: str) -> str:
    """Hash of the library's and the task's source, so that a checkpoint is never continued by other code."""
    loaded = [name for name in sys.modules if name.split(".")[0] == "hybridsam"]
    files = {str(getattr(sys.modules[name], "__file__", None)) for name in loaded} | {module}
    files |= {str(SOURCE)}
    sources = [Path(file).read_bytes() for file in sorted(files) if file.endswith((".py", ".cpp"))]
    return hashlib.sha256(b"".join(sources)).hexdigest()[:16]


@torch.no_grad()
def _describe(
    model: HybridModel,
    state: State,
    training: Training,
    data: Mapping[str, Samples],
    dataset: xr.Dataset,
    run: tuple[str, float, Sequence[int]],
) -> xr.Dataset:
    """The final iterate and the history of a block on the axes (method, rho, seed, ...)."""
    theta, phi = constrained(model, state)
    running = RunningStatistics(state.running)
    method, rho, seeds = run
    at_once = training.batch_size or len(data["train"])
    errors = [mean_squared_error(model, theta, phi, data[split], running, at_once) for split in SPLITS]
    lost = ~errors[0].isfinite()  # however short the training was
    diverged = ((state.skipped >= training.diverged_after) | lost).cpu().numpy()
    steps = np.array(training.recorded_steps)
    error_units = squared_units(dataset, model.target, data["train"])

    def variable(values: Tensor | np.ndarray, dims: Sequence[str], long_name: str, units: str = "1") -> tuple:
        array = np.asarray(values.cpu() if isinstance(values, Tensor) else values)
        return (*records.RUN, *dims), array[None, None], {"long_name": long_name, "units": units}

    def history(name: str) -> Tensor:
        return state.history[name].movedim(0, 1)

    block = xr.Dataset(
        {
            "theta": variable(theta, ["parameter"], "theta at the final iterate", "see parameter_units"),
            "y_error": variable(torch.stack(errors, 1), ["split"], "mean squared error", error_units),
            "status": variable(np.where(diverged, "diverged", "completed").astype(object), [], "how the run ended"),
            "skipped_updates": variable(state.skipped, [], "updates skipped: loss or gradient not finite"),
            "theta_history": variable(history("theta"), ["step", "parameter"], "theta", "see parameter_units"),
            **{name: variable(history(name), ["step"], meaning, error_units) for name, meaning in LOSSES.items()},
            **{name: variable(history(name), ["step"], meaning) for name, meaning in GRADIENTS.items()},
            "learning_rate": ("step", [training.rate(step) for step in steps], {"long_name": "learning rate of phi"}),
        },
        coords={
            "method": [method],
            "rho": [rho],
            "seed": list(seeds),
            "parameter": model.parameters.names,
            "parameter_units": ("parameter", model.parameters.units),
            "split": list(SPLITS),
            "step": ("step", steps, {"long_name": "gradient steps done", "units": "1"}),
        },
    )
    few = next(data["test"].chunks(EXAMPLES))
    predictions = {
        "prediction": ("prediction of the whole model", model.predict(theta, phi, few, running)),
        "prediction_science": ("science part alone", model.predict_science(theta, phi, few, running)),
    }
    dims = [str(name) for name in dataset[model.target].dims[1:]]
    units = dataset[model.target].attrs.get("units", "1")
    for name, (meaning, values) in predictions.items():
        block[name] = variable(few.in_units(values), ["example", *dims], meaning, units)
    numbers = np.flatnonzero(dataset["split"].values == "test")[:EXAMPLES]
    block["sample"] = ("example", numbers, {"long_name": "number of the sample in dataset.nc"})
    for label, coordinate in dataset[model.target].coords.items():
        if set(coordinate.dims) <= set(dims):  # a prediction of a time series leaves out the first time
            last = {dim: slice(-block.sizes[dim], None) for dim in coordinate.dims}
            block = block.assign_coords({label: coordinate.isel(last)})
    return block


def squared_units(dataset: xr.Dataset, target: str, data: Samples) -> str:
    """The unit of a mean squared error, which may mix several: ``rad2, (rad s-1)2``; ``1`` for standard units."""
    if data.standard:
        return "1"
    variable = dataset[target]
    several = "component_units" in variable.coords
    units = dict.fromkeys(
        variable["component_units"].values.tolist() if several else [variable.attrs.get("units", "1")]
    )
    return ", ".join(f"({unit})2" if " " in unit else f"{unit}2" if unit != "1" else "1" for unit in units)
