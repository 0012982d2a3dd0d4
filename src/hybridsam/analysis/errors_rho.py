"""The errors at every rho, and those of theta and y beside each other, as tables to draw."""

import numpy as np
import pandas as pd

from hybridsam.analysis.cube import METRICS, SHOWN, metrics_of, runs_table
from hybridsam.analysis.results import Results
from hybridsam.analysis.significance import interval

ROWS = 5000  # of the runs in a table of errors


def errors_rho(results: Results) -> pd.DataFrame:
    """Errors of runs, and for each strength their mean over completed runs with its 95 % Student t interval.

    Only the first runs of each strength have rows where all of them would be more than ``ROWS``; means are of all.
    """
    runs = runs_table(results.cube).astype({"method": str})
    metrics = [name for name in metrics_of(results.cube) if name in SHOWN or name not in METRICS]
    metrics.sort(key="y_error".__eq__)  # last
    runs = runs.melt(["method", "rho", "seed", "status"], metrics, "metric", "value")
    of_strength = runs.groupby(["metric", "method", "rho"])
    rows = []
    for (metric, method, rho), group in of_strength:
        completed = group.loc[group["status"] == "completed", "value"]
        row = {"metric": metric, "method": method, "rho": rho, "value": completed.mean(), "n": len(completed)}
        row |= {"interval": interval(completed), "diverged": int((group["status"] == "diverged").sum())}
        rows.append(row)
    shown = of_strength.head(max(1, ROWS // of_strength.ngroups))
    table = pd.concat([shown.assign(statistic="run"), pd.DataFrame(rows).assign(statistic="mean")], ignore_index=True)
    own = {name: results.cube[name].attrs for name in metrics}
    units = {name: about.get("units", "1") for name, about in own.items()} | {"y_error": results.error_unit}
    meanings = {name: about.get("long_name", _label(name)) for name, about in own.items()}
    columns = {"label": _label, "unit": units, "meaning": meanings}
    table = table.assign(**{column: table["metric"].map(of_metric) for column, of_metric in columns.items()})
    return table.astype({"seed": "Int64", "n": "Int64", "diverged": "Int64"})


def tradeoff(results: Results) -> pd.DataFrame:
    """The errors of :func:`errors_rho` beside each other, and whether a strength's means lie on the Pareto front.

    Where theta is not known there is no column theta_error, and no front.
    """
    of_metric = {name: rows.reset_index(drop=True) for name, rows in errors_rho(results).groupby("metric")}
    columns = ["method", "rho", "seed", "status", "statistic", "n", "diverged"]
    table = of_metric["y_error"][columns].assign(front=False)
    for name in [name for name in SHOWN if name in of_metric]:
        rows = of_metric[name]
        table = table.assign(**{name: rows["value"], f"{name}_unit": rows["unit"], f"{name}_meaning": rows["meaning"]})
    if "theta_error" in table:
        is_mean = table["statistic"] == "mean"
        table.loc[is_mean, "front"] = on_front(*(table.loc[is_mean, name].to_numpy() for name in SHOWN))
    return table


def on_front(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Which points (point,) lie on the Pareto front: no other is lower in one of the two and not higher in the other.

    Points that are not finite lie on no front and keep no other from it.
    """
    no_higher = (first <= first[:, None]) & (second <= second[:, None])  # [point, other]
    lower = (first < first[:, None]) | (second < second[:, None])
    return np.isfinite(first + second) & ~(no_higher & lower).any(1)


def _label(metric: str) -> str:
    """``theta_gauge_free_error`` -> ``gauge-free θ-error``."""
    own = metric.removeprefix("theta_").removesuffix("_error").replace("_", "-")
    return f"{METRICS[metric]} (test MSE)" if metric == "y_error" else METRICS.get(metric, f"{own} θ-error")
