"""What the models leave unexplained of the test data, as tables to draw: data − full model, of one run a method.

Every table has kind, method, rho, seed, n, failed, diverged, rule, component (a target without components is one
itself), unit, rms (root mean square), over (what it is the mean of, in words: the test samples that the run files keep,
times, channels) and noise (standard deviation of the measurement noise; NaN where that is not known). The seed is that
of the method's first run that did not fail, or that completed; a method without one has rows without values.
"""

from collections.abc import Callable

import numpy as np
import pandas as pd
import xarray as xr

from hybridsam.analysis.compact import rows_of_pixels
from hybridsam.analysis.results import Results
from hybridsam.analysis.targets import (
    kind_of,
    measured_values,
    predicted_values,
    target_of,
    test_samples,
)
from hybridsam.core.records import EXAMPLES
from hybridsam.core.scales import units_of

Units = dict[str, str]  # component -> unit


def residuals(results: Results) -> pd.DataFrame:
    """What the full models leave unexplained, of each method its first completed run, as its kind of target asks."""
    dataset, runs = results.dataset, results.shown_runs
    target, numbers = target_of(dataset), test_samples(dataset, EXAMPLES)
    kind, make = RESIDUALS_OF[kind_of(target)]
    measured, units = measured_values(dataset, numbers)["data"].reset_coords(drop=True), units_of(target)
    if "component" not in target.dims:
        name = str(target.attrs.get("long_name", target.name))
        measured, units = measured.expand_dims(component=[name], axis=-1), {name: units[str(target.name)]}
    frames = []
    for method in results.selected["method"]:
        absent = xr.full_like(measured, np.nan, dtype=float)
        predicted = predicted_values(runs[method], numbers)["full model"] if method in runs else absent
        left = (measured - predicted.reset_coords(drop=True)).rename("value")
        seed = runs[method]["seed"].item() if method in runs else pd.NA
        frames.append(make(left, measured, units).assign(method=method, seed=seed, over=_over(left)))
    found = results.selected.merge(pd.concat(frames, ignore_index=True), on="method", sort=False)
    noise = dataset.attrs.get("noise", 0)
    found = found.assign(kind=kind, noise=noise if noise > 0 else np.nan, **_about(target))
    return found.assign(unit=found["component"].map(units)).astype(
        {"seed": "Int64", "n": "Int64", "failed": "Int64", "diverged": "Int64"}
    )


def autocorrelation(left: xr.DataArray) -> xr.DataArray:
    """Of residuals (sample, time, ...) at lag 1: sum of e(t) e(t + 1) over the sum of e(t)², over samples and times.

    No mean is subtracted, as that of a good model's residuals is 0: a constant residual has 1 − 1/(number of times).
    NaN where there are not two times, or nothing but zeros.
    """
    products = left * left.shift(time=1)
    return products.sum(["sample", "time"], min_count=1) / (left**2).sum(["sample", "time"], min_count=1)


def white_noise_bound(number: int) -> float:
    """Within which the autocorrelation of so many values of white noise lies in 95 % of cases: two standard errors."""
    return float(2 / np.sqrt(number))


def rms(left: xr.DataArray, *kept: str) -> xr.DataArray:
    """Root mean square over all dimensions but those that are kept."""
    return (left**2).mean([name for name in left.dims if name not in kept]) ** 0.5


def _series(left: xr.DataArray, measured: xr.DataArray, units: Units) -> pd.DataFrame:
    """Also sample, time, time_name, time_unit, value, autocorrelation (at lag 1)."""
    columns = {"value": left, "rms": rms(left, "component"), "autocorrelation": autocorrelation(left)}
    return xr.Dataset(columns).to_dataframe().reset_index()


def _readings(left: xr.DataArray, measured: xr.DataArray, units: Units) -> pd.DataFrame:
    """Also name (of all components), sample, measured, value; rms is over all components of a unit."""
    found = xr.Dataset({"value": left, "measured": measured}).to_dataframe().reset_index()
    squares = found["value"] ** 2
    return found.assign(rms=squares.groupby(found["component"].map(units)).transform("mean") ** 0.5)


def _maps(left: xr.DataArray, measured: xr.DataArray, units: Units) -> pd.DataFrame:
    """The root mean square at each pixel: also y and a column ``x=...`` for each pixel of a row."""
    pixels = rows_of_pixels(rms(left, "component", "y", "x").transpose("component", "y", "x"))
    return pixels.assign(rms=pixels["component"].map(rms(left, "component").to_series()))


def _over(left: xr.DataArray) -> str:
    """What residuals are averaged over, in words: ``3 test samples and 20 times``."""
    names = {"sample": "test sample", "time": "time", "channel": "channel"}
    several = {name: left.sizes[axis] for axis, name in names.items() if left.sizes.get(axis, 0) > (axis != "sample")}
    *words, last = (f"{number} {name}" + "s" * (number > 1) for name, number in several.items())
    return f"{', '.join(words)} and {last}" if words else last


def _about(target: xr.DataArray) -> dict[str, str]:
    """What is the same in all rows but those of maps."""
    time = target["time"].attrs if "time" in target.coords else {}
    names = {"name": target.attrs.get("long_name", target.name)}
    return names | {"time_name": time.get("long_name", "time"), "time_unit": time.get("units", "1")}


Make = Callable[[xr.DataArray, xr.DataArray, Units], pd.DataFrame]
RESIDUALS_OF: dict[str, tuple[str, Make]] = {  # by kind of target: the kind of table, and what makes it
    "time series": ("residual series", _series),
    "readings": ("residual readings", _readings),
    "fields": ("residual maps", _maps),
    "frames": ("residual maps", _maps),
    "images": ("residual maps", _maps),
}
