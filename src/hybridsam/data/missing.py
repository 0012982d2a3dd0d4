"""Numbers and texts that stand for "no value" in a user's data: those that the user lists, and those that look like it.

``missing`` is that of the section ``table``: numbers and texts, or None where the user says nothing. Numbers are
compared in single precision, in which many files hold them: -9999 is -9999.0, and 9.96921e36 the default of NetCDF.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from hybridsam.data.cells import number

# What instruments, spreadsheets and archives write where they have no value; the last lines: defaults of NetCDF.
KNOWN = np.array(
    [
        *(-99, -99.9, -99.99, -999, -999.9, -999.99, -9999, -9999.9, -99999, -999999, -9999999),
        *(999, 999.9, 999.99, 9999, 9999.9, 99999, 99999.9, 999999, 9999999),
        *(1e20, 1e30, 1e34, 1e35, 1e36, 1e37, 3.4028235e38, -1e20, -1e30, -1e34, -1e36, -3.4028235e38),
        *(9.96921e36, 9.9692e36, 9.969e36, 9.97e36, -32767, -32768),
        *(-2147483647, -2147483648, 2147483647, -9223372036854775806),
    ],
    dtype=np.float32,
)
OF_RANGE, OF_ITSELF = 0.25, 0.1  # how far one stands apart: parts of the range of the other values, and of itself


@dataclass(frozen=True)
class Suspect:
    """A value that may mean "no value": where it stands first, how often, among how many, and the range of the rest."""

    value: float
    first: int
    count: int
    total: int
    rest: tuple[float, float] | None

    def __str__(self) -> str:
        if self.rest is None:
            return f"{self.count} of {self.total} values are {self.value:.10g}, which often means that there is none"
        low, high = self.rest
        found = f"{self.value:.10g} stands apart from the other values, {low:.7g} to {high:.7g}"
        return f"{found} ({self.count} of {self.total} are like that)"


def means_nothing(values: np.ndarray, missing: Sequence | None) -> np.ndarray:
    """Which of these numbers, in an array of any shape, the user says to mean "no value"."""
    numbers = [value for value in map(number, missing or ()) if not np.isnan(value)]
    return np.isin(_single(values), _single(np.array(numbers, float)))


def texts(missing: Sequence | None) -> set[str]:
    """What the user says to mean "no value", as text in lower case."""
    return {str(value).strip().lower() for value in missing or ()}


def suspects(values: np.ndarray) -> list[Suspect]:
    """What may mean "no value" among finite numbers: values that are known for it, and stand apart from the rest.

    A value stands apart by a quarter of the range of the rest and by a tenth of itself, as -99 does from temperatures
    of -40 to 40 and not from -120 to 10; or if it is below zero, and all the rest is not. From 1e20 on the range is
    one of orders of magnitude: 1e20 does not stand apart from 1e14 to 1e19.
    """
    values = values.ravel()
    single = _single(values)
    known = np.isin(single, KNOWN)
    if not known.any():
        return []
    rest = values[~known]
    found = []
    for value in np.unique(single[known]):
        where = np.flatnonzero(single == value)
        shown = float(str(value))  # -999.9, and not its neighbour in single precision
        if not len(rest):
            found.append(Suspect(shown, where[0], len(where), len(values), None))
            continue
        low, high = float(rest.min()), float(rest.max())
        if _apart(shown, low, high):
            found.append(Suspect(shown, where[0], len(where), len(values), (low, high)))
    return sorted(found, key=lambda suspect: suspect.first)


def _apart(value: float, low: float, high: float) -> bool:
    if value >= 1e20 and low > 0:
        return np.log(value / high) > OF_RANGE * np.log(high / low)
    gap = max(low - value, value - high)
    return gap > OF_ITSELF * abs(value) and (gap > OF_RANGE * (high - low) or low >= 0 > value)


def how_to_say(found: Mapping[str, Sequence[Suspect]]) -> str:
    """What to write for them, variable -> suspects: all at once, as a list turns the suspicion off."""
    values = dict.fromkeys(f"{suspect.value:.10g}" for several in found.values() for suspect in several)
    others = [f"{name} has {several[0].value:.10g}" for name, several in list(found.items())[1:]]
    also = f"; {', '.join(others[:3])}{', …' * (len(others) > 3)}" if others else ""
    means = "it means" if len(values) == 1 else "they mean"
    return f"{also}; write table.missing: [{', '.join(values)}] if {means} no value, table.missing: [] if all is data"


def _single(values: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):  # beyond single precision all are infinite, and none of the values above
        return values.astype(np.float32)
