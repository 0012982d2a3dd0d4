"""What was run: how many runs and how they ended, how long training took, and what an experiment changed."""

import json
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

import pandas as pd
import xarray as xr

from hybridsam.analysis.cube import runs_table, worse_than_mean
from hybridsam.core.methods import in_order

ENDS = ("completed", "diverged", "missing")


def ends_of_runs(cubes: Mapping[str, xr.Dataset]) -> pd.DataFrame:
    """How many runs of each task ended how; missing are the seeds that one rho lacks and another one has.

    worse: how many of the completed ones predict test data worse than their mean would, so that they failed too; see
    :func:`hybridsam.analysis.cube.worse_than_mean`.
    """
    rows = {}
    for task, cube in cubes.items():
        started = (cube["status"] != "missing").any(["data", "seed"])
        status = cube["status"].where(started).to_series().dropna()
        worse = int(worse_than_mean(cube, "test").sum())
        rows[task] = {name: int((status == name).sum()) for name in ENDS} | {"worse": worse}
    return pd.DataFrame(rows).T


def rhos_run(cubes: Mapping[str, xr.Dataset]) -> pd.DataFrame:
    """The values of rho that were run, as tuples: a row a method, a column a task; empty where a method was not run."""
    methods = in_order({name for cube in cubes.values() for name in cube["training_method"].values.tolist()})
    columns = {}
    for task, cube in cubes.items():
        found = runs_table(cube).groupby("method", observed=True)["rho"].unique()
        columns[task] = {method: tuple(found.get(method, ())) for method in methods}
    return pd.DataFrame(columns, index=methods)


def training_seconds(cubes: Iterable[xr.Dataset]) -> float:
    """Time of training, summed over all runs."""
    return sum(float(cube["seconds"].sum()) for cube in cubes)


def elapsed_seconds(cubes: Iterable[xr.Dataset]) -> float:
    """From the start of the first training to the end of the last one; NaN where a file does not say it."""
    periods = [[cube.attrs.get(f"runs_{name}") for name in ("started", "ended")] for cube in cubes]
    if any(None in period for period in periods):
        return float("nan")
    starts, ends = ([datetime.fromisoformat(text) for text in texts] for texts in zip(*periods, strict=True))
    return (max(ends) - min(starts)).total_seconds()


def changed_settings(cubes: Mapping[str, xr.Dataset]) -> pd.DataFrame:
    """What the experiment changes in the task files: a row a task and setting.

    Columns: task file and here, the values; ratio, of the second to the first, NaN for what is no number.
    """
    rows = [
        {"task": task, "setting": name.removesuffix(".value"), "task file": before, "here": here}
        | {"ratio": _ratio(before, here)}
        for task, cube in cubes.items()
        for name, (before, here) in json.loads(cube.attrs.get("changes", "{}")).items()
    ]
    return pd.DataFrame(rows, columns=["task", "setting", "task file", "here", "ratio"]).set_index(["task", "setting"])


def _ratio(before: Any, here: Any) -> float:
    numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for value in (before, here))
    return here / before if numbers and before else float("nan")


def shares(cubes: Mapping[str, xr.Dataset], setting: str) -> list[float]:
    """The ratios of one setting to that of the task files, where it is changed, and 1 if it is not in some task."""
    table = changed_settings(cubes)
    ratios = table.loc[table.index.get_level_values("setting") == setting, "ratio"].dropna().tolist()
    return [1.0] * (len(ratios) < len(cubes)) + ratios
