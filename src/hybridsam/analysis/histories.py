"""Theta and losses at every recorded step of the runs at the selected rho, as tables to draw."""

import numpy as np
import pandas as pd
import xarray as xr

from hybridsam.analysis.compact import rounded
from hybridsam.analysis.cube import pairs, runs_table
from hybridsam.analysis.results import Results
from hybridsam.core.methods import trains_theta

STEP = "step="  # before the number of a step, in the name of the column with its values
SPLIT_OF = {"train_loss": "training", "validation_loss": "validation"}
NUMBERS = 100_000  # of the runs in a table of histories: a megabyte


def theta_training(results: Results) -> pd.DataFrame:
    """Theta at every recorded step of runs at the selected rho, their mean, and the true value.

    Of methods that train theta, unless there are no others.
    """
    table = _histories(results, results.cube["theta_history"], "parameter")
    units = results.cube["parameter_units"].to_series()
    true = results.cube["theta_true"].to_series() if "theta_true" in results.cube else {}
    trained = table["method"].map(trains_theta)
    table = table[trained | ~trained.any()].reset_index(drop=True)
    return table.assign(unit=table["parameter"].map(units), true=table["parameter"].map(true).astype(float))


def losses(results: Results) -> pd.DataFrame:
    """Training and validation loss at every recorded step of runs at the selected rho, and their means."""
    both = results.cube[list(SPLIT_OF)].rename(SPLIT_OF).to_array("split")
    return _histories(results, both, "split").assign(unit=results.error_unit)


def _histories(results: Results, recorded: xr.DataArray, axis: str) -> pd.DataFrame:
    """What was recorded at the selected rho: rows for each run and for the mean of those that did not fail.

    A row for each label of ``axis``; statistic: ``run`` or ``mean``. Only the first runs have rows where all of them
    would be more than ``NUMBERS`` numbers; means are of all.
    """
    most = max(1, NUMBERS // (len(results.selected) * recorded.sizes[axis] * recorded.sizes["step"]))
    frames, runs = [], runs_table(results.cube)
    for method, rho in zip(results.selected["method"], results.selected["rho"], strict=True):
        histories = pairs(recorded.sel(training_method=method, rho=rho))
        status = pairs(results.cube["status"].sel(training_method=method, rho=rho)).values
        shown = np.flatnonzero(status != "missing")[:most]
        rows = _rows(histories.isel(run=shown), axis)
        run = shown[rows["run"]]
        own = {"data_seed": histories["data"].values[run], "seed": histories["seed"].values[run], "status": status[run]}
        frames.append(rows.assign(method=method, statistic="run", **own))
        good = runs[(runs["method"] == method) & (runs["rho"] == rho) & ~runs["failed"]]
        if len(good):
            mean = histories.sel(run=pd.MultiIndex.from_frame(good[["data", "seed"]])).mean("run")
            rows = _rows(mean.expand_dims("run"), axis)
            frames.append(rows.assign(method=method, statistic="mean", data_seed=pd.NA, seed=pd.NA))
    table = results.selected.merge(pd.concat(frames, ignore_index=True).drop(columns="run"), on="method")
    return table.astype({"data_seed": "Int64", "seed": "Int64"})


def _rows(histories: xr.DataArray, axis: str) -> pd.DataFrame:
    """A row for each label of ``axis`` and run, by number, with a column ``step=...``, of six digits, for each step."""
    values = histories.transpose(axis, "run", "step")
    index = pd.MultiIndex.from_product([values[axis].values, range(values.sizes["run"])], names=[axis, "run"])
    columns = [f"{STEP}{step}" for step in values["step"].values]
    return pd.DataFrame(rounded(values.values, 6).reshape(len(index), -1), index, columns).reset_index()
