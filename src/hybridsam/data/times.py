"""When rows of a time series were measured: as exact as printed, increasing, and the same in all samples.

Times are counted from the first one before they become binary numbers: in seconds since 1970 a step of 0.1 is not 0.1,
and in nanoseconds not even a whole number.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd

from hybridsam.core.errors import UserError
from hybridsam.data.cells import with_point
from hybridsam.data.table_schema import Time
from hybridsam.data.units import Conversion

SAME = 1e-6  # of the shortest step: times that differ by less are the same
ROUNDED = 1.5  # last digits: the same difference of rounded times comes out as one of two neighbours
OF_STEP = 0.05  # of the shortest step: times that differ by more are others, however few digits they have

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Times:
    """Of rows: ``since`` (row,) the first one, which is ``first``; ``printed`` (row,), as they are in the data.

    digit: the last one of the times, by half of which each may be off.
    """

    since: np.ndarray
    first: float
    digit: float
    printed: np.ndarray

    @classmethod
    def read(cls, cells: np.ndarray | pd.Series, change: Conversion | None, decimal: str = ".") -> "Times":
        """From cells that are finite numbers, or texts of such with that decimal sign, in the unit that is changed."""
        codes, different = pd.factorize(np.asarray(cells))
        printed = np.array([_text(cell, decimal) for cell in different], object)
        exact = [Decimal(text) for text in printed]
        since = np.array([float(time - exact[codes[0]]) for time in exact])
        digit = 10.0 ** min(int(time.as_tuple().exponent) for time in exact)
        digit = max(digit, *map(_spacing, [np.abs(since).max(), *different]))
        first, factor = float(exact[codes[0]]), 1.0
        if change:
            [first], factor = change(np.array([first])), change.factor
        return cls(factor * since[codes], float(first), factor * digit, printed[codes])

    def repeated(self, times: int) -> "Times":
        """The same for so many series, one after the other."""
        return replace(self, since=np.tile(self.since, times), printed=np.tile(self.printed, times))


def _text(cell: Any, decimal: str) -> str:
    """A time as text; of 1900.0 as a binary number the decimal says nothing."""
    return with_point(cell, decimal) if isinstance(cell, str) else str(cell + 0).removesuffix(".0")


def _spacing(cell: Any) -> float:
    """From a binary number to the next one; of others, which are exact, 0."""
    binary = isinstance(cell, float | np.floating)
    return float(np.spacing(abs(cell))) if binary else 0.0


def check_increase(times: Times, rows: np.ndarray, time: Time, where: str) -> None:
    """Raise UserError unless the times of these rows, which are those of a series, increase."""
    late = np.flatnonzero(np.diff(times.since[rows]) <= 0)
    if not len(late):
        return
    before, row = rows[late[0]], rows[late[0] + 1]
    place = f"{where}: row {row + 1}, column {time.column}"
    series = "name the column that tells several series apart as table.series"
    if times.since[row] == times.since[before]:
        raise UserError(
            f"{place}: time {times.printed[row]} stands twice, also in row {before + 1}; remove one, or {series}"
        )
    found = f"{times.printed[row]} does not come after {times.printed[before]}"
    raise UserError(f"{place}: {found}; sort the rows, or {series}")


def nominal(times: Times, rows: np.ndarray, time: Time, where: str) -> np.ndarray:
    """The times of these rows of a series, since the first of all: where ``time.step`` says, equally spaced.

    Raises UserError naming the first row that is farther than half a step from where it should be.
    """
    since = times.since[rows]
    if not time.step:
        return since
    steps = (since - since[0]) / time.step
    off = np.abs(steps - np.arange(len(rows)))
    usual = _usual(np.diff(since), rows[1:], time)
    if len(far := np.flatnonzero(off > 0.5)):
        number = far[0]
        found = f"{times.printed[rows[number]]} is {steps[number]:.4g} steps of {time.step:.10g} {time.unit} after"
        raise UserError(
            f"{where}: row {rows[number] + 1}, column {time.column}: {found} {times.printed[rows[0]]}, not {number}; "
            f"a row is missing before it, or table.time.step is wrong{usual}"
        )
    if off.max() > OF_STEP:
        number = off.argmax()
        found = f"row {rows[number] + 1}, column {time.column}: {times.printed[rows[number]]}"
        logger.info(
            f"{where}: {found} is taken for {number} steps, and is {steps[number]:.4g}, the farthest off{usual}"
        )
    return since[0] + time.step * np.arange(len(rows))


def common(
    samples: Sequence[np.ndarray],
    rows: Sequence[np.ndarray],
    names: Sequence[str],
    digit: float,
    time: Time,
    where: str,
) -> np.ndarray:
    """The times (time,) that all samples share, counted from where each begins: their mean, or ``i * time.step``.

    rows, names: of the samples, in messages. Samples differ by no more than the last digit of their times allows, and
    by no more than a twentieth of the shortest step; else UserError.
    """
    first = samples[0] - samples[0][0]
    for own, name in zip(samples, names, strict=True):
        if len(own) != len(first):
            lengths = f"has {len(own)} times, the first sample {len(first)}"
            raise UserError(f"{where}: {name} {lengths}; allowed are equal numbers, or table.window")
    if time.step:
        return time.step * np.arange(len(first))
    elapsed = np.stack([own - own[0] for own in samples])
    off, shortest = np.abs(elapsed - first), np.diff(first).min()
    tolerance = max(SAME * shortest, min(ROUNDED * digit, OF_STEP * shortest))
    if len(others := np.argwhere(off > tolerance)):
        sample, at = others[0]
        found = f"{elapsed[sample, at]:.10g} {time.unit} after its start, the first sample {first[at]:.10g}"
        advice = "all samples must have the same time steps, windows equal ones"
        raise UserError(f"{where}: {names[sample]} has a value {found}; {advice}{_step(elapsed, np.array(rows), time)}")
    if off.max() <= SAME * shortest:
        return first
    logger.info(f"{where}: the same times of samples differ by up to {off.max():.2g} {time.unit}; their mean is taken")
    return elapsed.mean(0)


def _step(elapsed: np.ndarray, rows: np.ndarray, time: Time) -> str:
    """What to write if all steps are equal but for noise, or where the first of few gaps is."""
    steps = np.diff(elapsed)
    mean = float(np.mean(steps))
    noise = np.abs(elapsed / mean - np.arange(elapsed.shape[1])).max()
    advice = "; if they are equal but for noise, say so by table.time.step" * bool(noise < 0.5)
    return advice + _usual(steps.ravel(), rows[:, 1:].ravel(), time)


def _usual(steps: np.ndarray, rows: np.ndarray, time: Time) -> str:
    """What most of the steps are, by median and mean, and the first gap or the first that is too short, if few are so.

    rows: those that the steps lead to.
    """
    if not len(steps):
        return ""
    median, mean = np.median(steps), np.mean(steps)
    odd = np.abs(steps - median) > 0.5 * median
    if 4 * odd.sum() > len(steps):  # there is no usual one
        return ""
    text = f"; the median of the steps is {median:.4g} {time.unit}, their mean {mean:.4g} {time.unit}"
    first = odd.argmax()
    return text + f"; that before row {rows[first] + 1} is {steps[first]:.4g} {time.unit}" * bool(odd.any())
