"""What the models predict for test samples, as tables to draw: a kind of table for each kind of target.

Every table has kind, method, rho, seed, n, failed, diverged, rule, sample, series (data, truth, full model, science
part) and unit. The seed is that of the method's first run that did not fail, or that completed; a method without one
has rows without values.
Tables of images have a row for each row of pixels, the top one first, and a column ``x=...`` for each of its pixels,
with four digits.
"""

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
import xarray as xr

from hybridsam.analysis.compact import rows_of_pixels
from hybridsam.analysis.results import Results
from hybridsam.analysis.targets import (
    SERIES,
    Runs,
    kind_of,
    measured_values,
    predicted_values,
    target_of,
    test_samples,
)
from hybridsam.core.methods import BASELINE
from hybridsam.core.records import EXAMPLES
from hybridsam.core.scales import units_of

FRAMES = 6  # of a sequence of images
LAST = "fsam"  # of the methods, compared with the baseline where not all can be shown

Picture = tuple[str | None, str, xr.DataArray]  # method, series, values


def predictions(results: Results) -> pd.DataFrame:
    """What the models predict for test samples, of each method its first completed run, as its kind of target asks."""
    kind = kind_of(target_of(results.dataset))
    found = PREDICTIONS_OF[kind](results.dataset, results.selected, results.shown_runs)
    found = found.astype({"seed": "Int64", "n": "Int64", "failed": "Int64", "diverged": "Int64"})
    return found if "kind" in found else found.assign(kind=kind)


def _times(dataset: xr.Dataset, runs: Runs) -> np.ndarray:
    """The times that are predicted, which may leave out the first one."""
    return next((run["time"].values for run in runs.values()), dataset["time"].values)


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
    """Some test samples, the baseline and one method. Also channel, y and, where they have labels, those."""
    target, numbers = target_of(dataset), test_samples(dataset, EXAMPLES)
    methods = selected["method"].tolist()
    two = {BASELINE if BASELINE in methods else methods[0], LAST if LAST in methods else methods[-1]}
    selected = selected[selected["method"].isin(two)]
    pictures: list[Picture] = [(None, "data", measured_values(dataset, numbers)["data"])]
    for method in selected["method"]:
        if method in runs:
            pictures += [(method, name, array) for name, array in predicted_values(runs[method], numbers).items()]
    found = _pixels(pictures, "channel", selected, runs)
    return _labelled(found, dataset).assign(unit=target.attrs.get("units", "1"))


def _labelled(table: pd.DataFrame, dataset: xr.Dataset) -> pd.DataFrame:
    """A table with sample_label, what tells one sample from another, and sample_label_name, what that is, in words.

    Both from the dataset's coordinate of that name; without it, the table as it is.
    """
    if "sample_label" not in dataset.coords:
        return table
    labels = dataset["sample_label"]
    name = labels.attrs.get("long_name", "what tells them apart")
    return table.assign(sample_label=table["sample"].map(dict(enumerate(labels.values))), sample_label_name=name)


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


PREDICTIONS_OF: dict[str, Callable[[xr.Dataset, pd.DataFrame, Runs], pd.DataFrame]] = {  # by kind of target
    "time series": _time_series,
    "readings": _readings,
    "fields": _fields,
    "frames": _frames,
    "images": _images,
}
