"""Named columns of a table or Dataset, and their values as finite numbers; what is wrong is named by its place."""

import re
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from hybridsam.core.errors import UserError
from hybridsam.data.cells import labels, may_be_thousands, number, why_none
from hybridsam.data.missing import how_to_say, means_nothing, suspects, texts
from hybridsam.data.table_schema import Table

NO_VALUE = ("", "na", "n/a", "nan", "nat", "null", "none", "<na>")


def as_frame(data: pd.DataFrame | xr.Dataset, table: Table, where: str) -> pd.DataFrame:
    """The table's columns, in its order; of a Dataset, a row for each point of its dimensions, which are columns too.

    where: name of the data in messages. Raises UserError unless all columns are there, each once; for a row of units;
    and for a Dataset whose variables have dimensions that are no columns, but for one that all variables have.
    """
    columns = table.columns
    frame = _of_variables(data, columns, where) if isinstance(data, xr.Dataset) else _of_frame(data, where)
    header = frame.columns.tolist()
    if missing := [name for name in columns if name not in header]:
        advice = ""
        if set(missing) & set(map(str, frame.index.names)):
            advice = "; the index is called so: data.reset_index() makes it a column"
        elif all(number(name) == number(name) for name in header):
            advice = "; these are numbers: a header that begins with a comment sign is one, see table.dialect.comment"
        raise UserError(f"{where}: no column {', '.join(missing)}; there are {', '.join(header)}{advice}")
    if twice := [name for name in columns if header.count(name) > 1]:
        raise UserError(f"{where}: several columns are called {twice[0]}")
    if not len(frame):
        raise UserError(f"{where}: no rows below the header")
    if units := _units_of_others(frame, table):
        raise UserError(f"{where}: row 1{units}")
    return frame[list(columns)]


def _of_frame(frame: pd.DataFrame, where: str) -> pd.DataFrame:
    if frame.columns.nlevels > 1:
        raise UserError(
            f"{where}: columns have names of {frame.columns.nlevels} levels, such as {frame.columns[0]!r}; give each "
            "one name, as by data.columns = ['_'.join(map(str, names)) for names in data.columns]"
        )
    return frame.rename(columns=str)


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


def numbers(frame: pd.DataFrame, table: Table, where: str) -> dict[str, np.ndarray]:
    """The columns of numbers as finite float64, name -> values (row,).

    Raises UserError naming the first row that is no number or means no value, and of numbers those that look as if they
    meant that, or can be read in two ways.
    """
    found = {name: _finite(frame, name, table, where) for name in table.numbers}
    if not table.dialect.decimal:
        for name in table.numbers:
            _check_points(frame[name], name, where)
    if table.missing is None:
        found_in = {name: several for name, values in found.items() if (several := suspects(values))}
        for name, [first, *_] in found_in.items():
            raise UserError(f"{where}: row {first.first + 1}, column {name}: {first}{how_to_say(found_in)}")
    return found


def _check_points(cells: pd.Series, name: str, where: str) -> None:
    """Raise UserError if points may be decimal or separate thousands."""
    if found := may_be_thousands(cells):
        row, other = found
        text = str(cells.iloc[row]).strip()
        raise UserError(
            f"{where}: row {row + 1}, column {name}: {text!r} may be {text} or {text.replace('.', '')}, as three "
            f"digits stand behind every point, and row {other + 1} has {str(cells.iloc[other]).strip()!r}; write "
            "table.dialect.decimal: '.' if points are decimal, else remove them, as they separate thousands"
        )


def _finite(frame: pd.DataFrame, name: str, table: Table, where: str) -> np.ndarray:
    cells, decimal = frame[name], table.dialect.decimal_sign
    if cells.dtype.kind in "iuf":
        values = cells.to_numpy(float, na_value=np.nan)
    else:
        values = np.array([number(cell, decimal) for cell in cells], dtype=float)
    values = np.where(means_nothing(values, table.missing), np.nan, values)
    bad = np.flatnonzero(~np.isfinite(values))
    if not len(bad):
        return values
    cell, place = str(cells.iloc[bad[0]]), f"{where}: row {bad[0] + 1}, column {name}"
    advice = _looks_like_units(frame, table) if bad.tolist() == [0] else ""
    none = [row for row in bad if _is_none(cells.iloc[row], table)]
    if bad[0] in none:
        what = "no value" if cell.strip().lower() in NO_VALUE else f"no value, {cell!r}"
        count = f"{len(none)} of {len(cells)} rows have none"
        raise UserError(f"{place}: {what} ({count}); remove the rows or fill them{advice}")
    advice = advice or why_none(cell, decimal)
    if table.time and name == table.time.column:
        advice = advice or "; turn dates into numbers, such as days since the first"
    raise UserError(f"{place}: {cell!r} is not a finite number{advice}")


def _looks_like_units(frame: pd.DataFrame, table: Table) -> str:
    """What to do about the first row where nothing in it is a number but 1, though there are others."""
    first = frame[table.numbers].iloc[0]
    return f"; row 1{_as_units(first)}" if len(frame) > 1 and _are_units(first, table) else ""


def _units_of_others(frame: pd.DataFrame, table: Table) -> str:
    """The same where all of the table's columns begin with 1: another one has a word there, and then numbers."""
    first = frame.iloc[0]
    if len(frame) < 2 or not _are_units(first, table) or not _are_ones(first[table.numbers]):
        return ""
    decimal = table.dialect.decimal_sign
    texts = [name for name, cell in first.items() if re.search("[^\\W\\d_]", str(cell)) and not _is_none(cell, table)]
    of_numbers = (all(np.isfinite(number(cell, decimal)) for cell in frame[name].iloc[1:]) for name in texts)
    return _as_units(first) if any(of_numbers) else ""


def _are_units(cells: pd.Series, table: Table) -> bool:
    """Whether cells are texts, of which none is a number but 1, and not all are that."""
    numeric = [cell for cell in cells if np.isfinite(number(cell, table.dialect.decimal_sign))]
    return len(numeric) < len(cells) and _are_ones(numeric)


def _are_ones(cells: Iterable[Any]) -> bool:
    return all(isinstance(cell, str) and cell.strip() == "1" for cell in cells)


def _as_units(cells: Iterable[Any]) -> str:
    return f" looks like units: {', '.join(map(str, cells))}; remove it, units stand in the section table"


def _is_none(cell: Any, table: Table) -> bool:
    """Whether a cell means "no value"."""
    text = str(cell).strip().lower()
    value = np.array(number(cell, table.dialect.decimal_sign))
    return text in NO_VALUE or text in texts(table.missing) or bool(means_nothing(value, table.missing))


def series(cells: Iterable[Any], table: Table, where: str) -> np.ndarray:
    """The label of the series of each cell, as text (row,)."""
    found = labels(cells)
    none = [row for row, label in enumerate(found) if _is_none(label, table)]
    if none:
        count = f"{len(none)} of {len(found)} rows have none"
        raise UserError(
            f"{where}: row {none[0] + 1}, column {table.series}: no value ({count}); remove the rows or fill them"
        )
    return np.array(found, dtype=object)
