"""Trainings that begin at given values, not at those of their seeds, and in which theta may stay where it begins."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from hybridsam.core.errors import UserError
from hybridsam.models.parameters import Parameters


@dataclass(frozen=True)
class WarmStart:
    """Where members begin.

    theta: (member, parameter) in natural units. held: the same shape, True for what stays there. phi, running:
    (member, n), of runs that were trained before; None: as every seed begins. Raises UserError for a theta outside its
    bounds.
    """

    parameters: Parameters
    theta: Tensor
    held: Tensor
    phi: Tensor | None = None
    running: Tensor | None = None

    def __post_init__(self) -> None:
        for i, row in enumerate(self.parameters.rows):
            for value in self.theta[:, i].tolist():
                if not row.lower < value < row.upper:
                    raise UserError(f"theta.{row.name}: {value:g} is not between {row.lower:g} and {row.upper:g}")

    @property
    def raw(self) -> Tensor:
        """(member, parameter) unconstrained theta."""
        return self.parameters.unconstrain(self.theta.double())


@dataclass(frozen=True)
class Held:
    """Where theta of each run of a block stays: (seed, parameter) in natural units, NaN where it is free.

    gradients: (seed,) that were evaluated to find it. failed, left_out: of each run why it cannot be trained, empty if
    it can: the run failed that it begins from, or theta is not known there.
    """

    theta: Tensor
    gradients: np.ndarray
    failed: Sequence[str]
    left_out: Sequence[str]

    def start(self, parameters: Parameters, seeds: Sequence[int]) -> WarmStart:
        """Everything else is as every seed begins."""
        usual = parameters.constrain(parameters.drawn(seeds, torch.float64))
        free = self.theta.isnan()
        return WarmStart(parameters, torch.where(free, usual, self.theta.to(usual)), ~free)
