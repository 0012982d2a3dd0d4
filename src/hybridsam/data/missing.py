"""Numbers and texts that stand for "no value" in a user's data: those that the user lists, and those that look like it.

``missing`` is that of the section ``table``: numbers and texts, or None where the user says nothing. Numbers with
decimals, and huge ones, are compared in single precision, in which many files hold them: -9999 is -9999.0, and
9.96921e36 the default of NetCDF.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from hybridsam.data.cells import number

MOST_WITH_DECIMALS = 5  # digits before the point


def _repeated(digit: str, lengths: range) -> list[float]:
    """999, 999.9, 999.99 …; with decimals only what single precision tells from a round number."""
    ends = ("", f".{digit}", f".{2 * digit}")
    return [float(digit * n + end) for n in lengths for end in ends if not end or n <= MOST_WITH_DECIMALS]


# What instruments, spreadsheets and archives write where they have no value; the last lines: defaults of NetCDF.
KNOWN = (
    *(-number for number in _repeated("9", range(2, 11))),
    *_repeated("9", range(3, 11)),
    *(-number for number in _repeated("8", range(3, 7)) + _repeated("7", range(3, 6))),
    *(-6999, -7999),
    *(1e20, 1e30, 1e34, 1e35, 1e36, 1e37, 9.9e37, 9.91e37, 3.4028235e38, -1e20, -1e30, -1e34, -1e36, -3.4028235e38),
    *(9.96921e36, 9.9692e36, 9.969e36, 9.97e36, 1e31, -1e31, -32767, -32768),
    *(-2147483647, -2147483648, 2147483647, -9223372036854775806),
)
READINGS = (99, 99.9, 99.99, 888, 8888, 88888, 32767, 65535, 4294967295)  # which are often measured, too
SEVERAL = (99, 99.9, 99.99)  # of these, one alone says nothing
OF_RANGE, OF_ITSELF = 0.25, 0.1  # how far one stands apart: parts of the range of the other values, and of itself
OF_HUGE = 1e3  # times the others, from 1e20 on
AS_LARGE = 2  # times the others: a reading that stands apart
FAR = 1e6  # times the others, and times 1: a value that nobody knows; an instrument of 16 bits has a range of 65536
FAR_IF_ROUND = 1e4  # the same for powers of ten that a person would write
POWERS = tuple(float(f"1e{power}") for power in range(10, 39))
VARIED = 5  # so many different values tell what is usual; a dose of 0 and 1e10 is a choice


@dataclass(frozen=True)
class Suspect:
    """A value that may mean "no value": where it stands first, how often, among how many, and the range of the rest."""

    value: float
    first: int
    count: int
    total: int
    rest: tuple[float, float] | None

    @property
    def text(self) -> str:
        """The value, as it is to be written in the list."""
        short = f"{self.value:.10g}"
        return short if float(short) == self.value else repr(self.value)

    def __str__(self) -> str:
        if self.rest is None:
            return f"{self.count} of {self.total} values are {self.text}, which often means that there is none"
        low, high = self.rest
        found = f"{self.text} stands apart from the other values, {low:.7g} to {high:.7g}"
        return f"{found} ({self.count} of {self.total} are like that)"


def means_nothing(values: np.ndarray, missing: Sequence | None) -> np.ndarray:
    """Which of these numbers, in an array of any shape, the user says to mean "no value"."""
    numbers = [value for value in map(number, missing or ()) if not np.isnan(value)]
    return _is_in(values, numbers)


def texts(missing: Sequence | None) -> set[str]:
    """What the user says to mean "no value", as text in lower case."""
    return {str(value).strip().lower() for value in missing or ()}


def suspects(values: np.ndarray) -> list[Suspect]:
    """What may mean "no value" among finite numbers: values that stand apart from the rest.

    Those known for it stand apart by a quarter of the range of the rest and by a tenth of themselves, as -99 does from
    temperatures of -40 to 40 and not from -120 to 10; or if they are below zero, and all the rest is not. From 1e20 on
    the range is one of orders of magnitude: 1e20 does not stand apart from 1e14 to 1e19. Those that are often measured,
    and those that nobody knows, have to be farther: :func:`_is_no_reading`, :func:`_is_far`.
    """
    values = values.ravel()
    if not len(values):
        return []
    known = _is_in(values, KNOWN)
    found = _apart_from(values[~known], values, known, _apart)
    for which, apart in ((_is_largest(values, found), _is_far), (_is_in(values, READINGS), _is_no_reading)):
        if which.any():
            rest = values[~which & ~_is_in(values, [suspect.value for suspect in found])]
            found += _apart_from(rest, values, which, apart)
    return sorted(found, key=lambda suspect: suspect.first)


def _apart_from(rest: np.ndarray, values: np.ndarray, which: np.ndarray, apart: Callable) -> list[Suspect]:
    """Each of ``which`` of the values that stands apart from the rest, by ``apart(value, count, rest)``."""
    single, found = _single(values), []
    for value in np.unique(single[which]):
        where = np.flatnonzero(which & (single == value))
        shown, count = _printed(values[where[0]]), len(where)
        limits = (float(rest.min()), float(rest.max())) if len(rest) else None
        if apart(shown, count, rest):
            found.append(Suspect(shown, where[0], count, len(values), limits))
    return found


def _apart(value: float, _: int, rest: np.ndarray) -> bool:
    if not len(rest):
        return True
    low, high = float(rest.min()), float(rest.max())
    if abs(value) >= 1e20 and np.sign(low) == np.sign(high) == np.sign(value):
        small, large = sorted((abs(low), abs(high)))
        return np.log(abs(value) / large) > max(OF_RANGE * np.log(large / small), np.log(OF_HUGE))
    gap = max(low - value, value - high)
    return gap > OF_ITSELF * abs(value) and (gap > OF_RANGE * (high - low) or low >= 0 > value)


def _is_no_reading(value: float, count: int, rest: np.ndarray) -> bool:
    """Whether it is at least twice as large as all the rest, which varies; of 99, more than one has to be there."""
    if not len(rest) or value < AS_LARGE * np.abs(rest).max() or (value in SEVERAL and count < 2):
        return False
    return len(np.unique(rest)) >= VARIED


def _is_largest(values: np.ndarray, found: Sequence[Suspect]) -> np.ndarray:
    """Which values are the largest one by magnitude, but for those found before."""
    others = values[~_is_in(values, [suspect.value for suspect in found])] if found else values
    return values == others[np.abs(others).argmax()] if len(others) else np.zeros(len(values), bool)


def _is_far(value: float, _: int, rest: np.ndarray) -> bool:
    """Whether orders of magnitude lie between it and the rest: many, and one more than the rest spans, but for zeros.

    Of what the rest spans, its smallest tenth is left out, which is close to zero where values change their sign.
    """
    is_round = abs(value) in POWERS
    gap = abs(value) / np.abs(rest).max(initial=1.0)
    if gap < (FAR_IF_ROUND if is_round else FAR):
        return False
    size = np.abs(rest[rest != 0])
    return len(np.unique(size)) >= VARIED and gap >= 10 * size.max() / np.quantile(size, 0.1)


def how_to_say(found: Mapping[str, Sequence[Suspect]]) -> str:
    """What to write for them, variable -> suspects: all at once, as a list turns the suspicion off."""
    values = dict.fromkeys(suspect.text for several in found.values() for suspect in several)
    others = [f"{name} has {several[0].text}" for name, several in list(found.items())[1:]]
    also = f"; {', '.join(others[:3])}{', …' * (len(others) > 3)}" if others else ""
    means = "it means" if len(values) == 1 else "they mean"
    return f"{also}; write table.missing: [{', '.join(values)}] if {means} no value, table.missing: [] if all is data"


def _is_in(values: np.ndarray, numbers: Sequence[float]) -> np.ndarray:
    """Which values are one of these numbers: whole ones exactly, so that 1e8 is not 99999999, others to single."""
    own = np.array(numbers, float)
    others = _single(own[~_is_whole(own)])
    return np.isin(values, own) | (np.isin(_single(values), others) & ~_is_whole(values))


def _is_whole(values: np.ndarray) -> np.ndarray:
    """Which are whole numbers that double precision holds."""
    return (np.abs(values) < 2.0**53) & (values == np.round(values))


def _single(values: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):  # beyond single precision all are infinite, and none of the values above
        return values.astype(np.float32)


def _printed(value: float) -> float:
    """-999.9 of what single precision makes of it."""
    single = _single(np.array(value))
    return float(value) if single != value or _is_whole(np.array(value)) else float(str(single))
