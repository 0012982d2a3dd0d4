"""The scientific parameters theta: a table of names, units, bounds and transforms, in PEtab's vocabulary.

Training works on unconstrained values; the science sees natural units. Arrays lead with the member axis
(a member is one training run), so theta is (member, parameter).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf, isfinite

import torch
from torch import Tensor
from torch.nn.functional import softplus

from hybridsam.core.errors import UserError
from hybridsam.core.settings import typed

TRANSFORMS = ("none", "softplus", "sigmoid")


@dataclass(frozen=True)
class Parameter:
    """One scientific parameter.

    Parameters
    ----------
    name : str
    unit : str
    start : float
        In natural units.
    transform : str, optional
        ``none``: theta = raw; ``softplus``: theta = lower + softplus(raw); ``sigmoid``: theta = lower + (upper - lower)
        sigmoid(raw).
    lower, upper : float, optional
        Bounds in natural units; softplus needs ``lower``, sigmoid both.

    Raises
    ------
    UserError
        For an unknown transform, one that needs a finite bound and has none, and a start that is not inside the bounds.
    """

    name: str
    unit: str
    start: float
    transform: str = "none"
    lower: float = -inf
    upper: float = inf

    def __post_init__(self) -> None:
        where = f"theta.{self.name}"
        if self.transform not in TRANSFORMS:
            raise UserError(f"{where}.transform: {self.transform!r} is not one of {', '.join(TRANSFORMS)}")
        needed = {"none": (), "softplus": ("lower",), "sigmoid": ("lower", "upper")}[self.transform]
        for bound in needed:
            if not isfinite(getattr(self, bound)):
                raise UserError(f"{where}.{bound}: the transform {self.transform!r} needs a finite bound")
        if not self.lower < self.start < self.upper:
            raise UserError(f"{where}.start: {self.start} is not inside the bounds ({self.lower}, {self.upper})")

    def constrain(self, raw: Tensor) -> Tensor:
        """Natural units from unconstrained values.

        Parameters
        ----------
        raw : Tensor

        Returns
        -------
        Tensor
        """
        if self.transform == "softplus":
            return self.lower + softplus(raw)
        if self.transform == "sigmoid":
            return self.lower + (self.upper - self.lower) * torch.sigmoid(raw)
        return raw

    def unconstrain(self, theta: Tensor) -> Tensor:
        """Inverse of :meth:`constrain`.

        Parameters
        ----------
        theta : Tensor
            In natural units.

        Returns
        -------
        Tensor
        """
        if self.transform == "softplus":
            excess = theta - self.lower
            return excess + torch.log(-torch.expm1(-excess))
        if self.transform == "sigmoid":
            return torch.logit((theta - self.lower) / (self.upper - self.lower))
        return theta


class Parameters:
    """The table of all scientific parameters of a model, in a fixed order.

    Parameters
    ----------
    rows : sequence of Parameter

    Attributes
    ----------
    names, units : list of str
    """

    def __init__(self, rows: Sequence[Parameter]) -> None:
        self.rows = tuple(rows)
        self.names = [row.name for row in self.rows]
        self.units = [row.unit for row in self.rows]

    @classmethod
    def from_settings(cls, table: Mapping[str, Mapping]) -> "Parameters":
        """From the ``theta`` mapping of a task file.

        Parameters
        ----------
        table : mapping of str to mapping
            name -> unit, start, transform, lower, upper.

        Returns
        -------
        Parameters

        Raises
        ------
        UserError
            Naming the key, for an entry that makes no sense.
        """
        for name, row in table.items():
            if not isinstance(row, Mapping):
                raise UserError(f"theta.{name}: {row!r} is not a mapping with unit, start, …")
        return cls([typed(Parameter, {"name": name, **row}, f"theta.{name}") for name, row in table.items()])

    def __len__(self) -> int:
        return len(self.rows)

    def initial(self, members: int, dtype: torch.dtype = torch.float32) -> Tensor:
        """Unconstrained starting values, the same for every member.

        Parameters
        ----------
        members : int
        dtype : torch.dtype, optional

        Returns
        -------
        Tensor of shape (member, parameter)
        """
        start = torch.tensor([row.start for row in self.rows], dtype=torch.float64)
        return self.unconstrain(start[None]).to(dtype).repeat(members, 1)

    def constrain(self, raw: Tensor) -> Tensor:
        """Natural units from unconstrained values.

        Parameters
        ----------
        raw : Tensor of shape (member, parameter)

        Returns
        -------
        Tensor of shape (member, parameter)
        """
        return torch.stack([row.constrain(raw[:, i]) for i, row in enumerate(self.rows)], 1)

    def unconstrain(self, theta: Tensor) -> Tensor:
        """Inverse of :meth:`constrain`.

        Parameters
        ----------
        theta : Tensor of shape (member, parameter)
            In natural units.

        Returns
        -------
        Tensor of shape (member, parameter)
        """
        return torch.stack([row.unconstrain(theta[:, i]) for i, row in enumerate(self.rows)], 1)

    def named(self, theta: Tensor) -> dict[str, Tensor]:
        """What the science function receives.

        Parameters
        ----------
        theta : Tensor of shape (member, parameter)
            In natural units.

        Returns
        -------
        dict of str to Tensor
            name -> (member, 1), which broadcasts over samples.
        """
        return {name: theta[:, i, None] for i, name in enumerate(self.names)}
