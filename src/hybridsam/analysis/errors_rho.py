"""The errors at every rho, as a table to draw."""

import pandas as pd

from hybridsam.analysis.cube import METRICS, SHOWN, metrics_of, runs_table
from hybridsam.analysis.results import Results
from hybridsam.analysis.significance import interval

ROWS = 5000  # of the runs in a table of errors


def errors_rho(results: Results) -> pd.DataFrame:
    """Errors of runs, and for each rho of a method their mean over completed runs with its 95 % Student t interval.

    Only the first runs of each rho have rows where all of them would be more than ``ROWS``; means are of all.
    """
    runs = runs_table(results.cube).rename(columns={"data": "data_seed"}).astype({"method": str, "exploded": int})
    metrics = [name for name in metrics_of(results.cube) if name in SHOWN or name not in METRICS]
    metrics.sort(key="y_error".__eq__)  # last
    runs = runs.melt(["method", "rho", "data_seed", "seed", "status", "exploded"], metrics, "metric", "value")
    groups = runs.groupby(["metric", "method", "rho"])
    rows = []
    for (metric, method, rho), group in groups:
        completed = group.loc[group["status"] == "completed", "value"]
        row = {"metric": metric, "method": method, "rho": rho, "value": completed.mean(), "n": len(completed)}
        row |= {"interval": interval(completed), "diverged": int((group["status"] == "diverged").sum())}
        row["exploded"] = int(group["exploded"].sum())
        rows.append(row)
    shown = groups.head(max(1, ROWS // groups.ngroups))
    table = pd.concat([shown.assign(statistic="run"), pd.DataFrame(rows).assign(statistic="mean")], ignore_index=True)
    own = {name: results.cube[name].attrs for name in metrics}
    units = {name: about.get("units", "1") for name, about in own.items()} | {"y_error": results.error_unit}
    meanings = {name: about.get("long_name", _label(name)) for name, about in own.items()}
    columns = {"label": _label, "unit": units, "meaning": meanings}
    table = table.assign(**{column: table["metric"].map(of_metric) for column, of_metric in columns.items()})
    return table.astype(dict.fromkeys(["data_seed", "seed", "n", "diverged", "exploded"], "Int64"))


def _label(metric: str) -> str:
    """``theta_gauge_free_error`` -> ``gauge-free θ-error``."""
    own = metric.removeprefix("theta_").removesuffix("_error").replace("_", "-")
    return f"{METRICS[metric]} (test MSE)" if metric == "y_error" else METRICS.get(metric, f"{own} θ-error")
