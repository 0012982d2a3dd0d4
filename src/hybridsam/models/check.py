"""What is looked at before training, so that a mistake in a user's model is one line that says where and what to do."""

import logging
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import xarray as xr
from torch import Tensor

from hybridsam.core.errors import UserError
from hybridsam.models.hybrid import HybridEncoder, HybridLaw, HybridMap, HybridModel, HybridODE, HybridSum, Theta
from hybridsam.models.networks import RunningStatistics
from hybridsam.models.samples import Samples, in_split

FEW, MEMBERS = 2, 3  # samples and members of a trial; unequal, so that one axis is not taken for the other
MOST = 10_000  # numbers that the science alone is tried on, to find those that are not finite
ADVICE = "sizes in the model section must be those of the data"

# Models that call f and g in the known way; what has a way of its own is tried as a whole only.
SCIENCES = (HybridODE.predict_science, HybridMap.predict_science, HybridEncoder.predict_science)
WHOLES = (HybridODE.predict, HybridSum.predict, HybridEncoder.predict)

logger = logging.getLogger(__name__)


def check(model: HybridModel, dataset: xr.Dataset, data: Samples) -> None:
    """Raise UserError for a model that cannot be trained on the training samples ``data`` of a dataset.

    Takes a prediction of two samples with its gradient, and an evaluation of the science alone on some more.
    """
    _check_names(model.parameters.names, dataset)
    few = next(data.chunks(FEW))
    start = model.parameters.constrain(model.parameters.initial(1).to(few.targets)).detach()
    theta, phi = start.clone().requires_grad_(), model.network.initial(torch.Generator().manual_seed(0)).to(start)[None]
    targets = tuple(few.targets.shape[2:])
    failure: Exception | None = None
    try:
        prediction = _predict(model, theta, phi, few)
        if prediction.shape[1:] != few.targets.shape[1:]:
            found = tuple(prediction.shape[2:])
            raise UserError(f"model: predicts shape {found}, the targets have {targets}; {ADVICE}")
    except UserError:
        raise
    except Exception as error:  # a user's code may raise anything; its parts, tried alone, say more
        failure = error

    of_science: Mapping[str, Tensor | None] = {}
    if isinstance(model, HybridODE | HybridLaw) and type(model).predict_science in SCIENCES:
        of_science = _check_science(model, dataset, few, start)
        _check_finite(model, dataset, data, start)
    if isinstance(model, HybridODE | HybridLaw) and type(model).predict in WHOLES:
        _check_network(model, phi, few)
    if failure:
        raise UserError(f"model: cannot predict targets of shape {targets}; {ADVICE} ({_line(failure)})") from failure
    _check_influence(model, prediction, theta, of_science)


def _check_names(names: Sequence[str], dataset: xr.Dataset) -> None:
    for name in names:
        if names.count(name) > 1:
            raise UserError(f"theta.{name}: {names.count(name)} parameters have this name")
        if name in dataset.variables:
            raise UserError(f"theta.{name}: the dataset has a variable of this name; call the parameter something else")


def _predict(model: HybridModel, theta: Tensor, phi: Tensor, few: Samples) -> Tensor:
    """The whole model, which must be a function of theta, phi and the data alone."""
    running = RunningStatistics(model.network.initial_running().to(theta).unsqueeze(0))
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


def _try_science(model: HybridODE | HybridLaw, theta: Theta, data: Samples) -> tuple[Any, dict[str, Tensor], tuple]:
    """f at theta, name -> (member, 1); what it was given beside theta; the shape that it must have."""
    members = len(next(iter(theta.values())))
    science: Callable[[Theta, Any], Any] = model.science
    given: Any
    if isinstance(model, HybridODE):
        x = data.inputs["states"][:, :, 0]
        given, shape = x.expand(members, *x.shape[1:]), (members, *x.shape[1:])
    else:
        unmeasured = model.unmeasured if isinstance(model, HybridEncoder) else ()
        given = data.inputs | {name: data.targets.new_zeros(members, len(data)) for name in unmeasured}
        shape = (members, *data.targets.shape[1:])
    tried = {"state": given} if isinstance(given, Tensor) else given
    try:
        return science(theta, given), tried, shape
    except KeyError as error:
        known = f"theta has {', '.join(theta)}" + ("" if isinstance(given, Tensor) else f"; u has {', '.join(given)}")
        raise UserError(
            f"model: the science {_place(model, error)} asks for {error}, which is not there: {known}"
        ) from error
    except Exception as error:
        shapes = {"theta[name]": (members, 1)} | {name: tuple(values.shape) for name, values in tried.items()}
        axes = f"on {', '.join(f'{name} {shape}' for name, shape in shapes.items())}: member, sample, ..."
        what = f"{type(error).__name__}: {_line(error)}"
        raise UserError(f"model: the science {_place(model, error)} fails {axes}; {what}") from error


def _check_science(
    model: HybridODE | HybridLaw, dataset: xr.Dataset, few: Samples, start: Tensor
) -> dict[str, Tensor | None]:
    """Try f for several members; parameter -> gradient of f for it, None where nothing leads from it to f."""
    leaves = [values.clone().requires_grad_() for values in start.unbind(1)]
    names = model.parameters.names
    f, _, shape = _try_science(model, {n: v.expand(MEMBERS, 1) for n, v in zip(names, leaves, strict=True)}, few)
    what = f"model: the science {_place(model)} returns"
    if not isinstance(f, Tensor):
        raise UserError(f"{what} {type(f).__name__}, not a tensor")
    if f.shape[1:] != shape[1:] or len(f) not in (1, MEMBERS):
        wanted = "the state" if isinstance(model, HybridODE) else "the targets"
        raise UserError(
            f"{what} shape {tuple(f.shape)}, not {shape}: {shape[0]} members, {shape[1]} samples, "
            f"and {wanted} ({', '.join(_dims(model, dataset))}) = {shape[2:]}"
        )
    if f.dtype != start.dtype:
        constants = "constants in it must be plain numbers, or tensors of the type of what it is given"
        raise UserError(f"{what} {f.dtype}, but training.dtype is {start.dtype}; {constants}")
    if not f.requires_grad:
        return dict.fromkeys(names)
    gradients = torch.autograd.grad(_uneven_sum(f), leaves, allow_unused=True)
    return dict(zip(names, gradients, strict=True))


@torch.no_grad()
def _check_finite(model: HybridODE | HybridLaw, dataset: xr.Dataset, data: Samples, start: Tensor) -> None:
    """Try f on as many training samples as MOST allows, a vector field at their initial states."""
    size = (data.targets[0, 0, 0] if isinstance(model, HybridODE) else data.targets[0, 0]).numel()
    f, given, _ = _try_science(model, model.parameters.named(start), next(data.chunks(max(FEW, MOST // size))))
    bad = (~f[0].isfinite()).nonzero()
    if not len(bad):
        return
    sample, *index = bad[0].tolist()
    coordinates = in_split(dataset, "train").coords
    where = [f"training sample {sample}"]
    for dim, i in zip(_dims(model, dataset), index, strict=True):
        where.append(f"{dim} {coordinates[dim].values[i] if dim in coordinates else i}")
    value = f[0, sample, *index].item()
    too = [name for name, values in given.items() if not values[0, sample].isfinite().all()]
    cause = f"; the data are not finite there either: {', '.join(too)}" if too else ""
    theta = ", ".join(f"{row.name} = {row.start:g}" for row in model.parameters.rows)
    raise UserError(f"model: the science {_place(model)} gives {value} at {', '.join(where)}, with {theta}{cause}")


def _check_network(model: HybridODE | HybridLaw, phi: Tensor, few: Samples) -> None:
    """Try g where its output is added to f, or is what f needs: another shape might fit by accident."""
    if isinstance(model, HybridODE):
        x = few.inputs["states"][:1, :, 0]
        shape = tuple(x.shape)
        if type(model).field is not HybridODE.field:
            return
    elif isinstance(model, HybridEncoder):
        shape = (1, len(few), len(model.unmeasured))
    else:
        shape = tuple(few.targets[:1].shape)
    try:
        if isinstance(model, HybridODE):
            g = model.network(model.network.unflatten(phi), x)
        else:
            g = model.through_network(phi, few)
    except Exception as error:
        on = f"a state of shape {shape[2:]}" if isinstance(model, HybridODE) else f"inputs: {', '.join(model.beside)}"
        raise UserError(f"model: the network fails on {on}; {ADVICE} ({_line(error)})") from error
    if not isinstance(g, Tensor) or g.shape != shape:
        found = f"shape {tuple(g.shape[2:])}" if isinstance(g, Tensor) else type(g).__name__
        raise UserError(f"model: the network returns {found} for a sample where it must be shape {shape[2:]}; {ADVICE}")


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
            place = _place(model) if isinstance(model, HybridODE | HybridLaw) else ""
            raise UserError(
                f"theta.{name}: has no influence on the prediction; the science {place} must use theta[{name!r}], "
                "or the model section must leave the parameter out"
            )
        if value == 0 and own == 0:
            logger.warning(f"theta.{name}: a small change of its start changes no prediction of the first samples")


def _uneven_sum(values: Tensor) -> Tensor:
    """With another weight for each number, so that gradients do not cancel by symmetry."""
    return (values.flatten() * torch.linspace(1, 2, values.numel()).to(values)).sum()


def _dims(model: HybridODE | HybridLaw, dataset: xr.Dataset) -> list[str]:
    """Names of the axes of f after (member, sample)."""
    dims = [str(dim) for dim in dataset[model.target].dims[1:]]
    return [dim for dim in dims if not (dim == "time" and isinstance(model, HybridODE))]


def _place(model: HybridODE | HybridLaw, error: Exception | None = None) -> str:
    """Where the science is written, and where in it an error arose."""
    if not (code := getattr(model.science, "__code__", None)):
        return "f"
    frames = traceback.extract_tb(error.__traceback__) if error else []
    lines = [code.co_firstlineno, *(frame.lineno for frame in frames if frame.filename == code.co_filename)]
    return f"f ({Path(code.co_filename).name}, line {lines[-1]})"


def _line(error: Exception) -> str:
    """What an error says, as one line."""
    return " ".join(str(error).split())
