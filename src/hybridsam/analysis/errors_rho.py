"""The errors at every rho, as a table to draw."""

import pandas as pd

from hybridsam.analysis.cube import METRICS, SHOWN, metrics_of, runs_table
from hybridsam.analysis.intervals import AXES
from hybridsam.analysis.results import Results
from hybridsam.analysis.selection import centre_and_interval, centre_of
from hybridsam.core.methods import BASELINE, has_rho

ROWS = 5000  # of the runs in a table of errors


def errors_rho(results: Results) -> pd.DataFrame:
    """As :func:`errors`, of the baseline and the methods that have a rho."""
    table = errors(results)
    shown = {name for name in table["method"].unique() if name == BASELINE or has_rho(name)}
    return table[table["method"].isin(shown or table["method"])].reset_index(drop=True)


def errors(results: Results) -> pd.DataFrame:
    """Errors of runs, and for each rho of a method the centre of those that did not fail, with its 95 % interval.

    Only the first runs of each rho have rows where all of them would be more than ``ROWS``; centres are of all. The
    column statistic tells a ``run`` from a ``centre``, whose n is the number of runs that did not fail; see
    :func:`hybridsam.analysis.selection.centre_and_interval`.
    """
    runs = runs_table(results.cube).rename(columns={"data": "data_seed"}).astype({"method": str})
    metrics = [name for name in metrics_of(results.cube) if name in SHOWN or name not in METRICS]
    metrics.sort(key="y_error".__eq__)  # last
    runs = runs.melt(["method", "rho", "data_seed", "seed", "status", "failed"], metrics, "metric", "value")
    groups = runs.groupby(["metric", "method", "rho"])
    rows = []
    for (metric, method, rho), group in groups:
        good = group[~group["failed"]].set_index(["data_seed", "seed"])["value"].rename_axis([*AXES])
        row = {"metric": metric, "method": method, "rho": rho, "n": len(good)}
        row |= {"failed": int(group["failed"].sum()), "diverged": int((group["status"] == "diverged").sum())}
        found = centre_and_interval(metric, good)
        rows.append(row | {"value": found["centre"], "low": found["low"], "high": found["high"]})
    shown = groups.head(max(1, ROWS // groups.ngroups)).astype({"failed": int})
    table = pd.concat([shown.assign(statistic="run"), pd.DataFrame(rows).assign(statistic="centre")], ignore_index=True)
    own = {name: results.cube[name].attrs for name in metrics}
    units = {name: about.get("units", "1") for name, about in own.items()} | {"y_error": results.error_unit}
    meanings = {name: about.get("long_name", _label(name)) for name, about in own.items()}
    columns = {"label": _label, "unit": units, "meaning": meanings, "centre": centre_of}
    table = table.assign(**{column: table["metric"].map(of_metric) for column, of_metric in columns.items()})
    return table.astype(dict.fromkeys(["data_seed", "seed", "n", "diverged", "failed"], "Int64"))


def _label(metric: str) -> str:
    """``theta_gauge_free_error`` -> ``gauge-free θ-error``."""
    own = metric.removeprefix("theta_").removesuffix("_error").replace("_", "-")
    return f"{METRICS[metric]} (test MSE)" if metric == "y_error" else METRICS.get(metric, f"{own} θ-error")
