"""Named columns of a CSV or NetCDF file, and their values as finite numbers; what is wrong is named by its place."""

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from hybridsam.core.errors import UserError
from hybridsam.data.cells import number
from hybridsam.data.missing import how_to_say, means_nothing, suspects, texts

NETCDF = (".nc", ".nc4", ".cdf")
NO_VALUE = ("", "na", "n/a", "nan", "nat", "null", "none", "<na>")


def read(file: Path) -> pd.DataFrame | xr.Dataset:
    """A NetCDF file, by its ending, as a Dataset; any other as CSV, all cells text, the first line the header."""
    if not file.is_file():
        raise UserError(f"{file}: no such file")
    return _netcdf(file) if file.suffix in NETCDF else _csv(file)


def _csv(file: Path) -> pd.DataFrame:
    try:
        text = file.read_text(encoding="utf-8-sig")  # spreadsheets begin a file with a byte order mark
        header, *rows = list(filter(None, csv.reader(io.StringIO(text, newline=""), strict=True))) or [[]]
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{file}: not a CSV file: {error}; a NetCDF file ends in {', '.join(NETCDF)}") from error
    if not header:
        raise UserError(f"{file}: empty; expected a CSV file with a header")
    if len(header) == 1 and any(separator in header[0] for separator in ";\t"):
        raise UserError(f"{file}: the header {header[0]!r} has no commas; columns must be separated by commas")
    for row, cells in enumerate(rows, 1):
        if len(cells) != len(header):
            raise UserError(f"{file}: row {row} has {len(cells)} values, the header has {len(header)}")
    return pd.DataFrame(rows, columns=[name.strip() for name in header], dtype=object)


def _netcdf(file: Path) -> xr.Dataset:
    try:
        return xr.load_dataset(file, engine="netcdf4", decode_times=False)  # times stay numbers, in the file's unit
    except Exception as error:  # the NetCDF and HDF5 libraries raise many kinds for a damaged file
        raise UserError(f"{file}: not a readable NetCDF file (truncated or foreign): {error}") from error


def as_frame(data: pd.DataFrame | xr.Dataset, columns: Sequence[str], where: str) -> pd.DataFrame:
    """The columns, in this order; of a Dataset, a row for each point of its dimensions, which are columns too.

    where: name of the data in messages. Raises UserError unless all columns are there, each once; and for a Dataset
    whose variables have dimensions that are no columns, but for one that all variables have.
    """
    frame = _of_variables(data, columns, where) if isinstance(data, xr.Dataset) else data.rename(columns=str)
    header = frame.columns.tolist()
    if missing := [name for name in columns if name not in header]:
        raise UserError(f"{where}: no column {', '.join(missing)}; there are {', '.join(header)}")
    if twice := [name for name in columns if header.count(name) > 1]:
        raise UserError(f"{where}: several columns are called {twice[0]}")
    if not len(frame):
        raise UserError(f"{where}: no rows below the header")
    return frame[list(columns)]


def _of_variables(dataset: xr.Dataset, columns: Sequence[str], where: str) -> pd.DataFrame:
    known = list(dict.fromkeys(map(str, (*dataset.variables, *dataset.dims))))
    if missing := [name for name in columns if name not in known]:
        raise UserError(f"{where}: no variable {', '.join(missing)}; there are {', '.join(known)}")
    chosen = dataset[[name for name in columns if name not in dataset.dims]]
    if len(chosen.dims) != 1:
        for name, variable in chosen.variables.items():
            if unknown := [str(dim) for dim in variable.dims if dim not in columns]:
                dims = ", ".join(map(str, variable.dims))
                allowed = ", ".join(name for name in columns if name in dataset.dims) or "one that all variables have"
                raise UserError(
                    f"{where}: the variable {name}({dims}) has the dimension {unknown[0]}; allowed is {allowed}"
                )
    if not chosen.dims:
        raise UserError(f"{where}: the variables {', '.join(map(str, chosen.variables))} have no dimension")
    return chosen.to_dataframe().reset_index()


def numbers(
    frame: pd.DataFrame, names: Sequence[str], where: str, missing: Sequence | None, advice: Mapping[str, str]
) -> dict[str, np.ndarray]:
    """Columns as finite float64, name -> values (row,).

    missing: of the section ``table``. advice: name -> what to do about a cell that is no number. Raises UserError
    naming the first row that is none or means no value, and of numbers those that look as if they meant that.
    """
    found = {name: _finite(frame[name], f"{where}: row {{}}, column {name}", missing, advice) for name in names}
    if missing is None:
        found_in = {name: several for name, values in found.items() if (several := suspects(values))}
        for name, [first, *_] in found_in.items():
            raise UserError(f"{where}: row {first.first + 1}, column {name}: {first}{how_to_say(found_in)}")
    return found


def _finite(cells: pd.Series, place: str, missing: Sequence | None, advice: Mapping[str, str]) -> np.ndarray:
    if cells.dtype.kind in "iuf":
        values = cells.to_numpy(float, na_value=np.nan)
    else:
        values = np.array([number(cell) for cell in cells], dtype=float)
    values = np.where(means_nothing(values, missing), np.nan, values)
    bad = np.flatnonzero(~np.isfinite(values))
    if not len(bad):
        return values
    none = [row for row in bad if _is_none(cells.iloc[row], missing)]
    cell, place = str(cells.iloc[bad[0]]), place.format(bad[0] + 1)
    if bad[0] in none:
        what = "no value" if cell.strip().lower() in NO_VALUE else f"no value, {cell!r}"
        raise UserError(f"{place}: {what} ({len(none)} of {len(cells)} rows have none); remove the rows or fill them")
    raise UserError(f"{place}: {cell!r} is not a finite number{advice.get(str(cells.name), '')}")


def _is_none(cell: Any, missing: Sequence | None) -> bool:
    """Whether a cell means "no value"."""
    text = str(cell).strip().lower()
    return text in NO_VALUE or text in texts(missing) or bool(means_nothing(np.array(number(cell)), missing))


def labels(frame: pd.DataFrame, column: str, where: str, missing: Sequence | None) -> np.ndarray:
    """A column as text (row,)."""
    found = [str(cell).strip() for cell in frame[column]]
    none = [row for row, label in enumerate(found) if _is_none(label, missing)]
    if none:
        count = f"{len(none)} of {len(found)} rows have none"
        raise UserError(
            f"{where}: row {none[0] + 1}, column {column}: no value ({count}); remove the rows or fill them"
        )
    return np.array(found, dtype=object)
