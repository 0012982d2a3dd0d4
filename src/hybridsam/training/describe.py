"""A trained block as a Dataset: the final iterate, its errors, histories, and predictions of a few test samples."""

import json
from collections.abc import Mapping, Sequence

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from hybridsam.core.blocks import Block
from hybridsam.core.methods import get_method
from hybridsam.core.records import EXAMPLES, RUN
from hybridsam.core.scales import about, units_of
from hybridsam.data.splits import SPLITS
from hybridsam.models.hybrid import HybridModel
from hybridsam.models.networks import RunningStatistics
from hybridsam.models.parameters import Parameters
from hybridsam.models.samples import Samples
from hybridsam.training.checkpoint import State
from hybridsam.training.divergence import reason
from hybridsam.training.loop import Training, constrained
from hybridsam.training.loss import Loss, errors_of_samples, mean_squared_error
from hybridsam.training.movement import INFLUENCE, MOVEMENT, influence, movement
from hybridsam.training.steps import SOLVER_ERROR, solver_error

LOSSES = {
    "train_loss": "mean squared error on the training data, or on the mini-batch of that step",
    "validation_loss": "mean squared error on the validation data",
}
VALIDATION_ERRORS = "mean squared error of each validation sample"
ABOUT_PARAMETERS = {  # attributes of a Parameter -> what they are
    "size": "size of theta, seen from its start and bounds; unit in parameter_units",
    "lower": "bound that theta stays above; unit in parameter_units",
    "upper": "bound that theta stays below; unit in parameter_units",
}
OF_THETA = {name: (about, "see parameter_units") for name, about in (MOVEMENT | INFLUENCE).items()}
OF_THETA["theta_influence"] = (INFLUENCE["theta_influence"], "1")
GRADIENTS = {
    "grad_norm_theta": "norm of the applied gradient of theta (unconstrained)",
    "grad_norm_phi": "norm of the applied gradient of phi",
}


@torch.no_grad()
def describe(
    loss: Loss, state: State, training: Training, data: Mapping[str, Samples], dataset: xr.Dataset, block: Block
) -> xr.Dataset:
    """The final iterate and the history of a block on the axes (training_method, rho, seed, ...).

    data: split -> samples, as they were made of ``dataset``.
    """
    model = loss.model
    runs = xr.Dataset(
        coords={
            "training_method": [block.method],
            "rho": [block.rho],
            "seed": list(block.seeds),
            "parameter": model.parameters.names,
            "parameter_units": ("parameter", model.parameters.units),
            **_of_parameters(model.parameters),
            "split": list(SPLITS),
        }
    )
    errors_in = squared_units(dataset, model.target, data["train"])
    runs = runs.assign(_scales(data["train"], dataset[model.target]))
    runs = runs.assign(_final(loss, state, training, data, errors_in))
    done = np.full(len(state.w), state.step * get_method(block.method).gradients)
    runs = runs.assign(gradients=_variable(done, [], "gradients of the loss that training evaluated"))
    numbers = _numbers(dataset, "validation", "validation_sample")
    if len(numbers) == len(data["validation"]):  # a class of one's own may make other samples of them
        runs = runs.assign_coords(validation_sample=numbers)
    runs = runs.assign(reason=_reasons(runs, model, state, training, data["train"], dataset, block))
    runs = runs.assign(_histories(state, training, errors_in))
    known = [name for name in model.variables if name in dataset.variables]  # a class of one's own may compute some
    runs.attrs["units_of_data"] = json.dumps({name: units_of(dataset[name]) for name in known})
    return _with_examples(runs, model, state, data["test"], dataset)


def _of_parameters(parameters: Parameters) -> dict[str, tuple]:
    """Coordinates on the axis parameter."""
    return {
        f"parameter_{key}": ("parameter", [getattr(row, key) for row in parameters.rows], {"long_name": about})
        for key, about in ABOUT_PARAMETERS.items()
    }


def _numbers(dataset: xr.Dataset, split: str, dim: str) -> xr.Variable:
    """Which samples of a dataset are those of a split."""
    numbers = np.flatnonzero(dataset["split"].values == split)
    return xr.Variable(dim, numbers, {"long_name": "number of the sample in dataset.nc"})


def _variable(values: Tensor | np.ndarray, dims: Sequence[str], long_name: str, units: str = "1") -> tuple:
    """A variable of a Dataset on the axes of runs and ``dims``, from values (seed, *dims)."""
    array = np.asarray(values.cpu() if isinstance(values, Tensor) else values)
    return (*RUN, *dims), array[None, None], {"long_name": long_name, "units": units}


def _final(
    loss: Loss, state: State, training: Training, data: Mapping[str, Samples], errors_in: str
) -> dict[str, tuple]:
    """theta and errors at the final iterate, and how each run ended."""
    theta, phi = constrained(loss.model, state)
    running, at_once = RunningStatistics(state.running), training.batch_size or len(data["train"])
    errors = [mean_squared_error(loss, theta, phi, data[split], running, at_once) for split in SPLITS]
    lost = ~errors[0].isfinite()  # however short the training was
    diverged = ((state.skipped >= training.diverged_after) | lost).cpu().numpy()
    of_samples = errors_of_samples(loss, theta, phi, data["validation"], running, at_once)
    few = next(data["train"].chunks(EXAMPLES))
    moved = movement(state, training, theta) | influence(loss.model, state, few)
    by_solver = solver_error(loss.model, state, few)
    return {
        "theta": _variable(theta, ["parameter"], "theta at the final iterate", "see parameter_units"),
        "theta_start": _variable(state.history["theta"][0], ["parameter"], "theta at the start", "see parameter_units"),
        **{name: _variable(moved[name], ["parameter"], about, unit) for name, (about, unit) in OF_THETA.items()},
        "y_error": _variable(torch.stack(errors, 1), ["split"], "mean squared error", errors_in),
        "validation_errors": _variable(of_samples, ["validation_sample"], VALIDATION_ERRORS, errors_in),
        "status": _variable(np.where(diverged, "diverged", "completed").astype(object), [], "how the run ended"),
        **({} if by_solver is None else {"solver_error": _variable(by_solver, [], SOLVER_ERROR)}),
        "skipped_updates": _variable(state.skipped, [], "updates skipped: loss or gradient not finite"),
    }


def _reasons(
    runs: xr.Dataset,
    model: HybridModel,
    state: State,
    training: Training,
    data: Samples,
    dataset: xr.Dataset,
    block: Block,
) -> tuple:
    """Why each run diverged, and of others which data they do not predict; empty for those that are in order."""
    method, diverged = get_method(block.method), runs["status"].values.ravel() == "diverged"
    infinite = ~np.isfinite(runs["y_error"].values[0, 0])
    words = [
        reason(model, method, block.rho, data, dataset, state, i, training)
        if lost
        else f"predictions of {' and '.join(np.array(SPLITS)[none])} data are not finite" * bool(none.any())
        for i, (lost, none) in enumerate(zip(diverged, infinite, strict=True))
    ]
    return _variable(np.array(words, dtype=object), [], "why the run diverged, or what it does not predict")


def _histories(state: State, training: Training, errors_in: str) -> dict[str, tuple]:
    """What was recorded on the way, and the steps and learning rates there."""

    def history(name: str, meaning: str, units: str, *dims: str) -> tuple:
        return _variable(state.history[name].movedim(0, 1), ["step", *dims], meaning, units)

    steps = np.array(training.recorded_steps)
    return {
        "step": ("step", steps, {"long_name": "gradient steps done", "units": "1"}),
        "theta_history": history("theta", "theta", "see parameter_units", "parameter"),
        **{name: history(name, meaning, errors_in) for name, meaning in LOSSES.items()},
        **{name: history(name, meaning, "1") for name, meaning in GRADIENTS.items()},
        "learning_rate": ("step", [training.rate(step) for step in steps], {"long_name": "learning rate of phi"}),
    }


def _with_examples(
    runs: xr.Dataset, model: HybridModel, state: State, test: Samples, dataset: xr.Dataset
) -> xr.Dataset:
    """The runs with predictions of the first test samples, and the coordinates that these have in the dataset."""
    theta, phi = constrained(model, state)
    few, running, target = next(test.chunks(EXAMPLES)), RunningStatistics(state.running), dataset[model.target]
    dims, units = [str(name) for name in target.dims[1:]], target.attrs.get("units", "1")
    predictions = {
        "prediction": ("prediction of the whole model", model.predict(theta, phi, few, running)),
        "prediction_science": ("science part alone", model.predict_science(theta, phi, few, running)),
    }
    for name, (meaning, values) in predictions.items():
        runs[name] = _variable(few.in_units(values), ["example", *dims], meaning, units)
    runs["sample"] = _numbers(dataset, "test", "example")[:EXAMPLES]
    for label, coordinate in target.coords.items():
        if set(coordinate.dims) <= set(dims):  # a prediction of a time series leaves out the first time
            last = {dim: slice(-runs.sizes[dim], None) for dim in coordinate.dims}
            runs = runs.assign_coords({label: coordinate.isel(last)})
    return runs


def without_science(runs: xr.Dataset) -> xr.Dataset:
    """The runs of a method that does without the science, in which theta and the science part mean nothing: NaN."""
    of_science = [name for name, variable in runs.data_vars.items() if "parameter" in variable.dims]
    return runs.assign({name: xr.full_like(runs[name], np.nan) for name in (*of_science, "prediction_science")})


def untrained(runs: xr.Dataset, status: str, reasons: Sequence[str]) -> xr.Dataset:
    """The runs in which those of a seed with a reason have that status instead of results; none: as they are.

    status: ``missing``, of a run that makes no sense, or ``diverged``.
    """
    if not any(reasons):
        return runs
    said = xr.DataArray(np.array(reasons, dtype=object), dims="seed")
    trained = said == ""
    numbers = [name for name, of in runs.data_vars.items() if of.dims[:3] == RUN and of.dtype.kind == "f"]
    runs = runs.assign({name: runs[name].where(trained) for name in numbers})
    return runs.assign(status=runs["status"].where(trained, status), reason=runs["reason"].where(trained, said))


def _scales(data: Samples, target: xr.DataArray) -> dict[str, tuple]:
    """The mean and scale of the standard units that errors are in, and the usual rate of change; empty without them."""
    if not data.standard:
        return {}
    dims = ["component"] if "component" in target.dims else []
    values = {"target_mean": data.mean, "target_scale": data.scale}
    if isinstance(data.rate, Tensor):
        values["target_rate"] = data.rate * data.scale
    shape = [target.sizes[name] for name in dims]
    return {
        name: (
            dims,
            torch.as_tensor(of_each).reshape(shape).cpu().numpy(),
            {"long_name": about(name, str(target.name))},
        )
        for name, of_each in values.items()
    }


def squared_units(dataset: xr.Dataset, target: str, data: Samples) -> str:
    """The unit of a mean squared error, which may mix several: ``rad2, (rad s-1)2``; ``1`` for standard units."""
    if data.standard:
        return "1"
    units = dict.fromkeys(units_of(dataset[target]).values())
    return ", ".join("1" if unit == "1" else f"{unit}2" if unit.isalpha() else f"({unit})2" for unit in units)
