"""Theta as the runs at the selected rho estimated it, its errors, and what changes against the baseline."""

import pandas as pd
import xarray as xr

from hybridsam.analysis.cube import SHOWN, metrics_of
from hybridsam.analysis.selection import RULES, theta_means
from hybridsam.core.methods import BASELINE, in_order


def theta_estimates(cube: xr.Dataset, selection: pd.DataFrame, rule: str) -> pd.DataFrame:
    """Theta at the rho that a rule selected: a row a method and parameter, methods in their order.

    Columns: method, rho, n, diverged, exploded, parameter, unit, mean over the completed runs, interval (half width of
    the 95 % Student t interval); NaN where there are too few runs.
    """
    frames = []
    for chosen in _of_rule(selection, rule).itertuples():
        about = {"method": chosen.Index, "rho": chosen.rho, "n": chosen.n}
        about |= {"diverged": chosen.diverged, "exploded": chosen.exploded}
        frames.append(pd.DataFrame(about, index=[0]).merge(theta_means(cube, chosen.Index, chosen.rho), how="cross"))
    return pd.concat(frames, ignore_index=True)


def theta_errors(cube: xr.Dataset, selection: pd.DataFrame, rule: str) -> pd.DataFrame:
    """All errors of theta at the rho that a rule selected: a row a method and metric, methods in their order.

    Columns: method, metric, meaning, unit, mean, interval; no rows where the true theta is not known.
    """
    chosen = _of_rule(selection, rule)
    rows = []
    for method in chosen.index:
        for name in [name for name in metrics_of(cube) if name.startswith("theta_")]:
            about = {"metric": name, "meaning": cube[name].attrs["long_name"], "unit": cube[name].attrs["units"]}
            values = {value: chosen.loc[method, f"{name}_{value}"] for value in ("mean", "interval")}
            rows.append({"method": method} | about | values)
    return pd.DataFrame(rows, columns=["method", "metric", "meaning", "unit", "mean", "interval"])


def differences(selection: pd.DataFrame) -> pd.DataFrame:
    """The errors' differences to the baseline over the seeds that both completed, by every rule.

    A row a rule and method, in their order: rho, n_paired, exploded (runs of the method), and for each error its mean
    difference and, with ``_sd`` behind its name, the standard deviation. No rows where no method has such a seed.
    """
    others = selection[selection["method"] != BASELINE]
    others = others if others["n_paired"].any() else others.iloc[:0]
    table = others[["rule", "method", "rho", "n_paired", "exploded"]].copy()
    for name in SHOWN:
        column = f"{name}_minus_{BASELINE}"
        if column in others:
            table[[name, f"{name}_sd"]] = others[[column, f"{column}_sd"]]
    table["rule"] = pd.Categorical(table["rule"], list(RULES))
    table["method"] = pd.Categorical(table["method"], in_order(table["method"]))
    return table.sort_values(["rule", "method"]).set_index(["rule", "method"])


def _of_rule(selection: pd.DataFrame, rule: str) -> pd.DataFrame:
    """The rows of a selection by one rule, by method, in their order."""
    rows = selection[selection["rule"] == rule].set_index("method")
    return rows.loc[in_order(rows.index)]
