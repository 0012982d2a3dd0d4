"""What models predict: the target of a dataset, its kind and units, and its values for some test samples."""

from collections.abc import Mapping, Sequence

import numpy as np
import xarray as xr

from hybridsam.core.errors import UserError

SERIES = {"prediction": "full model", "prediction_science": "science part"}
KIND_OF_DIMS: dict[tuple, str] = {  # dimensions of a target besides sample -> in which kind of figure it is shown
    ("time",): "time series",
    ("time", "component"): "time series",
    ("component",): "readings",
    ("time", "y", "x", "component"): "fields",
    ("time", "y", "x", "channel"): "frames",
    ("y", "x", "channel"): "images",
}

Runs = Mapping[str, xr.Dataset]  # method -> its first completed run, prediction and prediction_science (sample, ...)


def target_of(dataset: xr.Dataset) -> xr.DataArray:
    """The variable that models predict; raises UserError if the dataset does not name one of its variables."""
    name = dataset.attrs.get("target")
    if name not in dataset:
        raise UserError(
            f"dataset: the attribute target is {name!r}; it must name one of {', '.join(map(str, dataset.data_vars))}"
        )
    return dataset[name]


def kind_of(target: xr.DataArray) -> str:
    """In which kind of figure a target is shown; raises UserError if in none."""
    dims = target.dims[1:]
    if dims not in KIND_OF_DIMS:
        allowed = "; ".join(", ".join(kind) for kind in KIND_OF_DIMS)
        raise UserError(f"predictions: no figure shows a target ({', '.join(map(str, dims))}); allowed are {allowed}")
    return KIND_OF_DIMS[dims]


def test_samples(dataset: xr.Dataset, examples: int) -> np.ndarray:
    """Numbers of the first test samples."""
    return np.flatnonzero(dataset["split"].values == "test")[:examples]


def measured_values(dataset: xr.Dataset, numbers: Sequence[int] | np.ndarray) -> dict[str, xr.DataArray]:
    """Series name -> values of some samples (sample, ...): the data, and the truth where it is known."""
    target = target_of(dataset)
    known = {"data": target, "truth": dataset.get(f"{target.name}_true")}
    return {
        name: array.isel(sample=numbers).assign_coords(sample=numbers).rename("value")
        for name, array in known.items()
        if array is not None
    }


def predicted_values(run: xr.Dataset, numbers: Sequence[int] | np.ndarray) -> dict[str, xr.DataArray]:
    """Series name -> what a run predicts for some samples (sample, ...): the full model, and the science part alone."""
    return {series: run[name].sel(sample=numbers).rename("value") for name, series in SERIES.items()}
