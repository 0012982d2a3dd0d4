"""Data of the user's own: a table of named columns, or a Dataset of named variables, becomes dataset.nc.

The section ``table`` of a task file says what the columns mean: :class:`Table`. What a model needs is then there:
splits, a target, units, and of time series the times that all samples share. There is no truth, so no error of theta.
"""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from hybridsam.core.errors import UserError
from hybridsam.core.scales import standard_units
from hybridsam.core.settings import may_mean
from hybridsam.data import csv_file, netcdf_file
from hybridsam.data.columns import as_frame, numbers, series
from hybridsam.data.grids import fields, finite
from hybridsam.data.netcdf_file import decoded, within_limits
from hybridsam.data.remarks import log_constant, log_left_out, log_repeated
from hybridsam.data.splits import SPLITS
from hybridsam.data.table_schema import Split, Table, Time
from hybridsam.data.times import Times, check_increase, common, nominal
from hybridsam.data.units import Changes, conversions, converted, log_unknown


@dataclass(frozen=True)
class Rows:
    """All that was measured of time series: its times, values (row, ..., component), label of the series (row,)."""

    times: Times
    values: np.ndarray
    labels: np.ndarray


@dataclass(frozen=True)
class Sample:
    """A stretch of a time series that is one sample; times (time,), values (time, ..., component).

    name: what messages call it. rows: where it stands in what was measured (time,).
    """

    split: str
    series: str
    name: str
    times: np.ndarray
    values: np.ndarray
    rows: np.ndarray


def read_dataset(settings: Mapping) -> xr.Dataset:
    """The dataset of the section ``table`` of a task file, whose ``file`` is read; see :func:`dataset_of`."""
    table = Table.from_settings(settings)
    if not table.file:
        raise UserError("table.file: missing")
    file = Path(table.file)
    if not file.is_file():
        raise UserError(f"{file}: no such file")
    if file.suffix not in netcdf_file.ENDINGS:
        return dataset_of(csv_file.read(file, table.dialect), settings)
    if "dialect" in settings:
        raise UserError("table.dialect: a NetCDF file has none; it is for CSV files")
    return dataset_of(netcdf_file.read(file), settings)


def tabulated(task: Mapping) -> xr.Dataset:
    """The dataset of a task with a section ``table``, which it names as its constants."""
    constants = {key: {"value": value} for key, value in task["table"].items()}
    return read_dataset(task["table"]).assign_attrs(constants=json.dumps(constants))


def dataset_of(data: pd.DataFrame | xr.Dataset, settings: Mapping) -> xr.Dataset:
    """What models learn from, made of a table or of a Dataset, whose variables and dimensions stand for columns.

    Parameters
    ----------
    data : pandas.DataFrame or xarray.Dataset
    settings : mapping
        The section ``table`` of a task file; its ``file`` is the name of the data in messages.

    Returns
    -------
    xarray.Dataset
        Of time series ``state`` (sample, time, component), of fields (sample, time, y, x, component), time counted from
        the beginning of each sample; of a law ``target`` (sample, component) and the inputs (sample,) or (sample,
        <input>_column).

    Raises
    ------
    UserError
        Naming file, row and column for anything that is not finite numbers, and for samples that do not share their
        time steps.
    """
    table = Table.from_settings(settings)
    where = table.file or "table"
    changes: Changes = {}
    if isinstance(data, xr.Dataset):
        data = within_limits(decoded(data, where), [*table.columns, *table.axes], where)
        changes = conversions(data, table, where)
    elif not isinstance(data, pd.DataFrame):
        raise UserError(f"{where}: {type(data).__name__} is no pandas DataFrame and no xarray Dataset")
    if table.time and table.axes:
        rows, grid = _of_fields(data, table, table.time, changes, where)
        dataset = _time_series(rows, table, table.time, where).assign_coords(grid)
    elif table.time:
        rows = _of_columns(as_frame(data, table, where), table, table.time, changes, where)
        dataset = _time_series(rows, table, table.time, where)
    else:
        dataset = _law(as_frame(data, table, where), table, changes, where)
    log_unknown((key, unit) for _, key, unit in table.units)
    dataset = dataset.assign(standard_units(dataset, dataset.attrs["target"]))
    return dataset.assign_attrs(source=f"measured, {where}", synthetic="no")


# Splits


def _sizes(split: Split, n: int, what: str) -> list[int]:
    """How many of n things go into each split, from numbers or fractions of them."""
    asked = [split.train, split.validation, split.test]
    said = " + ".join(map(str, asked))
    if all(isinstance(part, float) and 0 < part < 1 for part in asked):
        ends = np.floor(np.cumsum(asked) * n + 1e-6).astype(int)  # of 0.6 + 0.2 + 0.2 nothing is lost
        sizes = np.diff(ends, prepend=0).tolist()
    elif all(isinstance(part, int) and part > 0 for part in asked):
        sizes = asked
    else:
        listed = "" if what == "times" or split.by == "sample" else ", or three lists of series"
        raise UserError(f"table.split: {said}: allowed are three numbers of {what}, or three fractions{listed}")
    if sum(sizes) > n:
        raise UserError(f"table.split: {said} {what} are asked for, and there are {n}")
    for name, size, part in zip(SPLITS, sizes, asked, strict=True):
        if not size:
            raise UserError(f"table.split.{name}: {part} of {n} {what} is none")
    return sizes


def _drawn(labels: Iterable[str], split: Split, what: str) -> dict[str, str]:
    """label -> split, of the labels that are chosen."""
    there = list(dict.fromkeys(labels))
    lists = {name: getattr(split, name) for name in SPLITS}
    if split.by == "series" and all(isinstance(own, list) and own for own in lists.values()):
        asked = [(_label(label, name, there), name) for name, own in lists.items() for label in own]
        for number, (label, name) in enumerate(asked):
            if label not in there:
                raise UserError(f"table.split.{name}: no series {label!r}; there are {', '.join(there)}")
            if label in dict(asked[:number]):
                raise UserError(f"table.split.{name}: the series {label!r} is listed twice")
        return dict(asked)
    names = np.repeat(SPLITS, _sizes(split, len(there), what)).tolist()
    order = np.random.default_rng(split.seed).permutation(len(there))
    return {there[number]: name for number, name in zip(order, names, strict=False)}


def _label(asked: Any, split: str, there: Sequence[str]) -> str:
    """A label that a list of series asks for; raises UserError for what YAML may have read as something else."""
    meant = [] if isinstance(asked, str) else [label for label in there if may_mean(asked, label)]
    whole = isinstance(asked, int | np.integer) and not isinstance(asked, bool)
    if isinstance(asked, str) or (whole and (str(asked) in there or not meant)):
        return str(asked)
    example = [*meant, *there][0]
    raise UserError(
        f"table.split.{split}: {asked!r} is no text, as YAML reads it; write a label in quotes, such as {example!r}"
    )


# Time series


def _of_columns(frame: pd.DataFrame, table: Table, time: Time, changes: Changes, where: str) -> Rows:
    """The rows of a table."""
    values = converted(numbers(frame, table, where), changes, where)
    state = np.stack([values[str(name)] for name in table.state or ()], -1)
    times = Times.read(frame[time.column], changes.get(time.column), table.dialect.decimal_sign)
    return Rows(times, state, _labels(frame, table, where))


def _labels(frame: pd.DataFrame, table: Table, where: str) -> np.ndarray:
    """The series of each row."""
    return series(frame[table.series], table, where) if table.series else np.full(len(frame), "")


def _of_fields(
    data: pd.DataFrame | xr.Dataset, table: Table, time: Time, changes: Changes, where: str
) -> tuple[Rows, dict[str, xr.Variable]]:
    """Fields (row, y, x, component), a row for each time of each series, and the coordinates y and x."""
    dims = [*([table.series] if table.series else []), time.column, *table.axes]
    names = list(map(str, table.state or ()))
    every, coordinates = fields(data, names, dims, where, table.missing)
    values = np.stack(list(converted(every, changes, where).values()), -1)
    labels = series(coordinates[0].values, table, where) if table.series else np.array([""], object)
    axes = converted({str(axis.name): finite(axis, where) for axis in coordinates[-3:]}, changes, where)
    times = Times.read(coordinates[-3].values, changes.get(time.column)).repeated(len(labels))
    of_rows = np.repeat(labels, coordinates[-3].size)
    rows = Rows(times, values.reshape(len(of_rows), *values.shape[-3:]), of_rows)
    grid = {}
    for name, dim, axis in zip(("y", "x"), table.axes, coordinates[-2:], strict=True):
        stated = {"units": table.axes[dim]} if isinstance(table.axes, Mapping) else {}
        grid[name] = xr.Variable(name, axes[dim], {"long_name": dim, "units": "1"} | axis.attrs | stated)
    return rows, grid


def _time_series(rows: Rows, table: Table, time: Time, where: str) -> xr.Dataset:
    """Series or their windows, with times counted from the beginning of each."""
    units = dict(table.state or {})
    samples = list(_samples(rows, table, time, where))
    names = [sample.name for sample in samples]
    log_left_out(_left_out(rows, samples, table), len(rows.labels), where)
    elapsed = common(
        [sample.times for sample in samples], [sample.rows for sample in samples], names, rows.times.digit, time, where
    )
    coords: dict[str, Any] = {
        "time": ("time", elapsed, {"long_name": "time since start", "units": time.unit}),
        "start": (
            "sample",
            np.array([rows.times.first + sample.times[0] for sample in samples]),
            {"long_name": f"{time.column} at which the sample starts", "units": time.unit},
        ),
        "split": ("sample", [sample.split for sample in samples]),
        **_components(units),
    }
    if table.series:
        coords["series"] = ("sample", [sample.series for sample in samples], {"long_name": table.series})
    state = np.stack([sample.values for sample in samples])
    about = {"long_name": "observed state", "units": "; ".join(units.values())}
    axes = ("y", "x") if table.axes else ()
    dims = ("sample", "time", *axes, "component")
    dataset = xr.Dataset({"state": (dims, state, about)}, coords=coords, attrs={"target": "state"})
    log_repeated(dataset, names, where)
    return dataset


def _samples(measured: Rows, table: Table, time: Time, where: str) -> Iterator[Sample]:
    """Every series, or its windows, of which none crosses the boundary between two splits."""
    by, times, labels = table.split.by, measured.times, measured.labels
    split_of = _drawn(labels, table.split, "series") if by == "series" else {}
    for label in dict.fromkeys(labels):
        rows = np.flatnonzero(labels == label)
        check_increase(times, rows, time, where)
        since = nominal(times, rows, time, where)
        sizes = _sizes(table.split, len(rows), "times") if by == "time" else [len(rows)]
        names = SPLITS if by == "time" else (split_of.get(label),)
        for name, part in zip(names, np.split(np.arange(len(rows)), np.cumsum(sizes)), strict=False):
            if name is None:  # not asked for
                continue
            length = table.window or len(part)
            if len(part) < max(length, 2):
                of = f"series {label}" if label else "the series"
                raise UserError(f"{where}: {of} has {len(part)} times in {name}, fewer than a sample, {max(length, 2)}")
            for first in range(0, len(part) - length + 1, table.stride or length):
                own = part[first : first + length]
                which = f"the sample that begins at {time.column} {times.printed[rows[own[0]]]}"
                which += f" of series {label}" * bool(label)
                yield Sample(name, label, which, since[own], measured.values[rows[own]], rows[own])


def _left_out(measured: Rows, samples: Sequence[Sample], table: Table) -> dict[str, int]:
    """Why rows are in no sample -> how many of them."""
    found: Counter[str] = Counter()
    sampled = {sample.series for sample in samples}
    unasked = _of_series(label for label in measured.labels if label not in sampled)
    for label, count in Counter(measured.labels).items():
        if label not in sampled:
            found[unasked] += count
        elif table.split.by == "time":
            found["behind the times that the splits ask for"] += count - sum(_sizes(table.split, count, "times"))
    used = np.unique(np.concatenate([sample.rows for sample in samples])).size
    return found + Counter({"in no whole window": len(measured.labels) - used - found.total()})


def _of_series(labels: Iterable[str]) -> str:
    """Why they are in no sample."""
    names = list(dict.fromkeys(labels))
    return f"of series that no split asks for ({', '.join(names[:5])}{', …' * (len(names) > 5)})"


# A law without time


def _law(frame: pd.DataFrame, table: Table, changes: Changes, where: str) -> xr.Dataset:
    """Rows as samples, in their order; those that no split asks for are left out."""
    by = table.split.by
    labels = _labels(frame, table, where)
    values = converted(numbers(frame, table, where), changes, where)
    units = dict(table.target or {})
    variables: dict[str, Any] = {"target": _variable(values, units, "component", "target")}
    coords: dict[str, Any] = _components(units)
    for name, entry in (table.inputs or {}).items():
        if isinstance(entry, Mapping):
            variables[name] = _variable(values, entry, f"{name}_column", name)
            coords[f"{name}_column"] = list(map(str, entry))
        else:
            variables[name] = ("sample", values[name], {"long_name": name, "units": entry})
    keys = labels.tolist() if by == "series" else list(map(str, range(len(frame))))
    split_of = _drawn(keys, table.split, "series" if by == "series" else "rows")
    split = np.array([split_of.get(key, "") for key in keys])
    coords |= {"split": ("sample", split)} | ({"series": ("sample", labels)} if table.series else {})
    left_out, chosen = labels[split == ""], np.flatnonzero(split != "")
    why = _of_series(left_out) if by == "series" else "that no split asks for"
    log_left_out({why: len(left_out)}, len(frame), where)
    dataset = xr.Dataset(variables, coords, {"target": "target"}).isel(sample=chosen)
    log_repeated(dataset, [f"row {number + 1}" for number in chosen], where)
    log_constant(dataset, where)
    return dataset


def _components(units: Mapping[str, str]) -> dict[str, Any]:
    return {"component": list(map(str, units)), "component_units": ("component", list(units.values()))}


def _variable(values: Mapping[str, np.ndarray], units: Mapping[str, str], dim: str, name: str) -> tuple:
    """Several columns as one variable (sample, dim)."""
    stacked = np.stack([values[str(column)] for column in units], -1)
    return ("sample", dim), stacked, {"long_name": name, "units": "; ".join(units.values())}
