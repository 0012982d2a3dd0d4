"""Runs of which theta is held, at its own, at given values, or at what an assumption makes of a run of erm.

Phi is trained anew. The two-stage methods (erm → small, …) are that with the theta of an assumption.
"""

import json
from collections.abc import Iterable, Mapping
from types import MappingProxyType

import numpy as np
import torch
import xarray as xr

from hybridsam.analysis.assumptions import PLAIN, Assumption, DependsOn, Seen, parsed
from hybridsam.analysis.cube import combine
from hybridsam.analysis.ensemble import Members, fit
from hybridsam.analysis.identification import MOST, NOT_COMPARED, fitted
from hybridsam.analysis.runs import checked, training_of, with_network
from hybridsam.analysis.thresholds import Thresholds
from hybridsam.analysis.wholes import Fields, sizes_of
from hybridsam.core.blocks import Block
from hybridsam.core.errors import UserError
from hybridsam.core.provenance import git_commit, versions
from hybridsam.core.records import RUN
from hybridsam.core.settings import typed
from hybridsam.models.hybrid import HybridModel
from hybridsam.models.parameters import check_number
from hybridsam.training.block import train_block
from hybridsam.training.warm import Held

INSIDE = 1e-6  # of its size: so far from a bound theta is held that it comes to be at
FAILED = "the run that theta is taken from failed"
UNNAMED = "assume names nothing that the missing part depends on"


def refit(
    model: HybridModel,
    runs: xr.Dataset,
    dataset: xr.Dataset,
    theta: Mapping[str, float] | None = None,
    assume: str | Mapping | None = None,
    device: str = "auto",
) -> xr.Dataset:
    """Train phi anew, as the runs were, with theta held: at its own, at given values, or where an assumption puts it.

    What a network that was kept simple gives away of the fit comes back with theta as it found it (Sec. 5.4 of [1]_).

    Parameters
    ----------
    model : HybridModel
    runs : xarray.Dataset
        Of one method and rho, of :func:`fit` or :func:`load_runs`; a run of equal seed follows from each.
    dataset : xarray.Dataset
        On which they were trained.
    theta : mapping of str to float, optional
        parameter -> value, in its unit. A parameter that is left out stays where each run has it.
    assume : str or mapping, optional
        Instead of values, one assumption about the part that the science lacks, as of :func:`identify`, by which theta
        is found from each run.
    device : str, optional
        ``auto`` takes a GPU when there is one.

    Returns
    -------
    xarray.Dataset
        Runs as of :func:`fit`, of the method ``refit``. A run of which the assumption says nothing has the status
        ``missing``, and one that begins from a failed run ``diverged``; ``reason`` says so.

    Raises
    ------
    UserError
        For runs of another model, of several methods, or without theta, values outside the bounds, both values and an
        assumption, and one that says nothing of any run.

    References
    ----------
    .. [1] N. Takeishi, Learning Deep Hybrid Models with Sharpness-Aware Minimization, 2026, arXiv:2602.06837.
    """
    begun = checked(runs, model, dataset).transpose(*RUN, ...)
    if theta is not None and assume is not None:
        raise UserError("theta: given beside assume; allowed is one of both")
    if several := [f"{name} {runs[name].values.tolist()}" for name in RUN[:2] if runs[name].size > 1]:
        raise UserError(f"runs: have several of {', '.join(several)}; select one of each")
    training = training_of(runs)
    held = by_assumption(model, begun, dataset, parsed(assume)) if assume else at(model, begun, dataset, theta or {})
    block = Block("refit", 0.0, tuple(begun["seed"].values.tolist()))
    found, weights = train_block(model, training, dataset, block, device, held=held)
    about = {"git_commit": git_commit(), "versions": json.dumps(versions()), "configuration_hash": ""}
    about["configuration"] = runs.attrs["configuration"]
    found = with_network(found.assign_attrs(about), model, weights)
    return combine([found], found, dataset).isel(data=0, drop=True)


def at(model: HybridModel, runs: xr.Dataset, dataset: xr.Dataset, theta: Mapping[str, float]) -> Held:
    """At given values, and where none is given at each run's own; runs: of one method and rho, on the axes ``RUN``.

    Raises UserError for what is no parameter, or outside its bounds.
    """
    names = model.parameters.names
    for name, value in theta.items():
        if name not in names:
            raise UserError(f"theta.{name}: not a parameter; there are {', '.join(names)}")
        check_number(value, f"theta.{name}")
    own = runs["theta"].values[0, 0].astype(float)
    given = np.array([theta.get(name, np.nan) for name in names], dtype=float)
    for name, value, low, high in zip(names, given, *_bounds(model), strict=True):
        if not np.isnan(value) and not low < value < high:
            raise UserError(f"theta.{name}: {value:g} is not between {low:g} and {high:g}")
    failed = _failed(runs, dataset) if np.isnan(given).any() else [""] * len(own)
    own = np.where(np.isnan(given), own, given)
    if np.isnan(own[np.array(failed) == ""]).any():
        raise UserError(f"runs: those of {runs['training_method'].item()} have no theta that could be held")
    return Held(_inside(model, own), _gradients(runs), failed, [""] * len(own))


def parsed_theta(texts: Iterable[str]) -> dict[str, float]:
    """``omega=1.05`` -> name and value; raises UserError for anything else."""
    theta = {}
    for text in texts:
        name, _, number = text.partition("=")
        try:
            theta[name] = float(number)
        except ValueError:
            raise UserError(f"theta: {text!r} is not a parameter and its value, such as omega=1.05") from None
    return theta


def by_assumption(
    model: HybridModel,
    runs: xr.Dataset,
    dataset: xr.Dataset,
    assumption: Assumption | None,
    thresholds: Mapping[str, float] = MappingProxyType({}),
) -> Held:
    """Theta of each run by an assumption about what its own whole has beyond the science; see :mod:`.identification`.

    runs: of erm, on the axes ``RUN`` and with ``phi``. assumption: of :func:`of_kind`. Free is what it says nothing of;
    a run of which that is all is left out.
    """
    blind = typed(Thresholds, thresholds, "thresholds").blind
    failed, gradients = _failed(runs, dataset), _gradients(runs)
    nowhere = torch.full(runs["theta"].shape[2:], torch.nan, dtype=torch.float64)
    data = model.data(dataset, "train", torch.float32, "cpu")
    data = next(data.chunks(max(1, MOST // data.targets[0, 0].numel())))
    comparison = model.comparison(data)
    if comparison is None:
        return Held(nowhere, gradients, failed, [NOT_COMPARED] * len(nowhere))
    if assumption is None:
        return Held(nowhere, gradients, failed, [UNNAMED] * len(nowhere))
    theta, phi, running = (torch.as_tensor(runs[name].values[0, 0]).float() for name in ("theta", "phi", "running"))
    members = Members(runs["seed"].values, theta, theta.numpy(), phi, running, len(theta))
    with torch.no_grad():
        science = comparison.science(theta[:1], comparison.points)
    fields = Fields(assumption, model, comparison, members, Seen.of(comparison, dataset, tuple(science.shape[3:])))
    found, left_out = nowhere.numpy().copy(), [""] * len(theta)
    for i in np.flatnonzero(np.array(failed) == ""):
        own = theta[i].double().numpy()
        if (fields.information(fields.derivatives(own)) >= blind).any():
            own = fitted(fields, fields.wholes[i], [own])
        told = fields.information(fields.derivatives(own)) >= blind
        found[i] = np.where(told, own, np.nan)
        left_out[i] = "" if told.any() else f"{assumption.title} says nothing of {', '.join(model.parameters.names)}"
    return Held(_inside(model, found), gradients, failed, left_out)


def of_kind(kind: str, assume: Iterable[str | Mapping] | None = None) -> Assumption | None:
    """``small``, ``straight``, or the first ``depends_on`` among those that are asked; None where there is none."""
    if kind in PLAIN:
        return PLAIN[kind]()
    return next((one for one in map(parsed, assume or []) if isinstance(one, DependsOn)), None)


def _failed(runs: xr.Dataset, dataset: xr.Dataset) -> list[str]:
    """Of each run why its theta is none: it diverged, or predicts validation data worse than their mean would."""
    return ["" if good else FAILED for good in fit(runs, dataset)]


def _gradients(runs: xr.Dataset) -> np.ndarray:
    return runs["gradients"].values[0, 0] if "gradients" in runs else np.zeros(runs.sizes["seed"])


def _inside(model: HybridModel, theta: np.ndarray) -> torch.Tensor:
    """Theta (seed, parameter) between its bounds, at which training could not begin."""
    margin, (low, high) = INSIDE * sizes_of(model), _bounds(model)
    return torch.as_tensor(np.clip(theta, low + margin, high - margin))


def _bounds(model: HybridModel) -> tuple[np.ndarray, np.ndarray]:
    """(parameter,) the lower and the upper ones; to the transform log, 0 is one."""
    rows = model.parameters.rows
    low = [0.0 if row.transform == "log" and row.centre > 0 else row.lower for row in rows]
    high = [0.0 if row.transform == "log" and row.centre < 0 else row.upper for row in rows]
    return np.array(low), np.array(high)
