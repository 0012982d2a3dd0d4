"""The section ``table`` of a task file: what the columns of the user's own data mean."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import inf
from typing import Any

from hybridsam.core.errors import UserError
from hybridsam.core.scales import STANDARD
from hybridsam.core.settings import typed

TAKEN = ("sample", "split", "series", "target", "component", "component_units", *STANDARD)  # names in every dataset


@dataclass(frozen=True)
class Time:
    """The column of the times and their unit. step: if not 0, times are equally spaced by it, but for noise."""

    column: str
    unit: str
    step: float = 0.0


@dataclass(frozen=True)
class Split:
    """What goes into which split.

    by: ``time``: earlier times train, later ones test; ``series``: whole series, or whole groups of rows; ``sample``:
    single rows. train, validation, test: numbers of these, or fractions, or lists of series. Series and rows are drawn
    at random by ``seed``.
    """

    by: str
    train: Any
    validation: Any
    test: Any
    seed: int = 0


@dataclass(frozen=True)
class Dialect:
    """How a CSV file is written.

    delimiter: between columns; empty: what the header tells. decimal: the decimal sign; empty: a point, unless it may
    separate thousands. encoding: one that Python knows; empty: UTF-8. comment: lines that begin so are left out; empty:
    none.
    """

    delimiter: str = ""
    decimal: str = ""
    encoding: str = ""
    comment: str = "#"

    def __post_init__(self) -> None:
        if len(self.delimiter) > 1 or self.delimiter in tuple('"\r\n'):
            raise UserError(f"table.dialect.delimiter: {self.delimiter!r} is not one character, such as ';' or \"\\t\"")
        if self.decimal not in ("", ".", ",") or (self.decimal and self.decimal == self.delimiter):
            raise UserError(f"table.dialect.decimal: {self.decimal!r}: allowed are '.' and ',', not the delimiter")
        try:
            "".encode(self.encoding or "utf-8")
        except LookupError as error:
            known = "utf-8, utf-16, cp1252, latin-1 and others that Python knows"
            raise UserError(f"table.dialect.encoding: {self.encoding!r}: allowed are {known}") from error

    @property
    def decimal_sign(self) -> str:
        return self.decimal or "."


@dataclass(frozen=True)
class Table:
    """What the columns of a table mean: either ``time`` and ``state``, or ``inputs`` and ``target``.

    file: CSV or NetCDF. dialect: how a CSV file is written. series: the column whose values tell several time series,
    or groups of rows, apart. state, target: column -> unit. axes: the two dimensions, y and x, of a state that consists
    of fields on a grid, or these -> unit. inputs: column -> unit, or name -> columns that make one variable. window,
    stride: series are cut into samples of ``window`` times, one beginning every ``stride`` times; left out, a series is
    a sample, and windows stand end to end. convert: whether values that are in another unit in the data are converted.
    missing: numbers and texts that mean "no value"; None: what looks like them is refused.
    """

    split: Split
    file: str = ""
    dialect: Dialect = Dialect()
    time: Time | None = None
    series: str = ""
    state: Mapping[str, str] | None = None
    axes: Sequence[str] | Mapping[str, str] = ()
    inputs: Mapping[str, Any] | None = None
    target: Mapping[str, str] | None = None
    window: int = 0
    stride: int = 0
    convert: bool = False
    missing: Sequence | None = None

    @classmethod
    def from_settings(cls, settings: Mapping) -> "Table":
        """From the section ``table`` of a task file; raises UserError for what makes no sense."""
        raw: Any = typed(cls, settings, "table")
        time = None if raw.time is None else typed(Time, raw.time, "table.time")
        dialect = raw.dialect if isinstance(raw.dialect, Dialect) else typed(Dialect, raw.dialect, "table.dialect")
        table = replace(raw, time=time, dialect=dialect, split=typed(Split, raw.split, "table.split"))
        table._check_columns()
        table._check_samples()
        table._check_missing()
        return table

    def _check_columns(self) -> None:
        of_series, of_law = ("time", "state"), ("inputs", "target")
        given = [key for key in (*of_series, *of_law) if getattr(self, key) is not None]
        if given not in (list(of_series), list(of_law)):
            raise UserError(
                f"table: has {', '.join(given) or 'no columns'}; allowed are time and state (of time series), "
                "or inputs and target (of a law without time)"
            )
        for key in given:
            if key != "time":
                _check_units(getattr(self, key), f"table.{key}", nested=key == "inputs")
        for name in self.inputs or ():
            if name in TAKEN:
                raise UserError(f"table.inputs.{name}: this name is taken; use another one")

        if self.axes and not (isinstance(self.axes, list | Mapping) and len(set(self.axes)) == 2 and self.state):
            raise UserError(f"table.axes: {self.axes!r} is not a list of two dimensions, y and x, of table.state")
        if isinstance(self.axes, Mapping):
            _check_units(self.axes, "table.axes")
        first: dict[str, tuple[str, str]] = {}
        for column, key, unit in self.units:
            other, its_unit = first.setdefault(column, (key, unit))
            if unit != its_unit:
                raise UserError(f"{key}: {unit!r}, but {other}: {its_unit!r}; a column has one unit")

    def _check_samples(self) -> None:
        if self.time and not 0 <= self.time.step < inf:
            raise UserError(f"table.time.step: {self.time.step}: it is the time from one row to the next, above 0")
        by, allowed = self.split.by, ("time", "series") if self.time else ("sample", "series")
        if by not in allowed:
            data = "time series" if self.time else "rows without table.time"
            raise UserError(f"table.split.by: {by!r}: of {data} allowed are {', '.join(allowed)}")
        if by == "series" and not self.series:
            raise UserError("table.series: missing; a split by series needs the column that tells them apart")
        if by == "time" and not self.window:
            raise UserError("table.window: missing; a split by time cuts series into windows")
        if self.window and (self.window < 2 or not self.time):
            raise UserError(f"table.window: {self.window}: it is a number of times, at least 2, and needs table.time")
        if self.stride and (self.stride < 1 or not self.window):
            raise UserError(f"table.stride: {self.stride}: it is a number of times, at least 1, and needs table.window")

    def _check_missing(self) -> None:
        if not isinstance(self.missing, list | tuple | None):
            raise UserError(f"table.missing: {self.missing!r} is not a list, such as [-9999]")
        for value in self.missing or ():
            if isinstance(value, bool) or not isinstance(value, int | float | str):
                raise UserError(f"table.missing: {value!r} is no number and no text; write a text in quotes")

    @property
    def units(self) -> list[tuple[str, str, str]]:
        """What has a unit: its column or dimension, its key and its unit."""
        found = [(self.time.column, "table.time.unit", self.time.unit)] if self.time else []
        for section in ("state", "target", "inputs", "axes"):
            entries = getattr(self, section)
            for name, entry in entries.items() if isinstance(entries, Mapping) else ():
                nested = entry.items() if isinstance(entry, Mapping) else ()
                found += [(str(column), f"table.{section}.{name}.{column}", unit) for column, unit in nested]
                found += [] if nested else [(str(name), f"table.{section}.{name}", entry)]
        return found

    @property
    def columns(self) -> list[str]:
        """All columns that are read, each once."""
        return list(dict.fromkeys([*self.numbers, *([self.series] if self.series else [])]))

    @property
    def numbers(self) -> list[str]:
        """The columns that consist of numbers, each once, that of the times first."""
        names = [*(self.state or ()), *(self.target or ())]
        for name, entry in (self.inputs or {}).items():
            names += entry if isinstance(entry, Mapping) else [name]
        of_time = [self.time.column] if self.time else []
        return list(dict.fromkeys(map(str, [*of_time, *names])))


def _check_units(columns: Any, where: str, nested: bool = False) -> None:
    """Raise UserError unless this is a mapping of columns to units, or, if nested, to such mappings."""
    if not isinstance(columns, Mapping) or not columns:
        raise UserError(f"{where}: {columns!r} is not a mapping of columns to units")
    for name, unit in columns.items():
        if nested and isinstance(unit, Mapping):
            _check_units(unit, f"{where}.{name}")
        elif not (isinstance(unit, str) and unit.strip()):
            raise UserError(f'{where}.{name}: {unit!r} is no unit; allowed is text such as "m s-1", and "1" for none')
