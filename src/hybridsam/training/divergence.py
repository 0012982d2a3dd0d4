"""Why a run diverged: the first operation whose result is not finite, and where it was asked for."""

import sys
from collections.abc import Callable
from contextlib import nullcontext
from copy import copy
from functools import partial
from pathlib import Path
from typing import Any

import torch
import xarray as xr
from torch import Tensor
from torch.overrides import TorchFunctionMode

from hybridsam.core.methods import Method
from hybridsam.models.hybrid import HybridModel
from hybridsam.models.networks import RunningStatistics
from hybridsam.models.ode import HybridODE
from hybridsam.models.samples import Samples
from hybridsam.models.solver import VectorField
from hybridsam.training.checkpoint import State
from hybridsam.training.loop import Training
from hybridsam.training.loss import Loss, objective
from hybridsam.training.methods import hybrid_gradient, perturbation_of

WORDS = {"truediv": "division", "div": "division", "rtruediv": "division", "rpow": "pow", "baddbmm": "the network"}
AT_ONCE = 50  # training samples that are looked at together
SHOWN = 4  # components of a state


@torch.enable_grad()
def reason(
    model: HybridModel,
    method: Method,
    rho: float,
    data: Samples,
    dataset: xr.Dataset,
    state: State,
    member: int,
    training: Training,
) -> str:
    """Why the gradient of a diverged member is not finite, in words.

    data: the training samples, of this dataset. state: the last one of training, whose weights are those at which
    updates were skipped.
    """
    w, n_theta = state.w[member : member + 1], len(model.parameters)
    theta, phi = w[:, :n_theta], w[:, n_theta:]
    rhos, is_weight = w.new_tensor([rho]), model.network.is_weight().to(w.device)
    done = int(state.updates[member])
    by = f"with the network as it is after {done} updates" if done else "with the network as it starts"
    for number, few in enumerate(data.chunks(AT_ONCE)):
        trace = Trace(model, dataset, number * AT_ONCE)
        running = RunningStatistics(state.running[member : member + 1], training=True)
        minimized = objective(Loss(trace.model), method, rhos, few, running)
        perturbation = perturbation_of(method, training.eta)
        if found := trace.of(
            partial(hybrid_gradient, minimized, theta, phi, perturbation, rhos, is_weight, training.perturb)
        ):
            return f"{found}, {by}"
    return f"the loss or its gradient was not finite, and is where training ended, {by}"


class Trace:
    """What the gradient of a loss stumbles on.

    model: the same as the one that is traced, with eyes on its vector field. first: number of the first sample that it
    will be given.
    """

    def __init__(self, model: HybridModel, dataset: xr.Dataset, first: int) -> None:
        self.science, self.dataset, self.first = getattr(model, "science", None), dataset, first
        self.of_field, self.slopes = "", [""]
        self.model = copy(model)
        if isinstance(model, HybridODE):
            self.model.rollouts = self._rollouts_of(model)  # type: ignore[attr-defined]

    def of(self, gradients: Callable[[], tuple[Tensor, ...]]) -> str:
        """What is not finite in a call that returns losses and gradients; empty if nothing is."""
        watch = _Watch(self.science, lambda sample: f"training sample {self.first + sample}", self.slopes)
        with nullcontext() if isinstance(self.model, HybridODE) else watch:  # whose field is watched
            found = gradients()
        if all(values.isfinite().all() for values in found):
            return ""
        return self.of_field or watch.what or self.slopes[-1] or "the gradient, which is too large for a number"

    def _rollouts_of(self, model: HybridODE) -> Callable:
        """``rollouts`` of a model that notes where its vector field is first not finite."""

        def rollouts(field_of: Callable[[slice], VectorField], members: int, data: Samples) -> Tensor:
            def noting(own: slice) -> VectorField:
                field = field_of(own)

                def noted(t: float, x: Tensor) -> Tensor:
                    with (
                        watch := _Watch(self.science, lambda sample: self._place(t, sample, x[0, sample]), self.slopes)
                    ):
                        rate = field(t, x)
                    if not self.of_field and len(bad := (~x.isfinite() | ~rate.isfinite()).nonzero()):
                        sample = int(bad[0, 1])
                        runs_away = f"the state, which runs away, at {self._place(t, sample, x[0, sample])}"
                        self.of_field = watch.what or runs_away
                    return rate

                return noted

            return model.rollouts(noting, members, data)

        return rollouts

    def _place(self, t: float, sample: int, x: Tensor) -> str:
        time = self.dataset["time"].attrs.get("units", "1")
        where = f"t = {t:.4g}{f' {time}' * (time != '1')} of training sample {self.first + sample}"
        if x.ndim > 1 or "component_units" not in self.dataset.coords:
            return where
        named = zip(self.dataset["component"].values, x.tolist(), self.dataset["component_units"].values, strict=True)
        values = [f"{name} = {value:.4g}{f' {unit}' * (unit != '1')}" for name, value, unit in named]
        return f"{where}, where {', '.join(values[:SHOWN])}{' …' * (len(values) > SHOWN)}"


class _Watch(TorchFunctionMode):
    """Notes the first operation that makes something that is not finite of finite numbers, and the first such slope.

    place: where a sample is, in words. slopes: a list to whose end go operations whose gradient is not finite, if there
    is none yet: by the time a backward pass comes to them, others may watch.
    """

    def __init__(self, science: Callable | None, place: Callable[[int], str], slopes: list[str]) -> None:
        super().__init__()
        self.code, self.place, self.slopes = getattr(science, "__code__", None), place, slopes
        self.what = ""

    def __torch_function__(self, function, types, args=(), kwargs=None) -> Any:
        result = function(*args, **(kwargs or {}))
        if not (isinstance(result, Tensor) and result.is_floating_point()):
            return result
        operands = [operand for operand in args if isinstance(operand, Tensor | float | int)]
        said = partial(self._said, function.__name__.strip("_"), [torch.as_tensor(o).detach() for o in operands])
        new = all(torch.as_tensor(operand).isfinite().all() for operand in operands)  # else it was so before
        if not self.what and new and len(bad := (~result.isfinite()).nonzero()):
            self.what = said(result.shape, bad[0], self._line())
        for operand in operands:
            if isinstance(operand, Tensor) and operand.requires_grad:
                operand.register_hook(partial(self._slope, said, self._line()))
        return result

    def _slope(self, said: Callable[..., str], line: str, gradient: Tensor) -> None:
        if not self.slopes[-1] and len(bad := (~gradient.isfinite()).nonzero()):
            self.slopes.append(f"the slope of {said(gradient.shape, bad[0], line)}")

    def _said(self, name: str, operands: list[Tensor], shape: torch.Size, index: Tensor, line: str) -> str:
        """An operation, what it was given at that place of an array of that shape, and where that is."""
        values = [_at(operand, shape, index) for operand in operands]
        known = f"({', '.join(f'{value:.4g}' for value in values if value is not None)})" * (None not in values)
        return f"{WORDS.get(name, name)}{known}{line} at {self.place(int(index[1]) if len(index) > 1 else 0)}"

    def _line(self) -> str:
        """Where in the file of the science this is asked for, if it is there."""
        frame = sys._getframe(2)
        while frame and self.code:
            if frame.f_code.co_filename == self.code.co_filename:
                return f" ({Path(frame.f_code.co_filename).name}, line {frame.f_lineno})"
            frame = frame.f_back  # type: ignore[assignment]
        return ""


def _at(operand: Tensor, shape: torch.Size, index: Tensor) -> float | None:
    """The operand's value at that place of an array of that shape; None where it has no single one."""
    try:
        return float(operand.expand(shape)[tuple(index.tolist())])
    except RuntimeError:
        return None
