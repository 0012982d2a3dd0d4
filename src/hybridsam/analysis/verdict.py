"""Which method came out best in Table 1, by each error, and what a low error of theta costs in prediction."""

from collections.abc import Mapping

import pandas as pd

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
