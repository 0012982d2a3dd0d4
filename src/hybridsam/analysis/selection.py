"""The rho of each method that a rule selects, always on the final iterate, and the errors there."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr

from hybridsam.analysis.cube import METRICS, SHOWN, pairs, runs_table
from hybridsam.analysis.significance import interval, standings
from hybridsam.core.errors import UserError
from hybridsam.core.methods import BASELINE
from hybridsam.core.records import origin


def errors_by_rho(runs: pd.DataFrame) -> pd.DataFrame:
    """One row for each rho of one method: number of completed and diverged runs, mean errors, standard error.

    Means are over completed runs; a rho without any has infinite errors.
    """
    completed = runs[runs["status"] == "completed"]
    of_rho = completed.groupby("rho")
    table = pd.DataFrame(index=sorted(runs["rho"].unique()))
    table["n"] = of_rho.size()
    table["diverged"] = runs[runs["status"] == "diverged"].groupby("rho").size()
    table = table.fillna(0)
    table["validation_error"] = of_rho["validation_error"].mean()
    table["standard_error"] = of_rho["validation_error"].sem()
    if "theta_error" in runs:
        table["theta_error"] = of_rho["theta_error"].mean()
    return table.fillna({"validation_error": np.inf, "theta_error": np.inf, "standard_error": 0.0})


def lowest_validation_error(by_rho: pd.DataFrame) -> float:
    """The rho with the fewest diverged runs and, among those, the lowest mean validation error."""
    return by_rho.sort_values(["diverged", "validation_error"], kind="stable").index[0]


def one_standard_error(by_rho: pd.DataFrame) -> float:
    """The largest rho whose validation error is within one standard error of the best (Occam's choice)."""
    best = by_rho.loc[lowest_validation_error(by_rho)]
    close = by_rho["validation_error"] <= best["validation_error"] + best["standard_error"]
    return by_rho.index[close & (by_rho["diverged"] <= best["diverged"])].max()


def oracle(by_rho: pd.DataFrame) -> float:
    """The rho with the lowest mean theta error: needs the truth, so it is no rule for real data."""
    return by_rho.sort_values(["diverged", "theta_error"], kind="stable").index[0]


RULES: dict[str, Callable[[pd.DataFrame], float]] = {
    "validation": lowest_validation_error,
    "one_standard_error": one_standard_error,
    "oracle": oracle,
}


@np.errstate(invalid="ignore")  # infinite errors have no spread
def select(cube: xr.Dataset) -> pd.DataFrame:
    """The rho that each rule chooses for each method, always on the final iterate, and the errors there.

    One row a method and rule: rho, completed runs n, origin of the data, how many datasets, diverged, exploded (how
    many of the n: see :func:`hybridsam.analysis.cube.exploded`; means include them), and for every metric its mean,
    median, standard deviation and half width of the 95 % Student t interval over runs, each a dataset and a seed, and
    the mean difference to erm over those that both completed, with its standard deviation and number. For the metrics
    in ``SHOWN`` also p and standing among the methods of that rule: see
    :func:`hybridsam.analysis.significance.standings`. theta: :func:`theta_means` as JSON, a list of rows.
    """
    runs = runs_table(cube)
    rules = [rule for rule in RULES if rule != "oracle" or "theta_error" in runs]
    metrics = [name for name in runs if name in METRICS or name.startswith("theta_")]
    baseline = _completed(runs, BASELINE, None)
    rows = []
    for method in cube["training_method"].values.tolist():
        by_rho = errors_by_rho(runs[runs["method"] == method])
        for rule in rules:
            rho = RULES[rule](by_rho)
            chosen = _completed(runs, method, rho)
            row = {"method": method, "rule": rule, "rho": rho, "n": len(chosen)}
            row |= {"data": origin(cube), "datasets": cube.sizes["data"]}
            if "theta_error" in cube:
                row["theta_error_meaning"] = cube["theta_error"].attrs["long_name"]
            row |= {"diverged": by_rho.loc[rho, "diverged"], "exploded": chosen["exploded"].sum()}
            row["theta"] = theta_means(cube, method, rho).to_json(orient="records", force_ascii=False)
            row["n_paired"] = len(chosen.index.intersection(baseline.index))
            for name in metrics:
                difference = chosen[name] - baseline[name]  # by data and seed, NaN where one of the two is missing
                row |= {f"{name}_mean": chosen[name].mean(), f"{name}_median": chosen[name].median()}
                row |= {f"{name}_sd": chosen[name].std(), f"{name}_interval": interval(chosen[name])}
                row |= {f"{name}_minus_{BASELINE}": difference.mean(), f"{name}_minus_{BASELINE}_sd": difference.std()}
            rows.append(row)
    selection = pd.DataFrame(rows).astype({"n": int, "diverged": int, "exploded": int})
    return selection.join([_compared(selection, runs, name) for name in SHOWN if name in metrics])


def theta_means(cube: xr.Dataset, method: str, rho: float) -> pd.DataFrame:
    """Theta of the completed runs of a method at one rho: a row a parameter.

    Columns: parameter, unit, mean, interval (half width of the 95 % Student t interval); NaN for too few runs.
    """
    runs = cube.sel(training_method=method, rho=rho)
    completed = pairs(runs["theta"].where(runs["status"] == "completed")).dropna("run")
    values = completed.transpose("parameter", "run").values
    about = {"parameter": cube["parameter"].values, "unit": cube["parameter_units"].values}
    means = [of_runs.mean() if len(of_runs) else np.nan for of_runs in values]
    return pd.DataFrame(about | {"mean": means, "interval": [interval(of_runs) for of_runs in values]})


def read_selection(path: Path) -> pd.DataFrame:
    """selection.csv, with every rho equal to the cube's to the last bit (pandas may read numbers less exactly).

    Raises UserError for one of an older version, which does not say which runs exploded.
    """
    selection = pd.read_csv(path, dtype={"rho": str}).astype({"rho": float})
    if "exploded" not in selection:
        raise UserError(f"{path}: no column exploded, as an older version wrote it; hybridsam select makes it anew")
    return selection


def _compared(selection: pd.DataFrame, runs: pd.DataFrame, metric: str) -> pd.DataFrame:
    """p and standing of every row of a selection among the rows of its rule, by one metric."""
    found = []
    for _, rows in selection.groupby("rule"):
        errors = {row.method: _completed(runs, row.method, row.rho)[metric] for row in rows.itertuples()}
        exploded = rows["method"][rows["exploded"] > 0]
        found.append(standings(pd.DataFrame(errors), exploded).set_axis(rows.index))
    return pd.concat(found).add_prefix(f"{metric}_")


def _completed(runs: pd.DataFrame, method: str, rho: float | None) -> pd.DataFrame:
    chosen = (runs["method"] == method) & (runs["status"] == "completed")
    if rho is not None:
        chosen &= runs["rho"] == rho
    return runs[chosen].set_index(["data", "seed"])
