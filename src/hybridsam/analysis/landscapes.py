"""How what the science lacks depends on theta: landscapes, which need no training.

With F the fitted whole and g = F - f(.; theta), each measure of g over theta has its minimum at another theta: what an
assumption leaves of g, which is R_norm for the assumption ``small``; R_corr, the correlation of f and g; and their
product, by which Takeishi & Kalousis (2023, "Deep Grey-Box Modeling With Adaptive Data-Driven Models Toward Trustworthy
Estimation of Theory-Driven Models") regularise.
"""

from collections.abc import Mapping

import numpy as np
import pandas as pd
import xarray as xr

from hybridsam.analysis.assumptions import Assumption
from hybridsam.analysis.cube import runs_table
from hybridsam.analysis.results import Results
from hybridsam.analysis.wholes import Fields, sizes_of
from hybridsam.core.methods import trains_theta

POINTS = 41  # of a curve, without the minima of the assumptions
STEPS = 31  # of a map, on either side
MARGIN = 0.1  # of the range that is shown, on either side of what lies in it
AFFINE = 1e-9  # deviation from an affine function of theta, over the largest number, that is round-off
OF_BOTH = ("correlation", "combination")  # measures of f and what it lacks together
COUNTS = ("data_seed", "seed", "n", "failed", "diverged")  # whole numbers, which not every row of a table has
OF_THETA = "see parameter_units"
ABOUT = {  # variable -> axes, long_name, units
    "curve_theta": (("parameter", "point"), "values at which the curves are taken, the others being held", OF_THETA),
    "left": (("assumption", "parameter", "point"), "root mean square of what the assumption leaves of F - f", "1"),
    "correlation": (("parameter", "point"), "size of the correlation of f and F - f", "1"),
    "combination": (("parameter", "point"), "mean square of F - f, times the size of its mean product with f", "1"),
    "map_theta": (("parameter", "step"), "values at which the maps are taken", OF_THETA),
    "left_map": (("assumption", "step", "step_2"), "left, over the first and the second parameter", "1"),
    "correlation_map": (("step", "step_2"), "correlation, over both", "1"),
    "combination_map": (("step", "step_2"), "combination, over both", "1"),
}


def of(
    asked: Mapping[Assumption, Fields], plain: Fields, theta: np.ndarray, told: np.ndarray, others: np.ndarray
) -> dict[str, np.ndarray]:
    """Curves along each parameter, and maps over two where there are just two; name -> values, see ``ABOUT``.

    Curves go through the theta of their assumption, those of correlation and combination through that of the first.

    plain: the fields as they are, with all of g left. theta: by each assumption, (assumption, parameter). told: where
    that means something. others: (n, parameter) what else shall lie in the range, such as starts.
    """
    low, high = _ends(plain, np.where(told, theta, np.nan), others)
    marks = np.clip(np.where(told, theta, low), low, high)
    curve = np.sort(np.vstack([np.linspace(low, high, POINTS), marks]), 0).T
    left = [_root(_products(fields, _along(curve, at))[2]) for fields, at in zip(asked.values(), theta, strict=True)]
    found = {"curve_theta": curve, "left": np.array(left)} | _of_both(plain, _along(curve, theta[0]), "")
    if len(low) == 2:
        step = np.linspace(low, high, STEPS).T
        both = np.stack(np.meshgrid(*step, indexing="ij"), -1)
        maps = [_root(_products(fields, both)[2]) for fields in asked.values()]
        found |= {"map_theta": step, "left_map": np.array(maps)} | _of_both(plain, both, "_map")
    return found


def _of_both(plain: Fields, thetas: np.ndarray, ending: str) -> dict[str, np.ndarray]:
    """Measures of f and g together at thetas (..., parameter)."""
    ff, fg, gg = _products(plain, thetas)
    with np.errstate(divide="ignore", invalid="ignore"):
        correlation = np.abs(fg) / np.sqrt(ff * gg)
    return {f"correlation{ending}": correlation, f"combination{ending}": gg * np.abs(fg)}


def _ends(plain: Fields, theta: np.ndarray, others: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(parameter,) ends of the range: of the others, and of those theta that are not further off than they are wide."""
    low, high = np.nanmin(others, 0), np.nanmax(others, 0)
    wide = np.where(high > low, high - low, sizes_of(plain.model))
    near = np.where((theta >= low - wide) & (theta <= high + wide), theta, np.nan)
    low, high = np.fmin(low, np.fmin.reduce(near)), np.fmax(high, np.fmax.reduce(near))
    margin = MARGIN * np.where(high > low, high - low, wide)
    rows = plain.model.parameters.rows
    return np.fmax(low - margin, [row.lower for row in rows]), np.fmin(high + margin, [row.upper for row in rows])


def _along(curve: np.ndarray, at: np.ndarray) -> np.ndarray:
    """(parameter, point, parameter) theta with each parameter in turn at the values of its curve."""
    thetas = np.tile(at, (*curve.shape, 1))
    for i, values in enumerate(curve):
        thetas[i, :, i] = values
    return thetas


def _root(mean_square: np.ndarray) -> np.ndarray:
    return np.sqrt(np.maximum(mean_square, 0))


def _products(fields: Fields, thetas: np.ndarray) -> np.ndarray:
    """Mean of f f, f g and g g at thetas (..., parameter), of what an assumption leaves of both, (3, ...)."""
    flat = thetas.reshape(-1, thetas.shape[-1])
    whole, middle = fields.wholes.mean(0).ravel(), flat.mean(0)
    f, derivatives = fields.science(middle), fields.derivatives(middle)
    moved = (flat - middle) / sizes_of(fields.model)
    if all(_is_affine(fields.science(flat[k]), f, derivatives, moved[k]) for k in (0, len(flat) // 2, -1)):
        found = _of_affine(np.vstack([whole, _flat(fields.rest(f)), _flat(fields.rest(derivatives))]), moved)
    else:
        found = np.array([_of_one(whole, _flat(fields.rest(fields.science(theta)))[0]) for theta in flat]).T
    return found.reshape(3, *thetas.shape[:-1])


def _flat(fields: np.ndarray) -> np.ndarray:
    return fields.reshape(len(fields), -1)


def _is_affine(there: np.ndarray, f: np.ndarray, derivatives: np.ndarray, moved: np.ndarray) -> bool:
    """Whether f, moved along its derivatives, is what it is there."""
    off = there[0] - f[0] - np.tensordot(moved, derivatives, 1)
    return bool(np.abs(off).max() <= AFFINE * max(np.abs(f).max(), np.abs(there).max()))


def _of_affine(vectors: np.ndarray, moved: np.ndarray) -> np.ndarray:
    """The products of all at once, as f = f_0 + sum over i of moved_i f_i; vectors: F, f_0, f_1, ... (n, number)."""
    gram = vectors @ vectors.T / vectors.shape[1]
    of_f = np.column_stack([np.zeros(len(moved)), np.ones(len(moved)), moved])
    of_g = np.eye(1, len(vectors)) - of_f
    return np.array([np.einsum("ki,ij,kj->k", a, gram, b) for a, b in ((of_f, of_f), (of_f, of_g), (of_g, of_g))])


def _of_one(whole: np.ndarray, f: np.ndarray) -> tuple[float, float, float]:
    g = whole - f
    return float((f * f).mean()), float((f * g).mean()), float((g * g).mean())


def landscape(results: Results) -> pd.DataFrame:
    """The landscapes of a task, and what the runs at the selected rho made of theta, as a table to draw.

    statistic: ``curve`` and ``map``, value of a measure (an assumption, ``correlation`` or ``combination``) at theta,
    and theta_2 of parameter_2; ``minimum``, theta by an assumption; ``run``. reason: why there are no landscapes.
    """
    found = results.identification
    frames = [_of_runs(results)]
    if "curve_theta" in found:
        frames += [_of_curves(found), *([_of_maps(found)] if "map_theta" in found else []), _of_minima(found)]
    table = pd.concat(frames, ignore_index=True).astype(dict.fromkeys(COUNTS, "Int64"))
    units = results.cube["parameter_units"].to_series()
    true = results.cube["theta_true"].to_series() if "theta_true" in results.cube else {}
    of_parameter = {"unit": table["parameter"].map(units), "true": table["parameter"].map(true).astype(float)}
    return table.assign(**of_parameter, reason=found.attrs.get("reason", ""))


def _of_runs(results: Results) -> pd.DataFrame:
    """A row for each parameter of the runs that did not fail, one without theta for a method of which all did.

    Methods that hold theta have it where an assumption has its minimum, which is drawn.
    """
    good = runs_table(results.cube).query("~failed")[["method", "rho", "data", "seed"]].astype({"method": str})
    theta = results.cube["theta"].to_series().reset_index().rename(columns={"training_method": "method"})
    trained = results.selected["method"].map(trains_theta)
    rows = results.selected[trained | ~trained.any()].merge(theta.merge(good), on=["method", "rho"], how="left")
    return rows.rename(columns={"data": "data_seed"}).assign(statistic="run")


def _of_curves(found: xr.Dataset) -> pd.DataFrame:
    measures = _measures(found, "").to_dataframe().reset_index()
    theta = found["curve_theta"].to_dataframe("theta")["theta"].reset_index()
    return measures.merge(theta).drop(columns="point").assign(statistic="curve")


def _of_maps(found: xr.Dataset) -> pd.DataFrame:
    first, second = found["parameter"].values
    steps = found["map_theta"].sel(parameter=first).values, found["map_theta"].sel(parameter=second).values
    values = _measures(found, "_map").assign_coords(step=steps[0], step_2=steps[1]).to_dataframe().reset_index()
    values = values.rename(columns={"step": "theta", "step_2": "theta_2"})
    return values.assign(parameter=first, parameter_2=second, statistic="map")


def _measures(found: xr.Dataset, ending: str) -> xr.DataArray:
    """What the assumptions leave, correlation and combination, one below the other."""
    left = found[f"left{ending}"].rename(assumption="measure").reset_coords(drop=True)
    of_both = [found[f"{name}{ending}"].reset_coords(drop=True).expand_dims(measure=[name]) for name in OF_BOTH]
    return xr.concat([left, *of_both], "measure").rename("value")


def _of_minima(found: xr.Dataset) -> pd.DataFrame:
    minima = found["theta"].reset_coords(drop=True).to_dataframe("theta").dropna().reset_index()
    return minima.rename(columns={"assumption": "measure"}).assign(statistic="minimum")
