"""What the log says of a dataset made of a table: rows left out, samples in two splits, inputs that never change."""

import logging
from collections.abc import Mapping, Sequence

import numpy as np
import xarray as xr

from hybridsam.core.scales import CONSTANT

logger = logging.getLogger(__name__)


def log_left_out(reasons: Mapping[str, int], rows: int, where: str) -> None:
    """Say how many of the rows no sample has, reason -> number of rows."""
    if left_out := sum(reasons.values()):
        why = ", ".join(f"{count} {reason}" for reason, count in reasons.items() if count)
        logger.info(f"{where}: {left_out} of {rows} rows are in no sample: {why}")


def log_repeated(dataset: xr.Dataset, names: Sequence[str], where: str) -> None:
    """Warn of samples of validation and test that are the same as one of train in all variables.

    names: of the samples. A time series that never changes counts for nothing: it looks like any other one at rest.
    """
    values = np.concatenate([_rows(variable) for variable in dataset.data_vars.values()], axis=1)
    split = dataset["split"].values
    trained = {values[number].tobytes(): names[number] for number in np.flatnonzero(split == "train")[::-1].tolist()}
    others = np.flatnonzero((split != "train") & _changes(dataset))
    again = [number for number in others.tolist() if values[number].tobytes() in trained]
    if again:
        first, same = again[0], trained[values[again[0]].tobytes()]
        logger.warning(
            f"{where}: {len(again)} of {(split != 'train').sum()} samples of validation and test are in train, too: "
            f"{names[first]} ({split[first]}) has the values of {same}; such errors say nothing about new data"
        )


def _rows(variable: xr.DataArray) -> np.ndarray:
    """A row for each sample."""
    return variable.values.reshape(variable.sizes["sample"], -1) + 0.0  # which makes 0.0 of -0.0


def _changes(dataset: xr.Dataset) -> np.ndarray:
    """Which samples change in time, or are no time series."""
    if "time" not in dataset.dims:
        return np.ones(dataset.sizes["sample"], bool)
    return np.ptp(dataset["state"].values, axis=1).reshape(dataset.sizes["sample"], -1).any(1)


def log_constant(dataset: xr.Dataset, where: str) -> None:
    """Warn of inputs that are the same in all training samples."""
    for name, variable in dataset.drop_vars(dataset.attrs["target"]).data_vars.items():
        values = _rows(variable)
        train = values[dataset["split"].values == "train"]
        columns = dataset[f"{name}_column"].values if variable.ndim > 1 else [name]
        for column, known, every in zip(columns, train.T, values.T, strict=True):
            if _is_constant(known):
                others = "" if _is_constant(every) else ", but not in the others"
                logger.warning(
                    f"{where}: the input {column} is {known[0]:.7g} in all training samples{others}, so that there is "
                    "nothing to learn of what it does"
                )


def _is_constant(values: np.ndarray) -> bool:
    return np.ptp(values) <= CONSTANT * np.abs(values).max()
