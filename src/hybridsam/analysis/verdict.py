"""Which method came out best in Table 1, what that costs in prediction, and, without a truth, what is said of theta."""

import json
from collections.abc import Mapping

import pandas as pd
import xarray as xr

from hybridsam.analysis.arrival import FINDINGS, ways
from hybridsam.core.methods import get_method, in_order

RELATIVE = "theta_relative_error"


def best(rows: pd.DataFrame, metric: str) -> str | None:
    """The method that is best by an error, None where no two can be compared; rows: of one task and rule, by method."""
    found = with_standing(rows, metric, "best")
    return found[0] if found else None


def with_standing(rows: pd.DataFrame, metric: str, standing: str) -> list[str]:
    """The methods of that standing by an error, such as ``worse``; see :mod:`hybridsam.analysis.standings`."""
    column = f"{metric}_standing"
    return in_order(rows.index[rows[column] == standing]) if column in rows else []


def is_shown(rows: pd.DataFrame, metric: str) -> bool:
    """Whether the runs show which methods are the best: some are worse or failed, and no other one may be as good."""
    worse = [name for standing in ("worse", "failed") for name in with_standing(rows, metric, standing)]
    return bool(worse) and not with_standing(rows, metric, "inconclusive")


def relative_errors(table: pd.DataFrame) -> pd.DataFrame:
    """The relative errors of theta in Table 1: a row a rule, task and method, n, failed, diverged, centre, low, high.

    No rows for what has none: tasks whose theta is not known, and methods of which all runs failed.
    """
    of_runs = {f"{RELATIVE}_{name}": name for name in ("centre", "low", "high")}
    columns = ["rule", "task", "method", "n", "failed", "diverged", *of_runs.values()]
    return table.rename(columns=of_runs).reindex(columns=columns).dropna(subset="centre")


def without_relative_error(table: pd.DataFrame) -> Mapping[str, list[str]]:
    """Why tasks of Table 1 have no relative error of theta -> which."""
    absent = table[~table["task"].isin(relative_errors(table)["task"])]
    known = absent["theta_error_meaning"].notna()
    reasons = {"θ is not known": absent["task"][~known], "all runs failed": absent["task"][known]}
    return {why: tasks.unique().tolist() for why, tasks in reasons.items() if len(tasks)}


def theta_without_truth(cube: xr.Dataset, chosen: pd.DataFrame) -> pd.DataFrame:
    """What the runs say of theta where nobody knows it, at the rho chosen for each method: a row a parameter.

    chosen: the rows of Table 1 of a task and rule, by method, of which one has a run that did not fail. Columns: unit;
    method, that with the lowest validation error, its n, and of its runs median, least and most of theta; lowest,
    lowest_median, highest, highest_median: the methods with the extreme medians; runs, arrived, hardly_left: how many
    completed runs of all methods say how theta moved, in how many it arrived, and in how many it hardly left its start.
    """
    has_theta = chosen.index.map(lambda method: get_method(method).lacks != "science").to_numpy(dtype=bool)
    good = chosen[(chosen["n"] > 0) & has_theta]
    of = {method: pd.DataFrame(json.loads(row["theta"])).set_index("parameter") for method, row in good.iterrows()}
    lowest = good["validation_error_centre"].idxmin()
    medians = pd.DataFrame({method: theta["median"] for method, theta in of.items()})
    table = of[lowest][["unit", "median", "least", "most"]].assign(method=lowest, n=good.loc[lowest, "n"])
    table = table.assign(lowest=medians.idxmin(axis=1), lowest_median=medians.min(axis=1))
    table = table.assign(highest=medians.idxmax(axis=1), highest_median=medians.max(axis=1))
    return table.join(_arrivals(cube, good)).fillna({"runs": 0, "arrived": 0, "hardly_left": 0})


def _arrivals(cube: xr.Dataset, chosen: pd.DataFrame) -> pd.DataFrame:
    """Of the runs at the chosen rho: how many there are, in how many theta arrived, or hardly left its start."""
    moved = ways(cube).merge(chosen.rename_axis("method").reset_index()[["method", "rho"]], on=["method", "rho"])
    if moved.empty:
        return pd.DataFrame(columns=["runs", "arrived", "hardly_left"])
    stayed = moved[list(FINDINGS)].any(axis=1)
    moved = moved.assign(runs=1, arrived=~stayed)
    return moved.groupby("parameter")[["runs", "arrived", "hardly_left"]].sum()
