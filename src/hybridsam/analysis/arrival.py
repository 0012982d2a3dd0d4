"""Whether theta arrived: how far training moved it, whether it could, what held it, and what must be said of that."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from hybridsam.core.blocks import canonical
from hybridsam.core.methods import BASELINE, trains_theta

HARDLY = 0.05  # of its size: a theta that moved less has hardly left its start
STILL = 0.1  # of its way so far: a theta that as much training would move on by more has not arrived ...
NOTICED = 0.01  # ... if that is more than this part of its size
FEEBLE = 1e-4  # of the spread of the targets: a step of theta that changes predictions by less is too small to be felt
AT_BOUND = 0.01  # of its size: a theta that is closer to a bound is pressed against it
COARSE = 1e-3  # of the spread of the targets: a solver whose steps, halved, change predictions by more is too coarse
OF_THETA = {  # columns of :func:`ways` -> variables of run files
    "theta": "theta",
    "moved": "theta_moved",
    "moved_late": "theta_moved_late",
    "drift": "theta_drift",
    "step": "theta_step",
    "influence": "theta_influence",
}


def ways(runs: xr.Dataset) -> pd.DataFrame:
    """One row for each completed run and parameter: its way from the start, and what is to be said of it.

    runs: of :func:`hybridsam.fit`, a run file or a cube. Columns method, rho, data (of a cube), seed, parameter, unit,
    size, those of ``OF_THETA``, start, the bound that is nearer, solver_error, and whether theta has hardly_left its
    start, is not_arrived, is feeble: takes steps that change nothing, or at_bound, and whether the solver is coarse. No
    rows for methods that do not train theta, and for files of older versions, which do not say how far it moved.
    """
    if not {*OF_THETA.values(), "parameter_lower"} <= set(runs.variables):
        return pd.DataFrame(columns=["method", "rho", "parameter"])
    chosen = runs[list(OF_THETA.values())].rename({variable: name for name, variable in OF_THETA.items()})
    chosen = chosen.drop_vars("parameter_units", errors="ignore").reset_coords(drop=True)
    about = {"unit": runs["parameter_units"], "size": runs["parameter_size"], "status": runs["status"]}
    about |= {bound: runs[f"parameter_{bound}"] for bound in ("lower", "upper")}
    about["solver_error"] = runs.get("solver_error", xr.zeros_like(runs["y_error"].isel(split=0, drop=True)))
    chosen = chosen.assign({name: values.reset_coords(drop=True) for name, values in about.items()})
    table = chosen.to_dataframe().reset_index().rename(columns={"training_method": "method"})
    trained = table["method"].map(trains_theta).astype(bool)
    table = table[(table["status"] == "completed") & trained].drop(columns="status")
    moved, drift, size = table["moved"].abs(), table["drift"].abs(), table["size"]
    below, above = table["theta"] - table["lower"], table["upper"] - table["theta"]
    return table.assign(
        start=table["theta"] - table["moved"],
        bound=table["lower"].where(below < above, table["upper"]),
        hardly_left=moved < HARDLY * size,
        not_arrived=(drift > STILL * moved) & (drift > NOTICED * size),
        feeble=table["influence"] < FEEBLE,
        at_bound=np.minimum(below, above) < AT_BOUND * size,
        coarse=table["solver_error"] > COARSE,
    )


def remarks(ways: pd.DataFrame) -> list[str]:
    """What a reader has to know: of each parameter a line for each of ``FINDINGS`` that some run has, and of steps."""
    lines = []
    for parameter, rows in ways.groupby("parameter", sort=False):
        for column, (what, words) in FINDINGS.items():
            if said := _where(rows, column, words):
                lines.append(f"theta.{parameter} {what}: {said}")
    if len(ways) and (said := _where(ways[ways["parameter"] == ways["parameter"].iloc[0]], "coarse", _of_steps)):
        lines.append(f"the solver takes too long steps, whose errors theta and the network make up for: {said}")
    return lines


def _where(rows: pd.DataFrame, column: str, words: Callable[[pd.Series, str], str]) -> str:
    """In which runs, one a row, a column is true, and what is to be said of them; empty if in none."""
    groups = rows.groupby(["method", "rho"], sort=False, observed=True)
    return "; ".join(_of_runs(key, own, own[own[column]], words) for key, own in groups if own[column].any())


def _of_steps(of: pd.Series, unit: str) -> str:
    return f"half as long, they change predictions by {of['solver_error']:.1g} of the spread of the data"


def _of_runs(key: Any, rows: pd.DataFrame, found: pd.DataFrame, words: Callable[[pd.Series, str], str]) -> str:
    """How many runs of a method and rho, and in words the medians over them."""
    method, rho = key
    medians = found.select_dtypes(np.number).median()
    which = f"{method}{f' at rho = {canonical(rho)}' * (method != BASELINE)} in {len(found)} of {len(rows)} runs"
    return f"{which} ({words(medians, found['unit'].iloc[0])})"


def _quantity(value: float, unit: str, digits: int, sign: str = "") -> str:
    return f"{value:{sign}.{digits}g}" + f" {unit}" * (unit != "1")


FINDINGS: dict[str, tuple[str, Callable[[pd.Series, str], str]]] = {
    "hardly_left": (
        "has hardly left its start",
        lambda of, unit: f"{_quantity(of['theta'], unit, 6)} from {_quantity(of['start'], unit, 6)}",
    ),
    "not_arrived": (
        "has not arrived, and as much training again would add what is named, at the pace of its last tenth",
        lambda of, unit: f"{_quantity(of['theta'], unit, 4)}, {_quantity(of['drift'], unit, 2, '+')}",
    ),
    "feeble": (
        "changes nothing in steps of the size in which it is trained; state a larger scale, or start nearer",
        lambda of, unit: (
            f"{_quantity(of['theta'], unit, 4)}; {_quantity(of['step'], unit, 2, '+')} changes predictions by "
            f"{of['influence']:.1g} of the spread of the data"
        ),
    ),
    "at_bound": (
        "is pressed against its bound, where the data would have it go further, or the bound is wrong",
        lambda of, unit: f"{_quantity(of['theta'], unit, 4)}, bound {_quantity(of['bound'], unit, 4)}",
    ),
}
