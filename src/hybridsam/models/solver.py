"""Rollouts of a vector field: the classical Runge-Kutta method at fixed steps, others through torchdiffeq."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from math import ceil
from statistics import median

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from hybridsam.core.errors import UserError
from hybridsam.core.settings import check_number, typed

VectorField = Callable[[float, Tensor], Tensor]
ADAPTIVE = ("dopri5", "dopri8", "bosh3", "fehlberg2", "adaptive_heun")


@dataclass(frozen=True)
class Step:
    """One step of an integration; observed: the number of the time at its end, counted from zero, or -1 if none is."""

    start: float
    length: float
    observed: int


@dataclass(frozen=True)
class Solver:
    """How to integrate.

    Parameters
    ----------
    method : str, optional
        ``rk4``, or an adaptive method of torchdiffeq, such as ``dopri5``.
    step : float, optional
        Longest step of rk4, in the unit of time.
    segment : int, optional
        Steps of rk4 of which the backward pass keeps the first state only, and computes the rest again, so that a long
        rollout needs less memory; 0: it keeps everything.
    rtol, atol : float, optional
        Tolerances of an adaptive method.

    Raises
    ------
    UserError
        For an unknown method, and for a number that is not in its range.
    """

    method: str = "rk4"
    step: float = 0.1
    segment: int = 0
    rtol: float = 1e-6
    atol: float = 1e-8

    def __post_init__(self) -> None:
        if self.method not in ("rk4", *ADAPTIVE):
            raise UserError(f"solver.method: {self.method!r} is not one of rk4, {', '.join(ADAPTIVE)}")
        if self.segment < 0:
            raise UserError(f"solver.segment: {self.segment!r} is not a number of steps, or 0")
        for key in ("step", "rtol", "atol"):
            check_number(getattr(self, key), f"solver.{key}")
            if not getattr(self, key) > 0:
                raise UserError(f"solver.{key}: {getattr(self, key)!r} is not a positive number")

    @classmethod
    def from_settings(cls, values: Mapping) -> "Solver":
        """From the section ``solver`` of a task file's ``model``.

        Parameters
        ----------
        values : mapping

        Returns
        -------
        Solver

        Raises
        ------
        UserError
            Naming the key.
        """
        return typed(cls, values, "model.solver")

    @property
    def adaptive(self) -> bool:
        """Whether the method chooses its steps itself."""
        return self.method in ADAPTIVE

    def finer(self, times: Sequence[float]) -> "Solver":
        """A solver to compare with: steps half as long, or tolerances of a tenth.

        Parameters
        ----------
        times : sequence of float
            Of the rollouts to compare.

        Returns
        -------
        Solver
        """
        if self.adaptive:
            return replace(self, rtol=self.rtol / 10, atol=self.atol / 10)
        return replace(self, step=min(self.step, median(end - start for start, end in pairwise(times))) / 2)

    def rollout(self, field: VectorField, initial: Tensor, times: Sequence[float]) -> Tensor:
        """States at every time after the first.

        Parameters
        ----------
        field : callable
            (t, x) -> dx/dt with x shaped like ``initial``.
        initial : Tensor of shape (member, sample, ...)
            State at times[0].
        times : sequence of float
            Increasing, in the unit of ``step``; need not be evenly spaced.

        Returns
        -------
        Tensor of shape (member, sample, time - 1, ...)
        """
        if self.adaptive:
            return _adaptive(field, initial, times, self)
        states, x, steps = [], initial, self.steps(times)
        length = self.segment or len(steps)
        for first in range(0, len(steps), length):
            own = steps[first : first + length]
            if self.segment and torch.is_grad_enabled():
                x, *seen = checkpoint(_advance, field, x, own, use_reentrant=False, preserve_rng_state=False)
            else:
                x, *seen = _advance(field, x, own)
            states += seen
        return torch.stack(states, 2)

    def rollouts(self, field_of: Callable[[slice], VectorField], initial: Tensor, times: Sequence[float]) -> Tensor:
        """As :meth:`rollout`, of members that do not mix.

        An adaptive method has one error estimate for all that it integrates, so there each member goes alone.

        Parameters
        ----------
        field_of : callable
            Some members, a slice -> their vector field.
        initial : Tensor of shape (member, sample, ...)
        times : sequence of float

        Returns
        -------
        Tensor of shape (member, sample, time - 1, ...)
        """
        members = len(initial)
        if not self.adaptive or members == 1:
            return self.rollout(field_of(slice(None)), initial, times)
        each = [slice(i, i + 1) for i in range(members)]
        return torch.cat([self.rollout(field_of(own), initial[own], times) for own in each])

    def steps(self, times: Sequence[float]) -> list[Step]:
        """The steps of a rollout.

        Parameters
        ----------
        times : sequence of float

        Returns
        -------
        list of Step
            Between two times equal ones, no longer than ``step``.
        """
        steps = []
        for number, (start, end) in enumerate(pairwise(times)):
            n = max(1, ceil((end - start) / self.step - 1e-9))  # not one more for a rounding error
            h = (end - start) / n
            steps += [Step(start + i * h, h, number if i == n - 1 else -1) for i in range(n)]
        return steps


def _advance(field: VectorField, x: Tensor, steps: Sequence[Step]) -> list[Tensor]:
    """The state after the steps, and those at the times among their ends."""
    seen = []
    for step in steps:
        x = rk4_step(field, step.start, x, step.length)
        if step.observed >= 0:
            seen.append(x)
    return [x, *seen]


def rk4_step(field: VectorField, t: float, x: Tensor, h: float) -> Tensor:
    """One step of length h of the classical fourth-order Runge-Kutta method (Kutta 1901)."""
    k1 = field(t, x)
    k2 = field(t + h / 2, torch.add(x, k1, alpha=h / 2))
    k3 = field(t + h / 2, torch.add(x, k2, alpha=h / 2))
    k4 = field(t + h, torch.add(x, k3, alpha=h))
    return torch.add(x, torch.add(k1 + k4, k2 + k3, alpha=2), alpha=h / 6)


def _adaptive(field: VectorField, initial: Tensor, times: Sequence[float], solver: Solver) -> Tensor:
    from torchdiffeq import odeint  # imported here: the fixed-step path, used by default, does without it

    grid = torch.tensor(times, dtype=torch.float64, device=initial.device)
    # Steps end at the times asked for: torchdiffeq interpolates less accurately than it integrates.
    how = {"rtol": solver.rtol, "atol": solver.atol, "method": solver.method, "options": {"step_t": grid[1:]}}
    try:
        states = odeint(field, initial, grid, **how)
    except AssertionError as error:
        if "underflow in dt" not in str(error):
            raise
        # The state has run away or is not a number: the same, by way of the field, so that gradients are defined.
        nan = field(times[0], initial) * torch.nan
        states = nan.expand(len(times), *initial.shape)
    return states[1:].movedim(0, 2)
