"""Theta from the fitted whole: by each assumption about what the science lacks, and how much it rests on it.

Runs that fit have nearly the same whole F, whatever they make of theta. So F is the mean over an ensemble of runs of
plain erm, from spread starts, and an assumption S gives

    theta_S = argmin over theta of min over s in S of sum ||F(x_i) - f(x_i; theta) - s(x_i)||^2

over the training data x_i, without another training. See :mod:`.assumptions`.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
import xarray as xr
from scipy.optimize import least_squares

from hybridsam.analysis.assumptions import Assumption, Seen, defaults, parsed
from hybridsam.analysis.ensemble import Members, slopes
from hybridsam.analysis.intervals import counts, expanded_tail
from hybridsam.analysis.thresholds import BLIND
from hybridsam.core.records import origin
from hybridsam.models.hybrid import Comparison, HybridModel

RESAMPLES = 999
MOST = 500_000  # numbers in the targets: the first training samples, as many as that allows
NOT_COMPARED = "its science is seen only through what the network makes of the data, so no assumption can be asked"
OF_THETA = "see parameter_units"
ABOUT = {  # variable -> long_name, units
    "theta": ("theta by the assumption", OF_THETA),
    "low": ("lower end of its 95 % interval, over runs and series", OF_THETA),
    "high": ("upper end of its 95 % interval, over runs and series", OF_THETA),
    "information": ("share of the effect of theta on f that neither the assumption nor other parameters imitate", "1"),
    "theta_of_members": ("theta by the assumption, from one run alone", OF_THETA),
    "spread_ratio": ("what is left over of the missing part, over how much the runs differ there", "1"),
    "unexplained": ("what is left over of the missing part, over all of it", "1"),
    "trained": ("theta of the runs of the ensemble at the end of training", OF_THETA),
    "theta_start": ("theta of these runs at the start", OF_THETA),
    "slope": ("slope of theta on its start over these runs, and its 95 % interval", "1"),
    "theta_true": ("true theta", OF_THETA),
}


@dataclass(frozen=True)
class Found:
    """What one assumption says of theta.

    theta, information: (parameter,). interval: (2, parameter), over members and series; its ends are quantiles as those
    of :func:`.bootstrap_interval`. of_members: theta by the whole of each member alone, (member, parameter).
    spread_ratio: root of ||rest of F - f(theta)||^2 over the mean of ||rest of F_m - F||^2: about 1 where the
    assumption explains F as well as the members agree on it. unexplained: root of ||rest of F - f(theta)||^2 over
    ||F - f(theta)||^2.
    """

    theta: np.ndarray
    interval: np.ndarray
    information: np.ndarray
    of_members: np.ndarray
    spread_ratio: float
    unexplained: float


class Fields:
    """The wholes of all members, the science, and what an assumption leaves of them."""

    def __init__(
        self, assumption: Assumption, model: HybridModel, comparison: Comparison, members: Members, seen: Seen
    ) -> None:
        self.model = model
        points = assumption.points(seen)
        double = {name: values.double() for name, values in points.items()}
        self._science = lambda theta: comparison.science(theta[None], double)[0]
        with torch.no_grad():
            wholes = comparison.whole(members.theta, members.phi, points).double().cpu().numpy()
        self.series, self._operator = assumption.series(seen), assumption.operator(seen)
        self._imitation = assumption.imitation(seen)
        self.wholes = self.rest(wholes)
        self.mean = wholes.mean(0)

    def rest(self, fields: np.ndarray) -> np.ndarray:
        """What the assumption leaves of fields (k, series, time, ...) at its points, (k, row, number)."""
        return self._operator(fields).reshape(len(fields), len(self.series), -1)

    def information(self, derivatives: np.ndarray) -> np.ndarray:
        """(parameter,) how much the assumption has to say, from the derivatives of f; see :func:`information`."""
        return information(self._imitation(derivatives), derivatives)

    def missing(self, f: np.ndarray) -> float:
        """||F - f||^2 at the points, as many as rows have: what the science lacks, all in all."""
        return float(np.square(self.mean - f[0]).sum()) * self.wholes[0].size / self.mean.size

    def science(self, theta: np.ndarray) -> np.ndarray:
        """f at the points, (1, series, time, ...)."""
        with torch.no_grad():
            return self._science(torch.as_tensor(theta)).cpu().numpy()[None]

    def derivatives(self, theta: np.ndarray) -> np.ndarray:
        """Of f by theta over its size, (parameter, series, time, ...)."""
        found = torch.func.jacfwd(self._science)(torch.as_tensor(theta))
        return np.moveaxis(found.detach().cpu().numpy() * sizes_of(self.model), -1, 0)


def fitted(fields: Fields, whole: np.ndarray, starts: Iterable[np.ndarray]) -> np.ndarray:
    """Theta (parameter,) inside its bounds at which least is left of a whole (row, number); the best of all starts."""
    rows = fields.model.parameters.rows
    sizes = sizes_of(fields.model)
    bounds = np.array([(row.lower, row.upper) for row in rows]).T / sizes

    def left(scaled: np.ndarray) -> np.ndarray:
        return (whole - fields.rest(fields.science(scaled * sizes))[0]).ravel()

    def slope(scaled: np.ndarray) -> np.ndarray:
        return -fields.rest(fields.derivatives(scaled * sizes)).reshape(len(rows), -1).T

    inside = [np.clip(start / sizes, *bounds) for start in starts]  # of fewer digits, they may lie beyond
    fits = [least_squares(left, start, jac=slope, bounds=bounds) for start in inside]
    return min(fits, key=lambda fit: fit.cost).x * sizes


def sizes_of(model: HybridModel) -> np.ndarray:
    """(parameter,) how large each is, seen from its start and bounds."""
    return np.array([row.size or row.raw_unit for row in model.parameters.rows])


def information(rest: np.ndarray, derivatives: np.ndarray) -> np.ndarray:
    """(parameter,) the share of ||df/dtheta||^2 that neither the assumption nor the other parameters can imitate.

    rest, derivatives: of f by each parameter, (parameter, ...), what the assumption leaves of them, and all of them.
    """
    left, whole = rest.reshape(len(rest), -1).T, np.square(derivatives.reshape(len(derivatives), -1)).sum(1)
    shares = []
    for j in range(len(rest)):
        others = np.delete(left, j, 1)
        own = left[:, j] - others @ np.linalg.lstsq(others, left[:, j], rcond=None)[0]
        shares.append(np.square(own).sum() / whole[j] if whole[j] else 0.0)
    return np.array(shares)


def by_assumption(fields: Fields, trained: np.ndarray) -> Found:
    """What an assumption says of theta; trained: (member, parameter), from whose median and ends the fits begin."""
    mean, n = fields.wholes.mean(0), len(fields.wholes)
    theta = np.median(trained, 0)
    derivatives = fields.derivatives(theta)
    blind = fields.information(derivatives) < BLIND
    if not blind.all():
        theta = fitted(fields, mean, np.quantile(trained, [0.5, 0, 1], axis=0))
        derivatives = fields.derivatives(theta)
    f, slopes = fields.science(theta), fields.rest(derivatives)
    left = mean - fields.rest(f)[0]
    told = fields.information(derivatives)
    steps, of_members = steps_from(fields, theta, slopes)
    tail = expanded_tail(min(int(fields.series.max()) + 1, n))
    interval = theta + sizes_of(fields.model) * np.quantile(steps, [tail, 1 - tail], axis=0)
    rows = fields.model.parameters.rows
    interval = np.clip(interval, [row.lower for row in rows], [row.upper for row in rows])
    spread, missing = np.square(fields.wholes - mean).sum() / (n - 1), fields.missing(f)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio, unexplained = (float(np.sqrt(np.square(left).sum() / whole)) for whole in (spread, missing))
    return Found(theta, interval, told, theta + sizes_of(fields.model) * of_members, ratio, unexplained)


def steps_from(fields: Fields, theta: np.ndarray, slopes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """By how much theta, over its sizes, differs for other members and series: (draw, parameter), (member, parameter).

    Members and series are drawn with replacement, each by itself, and then every member is taken alone. Each time theta
    makes one Gauss-Newton step from where it is. A row of several series counts as the product of how often they were
    drawn. slopes: what the assumption leaves of the derivatives there.
    """
    left = fields.wholes - fields.rest(fields.science(theta))
    series, group = np.unique(fields.series, axis=0, return_inverse=True)
    group = group.ravel()
    products, projections = (np.zeros((len(series), *shape)) for shape in ((len(theta),) * 2, (len(left), len(theta))))
    np.add.at(products, group, np.einsum("irn,jrn->rij", slopes, slopes))
    np.add.at(projections, group, np.einsum("mrn,irn->rmi", left, slopes))

    rng = np.random.default_rng(0)
    of_series = counts(rng, RESAMPLES, int(series.max()) + 1)[:, series].prod(-1)
    of_members = counts(rng, RESAMPLES, len(left)) / len(left)
    pseudo_inverses = np.linalg.pinv(np.einsum("bs,sij->bij", of_series, products), hermitian=True)
    gradients = np.einsum("bs,bm,smi->bi", of_series, of_members, projections, optimize=True)
    alone = projections.sum(0) @ np.linalg.pinv(products.sum(0), hermitian=True)
    return np.einsum("bij,bj->bi", pseudo_inverses, gradients), alone


def identify(
    model: HybridModel, members: Members, dataset: xr.Dataset, assume: Iterable[str | Mapping] | None = None
) -> xr.Dataset:
    """What the fitted wholes of an ensemble say of theta, by each assumption.

    Returns a Dataset on the axes assumption and parameter: theta, low, high, information, theta_of_members (member),
    and of each assumption spread_ratio, unexplained and its meaning. theta is NaN where the information is below
    ``BLIND``. Of each member trained, its own theta, and theta_start; slope of one on the other. No assumption for a
    model whose whole cannot be compared with its science, and for too few members, by the attribute ``reason``. Raises
    UserError for assumptions that make no sense.
    """
    data = model.data(dataset, "train", members.theta.dtype, "cpu")
    data = next(data.chunks(max(1, MOST // data.targets[0, 0].numel())))
    comparison = model.comparison(data)
    if comparison is None or members.too_few:
        return _described(model, members, dataset, {}).assign_attrs(reason=members.too_few or NOT_COMPARED)
    with torch.no_grad():
        science = comparison.science(members.theta[:1], comparison.points)
    seen = Seen.of(comparison, dataset, tuple(science.shape[3:]))
    asked = defaults(comparison, seen) if assume is None else [parsed(entry) for entry in assume]
    found = {}
    for assumption in asked:
        fields = Fields(assumption, model, comparison, members, seen)
        found[assumption] = by_assumption(fields, members.theta.double().numpy())
    return _described(model, members, dataset, found)


def _described(
    model: HybridModel, members: Members, dataset: xr.Dataset, found: Mapping[Assumption, Found]
) -> xr.Dataset:
    """What was found, on labelled axes, with units; where an assumption is blind there is no theta."""
    names, ones = model.parameters.names, list(found.values())
    shapes = {"of_both": (len(ones), len(names)), "of_members": (len(ones), len(members.seeds), len(names))}
    told = np.array([one.information for one in ones]).reshape(shapes["of_both"])
    blind = told < BLIND
    theta, low, high = (
        np.where(blind, np.nan, np.array(values).reshape(shapes["of_both"]))
        for values in ([one.theta for one in ones], *([one.interval[end] for one in ones] for end in (0, 1)))
    )
    of_members = np.array([one.of_members for one in ones]).reshape(shapes["of_members"])
    both, each = ("assumption", "parameter"), ("member", "parameter")
    values = {
        "theta": (both, theta),
        "low": (both, low),
        "high": (both, high),
        "information": (both, told),
        "theta_of_members": (("assumption", *each), np.where(blind[:, None], np.nan, of_members)),
        "spread_ratio": ("assumption", np.array([one.spread_ratio for one in ones])),
        "unexplained": ("assumption", np.array([one.unexplained for one in ones])),
        "trained": (each, members.theta.numpy()),
        "theta_start": (each, members.start),
        "slope": (("end", "parameter"), slopes(members)),
    }
    truth = json.loads(dataset.attrs.get("truth", "{}"))
    if set(names) <= set(truth):
        values["theta_true"] = ("parameter", np.array([float(truth[name]) for name in names]))
    return xr.Dataset(
        {name: (*of, dict(zip(("long_name", "units"), ABOUT[name], strict=True))) for name, of in values.items()},
        coords={
            "assumption": [assumption.title for assumption in found],
            "meaning": ("assumption", [assumption.meaning for assumption in found]),
            "member": members.seeds,
            "end": ["estimate", "low", "high"],
            "parameter": names,
            "parameter_units": ("parameter", model.parameters.units),
        },
        attrs={"synthetic": dataset.attrs.get("synthetic", "unknown")},
    )


def in_words(found: xr.Dataset) -> list[str]:
    """A line for each assumption and parameter: what theta is by it, and whether it fits."""
    lines = []
    for title in found["assumption"].values:
        of_one = found.sel(assumption=title)
        for name in found["parameter"].values:
            of, unit = of_one.sel(parameter=name), str(found["parameter_units"].sel(parameter=name).item())
            value, low, high = (f"{of[key].item():.5g}" for key in ("theta", "low", "high"))
            said = f"{value} ({low} to {high})" + f" {unit}" * (unit != "1")
            blind = f"says nothing (information {of['information'].item():.1g})"
            lines.append(f"theta.{name}, {title}: {blind if np.isnan(of['theta'].item()) else said}")
    return lines


def as_table(found: xr.Dataset) -> pd.DataFrame:
    """One row an assumption and parameter, as in identification.csv."""
    columns = ["theta", "low", "high", "information", "spread_ratio", "unexplained"]
    table = found[[*columns, *(["theta_true"] if "theta_true" in found else [])]].to_dataframe().reset_index()
    table = table.rename(columns={"parameter_units": "unit", "theta_true": "true"})
    order = ["assumption", "parameter", "unit", *columns, *(["true"] if "true" in table else []), "meaning"]
    return table[order].assign(data=origin(found))
