"""The errors of theta and y beside each other, and which means no other undercuts, as a table to draw."""

import numpy as np
import pandas as pd
import xarray as xr

from hybridsam.analysis.cube import SHOWN, runs_table
from hybridsam.analysis.errors_rho import errors
from hybridsam.analysis.results import Results


def tradeoff(results: Results) -> pd.DataFrame:
    """The :func:`errors` of all methods beside each other, and whether the centres of a rho lie on the Pareto front.

    Where theta is not known there is no column theta_error, and no front, but a row for each parameter of each run and
    centre, with the columns parameter, theta (of a centre: the median of the runs that did not fail) and unit. A centre
    beside which a run failed lies on no front.
    """
    of_metric = {name: rows.reset_index(drop=True) for name, rows in errors(results).groupby("metric")}
    columns = ["method", "rho", "data_seed", "seed", "status", "statistic", "n", "diverged", "failed"]
    table = of_metric["y_error"][columns].assign(front=False)
    for name in [name for name in SHOWN if name in of_metric]:
        rows = of_metric[name]
        about = {f"{name}_{of}": rows[of] for of in ("unit", "meaning", "centre")}
        table = table.assign(**{name: rows["value"]}, **about)
    if "theta_error" in table:
        is_centre = (table["statistic"] == "centre") & (table["failed"] == 0)
        table.loc[is_centre, "front"] = on_front(*(table.loc[is_centre, name].to_numpy() for name in SHOWN))
        return table
    return table.merge(_theta(results.cube), on=["method", "rho", "data_seed", "seed"], how="left")


def _theta(cube: xr.Dataset) -> pd.DataFrame:
    """Theta of every run, and, seeds being NA, the median of those that did not fail: a row a parameter.

    Columns: method, rho, data_seed, seed, parameter, theta, unit.
    """
    theta = cube["theta"].to_series().reset_index().rename(columns={"training_method": "method"})
    good = theta.merge(runs_table(cube).query("~failed")[["method", "rho", "data", "seed"]].astype({"method": str}))
    centres = good.groupby(["method", "rho", "parameter"], as_index=False)["theta"].median()
    both = pd.concat([theta, centres], ignore_index=True).rename(columns={"data": "data_seed"})
    units = cube["parameter_units"].to_series()
    return both.assign(unit=both["parameter"].map(units)).astype({"data_seed": "Int64", "seed": "Int64"})


def on_front(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Which points (point,) lie on the Pareto front: no other is lower in one of the two and not higher in the other.

    Points that are not finite lie on no front and keep no other from it.
    """
    no_higher = (first <= first[:, None]) & (second <= second[:, None])  # [point, other]
    lower = (first < first[:, None]) | (second < second[:, None])
    return np.isfinite(first + second) & ~(no_higher & lower).any(1)
