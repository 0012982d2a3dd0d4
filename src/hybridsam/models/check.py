"""What is looked at before training, so that a mistake in a user's model is one line that says where and what to do."""

import logging
import re
import traceback
from collections.abc import Mapping, Sequence
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from hybridsam.core.errors import UserError
from hybridsam.core.scales import units_of
from hybridsam.models.hybrid import HybridModel, Inputs, NetworkTrial, ScienceTrial, Theta
from hybridsam.models.law import HybridLaw
from hybridsam.models.networks import Network, RunningStatistics
from hybridsam.models.parameters import Parameters
from hybridsam.models.samples import Samples, in_split
from hybridsam.models.solver import Solver
from hybridsam.models.widths import check_widths

FEW, MEMBERS = 2, 3  # samples and members of a trial; unequal, so that one axis is not taken for the other
RESOLUTION = 0.01  # of the spread of numbers: how coarsely training may know them
STEP = 0.01  # of the size of a component, by which it is changed to see whether f changes
MOST = 10_000  # numbers that the science alone is tried on, to find those that are not finite
AXES = ("members, which are runs that train at once", "samples")
UNUSUAL = 30  # times larger or smaller than one
PARTS = {"parameters": Parameters, "network": Network, "solver": Solver}
NOT_TORCH = re.compile(r"numpy\(\)|Python scalars|must be real number|ufunc|ndarray")
ADVICE = "sizes in the model section must be those of the data"

logger = logging.getLogger(__name__)


def check(model: HybridModel, dataset: xr.Dataset, data: Samples) -> None:
    """Raise UserError for a model that cannot be trained on the training samples ``data`` of a dataset.

    Takes a prediction of two samples by three members with its gradients, and the science alone on some more samples.
    """
    _check_names(model.parameters.names, dataset)
    _check_resolution(model, dataset, data)
    scale, components = getattr(model, "network_scale", None), data.targets.shape[-1]
    if isinstance(scale, list) and len(scale) != components:
        raise UserError(f"network_scale: {len(scale)} numbers for {components} components of the state")
    few = next(data.chunks(FEW))
    start = model.parameters.constrain(model.parameters.initial(1).to(few.targets)).detach()
    theta = start.repeat(MEMBERS, 1).requires_grad_()
    phi = model.initial(torch.Generator().manual_seed(0)).to(start).repeat(MEMBERS, 1).requires_grad_()
    targets = tuple(few.targets.shape[2:])
    failure: Exception | None = None
    try:
        prediction = _predict(model, theta, phi, few)
        if prediction.shape[1:] != few.targets.shape[1:]:
            found = tuple(prediction.shape[2:])
            failure = UserError(f"model: predicts shape {found}, the targets have {targets}; {ADVICE}")
    except UserError:
        raise
    except Exception as error:  # a user's code may raise anything; its parts, tried alone, say more
        failure = error

    of_science: Mapping[str, Tensor | None] = {}
    if science := model.science_trial(few, MEMBERS):
        of_science = _check_science(model, science, dataset, start)
        more = next(data.chunks(max(FEW, MOST // prod(science.shape[2:]))))
        _check_finite(model, model.science_trial(more, 1) or science, dataset, start)
    check_widths(model, theta, phi, few)
    if isinstance(model, HybridLaw):
        _check_sizes(model, data)
        _check_units(model, dataset)
    if network := model.network_trial(few):
        _check_network(network, phi[:1].detach())
    if isinstance(failure, UserError):
        raise failure
    if failure:
        raise UserError(f"model: cannot predict targets of shape {targets}; {ADVICE} ({_line(failure)})") from failure
    _check_apart("model: the prediction", prediction, {"theta": theta, "phi": phi})
    _check_network_influence(prediction, phi)
    _check_influence(model, prediction, theta, of_science)


def check_parts(model: HybridModel, dataset: xr.Dataset) -> None:
    """Raise UserError for what is no model, and no dataset of what it predicts; before its samples are asked for."""
    if not isinstance(model, HybridModel):
        raise UserError(
            f"model: {type(model).__name__} is no HybridModel; a class of one's own extends hybridsam.HybridModel"
        )
    for name, kind in PARTS.items():
        if not isinstance(part := getattr(model, name, None), kind) and (part is not None or name != "solver"):
            advice = "; a torch.nn.Module becomes one by TorchModule(lambda: …)" * isinstance(part, torch.nn.Module)
            raise UserError(f"model: {name}: {type(part).__name__} is no {kind.__name__}{advice}")
    if not len(model.parameters):
        raise UserError("theta: the model has no parameters, so there is nothing to find out; it needs at least one")
    if not isinstance(dataset, xr.Dataset):
        raise UserError(
            f"dataset: {type(dataset).__name__} is no xarray Dataset; hybridsam.dataset_of makes one of a table"
        )
    if model.target not in dataset:
        raise UserError(f"dataset: no variable {model.target}, which the model predicts")


def _check_names(names: Sequence[str], dataset: xr.Dataset) -> None:
    for name in names:
        if names.count(name) > 1:
            raise UserError(f"theta.{name}: {names.count(name)} parameters have this name")
        if name in dataset.variables:
            raise UserError(f"theta.{name}: the dataset has a variable of this name; call the parameter something else")


def _check_resolution(model: HybridModel, dataset: xr.Dataset, data: Samples) -> None:
    """Refuse numbers of which the type that is trained in keeps too little: those of a large offset."""
    known, dtype = in_split(dataset, "train"), data.targets.dtype
    for name in dict.fromkeys([model.target, *data.inputs]):
        if name not in known or known[name].dtype not in (np.float64, np.int64, np.int32):
            continue  # what is coarser in the file itself has lost it there, as images have
        over = [dim for dim in known[name].dims if dim != "component"]
        most, spread = np.atleast_1d(abs(known[name]).max(over)), np.atleast_1d(known[name].std(over))
        coarse = most * torch.finfo(dtype).eps
        for i in np.flatnonzero((spread > 0) & (coarse > RESOLUTION * spread)):
            label = known["component"].values[i] if "component" in known[name].dims else name
            kind = str(dtype).removeprefix("torch.")
            raise UserError(
                f"dataset: {label}: in {kind} numbers of {most[i]:.3g} are known to {coarse[i]:.1g}, "
                f"and their standard deviation is {spread[i]:.2g}; take an offset off them, or train in float64 (dtype)"
            )


def _predict(model: HybridModel, theta: Tensor, phi: Tensor, few: Samples) -> Tensor:
    """The whole model, which must be a function of theta, phi and the data alone."""
    running = RunningStatistics(model.network.initial_running().to(theta).repeat(len(theta), 1))
    before = _random_state(theta.device)
    prediction = model.predict(theta, phi, few, running)
    if not torch.equal(before, _random_state(theta.device)):
        raise UserError(
            "model: a prediction draws random numbers, as dropout does; leave that out, "
            "because both passes of sharpness-aware minimization must see the same network"
        )
    return prediction


def _random_state(device: torch.device) -> Tensor:
    return torch.cuda.get_rng_state(device) if device.type == "cuda" else torch.get_rng_state()


# The parts of models whose form is known


def _named(trial: ScienceTrial) -> Inputs:
    """What f is given beside theta, by name."""
    return {"state": trial.given} if isinstance(trial.given, Tensor) else trial.given


def _try_science(model: HybridModel, trial: ScienceTrial, theta: Theta) -> Any:
    """f at theta, name -> (member, 1)."""
    given = trial.given
    try:
        return model.science(theta, given)
    except KeyError as error:
        known = f"theta has {', '.join(theta)}" + ("" if isinstance(given, Tensor) else f"; u has {', '.join(given)}")
        raise UserError(
            f"model: the science {_place(model, error)} asks for {error}, which is not there: {known}"
        ) from error
    except Exception as error:
        shapes = {"theta[name]": (trial.shape[0], 1)} | {n: tuple(values.shape) for n, values in _named(trial).items()}
        axes = f"on {', '.join(f'{name} {shape}' for name, shape in shapes.items())}: member, sample, ..."
        what = f"{type(error).__name__}: {_line(error)}"
        if NOT_TORCH.search(what):
            what = "it calls NumPy or math on tensors; write it in PyTorch, such as torch.sqrt, or x**0.5"
        raise UserError(f"model: the science {_place(model, error)} fails {axes}; {what}") from error


def _check_science(
    model: HybridModel, trial: ScienceTrial, dataset: xr.Dataset, start: Tensor
) -> dict[str, Tensor | None]:
    """Try f for several members; parameter -> gradient of f for it, None where nothing leads from it to f."""
    theta = {name: values.repeat(MEMBERS, 1).requires_grad_() for name, values in model.parameters.named(start).items()}
    given = {name: values.clone().requires_grad_() for name, values in _named(trial).items()}
    trial = trial._replace(given=given["state"] if isinstance(trial.given, Tensor) else given)
    f = _try_science(model, trial, theta)
    shape = trial.shape
    what = f"model: the science {_place(model)} returns"
    if not isinstance(f, Tensor):
        raise UserError(f"{what} {type(f).__name__}, not a tensor")
    if f.shape[1:] != shape[1:] or len(f) not in (1, MEMBERS):
        raise UserError(
            f"{what} shape {tuple(f.shape)}, not {shape}: {shape[0]} members, {shape[1]} samples, "
            f"and {trial.returns} ({', '.join(_dims(model, trial, dataset))}) = {shape[2:]}"
        )
    if f.dtype != start.dtype:
        constants = "constants in it must be plain numbers, or tensors of the type of what it is given"
        raise UserError(f"{what} {f.dtype}, but training.dtype is {start.dtype}; {constants}")
    if not f.requires_grad:
        return dict.fromkeys(theta)
    leaves = {f"theta[{name!r}]": values for name, values in theta.items()} | given
    _check_apart(f"model: the science {_place(model)}", f.expand(shape), leaves)
    _check_apart(f"model: the science {_place(model)}", f, given, axis=1)
    gradients = _gradients(f"model: the science {_place(model)}", _uneven_sum(f), [*theta.values(), *given.values()])
    _check_slopes(model, trial, theta, dict(zip(given, gradients[len(theta) :], strict=True)))
    return dict(zip(theta, gradients, strict=False))


def _gradients(what: str, made: Tensor, leaves: Sequence[Tensor]) -> tuple[Tensor | None, ...]:
    """Of a number by the tensors that it is made of, None where nothing leads from one to it."""
    try:
        return torch.autograd.grad(made, list(leaves), retain_graph=True, allow_unused=True)
    except RuntimeError as error:
        raise UserError(f"{what} has no gradient: {_line(error)}") from error


@torch.no_grad()
def _check_slopes(
    model: HybridModel, trial: ScienceTrial, theta: Theta, gradients: Mapping[str, Tensor | None]
) -> None:
    """Refuse an f that changes with what it is given where its gradient is 0: one that was cut, by detach or NumPy.

    A step tells nothing: over twice the distance, it is half as steep.
    """
    most = _uneven_sum(_try_science(model, trial, theta).abs())
    for name, values in _named(trial).items():
        gradient = gradients[name]
        for i in range(values.shape[-1]) if values.ndim > 2 else [...]:
            if gradient is not None and gradient[..., i].any():
                continue
            size = values[..., i].square().mean().sqrt().item() or 1.0
            near, far = (size * _slope(model, trial, theta, name, i, steps * STEP * size) for steps in (1, 2))
            if near.isfinite() and abs(near) > 1e-3 * most and abs(far - near) < 0.1 * abs(near):
                what = name if i is ... else f"{name}[..., {i}]"
                raise UserError(
                    f"model: the science {_place(model)} changes with {what}, but its gradient for that is 0, so that "
                    "training would go astray; leave out detach, numpy, torch.tensor(...) and rounding"
                )


def _slope(model: HybridModel, trial: ScienceTrial, theta: Theta, name: str, i: Any, distance: float) -> Tensor:
    """Of f by component i of what it is given by that name, by differences."""
    ends = []
    for end in (distance, -distance):
        moved = _named(trial)[name].clone()
        moved[..., i] += end
        given = moved if isinstance(trial.given, Tensor) else trial.given | {name: moved}
        ends.append(_uneven_sum(_try_science(model, trial._replace(given=given), theta)))
    return (ends[0] - ends[1]) / (2 * distance)


def _check_apart(what: str, made: Tensor, leaves: Mapping[str, Tensor], axis: int = 0) -> None:
    """Refuse what mixes ``AXES[axis]``: made, (member, sample, ...), is made of leaves of such a shape."""
    for own in (0, made.shape[axis] - 1) if made.requires_grad else ():
        part = _uneven_sum(made.select(axis, own))
        gradients = _gradients(what, part, list(leaves.values()))
        for name, gradient in zip(leaves, gradients, strict=True):
            if gradient is None or gradient.shape[axis] == 1:
                continue
            others = torch.arange(gradient.shape[axis]) != own
            if gradient.movedim(axis, 0)[others].nan_to_num(0).any():  # NaN is 0 times an infinite slope
                raise UserError(
                    f"{what} mixes {AXES[axis]}: what it makes of one depends on {name} of another; axes are member, "
                    "sample, ...: parts of a state are x[..., i], and means and sums go over later axes only"
                )


@torch.no_grad()
def _check_finite(model: HybridModel, trial: ScienceTrial, dataset: xr.Dataset, start: Tensor) -> None:
    """Try f on many training samples, a vector field at their initial states."""
    f = _try_science(model, trial, model.parameters.named(start))
    bad = (~f[0].isfinite()).nonzero()
    if not len(bad):
        return
    sample, *index = bad[0].tolist()
    coordinates = in_split(dataset, "train").coords
    where = [f"training sample {sample}"]
    for dim, i in zip(_dims(model, trial, dataset), index, strict=True):
        where.append(f"{dim} {coordinates[dim].values[i] if dim in coordinates else i}")
    value = f[0, sample, *index].item()
    too = [name for name, values in _named(trial).items() if not values[0, sample].isfinite().all()]
    cause = f"; the data are not finite there either: {', '.join(too)}" if too else ""
    theta = ", ".join(f"{row.name} = {row.centre:g}" for row in model.parameters.rows)
    raise UserError(f"model: the science {_place(model)} gives {value} at {', '.join(where)}, with {theta}{cause}")


def _check_network(trial: NetworkTrial, phi: Tensor) -> None:
    """Try g where another shape than the right one might fit by accident."""
    try:
        g = trial.g(phi)
    except Exception as error:
        raise UserError(f"model: the network fails on {trial.sees}; {ADVICE} ({_line(error)})") from error
    if not isinstance(g, Tensor) or g.shape != trial.shape:
        found, wanted = f"shape {tuple(g.shape[2:])}" if isinstance(g, Tensor) else type(g).__name__, trial.shape[2:]
        raise UserError(f"model: the network returns {found} for a sample where it must be shape {wanted}; {ADVICE}")


def _check_sizes(model: HybridLaw, data: Samples) -> None:
    """Warn of inputs of the network that its factors do not bring to order one, by which it learns badly."""
    for name, factor in model.network_inputs.items():
        size = data.inputs[name].square().mean().sqrt().item() if name in data.inputs else 1.0
        if size and not 1 / UNUSUAL < size * abs(factor) < UNUSUAL:
            logger.warning(
                f"model: network_inputs.{name}: the network is given numbers of about {size * abs(factor):.1g}, "
                f"and learns by ones of order 1; a factor of {1 / size:.1g} would make them so"
            )


def _check_units(model: HybridLaw, dataset: xr.Dataset) -> None:
    """Warn of errors that add up squares of several units."""
    units = dict.fromkeys(units_of(dataset[model.target]).values())
    if len(units) > 1 and not model.standardise:
        logger.warning(
            f"model: the error adds up squares of {', '.join(units)}, so that it depends on the choice of these units; "
            "standardise=True measures each component by its standard deviation"
        )


def _check_influence(
    model: HybridModel, prediction: Tensor, theta: Tensor, of_science: Mapping[str, Tensor | None]
) -> None:
    """Refuse a parameter on which nothing depends; warn of what can be so by accident, at theta's start."""
    gradient = torch.zeros_like(theta)
    if prediction.requires_grad:
        [gradient] = torch.autograd.grad(_uneven_sum(prediction), [theta], materialize_grads=True)
    if not (prediction.isfinite().all() and gradient.isfinite().all()):
        logger.warning("model: the prediction, or its gradient for theta, is not finite at the start of training")
        return
    for name, value in zip(model.parameters.names, gradient[0].tolist(), strict=True):
        own = of_science.get(name, torch.zeros(()))
        if value == 0 and own is None:
            raise UserError(
                f"theta.{name}: has no influence on the prediction; the science {_place(model)} must use "
                f"theta[{name!r}], or the model section must leave the parameter out"
            )
        if value == 0 and own is not None and not own.any():
            logger.warning(f"theta.{name}: a small change of its start changes no prediction of the first samples")


def _check_network_influence(prediction: Tensor, phi: Tensor) -> None:
    """Refuse a network on which nothing depends."""
    if not phi.numel():
        return
    gradient = None
    if prediction.requires_grad:
        [gradient] = _gradients("model: the prediction", _uneven_sum(prediction), [phi])
    if gradient is None or not gradient.nan_to_num(1).any():
        raise UserError(
            "model: the network has no influence on the prediction, so this is the science alone; a field of one's own "
            "has to use g"
        )


def _uneven_sum(values: Tensor) -> Tensor:
    """With another weight for each number, so that gradients do not cancel by symmetry."""
    return (values.flatten() * torch.linspace(1, 2, values.numel()).to(values)).sum()


def _dims(model: HybridModel, trial: ScienceTrial, dataset: xr.Dataset) -> list[str]:
    """Names of the axes of f after (member, sample)."""
    return [str(dim) for dim in dataset[model.target].dims[1:] if dim not in trial.lacks]


def _place(model: HybridModel, error: Exception | None = None) -> str:
    """Where the science is written, and where in it an error arose."""
    if not (code := getattr(model.science, "__code__", None)):
        return "f"
    frames = traceback.extract_tb(error.__traceback__) if error else []
    lines = [code.co_firstlineno, *(frame.lineno for frame in frames if frame.filename == code.co_filename)]
    return f"f ({Path(code.co_filename).name}, line {lines[-1]})"


def _line(error: Exception) -> str:
    """What an error says, as one line."""
    return " ".join(str(error).split())
