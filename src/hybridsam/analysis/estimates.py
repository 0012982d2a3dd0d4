"""Theta as the runs at the selected rho estimated it, its errors, and what changes against the baseline."""

import json

import pandas as pd
import xarray as xr

from hybridsam.analysis.cube import SHOWN, metrics_of
from hybridsam.analysis.selection import RULES
from hybridsam.core.methods import BASELINE, in_order


def theta_estimates(selection: pd.DataFrame, rule: str) -> pd.DataFrame:
    """Theta at the rho that a rule selected: a row a method and parameter, methods in their order.

    Columns: method, rho, n, failed, diverged, and those of :func:`hybridsam.analysis.selection.theta_statistics`.
    """
    frames = []
    for chosen in _of_rule(selection, rule).itertuples():
        about = {"method": chosen.Index, "rho": chosen.rho, "n": chosen.n}
        about |= {"failed": chosen.failed, "diverged": chosen.diverged}
        frames.append(pd.DataFrame(about, index=[0]).merge(pd.DataFrame(json.loads(chosen.theta)), how="cross"))
    return pd.concat(frames, ignore_index=True)


def theta_errors(cube: xr.Dataset, selection: pd.DataFrame, rule: str) -> pd.DataFrame:
    """All errors of theta at the rho that a rule selected: a row a method and metric, methods in their order.

    Columns: method, metric, meaning, unit, rms, centre (the median), low, high; no rows where the truth is not known.
    """
    chosen = _of_rule(selection, rule)
    rows = []
    for method in chosen.index:
        for name in [name for name in metrics_of(cube) if name.startswith("theta_")]:
            about = {"metric": name, "meaning": cube[name].attrs["long_name"], "unit": cube[name].attrs["units"]}
            values = {value: chosen.loc[method, f"{name}_{value}"] for value in ("rms", "centre", "low", "high")}
            rows.append({"method": method} | about | values)
    return pd.DataFrame(rows, columns=["method", "metric", "meaning", "unit", "rms", "centre", "low", "high"])


def ratios_to_baseline(selection: pd.DataFrame) -> pd.DataFrame:
    """The errors' ratios to those of the baseline over the runs that failed for neither, by every rule.

    A row a rule and method, in their order: rho, n_paired, and for each error its ratio and, with ``_low`` and
    ``_high`` behind its name, the ends of its interval. No rows where no method has such a run.
    """
    others = selection[selection["method"] != BASELINE]
    others = others if others["n_paired"].any() else others.iloc[:0]
    table = others[["rule", "method", "rho", "n_paired"]].copy()
    for name in SHOWN:
        if f"{name}_over_{BASELINE}" in others:
            for end in ("", "_low", "_high"):
                table[f"{name}{end}"] = others[f"{name}_over_{BASELINE}{end}"]
    table["rule"] = pd.Categorical(table["rule"], list(RULES))
    table["method"] = pd.Categorical(table["method"], in_order(table["method"]))
    return table.sort_values(["rule", "method"]).set_index(["rule", "method"])


def _of_rule(selection: pd.DataFrame, rule: str) -> pd.DataFrame:
    """The rows of a selection by one rule, by method, in their order."""
    rows = selection[selection["rule"] == rule].set_index("method")
    return rows.loc[in_order(rows.index)]
