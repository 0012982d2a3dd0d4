"""The scientific parameters theta: a table of names, units, bounds and transforms, in PEtab's vocabulary.

Training works on unconstrained values of order one, whatever theta's units; the science sees natural units. Arrays lead
with the member axis (a member is one training run), so theta is (member, parameter).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import copysign, inf, isfinite, sqrt

import torch
from torch import Tensor
from torch.nn.functional import softplus

from hybridsam.core.errors import UserError
from hybridsam.core.settings import check_number, typed

TRANSFORMS = ("none", "softplus", "sigmoid", "log")


@dataclass(frozen=True)
class Parameter:
    """One scientific parameter.

    Parameters
    ----------
    name : str
    unit : str
    start : float or (float, float)
        In natural units. Of an interval every member takes a start of its own, by :meth:`Parameters.drawn`.
    transform : str, optional
        ``none``: theta = scale raw; ``softplus``: theta = lower + scale softplus(raw), or upper - scale softplus(raw);
        ``sigmoid``: theta = lower + (upper - lower) sigmoid(raw); ``log``: theta = centre exp(raw), which keeps the
        sign of the start.
    lower, upper : float, optional
        Bounds in natural units; softplus needs one of them, sigmoid both, the others take none.
    scale : float, optional
        How large a change of theta counts as one in training, in natural units, of ``none`` and ``softplus``; left out,
        it is the parameter's own :attr:`size`, so that nothing depends on the unit of theta.

    Raises
    ------
    UserError
        For what is no number, an unknown transform, bounds or a scale that do not go with it, a start that is not
        inside the bounds, and a start of 0 that leaves the size open.
    """

    name: str
    unit: str
    start: float | tuple[float, float]
    transform: str = "none"
    lower: float = -inf
    upper: float = inf
    scale: float | None = None

    def __post_init__(self) -> None:
        where = f"theta.{self.name}"
        self._check_start(f"{where}.start")
        for key in ("lower", "upper", *["scale"] * (self.scale is not None)):
            check_number(getattr(self, key), f"{where}.{key}")
        if self.transform not in TRANSFORMS:
            raise UserError(f"{where}.transform: {self.transform!r} is not one of {', '.join(TRANSFORMS)}")
        self._check_bounds(where)
        for end in self.starts:
            if not self.lower < end < self.upper:
                raise UserError(f"{where}.start: {end} is not inside the bounds ({self.lower}, {self.upper})")
        if self.scale is not None and self.transform in ("sigmoid", "log"):
            by = {"sigmoid": "the width of its bounds", "log": "its start"}[self.transform]
            raise UserError(f"{where}.scale: the transform {self.transform!r} takes none; it is scaled by {by}")
        if self.scale is not None and not 0 < self.scale < inf:
            raise UserError(f"{where}.scale: {self.scale!r} is not a number larger than zero, in {self.unit}")
        if self.scale is None and self.size == 0:
            raise UserError(
                f"{where}.scale: missing; a start of 0 does not say how large {self.name} may be, so state about how "
                f"large a change of it matters, in {self.unit}"
            )

    def _check_start(self, where: str) -> None:
        """Raise UserError unless the start is a number, or two that increase, which become a tuple."""
        if not isinstance(self.start, Sequence) or isinstance(self.start, str):
            check_number(self.start, where)
            return
        for end in self.start:
            check_number(end, where)
        if len(self.start) != 2 or not self.start[0] < self.start[1]:
            raise UserError(f"{where}: {list(self.start)} is no interval; allowed is a number, or two that increase")
        object.__setattr__(self, "start", tuple(map(float, self.start)))

    def _check_bounds(self, where: str) -> None:
        finite = [name for name in ("lower", "upper") if isfinite(getattr(self, name))]
        says = f"the transform {self.transform!r}"
        if self.transform == "sigmoid":
            for bound in ("lower", "upper"):
                if bound not in finite:
                    raise UserError(f"{where}.{bound}: {says} needs a finite bound")
        if self.transform == "softplus" and not finite:
            raise UserError(f"{where}.lower: {says} needs a finite bound, lower or upper")
        if self.transform == "softplus" and len(finite) == 2:
            raise UserError(f"{where}.upper: {says} has one bound; theta stays between two by sigmoid")
        if self.transform == "log" and finite:
            raise UserError(f"{where}.{finite[0]}: {says} takes no bounds; theta keeps the sign of its start")
        if self.transform == "none" and finite:
            advice = "sigmoid keeps two bounds, softplus one"
            raise UserError(f"{where}.{finite[0]}: {says} keeps no bounds, and theta would pass them; {advice}")
        if self.transform == "log" and self.starts[0] <= 0 <= self.starts[1]:
            raise UserError(f"{where}.start: {says} keeps the sign of its start, which must not be 0")

    @property
    def starts(self) -> tuple[float, float]:
        """The ends of the interval of starts, which are equal for a start that is a number."""
        return self.start if isinstance(self.start, tuple) else (self.start, self.start)

    @property
    def centre(self) -> float:
        """The middle of the starts; of ``log`` their geometric mean."""
        low, high = self.starts
        if low == high:
            return low
        return copysign(sqrt(low * high), low) if self.transform == "log" else (low + high) / 2

    @property
    def size(self) -> float:
        """In natural units: the width of its bounds, or the distance of its start from the one bound, or from 0."""
        if isfinite(self.lower) and isfinite(self.upper):
            return self.upper - self.lower
        bound = next(filter(isfinite, (self.lower, self.upper)), 0.0)
        return max(abs(end - bound) for end in self.starts)

    @property
    def spread(self) -> tuple[float, float]:
        """The interval of starts, or, of a number, one unit of what training moves to either side of it."""
        if isinstance(self.start, tuple):
            return self.start
        start, step = torch.tensor([self.start, 1.0], dtype=torch.float64)
        around = torch.stack([self.unconstrain(start) - step, self.unconstrain(start) + step])
        low, high = sorted(self.constrain(around).tolist())
        return low, high

    @property
    def raw_unit(self) -> float:
        """What counts as one in training, in natural units, of the transforms ``none`` and ``softplus``."""
        return self.size if self.scale is None else self.scale

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
            excess = self.raw_unit * softplus(raw)
            return self.lower + excess if isfinite(self.lower) else self.upper - excess
        if self.transform == "sigmoid":
            return self.lower + (self.upper - self.lower) * torch.sigmoid(raw)
        if self.transform == "log":
            return self.centre * torch.exp(raw)
        return self.raw_unit * raw

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
            excess = (theta - self.lower if isfinite(self.lower) else self.upper - theta) / self.raw_unit
            return excess + torch.log(-torch.expm1(-excess))
        if self.transform == "sigmoid":
            return torch.logit((theta - self.lower) / (self.upper - self.lower))
        if self.transform == "log":
            return torch.log(theta / self.centre)
        return theta / self.raw_unit


class Parameters:
    """The table of all scientific parameters of a model, in a fixed order.

    Parameters
    ----------
    rows : sequence of Parameter

    Attributes
    ----------
    names, units : list of str

    Raises
    ------
    UserError
        For rows that are anything else.
    """

    def __init__(self, rows: Sequence[Parameter]) -> None:
        self.rows = tuple(rows)
        for row in self.rows:
            if not isinstance(row, Parameter):
                raise UserError(
                    f"theta: {row!r} is no Parameter; allowed is a list such as [Parameter('k', 's-1', 0.5)]"
                )
        self.names = [row.name for row in self.rows]
        self.units = [row.unit for row in self.rows]

    @classmethod
    def from_settings(cls, table: Mapping[str, Mapping]) -> "Parameters":
        """From the ``theta`` mapping of a task file.

        Parameters
        ----------
        table : mapping of str to mapping
            name -> unit, start, transform, lower, upper, scale.

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
        """Unconstrained values to try a model at: the starts, of intervals the centres, the same for every member.

        Parameters
        ----------
        members : int
        dtype : torch.dtype, optional

        Returns
        -------
        Tensor of shape (member, parameter)
        """
        return self._unconstrained([row.centre for row in self.rows]).to(dtype).repeat(members, 1)

    def drawn(self, seeds: Sequence[int], dtype: torch.dtype = torch.float32) -> Tensor:
        """Unconstrained values at which members start, each a function of its seed alone.

        Starts that are intervals are drawn evenly in unconstrained values, by the additive recurrence of [1]_, of which
        any few successive seeds cover the intervals.

        Parameters
        ----------
        seeds : sequence of int
            Of the members.
        dtype : torch.dtype, optional

        Returns
        -------
        Tensor of shape (member, parameter)

        References
        ----------
        .. [1] M. Roberts, The unreasonable effectiveness of quasirandom sequences, 2018,
               https://extremelearning.com.au/unreasonable-effectiveness-of-quasirandom-sequences.
        """
        low, high = (self._unconstrained([row.starts[end] for row in self.rows]) for end in (0, 1))
        drawn = [i for i, row in enumerate(self.rows) if row.starts[0] < row.starts[1]]
        place = torch.full((len(seeds), len(self)), 0.5, dtype=torch.float64)
        place[:, drawn] = evenly(seeds, len(drawn))
        return (low + place * (high - low)).to(dtype)

    def _unconstrained(self, theta: Sequence[float]) -> Tensor:
        return self.unconstrain(torch.tensor(theta, dtype=torch.float64)[None])

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


def evenly(numbers: Sequence[int], dimensions: int) -> Tensor:
    """Points of the unit cube by their numbers, any few successive ones of which lie evenly, (number, dimension)."""
    golden = 2.0
    for _ in range(64):  # the root of x^(dimensions + 1) = x + 1
        golden = (1 + golden) ** (1 / (dimensions + 1))
    steps = golden ** -torch.arange(1, dimensions + 1, dtype=torch.float64)
    return (0.5 + torch.tensor(numbers, dtype=torch.float64)[:, None] * steps) % 1
