"""What the models predict for test samples, as tables to draw: a kind of table for each kind of target.

Every table names its kind method, rho, seed, n, diverged, rule, sample,
series (data, truth, full model, science part) and unit. The seed is that of the method's first completed run; a method
without one has rows without values. Tables of images have a row for each row of pixels, the top one first, and a column
``x=...`` for each of its pixels, with four digits.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd
import xarray as xr

from hybridsam.core.errors import UserError
from hybridsam.core.methods import BASELINE
from hybridsam.core.records import EXAMPLES

FRAMES = 6  # of a sequence of images
SERIES = {"prediction": "full model", "prediction_science": "science part"}
LAST = "fsam"  # of the methods, compared with the baseline where not all can be shown

Runs = Mapping[str, xr.Dataset]  # method -> its first completed run, prediction and prediction_science (sample, ...)
Picture = tuple[str | None, str, xr.DataArray]  # method, series, values


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
    if dims not in KINDS:
        allowed = "; ".join(", ".join(kind) for kind in KINDS)
        raise UserError(f"predictions: no figure shows a target ({', '.join(map(str, dims))}); allowed are {allowed}")
    return KINDS[dims]


def table(dataset: xr.Dataset, selected: pd.DataFrame, runs: Runs) -> pd.DataFrame:
    """The table for this dataset's kind of target. selected: method, rho, n, diverged, rule, in the order to show."""
    kind = kind_of(target_of(dataset))
    found = TABLES[kind](dataset, selected, runs).astype({"seed": "Int64", "n": "Int64", "diverged": "Int64"})
    return found if "kind" in found else found.assign(kind=kind)


def test_samples(dataset: xr.Dataset, examples: int) -> np.ndarray:
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
    return {series: run[name].sel(sample=numbers).rename("value") for name, series in SERIES.items()}


def _times(dataset: xr.Dataset, runs: Runs) -> np.ndarray:
    """The times that are predicted, which may leave out the first one."""
    return next((run["time"].values for run in runs.values()), dataset["time"].values)


def units_of(target: xr.DataArray) -> dict[str, str]:
    """component -> unit; of a target without components, its name -> unit."""
    names = target["component"].values.tolist() if "component" in target.dims else [str(target.name)]
    if "component_units" in target.coords:
        return dict(zip(names, target["component_units"].values.tolist(), strict=True))
    return dict.fromkeys(names, target.attrs.get("units", "1"))


def _time_series(dataset: xr.Dataset, selected: pd.DataFrame, runs: Runs) -> pd.DataFrame:
    """One test sample. Also component, time, time_name, time_unit, value; data and truth stand beside every method."""
    target, numbers = target_of(dataset), test_samples(dataset, 1)
    units, one = units_of(target), "component" not in target.dims
    name = str(target.attrs.get("long_name", target.name))
    frames = []
    for method in selected["method"]:
        series = measured_values(dataset, numbers)
        seed = runs[method]["seed"].item() if method in runs else pd.NA
        for label, array in (series | (predicted_values(runs[method], numbers) if method in runs else {})).items():
            array = array.expand_dims(component=[name], axis=-1) if one else array
            frame = array.reset_coords(drop=True).to_dataframe().reset_index()
            frames.append(frame.assign(method=method, seed=pd.NA if label in series else seed, series=label))
    found = pd.concat(frames, ignore_index=True).merge(selected, on="method", sort=False)
    unit = units[str(target.name)] if one else found["component"].map(units)
    time = dataset["time"].attrs
    return found.assign(unit=unit, time_name=time.get("long_name", "time"), time_unit=time.get("units", "1"))


def _readings(dataset: xr.Dataset, selected: pd.DataFrame, runs: Runs) -> pd.DataFrame:
    """Some test samples. Also name, component, measured, value and their ratio.

    Of values that may be negative, or of a measured zero, ratios say nothing: the table, then of the kind
    ``differences``, has the difference in place of the ratio.
    """
    target, numbers = target_of(dataset), test_samples(dataset, EXAMPLES)
    measured = measured_values(dataset, numbers)["data"]
    positive = bool((target >= 0).all() and (measured > 0).all())
    frames = []
    for method in selected["method"]:
        absent = dict.fromkeys(SERIES.values(), xr.full_like(measured, np.nan, dtype=float))
        for label, array in (predicted_values(runs[method], numbers) if method in runs else absent).items():
            compared = {"ratio": array / measured} if positive else {"difference": array - measured}
            both = xr.Dataset({"measured": measured, "value": array} | compared)
            frame = both.reset_coords(drop=True).to_dataframe().reset_index()
            seed = runs[method]["seed"].item() if method in runs else pd.NA
            frames.append(frame.assign(method=method, seed=seed, series=label))
    found = pd.concat(frames, ignore_index=True).merge(selected, on="method", sort=False)
    found = found.assign(unit=found["component"].map(units_of(target)), name=target.attrs.get("long_name", target.name))
    return found.assign(kind="readings" if positive else "differences")


def _fields(dataset: xr.Dataset, selected: pd.DataFrame, runs: Runs) -> pd.DataFrame:
    """One test sample at the last time, and differences. Also component, time, time_unit, length_unit, y."""
    target, numbers, last = target_of(dataset), test_samples(dataset, 1), {"time": _times(dataset, runs)[-1:]}
    measured = {name: array.sel(last) for name, array in measured_values(dataset, numbers).items()}
    reference = "truth" if "truth" in measured else "data"
    pictures: list[Picture] = [(None, name, array) for name, array in measured.items()]
    if reference == "truth":
        pictures.append((None, "data − truth", measured["data"] - measured["truth"]))
    for method, run in runs.items():
        predicted = {name: array.sel(last) for name, array in predicted_values(run, numbers).items()}
        pictures += [(method, name, array) for name, array in predicted.items()]
        pictures.append((method, f"full model − {reference}", predicted["full model"] - measured[reference]))
    found = _pixels(pictures, "component", selected, runs)
    lengths = [target[axis].attrs.get("units", "1") if axis in target.coords else "pixels" for axis in ("y", "x")]
    units = {"time_unit": target["time"].attrs.get("units", "1"), "length_unit": lengths[0]}
    return found.assign(unit=found["component"].map(units_of(target)), **units)


def _frames(dataset: xr.Dataset, selected: pd.DataFrame, runs: Runs) -> pd.DataFrame:
    """Some images of one test sample's sequence. Also time, time_unit, channel, y."""
    target, numbers, times = target_of(dataset), test_samples(dataset, 1), _times(dataset, runs)
    some = {"time": times[np.unique(np.linspace(0, len(times) - 1, FRAMES).round().astype(int))]}
    pictures: list[Picture] = [(None, "data", measured_values(dataset, numbers)["data"].sel(some))]
    for method, run in runs.items():
        pictures += [(method, name, array.sel(some)) for name, array in predicted_values(run, numbers).items()]
    found = _pixels(pictures, "channel", selected, runs)
    return found.assign(unit=target.attrs.get("units", "1"), time_unit=target["time"].attrs.get("units", "1"))


def _images(dataset: xr.Dataset, selected: pd.DataFrame, runs: Runs) -> pd.DataFrame:
    """Some test samples, the baseline and one method. Also channel, y, and setting: of the light source, in words."""
    target, numbers = target_of(dataset), test_samples(dataset, EXAMPLES)
    methods = selected["method"].tolist()
    two = {BASELINE if BASELINE in methods else methods[0], LAST if LAST in methods else methods[-1]}
    selected = selected[selected["method"].isin(two)]
    pictures: list[Picture] = [(None, "data", measured_values(dataset, numbers)["data"])]
    for method in selected["method"]:
        if method in runs:
            pictures += [(method, name, array) for name, array in predicted_values(runs[method], numbers).items()]
    settings = {number: _setting(dataset.isel(sample=number)) for number in numbers}
    found = _pixels(pictures, "channel", selected, runs)
    return found.assign(unit=target.attrs.get("units", "1"), setting=found["sample"].map(settings))


def _setting(sample: xr.Dataset) -> str:
    """What the light was like, in words: ``R 128, G 40, B 255; polarisers 30° and 75°``."""
    words = []
    if "brightness" in sample:
        values = zip(sample["brightness"]["colour"].values, sample["brightness"].values, strict=True)
        words.append(", ".join(f"{colour[0].upper()} {value:.0f}" for colour, value in values))
    if "pol_1" in sample and "pol_2" in sample:
        angles = (str(round(sample[name].item())).replace("-", "−") for name in ("pol_1", "pol_2"))
        words.append("polarisers " + " and ".join(f"{angle}°" for angle in angles))
    return "; ".join(words)


def _pixels(pictures: Sequence[Picture], last: str, selected: pd.DataFrame, runs: Runs) -> pd.DataFrame:
    """Images (method, series, values) as a table; a method without images has one row. last: of the dimensions."""
    frames = []
    for method, series, array in pictures:
        rows = rows_of_pixels(array.transpose("sample", ..., last, "y", "x"))
        seed = runs[method]["seed"].item() if method else pd.NA
        frames.append(rows.assign(method=method, series=series, seed=seed))
    found = pd.concat(frames, ignore_index=True).merge(selected, on="method", how="left", sort=False)
    without = selected[~selected["method"].isin(found["method"])]
    found = pd.concat([found, without], ignore_index=True) if len(without) else found
    columns = [*selected, "seed", "series", "sample", "time", last, "y"]
    return found.reindex(columns=[*[name for name in columns if name in found], *found.filter(like="x=")])


def rows_of_pixels(array: xr.DataArray) -> pd.DataFrame:
    """A row for each row of pixels, the top one first, and a column for each of its pixels; array (..., y, x).

    A coordinate y points up; without one, y numbers the rows from the top.
    """
    array = array.sortby("y", ascending=False) if "y" in array.coords else array
    *labels, x = ([f"{v:.4g}" for v in array[d].values] if d in ("y", "x") else array[d].values for d in array.dims)
    index = pd.MultiIndex.from_product(labels, names=array.dims[:-1])
    columns = [f"x={label}" for label in x]
    return pd.DataFrame(rounded(array.values, 4).reshape(-1, len(x)), index=index, columns=columns).reset_index()


def rounded(values: np.ndarray, digits: int) -> np.ndarray:
    """Values with so many significant digits, which keeps tables small."""
    return np.array([float(f"{value:.{digits}g}") for value in values.ravel()]).reshape(values.shape)


KINDS: dict[tuple, str] = {
    ("time",): "time series",
    ("time", "component"): "time series",
    ("component",): "readings",
    ("time", "y", "x", "component"): "fields",
    ("time", "y", "x", "channel"): "frames",
    ("y", "x", "channel"): "images",
}
TABLES: dict[str, Callable[[xr.Dataset, pd.DataFrame, Runs], pd.DataFrame]] = {
    "time series": _time_series,
    "readings": _readings,
    "fields": _fields,
    "frames": _frames,
    "images": _images,
}
