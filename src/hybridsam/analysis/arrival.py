"""Whether theta arrived: how far training moved it in all and at its end, and what must be said of that."""

from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from hybridsam.core.methods import BASELINE

HARDLY = 0.05  # of its size: a theta that moved less has hardly left its start
STILL = 0.1  # of its way so far: a theta that as much training would move on by more has not arrived ...
NOTICED = 0.01  # ... if that is more than this part of its size
COLUMNS = ["method", "rho", "parameter", "unit", "n", "not_arrived", "hardly_left"]
COLUMNS += ["start", "theta", "moved", "moved_late", "drift", "size"]
AGAIN = "as much training again would add what is named, at the pace of its last tenth"


def arrivals(runs: xr.Dataset) -> pd.DataFrame:
    """One row for each method, rho and parameter of which runs completed.

    runs: of :func:`hybridsam.fit`, a run file or a cube. Columns method, rho, parameter, unit, n (completed runs),
    not_arrived and hardly_left (how many of them), and medians over them, in natural units: start, theta, moved,
    moved_late, drift, and size. No rows for files of older versions, which do not say how far theta moved.
    """
    if "theta_moved" not in runs:
        return pd.DataFrame(columns=COLUMNS)
    rows = []
    for method in runs["training_method"].values.tolist():
        for rho in runs["rho"].values.tolist():
            block = runs.sel(training_method=method, rho=rho)
            completed = block.isel(seed=np.flatnonzero(block["status"] == "completed"))
            if completed.sizes["seed"]:
                rows += [{"method": method, "rho": rho} | row for row in _of_parameters(completed)]
    return pd.DataFrame(rows, columns=COLUMNS)


def _of_parameters(completed: xr.Dataset) -> list[dict]:
    """Rows of the runs of one method and rho."""
    theta, size = completed["theta"], completed["parameter_size"]
    moved, late, drift = (completed[f"theta_{name}"] for name in ("moved", "moved_late", "drift"))
    hardly = (abs(moved) < HARDLY * size).sum("seed")
    still = ((abs(drift) > STILL * abs(moved)) & (abs(drift) > NOTICED * size)).sum("seed")
    medians = {"theta": theta, "start": theta - moved, "moved": moved, "moved_late": late, "drift": drift}
    table = pd.DataFrame({name: values.median("seed").values for name, values in medians.items()})
    about = {"parameter": theta["parameter"].values, "unit": completed["parameter_units"].values}
    counts = {"n": completed.sizes["seed"], "not_arrived": still.values, "hardly_left": hardly.values}
    return table.assign(size=size.values, **about, **counts).to_dict("records")


def remarks(arrivals: pd.DataFrame) -> list[str]:
    """What a reader has to know: a line for each parameter that has not arrived, and for each that hardly moved."""
    lines = []
    for parameter, rows in arrivals.groupby("parameter", sort=False):
        left = [_of_runs(row, row.hardly_left, _hardly(row)) for row in rows.itertuples() if row.hardly_left]
        late = [_of_runs(row, row.not_arrived, _still(row)) for row in rows.itertuples() if row.not_arrived]
        lines += [f"theta.{parameter} has hardly left its start: {'; '.join(left)}"] * bool(left)
        lines += [f"theta.{parameter} has not arrived, and {AGAIN}: {'; '.join(late)}"] * bool(late)
    return lines


def _of_runs(row: Any, number: int, what: str) -> str:
    rho = f" at rho = {row.rho:g}" * (row.method != BASELINE)
    return f"{row.method}{rho} in {number} of {row.n} runs ({what})"


def _hardly(row: Any) -> str:
    return f"{_quantity(row.theta, row.unit, 6)} from {_quantity(row.start, row.unit, 6)}"


def _still(row: Any) -> str:
    return f"{_quantity(row.theta, row.unit, 4)}, {_quantity(row.drift, row.unit, 2, '+')}"


def _quantity(value: float, unit: str, digits: int, sign: str = "") -> str:
    return f"{value:{sign}.{digits}g}" + f" {unit}" * (unit != "1")
