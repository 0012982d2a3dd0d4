"""Which method came out best in Table 1, what that costs in prediction, and, without a truth, what is said of theta."""

from collections.abc import Mapping

import pandas as pd
import xarray as xr

from hybridsam.analysis.arrival import FINDINGS, ways
from hybridsam.analysis.cube import SHOWN
from hybridsam.core.methods import in_order

RELATIVE = "theta_relative_error"


def lowest(rows: pd.DataFrame) -> dict[str, str]:
    """Error -> the method with the lowest mean, of those without a run that exploded; none where none has a mean.

    rows: of one task and rule, by method.
    """
    rows = rows[rows["exploded"] == 0]
    means = {name: rows[f"{name}_mean"].dropna() for name in SHOWN if f"{name}_mean" in rows}
    return {name: str(of_methods.idxmin()) for name, of_methods in means.items() if len(of_methods)}


def with_standing(rows: pd.DataFrame, metric: str, standing: str) -> list[str]:
    """The methods of that standing by an error, such as ``tied``; see :mod:`hybridsam.analysis.significance`."""
    found = rows[f"{metric}_standing"]
    return in_order(found.index[found == standing])


def cost_in_prediction(rows: pd.DataFrame) -> float:
    """The y-error of the method with the lowest theta error over the lowest one; NaN where one is not known."""
    best = lowest(rows)
    if set(best) != set(SHOWN):
        return float("nan")
    means = rows["y_error_mean"]
    return float(means[best["theta_error"]] / means[best["y_error"]])


def relative_errors(table: pd.DataFrame) -> pd.DataFrame:
    """The relative errors of theta in Table 1: a row a rule, task and method, n, diverged, exploded, mean, interval.

    No rows for what has none: tasks whose theta is not known, and methods without a completed run.
    """
    of_runs = {f"{RELATIVE}_mean": "mean", f"{RELATIVE}_interval": "interval"}
    columns = ["rule", "task", "method", "n", "diverged", "exploded", *of_runs.values()]
    return table.rename(columns=of_runs).reindex(columns=columns).dropna(subset="mean")


def without_relative_error(table: pd.DataFrame) -> Mapping[str, list[str]]:
    """Why tasks of Table 1 have no relative error of theta -> which."""
    absent = table[~table["task"].isin(relative_errors(table)["task"])]
    known = absent["theta_error_meaning"].notna()
    reasons = {"θ is not known": absent["task"][~known], "no run completed": absent["task"][known]}
    return {why: tasks.unique().tolist() for why, tasks in reasons.items() if len(tasks)}


def theta_without_truth(cube: xr.Dataset, chosen: pd.DataFrame) -> pd.DataFrame:
    """What the runs say of theta where nobody knows it, at the rho chosen for each method: a row a parameter.

    chosen: the rows of Table 1 of a task and rule, by method, of which one has a completed run. Columns: unit; method,
    that with the lowest validation error, its n, and over its runs mean, least and most of theta; lowest, lowest_mean,
    highest, highest_mean: the methods with the extreme means; runs, arrived, hardly_left: how many completed runs of
    all methods say how theta moved, in how many it arrived, and in how many it hardly left its start.
    """
    completed = chosen[chosen["n"] > 0]
    best = completed["validation_error_mean"].idxmin()
    theta = cube["theta"].where(cube["status"] == "completed")
    of = {method: theta.sel(training_method=method, rho=row["rho"]) for method, row in completed.iterrows()}
    means = pd.DataFrame({method: values.mean(["data", "seed"]).to_series() for method, values in of.items()})
    table = pd.DataFrame({"unit": cube["parameter_units"].to_series(), "method": best, "n": completed.loc[best, "n"]})
    table = table.assign(
        mean=means[best],
        least=of[best].min(["data", "seed"]).to_series(),
        most=of[best].max(["data", "seed"]).to_series(),
    )
    table = table.assign(lowest=means.idxmin(axis=1), lowest_mean=means.min(axis=1))
    table = table.assign(highest=means.idxmax(axis=1), highest_mean=means.max(axis=1))
    return table.join(_arrivals(cube, completed)).fillna({"runs": 0, "arrived": 0, "hardly_left": 0})


def _arrivals(cube: xr.Dataset, chosen: pd.DataFrame) -> pd.DataFrame:
    """Of the runs at the chosen rho: how many there are, in how many theta arrived, or hardly left its start."""
    moved = ways(cube).merge(chosen.rename_axis("method").reset_index()[["method", "rho"]], on=["method", "rho"])
    if moved.empty:
        return pd.DataFrame(columns=["runs", "arrived", "hardly_left"])
    stayed = moved[list(FINDINGS)].any(axis=1)
    moved = moved.assign(runs=1, arrived=~stayed)
    return moved.groupby("parameter")[["runs", "arrived", "hardly_left"]].sum()
