"""The rho of each method that a rule selects, always on the final iterate, and the errors at it, on other seeds."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from hybridsam.analysis.cube import METRICS, SHOWN, not_run, runs_table
from hybridsam.analysis.intervals import (
    AXES,
    LEVEL,
    Statistic,
    bootstrap_interval,
    log_mean,
    log_root_mean_square,
    mean,
    median,
    of_all,
    t_interval,
)
from hybridsam.analysis.standings import log_ratio, standings
from hybridsam.core.blocks import canonical
from hybridsam.core.errors import UserError
from hybridsam.core.methods import BASELINE
from hybridsam.core.records import origin

FOLDS = 10  # of seeds, at most, by which rho is chosen for the others


# Rules


def errors_by_rho(runs: pd.DataFrame) -> pd.DataFrame:
    """One row for each rho of one method: how many runs failed on validation data, and the errors of the others.

    Columns: failed, validation_error, its mean, and theta_error, the root mean square where the truth is known. A rho
    of which all runs failed has infinite errors.
    """
    table = pd.DataFrame({"failed": runs.groupby("rho")["failed_validation"].sum()})
    good = runs[~runs["failed_validation"]]
    table["validation_error"] = good.groupby("rho")["validation_error"].mean()
    if "theta_error" in runs:
        table["theta_error"] = (good["theta_error"] ** 2).groupby(good["rho"]).mean() ** 0.5
    return table.fillna(np.inf)


def lowest_validation_error(runs: pd.DataFrame, samples: pd.DataFrame) -> float:
    """The rho with the fewest failed runs and, among those, the lowest mean validation error."""
    return errors_by_rho(runs).sort_values(["failed", "validation_error"], kind="stable").index[0]


def one_standard_error(runs: pd.DataFrame, samples: pd.DataFrame) -> float:
    """The largest rho up to which no validation error is over one standard error above the lowest (Occam's choice).

    The standard error is that of the difference to the rho with the lowest error, paired by validation samples: of the
    same data, where most of what makes one sample harder than another is common to both.
    """
    best = lowest_validation_error(runs, samples)
    by_rho, errors = errors_by_rho(runs), _by_sample(runs, samples)
    chosen = best
    for rho in by_rho.index[by_rho.index > best]:
        more = (errors.loc[rho] - errors.loc[best]).dropna() if rho in errors.index else np.array([])
        standard_error = np.std(more, ddof=1) / len(more) ** 0.5 if len(more) > 1 else 0.0
        close = len(more) > 0 and np.mean(more) <= standard_error
        if by_rho.loc[rho, "failed"] > by_rho.loc[best, "failed"] or not close:
            break
        chosen = rho
    return chosen


def _by_sample(runs: pd.DataFrame, samples: pd.DataFrame) -> pd.DataFrame:
    """The mean error over seeds of the validation samples of every dataset: a row a rho."""
    good = runs[~runs["failed_validation"]]
    return samples.loc[good.index].groupby([good["rho"], good["data"]]).mean().unstack("data")


def oracle(runs: pd.DataFrame, samples: pd.DataFrame) -> float:
    """The rho with the lowest root mean square theta error: needs the truth, so it is no rule for real data."""
    return errors_by_rho(runs).sort_values(["failed", "theta_error"], kind="stable").index[0]


# of the runs of one method and, with the same index, the error of each of their validation samples
RULES: dict[str, Callable[[pd.DataFrame, pd.DataFrame], float]] = {
    "validation": lowest_validation_error,
    "one_standard_error": one_standard_error,
    "oracle": oracle,
}


def rules_for(cube: xr.Dataset) -> list[str]:
    """The rules that can choose: those that need the truth, or errors of validation samples, where these are."""
    needs = {"one_standard_error": "validation_errors", "oracle": "theta_error"}
    return [rule for rule in RULES if rule not in needs or needs[rule] in cube]


def cross_fitted(
    runs: pd.DataFrame, samples: pd.DataFrame, rule: Callable[[pd.DataFrame, pd.DataFrame], float]
) -> dict[int, float]:
    """seed -> the rho that a rule chooses for it by the runs of other seeds, of one method.

    What is reported of a seed has then no part in the choice: errors at the rho that is the best of several on the same
    seeds are too low. Seeds are left out one by one, or in ``FOLDS`` parts; of a single seed there are no others.
    """
    seeds = np.unique(runs["seed"])
    chosen: dict[int, float] = {}
    for fold in np.array_split(seeds, min(len(seeds), FOLDS)):
        others = runs[~runs["seed"].isin(fold)] if len(seeds) > 1 else runs
        chosen |= dict.fromkeys(fold.tolist(), rule(others, samples))
    return chosen


# What was chosen


def select(cube: xr.Dataset) -> pd.DataFrame:
    """The rho that each rule chooses for each method, always on the final iterate, and the errors at it.

    One row a method and rule. rho: chosen by all runs, as figures show. Everything else is of the runs at the rho that
    was chosen for their seed by other seeds (:func:`cross_fitted`). rho_of_seeds: how many seeds have which, as JSON.
    n: the number of runs that did not fail, of which alone are the errors; failed: of those that did, diverged: of
    those that diverged; gradients: how many of the loss one evaluated, in the mean; data: the origin; datasets: how
    many; not_run: methods that make no sense for the task, and why, as JSON.

    For every metric a centre and the 95 % interval of it, ``_low`` and ``_high``: of errors of theta the median and, as
    ``_rms``, the root mean square; of errors of prediction the geometric mean, and of their difference to that of the
    true model the mean. ``_over_erm``: the ratio to that of erm (of root mean squares, or geometric means) over the
    n_paired runs that failed for neither. For the metrics in ``SHOWN`` also how the methods of a rule compare: see
    :func:`hybridsam.analysis.standings.standings`. theta: :func:`theta_statistics` as JSON, a list of rows.
    """
    runs, samples = runs_table(cube), _validation_samples(cube)
    metrics = [name for name in runs if name in METRICS or name.startswith("theta_")]
    found = []
    for rule in rules_for(cube):
        chosen, rows = {}, []
        for method in cube["training_method"].values.tolist():
            own = runs[runs["method"] == method]
            rho_of = cross_fitted(own, samples, RULES[rule])
            chosen[method] = own[own["rho"] == own["seed"].map(rho_of)]
            row = {"method": method, "rule": rule, "rho": RULES[rule](own, samples)}
            numbers = pd.Series(rho_of).value_counts().sort_index()
            row["rho_of_seeds"] = json.dumps({canonical(rho): int(number) for rho, number in numbers.items()})
            rows.append(row | _of_runs(cube, chosen[method], metrics))
        selection = pd.DataFrame(rows)
        found.append(selection.join([_compared(chosen, name) for name in metrics if centre_of(name) != "mean"]))
    return pd.concat(found, ignore_index=True)


def centre_of(metric: str) -> str:
    """What the centre of the errors of runs is, in words: of differences, which may be negative, the mean."""
    if metric.startswith("theta"):
        return "median"
    return "mean" if metric.endswith("_above_truth") else "geometric mean"


def log_statistic(metric: str) -> Statistic:
    """The logarithm of what methods are compared by."""
    return log_root_mean_square if metric.startswith("theta") else log_mean


def centre_and_interval(metric: str, errors: pd.Series) -> dict[str, float]:
    """centre, low, high: of the errors of runs, by ``data`` and ``seed``; NaN for those that failed."""
    if centre_of(metric) == "median":
        found = [of_all(median, errors), *bootstrap_interval(median, errors)]
    elif centre_of(metric) == "mean":
        found = [of_all(mean, errors), *t_interval(mean, errors)]
    else:
        found = np.exp([of_all(log_mean, errors), *t_interval(log_mean, errors)]).tolist()
    return dict(zip(("centre", "low", "high"), found, strict=True))


def _of_runs(cube: xr.Dataset, chosen: pd.DataFrame, metrics: list[str]) -> dict:
    """What a row of the selection says of the runs at the rho chosen for their seeds."""
    good = chosen[~chosen["failed"]].set_index([*AXES])
    diverged = int((chosen["status"] == "diverged").sum())
    row: dict[str, Any] = {"n": len(good), "failed": int(chosen["failed"].sum()), "diverged": diverged}
    row |= {"data": origin(cube), "datasets": cube.sizes["data"], "not_run": json.dumps(not_run(cube))}
    if "gradients" in cube:
        row["gradients"] = float(_of_each(cube["gradients"], chosen).mean())
    if "theta_error" in cube:
        row["theta_error_meaning"] = cube["theta_error"].attrs["long_name"]
    for name in metrics:
        row |= {f"{name}_{of}": value for of, value in centre_and_interval(name, good[name]).items()}
        if name.startswith("theta"):
            row[f"{name}_rms"] = float(np.exp(of_all(log_root_mean_square, good[name])))
    row["theta"] = theta_statistics(cube, chosen[~chosen["failed"]]).to_json(orient="records", force_ascii=False)
    return row


def theta_statistics(cube: xr.Dataset, runs: pd.DataFrame) -> pd.DataFrame:
    """Theta of runs, rows of :func:`hybridsam.analysis.cube.runs_table`: a row a parameter.

    Columns: parameter, unit, median with low and high, the ends of its 95 % interval, least, most; and where the truth
    is known true, bias, the mean less the truth, with bias_low and bias_high, and rms, the root mean square error.
    """
    rows = []
    theta = _of_each(cube["theta"], runs).values.T
    for i, (name, unit) in enumerate(zip(cube["parameter"].values, cube["parameter_units"].values, strict=True)):
        values = pd.Series(theta[i], pd.MultiIndex.from_frame(runs[[*AXES]]), dtype=float)
        row = {"parameter": name, "unit": unit, "median": of_all(median, values)}
        row |= dict(zip(("low", "high"), bootstrap_interval(median, values), strict=True))
        row |= {"least": values.min(), "most": values.max()}
        if "theta_true" in cube:
            off = values - cube["theta_true"].values[i]
            row |= {"true": cube["theta_true"].values[i], "bias": of_all(mean, off)}
            row |= dict(zip(("bias_low", "bias_high"), t_interval(mean, off), strict=True))
            row["rms"] = float(np.exp(of_all(log_root_mean_square, off)))
        rows.append(row)
    return pd.DataFrame(rows)


def _compared(chosen: Mapping[str, pd.DataFrame], metric: str) -> pd.DataFrame:
    """How the methods compare by a metric: with erm and, where tables show it, with the best; a row a method."""
    errors = pd.DataFrame({name: runs[~runs["failed"]].set_index([*AXES])[metric] for name, runs in chosen.items()})
    errors.index.names = AXES
    erm = errors.get(BASELINE, pd.Series(np.nan, errors.index))
    with_erm = [np.exp(log_ratio(errors[name], erm, log_statistic(metric), LEVEL)) for name in errors]
    columns = {
        f"{metric}_over_{BASELINE}{end}": [ratio[i] for ratio in with_erm]
        for i, end in enumerate(["_low", "", "_high"])
    }
    table = pd.DataFrame(columns)
    if metric in SHOWN:
        failed = {name: int(runs["failed"].sum()) for name, runs in chosen.items()}
        compared = standings(errors, failed, log_statistic(metric)).reset_index(drop=True)
        table = table.join(compared.add_prefix(f"{metric}_"))
    if metric == SHOWN[-1]:
        table["n_paired"] = errors.notna().mul(erm.notna(), axis=0).sum().to_numpy()
    return table


def _validation_samples(cube: xr.Dataset) -> pd.DataFrame:
    """The errors of validation samples: a row a run, numbered as those of the table of runs, a column a sample."""
    runs = runs_table(cube)
    if "validation_errors" not in cube:
        return pd.DataFrame(index=runs.index)
    return pd.DataFrame(_of_each(cube["validation_errors"], runs).values, runs.index)


def _of_each(variable: xr.DataArray, runs: pd.DataFrame) -> xr.DataArray:
    """The values (run, ...) of a variable of the cube, of rows of its table of runs."""
    names = {"training_method": "method", "rho": "rho", "data": "data", "seed": "seed"}
    labels = {axis: xr.DataArray(runs[name].to_numpy(), dims="run") for axis, name in names.items()}
    return variable.sel(labels).transpose("run", ...)


def read_selection(path: Path) -> pd.DataFrame:
    """selection.csv, with every rho equal to the cube's to the last bit (pandas may read numbers less exactly).

    Raises UserError for one of an older version, which says neither which runs failed nor how methods compare.
    """
    selection = pd.read_csv(path, dtype={"rho": str}).astype({"rho": float})
    if "failed" not in selection:
        raise UserError(f"{path}: no column failed, as an older version wrote it; hybridsam select makes it anew")
    return selection
