"""Assumptions about what the science lacks: which functions it may be for free, and what of a field these leave over.

Data fix the whole field F where they lie, and not how it splits into f(.; theta) and what f lacks. An assumption S is a
class of functions that this may be. Its :meth:`Assumption.operator` takes from any field what a function of S could
supply, as far as the data show it; theta_S is where least of F - f(.; theta) is left (:mod:`.identification`).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import prod

import numpy as np
import pandas as pd
import torch
import xarray as xr
from scipy.linalg import cho_factor, cho_solve
from torch import Tensor

from hybridsam.core.errors import UserError
from hybridsam.models.hybrid import Comparison, Inputs

PAIRS = 4000  # of points, between which ``straight`` looks for curvature
MOST = 200_000  # numbers of one field, at these points
FOLDS = 5  # parts of the series, each of which is predicted from the others
KNOTS, RIDGE = 7, 1e-3  # of the splines for each quantity: knots, and the weight of their coefficients' squares
Operator = Callable[[np.ndarray], np.ndarray]
EXPRESSION = "an expression of the quantities, such as `angular velocity`**3 > 0.1"


@dataclass(frozen=True)
class Seen:
    """The training data, at which fields are compared.

    points: of a :class:`Comparison`, (1, series, time, ...). columns: what can be named there, quantity -> values
    (series, time, ...), of a field on a grid at every place.
    """

    points: Inputs
    columns: Mapping[str, np.ndarray]

    @classmethod
    def of(cls, comparison: Comparison, dataset: xr.Dataset, places: tuple[int, ...]) -> "Seen":
        """places: shape of the science behind series and time; what has values elsewhere cannot be named."""
        columns: dict[str, np.ndarray] = {}
        for name, tensor in comparison.points.items():
            values, labels = tensor[0].cpu().double().numpy(), labels_of(dataset[name]) if name in dataset else None
            columns |= {name: values} if labels is None else dict(zip(labels, np.moveaxis(values, -1, 0), strict=True))
        named = {name: values for name, values in columns.items() if values.shape[2:] == places[: values.ndim - 2]}
        ndim = max((values.ndim for values in named.values()), default=2)
        padded = {name: values.reshape(*values.shape, *[1] * (ndim - values.ndim)) for name, values in named.items()}
        return cls(comparison.points, dict(zip(padded, np.broadcast_arrays(*padded.values()), strict=True)))

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the values of a quantity."""
        return next(iter(self.columns.values())).shape

    def named(self, names: Sequence[str]) -> np.ndarray:
        """Quantities by name, (series, time, ..., name); raises UserError for one that is not there."""
        for name in names:
            if name not in self.columns:
                raise UserError(f"assume.depends_on: {name!r} is not one of {', '.join(self.columns)}")
        return np.stack([self.columns[name] for name in names], -1)

    def evaluated(self, expression: str) -> np.ndarray:
        """The values of an expression of the quantities, (series, time, ...)."""
        table = pd.DataFrame({name: values.ravel() for name, values in self.columns.items()})
        try:
            found = table.eval(expression, engine="python", local_dict={}, global_dict={})
        except Exception as error:  # pandas raises many kinds for what it cannot read
            says = " ".join(str(error).split())
            raise UserError(
                f"assume: {expression!r} is not {EXPRESSION}; there are {', '.join(self.columns)} ({says})"
            ) from error
        return np.broadcast_to(np.asarray(found), len(table)).reshape(self.shape)


def labels_of(variable: xr.DataArray) -> list[str] | None:
    """The names of the components in the last axis of a variable; None where it has no axis of these."""
    last = str(variable.dims[-1])
    if last not in variable.coords or variable.coords[last].dtype.kind not in "OU":
        return None
    return [str(label) for label in variable.coords[last].values]


class Assumption:
    """A class of functions that what the science lacks may be for free.

    title: as tables call it. meaning: in words.
    """

    title: str
    meaning: str

    def points(self, seen: Seen) -> Inputs:
        """Where fields have to be known, name -> (1, series, time, ...)."""
        return seen.points

    def operator(self, seen: Seen) -> Operator:
        """What no function of the class can supply, as a linear function of fields at the points.

        From (k, series, time, ..., component) to (k, row, ...).
        """
        raise NotImplementedError

    def imitation(self, seen: Seen) -> Operator:
        """As :meth:`operator`, but what the class can imitate at best at these points, by which it is blind or not."""
        return self.operator(seen)

    def series(self, seen: Seen) -> np.ndarray:
        """(row, n) numbers of the series that a row belongs to."""
        first = next(iter(seen.points.values()))
        return np.arange(first.shape[1])[:, None]


@dataclass(frozen=True)
class Small(Assumption):
    """What is missing is as small as it can be, in the mean square over the data: the class is 0.

    L2-calibration (Tuo & Wu 2015); what is left is orthogonal to the derivatives of f by theta (Plumlee 2017).
    """

    title = "small"
    meaning = "the part that the science lacks is as small as it can be, in the mean square over the data"

    def operator(self, seen: Seen) -> Operator:
        return lambda fields: fields


@dataclass(frozen=True)
class Straight(Assumption):
    """What is missing is an affine function of the state, or of the inputs.

    Such functions have no second differences h(a) - 2 h((a + b) / 2) + h(b), which are taken over random pairs of the
    data; over sqrt(6) they are as large as h is if h varies at random.
    """

    title = "straight"
    meaning = "the part that the science lacks is an affine function: proportional, plus a constant"

    def _pairs(self, seen: Seen) -> tuple[np.ndarray, int]:
        """(2, pair) numbers of points, and how many times a series has."""
        first = next(iter(seen.points.values()))
        series, times = first.shape[1:3]
        place = max(prod(values.shape[3:]) for values in seen.points.values())
        pairs = max(1, min(PAIRS, MOST // place))
        return np.random.default_rng(0).integers(series * times, size=(2, pairs)), times

    def points(self, seen: Seen) -> Inputs:
        (a, b), _ = self._pairs(seen)

        def three(values: Tensor) -> Tensor:
            flat = values.flatten(1, 2)
            return torch.cat([flat[:, a], flat[:, b], (flat[:, a] + flat[:, b]) / 2], 1).unsqueeze(2)

        return {name: three(values) for name, values in seen.points.items()}

    def operator(self, seen: Seen) -> Operator:
        def second_differences(fields: np.ndarray) -> np.ndarray:
            a, b, middle = np.split(fields, 3, axis=1)
            return (a + b - 2 * middle) / np.sqrt(6)

        return second_differences

    def series(self, seen: Seen) -> np.ndarray:
        pairs, times = self._pairs(seen)
        return pairs.T // times


@dataclass(frozen=True)
class DependsOn(Assumption):
    """What is missing is any function of some quantities: of a field on a grid, of their values at the same place.

    Partialling out (Robinson 1988) with cross-fitting (Chernozhukov et al. 2018, double machine learning): fields are
    regressed on splines of the quantities, in each part of the series by the others, and the residuals are left.
    """

    names: tuple[str, ...]

    @property
    def title(self) -> str:  # type: ignore[override]
        return f"depends on {', '.join(self.names)}"

    @property
    def meaning(self) -> str:  # type: ignore[override]
        return f"the part that the science lacks is some function of {' and '.join(self.names)} alone"

    def operator(self, seen: Seen) -> Operator:
        from sklearn.model_selection import GroupKFold

        if seen.shape[0] == 1:
            return self.imitation(seen)
        series = np.repeat(np.arange(seen.shape[0]), prod(seen.shape[1:]))
        return self._residuals(seen, list(GroupKFold(min(FOLDS, seen.shape[0])).split(series, groups=series)))

    def imitation(self, seen: Seen) -> Operator:
        """Without parts: a function of the quantities leaves nothing, also where others of them are far away."""
        every = np.arange(prod(seen.shape))
        return self._residuals(seen, [(every, every)])

    def _residuals(self, seen: Seen, folds: Sequence[tuple[np.ndarray, np.ndarray]]) -> Operator:
        """Of regressions in each part of the rows by the others; folds: the others, the part."""
        quantities, rows = seen.named(self.names), prod(seen.shape)
        basis = splines_of(quantities.reshape(rows, -1))
        penalty = RIDGE * np.eye(basis.shape[1])
        solvers = [cho_factor(basis[others].T @ basis[others] + penalty) for others, _ in folds]

        def residuals(fields: np.ndarray) -> np.ndarray:
            targets = fields.reshape(len(fields), rows, -1)
            left = np.empty_like(targets)
            for (others, own), solver in zip(folds, solvers, strict=True):
                for of_one, target in zip(left, targets, strict=True):
                    weights = cho_solve(solver, basis[others].T @ target[others])
                    of_one[own] = target[own] - basis[own] @ weights
            return left.reshape(fields.shape)

        return residuals


def splines_of(quantities: np.ndarray) -> np.ndarray:
    """Splines of each quantity (row, quantity), and of several the products of any two of these, (row, function)."""
    from sklearn.preprocessing import PolynomialFeatures, SplineTransformer

    basis = SplineTransformer(KNOTS, extrapolation="linear").fit_transform(quantities)
    return basis if quantities.shape[1] == 1 else PolynomialFeatures(interaction_only=True).fit_transform(basis)


@dataclass(frozen=True)
class VanishesWhere(Assumption):
    """Nothing is missing where a condition holds: the class is all functions that are 0 there."""

    condition: str

    @property
    def title(self) -> str:  # type: ignore[override]
        return f"vanishes where {self.condition}"

    @property
    def meaning(self) -> str:  # type: ignore[override]
        return f"the science lacks nothing where {self.condition}"

    def operator(self, seen: Seen) -> Operator:
        holds = seen.evaluated(self.condition)
        if holds.dtype != bool:
            raise UserError(f"assume.vanishes_where: {self.condition!r} is no condition, but {holds.dtype}")
        if not holds.any():
            raise UserError(f"assume.vanishes_where: {self.condition!r} holds nowhere in the training data")
        return lambda fields: fields * holds.reshape(holds.shape + (1,) * (fields.ndim - 1 - holds.ndim))


@dataclass(frozen=True)
class SpannedBy(Assumption):
    """What is missing is a combination of functions of the quantities, given as expressions."""

    functions: tuple[str, ...]

    @property
    def title(self) -> str:  # type: ignore[override]
        return f"spanned by {', '.join(self.functions)}"

    @property
    def meaning(self) -> str:  # type: ignore[override]
        return f"the part that the science lacks is a combination of {', '.join(self.functions)} and a constant"

    def operator(self, seen: Seen) -> Operator:
        basis = np.stack([np.ones(()) * seen.evaluated(text) for text in self.functions], -1).astype(float)
        rows = prod(basis.shape[:-1])
        orthonormal, _ = np.linalg.qr(np.column_stack([np.ones(rows), basis.reshape(rows, -1)]))

        def residuals(fields: np.ndarray) -> np.ndarray:
            flat = fields.reshape(len(fields), rows, -1)
            return (flat - orthonormal @ (orthonormal.T @ flat)).reshape(fields.shape)

        return residuals


KINDS = {"depends_on": DependsOn, "vanishes_where": VanishesWhere, "spanned_by": SpannedBy}
PLAIN = {"small": Small, "straight": Straight}


def parsed(entry: str | Mapping) -> Assumption:
    """One entry of the list ``assume``: ``small``, ``straight``, or a mapping such as {depends_on: [velocity]}."""
    if isinstance(entry, str) and entry in PLAIN:
        return PLAIN[entry]()
    if isinstance(entry, Mapping) and len(entry) == 1:
        [(kind, given)] = entry.items()
        if kind == "vanishes_where" and isinstance(given, str):
            return VanishesWhere(given)
        names = [given] if isinstance(given, str) else given
        if kind in KINDS and kind != "vanishes_where" and isinstance(names, list | tuple) and names:
            return KINDS[kind](tuple(map(str, names)))
    allowed = "small, straight, {depends_on: [names]}, {vanishes_where: condition}, {spanned_by: [expressions]}"
    raise UserError(f"assume: {entry!r} is no assumption; allowed are {allowed}")


def defaults(comparison: Comparison, seen: Seen) -> list[Assumption]:
    """What is asked where nobody says: small; where the network is added, also straight, and each quantity alone."""
    if not comparison.adds:
        return [Small()]
    alone = [DependsOn((name,)) for name in seen.columns]
    return [Small(), Straight(), *(alone if len(alone) > 1 else [])]
