"""Theta from the fitted whole: by each assumption about what the science lacks, and how much it rests on it.

Runs that fit have nearly the same whole F, whatever they make of theta. So F is the mean over an ensemble of runs of
plain erm, from spread starts, and an assumption S gives

    theta_S = argmin over theta of min over s in S of sum ||F(x_i) - f(x_i; theta) - s(x_i)||^2

over the training data x_i, without another training. See :mod:`.assumptions`.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
import xarray as xr
from scipy.optimize import least_squares

from hybridsam.analysis import landscapes
from hybridsam.analysis.assumptions import Assumption, Seen, Small, defaults, parsed
from hybridsam.analysis.ensemble import Members, slopes
from hybridsam.analysis.intervals import counts, expanded_tail
from hybridsam.analysis.thresholds import DEFAULT
from hybridsam.analysis.wholes import Fields, sizes_of
from hybridsam.core.records import origin, true_theta
from hybridsam.models.hybrid import HybridModel

RESAMPLES = 999
AT_BOUND = 1e-9  # of its size: a theta that is closer to a bound is at it
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

    theta, information: (parameter,). blind: where there is too little of it for a theta. interval: (2, parameter), over
    members and series; its ends are quantiles as those of :func:`.bootstrap_interval`. of_members: theta by the whole
    of each member alone, (member, parameter). spread_ratio: root of ||rest of F - f(theta)||^2 over the mean of ||rest
    of F_m - F||^2: about 1 where the assumption explains F as well as the members agree on it. unexplained: root of
    ||rest of F - f(theta)||^2 over ||F - f(theta)||^2.
    """

    theta: np.ndarray
    interval: np.ndarray
    information: np.ndarray
    blind: np.ndarray
    of_members: np.ndarray
    spread_ratio: float
    unexplained: float


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
    best = min(fits, key=lambda fit: fit.cost).x
    for bound in bounds:  # which the search comes near, and never reaches
        best = np.where(np.abs(best - bound) < AT_BOUND, bound, best)
    return best * sizes


def by_assumption(fields: Fields, trained: np.ndarray, blind: float = DEFAULT.blind) -> Found:
    """What an assumption says of theta; trained: (member, parameter), from whose median and ends the fits begin.

    blind: see :class:`.Thresholds`; where the assumption is blind for all parameters, nothing is fitted.
    """
    mean, n = fields.wholes.mean(0), len(fields.wholes)
    theta = np.median(trained, 0)
    derivatives = fields.derivatives(theta)
    if (fields.information(derivatives) >= blind).any():
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
    return Found(theta, interval, told, told < blind, theta + sizes_of(fields.model) * of_members, ratio, unexplained)


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
    model: HybridModel,
    members: Members,
    dataset: xr.Dataset,
    assume: Iterable[str | Mapping] | None = None,
    blind: float = DEFAULT.blind,
) -> xr.Dataset:
    """What the fitted wholes of an ensemble say of theta, by each assumption.

    Returns a Dataset on the axes assumption and parameter: theta, low, high, information, theta_of_members (member),
    and of each assumption spread_ratio, unexplained and its meaning. theta is NaN where the information is below
    ``blind``, see :class:`.Thresholds`. Of each member trained, its own theta, and theta_start; slope of one on the
    other. Curves and maps of :mod:`.landscapes`. No assumption for a model whose whole cannot be compared with its
    science, and for too few members, by the attribute ``reason``. Raises UserError for assumptions that make no sense.
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
    fields = {assumption: Fields(assumption, model, comparison, members, seen) for assumption in asked}
    found = {one: by_assumption(of_one, members.theta.double().numpy(), blind) for one, of_one in fields.items()}
    plain = fields.get(Small()) or Fields(Small(), model, comparison, members, seen)
    return _described(model, members, dataset, found).assign(_landscapes(fields, plain, found, members, dataset))


def _landscapes(
    fields: Mapping[Assumption, Fields],
    plain: Fields,
    found: Mapping[Assumption, Found],
    members: Members,
    dataset: xr.Dataset,
) -> dict[str, tuple]:
    """The variables of :mod:`.landscapes`, in a range that holds every theta that is known."""
    if not found:
        return {}
    theta, blind = (np.array([getattr(one, name) for one in found.values()]) for name in ("theta", "blind"))
    true = true_theta(dataset, plain.model.parameters.names)
    others = np.vstack([members.theta, members.start, *([] if true is None else [true])])
    drawn = landscapes.of(fields, plain, theta, ~blind, others)
    return {name: (dims, drawn[name], _labels(*of)) for name, (dims, *of) in landscapes.ABOUT.items() if name in drawn}


def _labels(long_name: str, units: str) -> dict[str, str]:
    return {"long_name": long_name, "units": units}


def _described(
    model: HybridModel, members: Members, dataset: xr.Dataset, found: Mapping[Assumption, Found]
) -> xr.Dataset:
    """What was found, on labelled axes, with units; where an assumption is blind there is no theta."""
    names, ones = model.parameters.names, list(found.values())
    shapes = {"of_both": (len(ones), len(names)), "of_members": (len(ones), len(members.seeds), len(names))}
    told = np.array([one.information for one in ones]).reshape(shapes["of_both"])
    blind = np.array([one.blind for one in ones], bool).reshape(shapes["of_both"])
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
    if (true := true_theta(dataset, names)) is not None:
        values["theta_true"] = ("parameter", true)
    return xr.Dataset(
        {name: (*of, _labels(*ABOUT[name])) for name, of in values.items()},
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
