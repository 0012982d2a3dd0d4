"""Units of a user's data: what the YAML file says and what the data say, compared and converted by pint.

pint is imported where units are compared, as that takes a third of a second; its units are those of cf_xarray, which
reads them as they stand in NetCDF files: "m s-1", "degC", "degrees_north".
"""

import logging
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import xarray as xr

from hybridsam.core.errors import UserError
from hybridsam.core.scales import units_of
from hybridsam.data.table_schema import Table

SCALE = re.compile(r"([-+]?[0-9]*\.?[0-9]+(?:[eE][-+]?[0-9]+)?)(?:\s+|$)(.*)")  # as in 1e4 m, which pint refuses

DEGREES = re.compile(r"\bdeg(?:ree)?s?\.?[ _]+(C|F|K)\b")  # to pint, deg C is an angle times a temperature
ANGLE = re.compile(r"radian|degree(?!_C|_F)|turn|revolution")

logger = logging.getLogger(__name__)


@cache
def _registry() -> Any:
    logging.getLogger("pint.util").setLevel(logging.ERROR)  # it warns of each unit that cf_xarray defines anew
    from cf_xarray.units import units

    return units


@dataclass(frozen=True)
class Known:
    """A unit that pint knows, and how many of it: 1e4 m is 1e4 times the metre."""

    scale: float
    unit: Any


@dataclass(frozen=True)
class Conversion:
    """From one unit to another one."""

    given: Known
    wanted: Known

    def __call__(self, values: np.ndarray) -> np.ndarray:
        quantity = _registry().Quantity(np.asarray(values, float) * self.given.scale, self.given.unit)
        with np.errstate(all="ignore"):  # of logarithms of 0, which converted refuses
            return np.asarray(quantity.to(self.wanted.unit).magnitude) / self.wanted.scale

    @property
    def factor(self) -> float:
        """Of differences, as between two times."""
        zero, one = self(np.array([0.0, 1.0]))
        return float(one - zero)

    @property
    def is_possible(self) -> bool:
        """Of the same dimensions; but of cycles and of angles in a time, which differ by 2 pi, pint thinks so too."""
        both = f"{self.given.unit} {self.wanted.unit}"
        if "hertz" in both and ANGLE.search(both):
            return False
        try:
            return bool(np.isfinite(self(np.array([1.0]))).all())
        except Exception:  # of several kinds, by what is wrong
            return False

    @property
    def changes_nothing(self) -> bool:
        some = np.array([0.0, 1.0, 1000.0])
        return np.allclose(self(some), some, rtol=1e-9, atol=1e-9)


@cache
def known(text: str) -> Known | None:
    """The unit of a text such as "m s-1", "1e3 kg" or "hours since 2001-01-01", which is hours; None if it is none."""
    text = _plain(text)
    scale, rest = found.groups() if (found := SCALE.fullmatch(text)) else ("1", text)
    try:
        return Known(float(scale), _registry().parse_units(rest))
    except Exception:  # of many kinds, by where the text stops being a unit
        return None


Changes = Mapping[str, Conversion]  # of the columns whose unit in the data is another one than in the YAML file


def conversions(dataset: xr.Dataset, table: Table, where: str) -> Changes:
    """Column -> how its values become those of the unit in the YAML file, for variables that state another one.

    Raises UserError for units that cannot be converted, and unless ``table.convert`` for those that have to be.
    """
    found: dict[str, Conversion] = {}
    for column, key, text in table.units:
        given = _stated(dataset[column], text) if column in dataset else text.strip()
        if given == text.strip():
            continue
        what = f"{where}: the variable {column} is in {given!r}, {key} says {text!r}"
        if (wanted := known(text)) is None:
            logger.warning(f"{what}; the latter is not known to pint, so they are not compared")
            continue
        if (theirs := known(given)) is None:
            logger.warning(f"{what}; the former is not known to pint, so they are not compared")
            continue
        conversion = Conversion(theirs, wanted)
        if not conversion.is_possible:
            raise UserError(f"{what}, which cannot be converted; correct what is wrong")
        if conversion.changes_nothing:
            continue
        if not table.convert:
            raise UserError(f"{what}; write {given.split(' since ')[0]!r} there, or table.convert: true")
        logger.info(f"{what}; it is converted")
        found[column] = conversion
    return found


def _stated(variable: xr.DataArray, otherwise: str) -> str:
    """The unit that a variable of a file has, in which texts may be bytes."""
    given = variable.attrs.get("units", otherwise)
    return (given.decode("utf-8", "replace") if isinstance(given, bytes) else str(given)).strip()


def converted(values: Mapping[str, np.ndarray], changes: Changes, where: str) -> dict[str, np.ndarray]:
    """Column -> values, in the units of the YAML file; raises UserError where that has none, as a logarithm of 0."""
    found = {name: changes[name](own) if name in changes else own for name, own in values.items()}
    for name in changes:
        if name in found and not np.isfinite(found[name]).all():
            raise UserError(f"{where}: the variable {name} has values without a counterpart in the other unit")
    return found


def check_same(trained: Mapping[str, Mapping[str, str]], dataset: xr.Dataset) -> None:
    """Raise UserError unless a dataset has the variables, components and units of training: variable -> units_of."""
    for name, wanted in trained.items():
        if name not in dataset.variables:
            raise UserError(f"dataset: no variable {name}, with which the runs were trained")
        given = units_of(dataset[name])
        if list(given) != list(wanted):
            raise UserError(f"dataset: {name} has {', '.join(given)}; the runs were trained with {', '.join(wanted)}")
        for component, unit in given.items():
            if not _are_same(unit, wanted[component]):
                what = name if component == name else f"{name} {component}"
                raise UserError(f"dataset: {what} is in {unit!r}; the runs were trained with {wanted[component]!r}")


def _are_same(one: str, other: str) -> bool:
    """Whether two texts stand for one unit; where pint does not know both, they have to be equal."""
    if one == other:
        return True
    if (given := known(one)) is None or (wanted := known(other)) is None:
        return False
    return (change := Conversion(given, wanted)).is_possible and change.changes_nothing


def _plain(text: str) -> str:
    """A unit without the date from which times are counted, and degrees in one word."""
    return DEGREES.sub(r"deg\1", text.split(" since ")[0].strip())


def log_unknown(units: Iterable[tuple[str, str]]) -> None:
    """Say in the log, in a line for each unit, which of these pairs (key, unit) are in none that pint knows."""
    keys: dict[str, list[str]] = {}
    for key, unit in units:
        if known(unit) is None:
            keys.setdefault(unit, []).append(key)
    for unit, of in keys.items():
        more = f" and {len(of) - 3} more" * (len(of) > 3)
        logger.warning(f"{', '.join(of[:3])}{more}: unit {unit!r} is not known to pint; it is used as text")
