"""Trainings that begin at given values, not at those of their seeds, and in which theta may stay where it begins."""

from dataclasses import dataclass

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
