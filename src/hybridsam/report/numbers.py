"""How tables, captions and pages write numbers; those of a column are written in one way."""

import numbers
from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

ROUNDING = 1e-14  # of a mean: a smaller spread is that of its last bits, and none
PLAIN = range(-4, 6)  # powers of ten that are written without an exponent


def plus_minus(mean: float, spread: float, sign: str = "", exponent: bool | None = None) -> str:
    """``0.504 ± 0.012``, ``(3.1 ± 1.4)e-05``: both to the second digit of the spread. A dash for what is not known.

    Without a spread the mean has three digits. sign: ``+`` to write that of positive numbers too. exponent: whether to
    write one; None: where the number is very large or small.
    """
    if not np.isfinite(mean) or not np.isfinite(spread):
        return number(mean, 3, sign, exponent)
    if spread <= ROUNDING * abs(mean):
        return f"{number(mean, 3, sign, exponent)} ± 0"
    size = _power(max(abs(mean), spread), 2)
    power = size if (size not in PLAIN if exponent is None else exponent) else 0
    last = _power(spread, 2) - 1 - power  # place of the last digit
    mean, spread = (round(value / 10.0**power, -last) for value in (mean, spread))
    decimals = max(0, -last)
    text = f"{mean:{sign}.{decimals}f} ± {spread:.{decimals}f}"
    return f"({text})e{power:+03d}" if power or exponent else text


def number(value: float, digits: int, sign: str = "", exponent: bool | None = None) -> str:
    """``0.400``, ``12300``, ``1.20e-05``: so many significant digits; a dash for NaN. sign, exponent: as above."""
    if not np.isfinite(value):
        return "–" if np.isnan(value) else "∞" if value > 0 else "-∞"
    power = _power(value, digits)
    if power not in PLAIN if exponent is None else exponent:
        return f"{value:{sign}.{digits - 1}e}"
    return f"{round(value, digits - 1 - power):{sign}.{max(0, digits - 1 - power)}f}"


def column(means: ArrayLike, spreads: ArrayLike = np.nan, sign: str = "", digits: int = 3) -> list[str]:
    """All numbers of a column, those with a spread by :func:`plus_minus`, the others with so many digits.

    All have an exponent where one of them needs it.
    """
    pairs = np.broadcast(np.asarray(means, dtype=float), np.asarray(spreads, dtype=float))
    known = [(mean, spread) for mean, spread in pairs if np.isfinite(mean)]
    sizes = [max(abs(mean), np.nan_to_num(spread, posinf=0)) for mean, spread in known]
    exponent = any(_power(size, 2) not in PLAIN for size in sizes)
    pairs.reset()
    return [
        plus_minus(mean, spread, sign, exponent) if np.isfinite(spread) else number(mean, digits, sign, exponent)
        for mean, spread in pairs
    ]


def between(values: ArrayLike, low: ArrayLike, high: ArrayLike, sign: str = "", digits: int = 3) -> list[str]:
    """All numbers of a column with the ends of their intervals, ``0.504 [0.481, 0.533]``, where these are known.

    All have so many digits. The numbers have an exponent where one of them needs it, and then so have the ends; else
    those ends that need it, such as of a wide interval around 4.0. sign: as above.
    """
    rows = np.array(np.broadcast_arrays(values, low, high), dtype=float).reshape(3, -1).T
    known = rows[np.isfinite(rows[:, 0]), 0]
    exponent = True if any(_power(value, 2) not in PLAIN for value in known) else None
    texts = ([number(value, digits, sign, exponent) for value in row] for row in rows)
    return [
        f"{value} [{low}, {high}]" if np.isfinite(row[1:]).all() else value
        for row, (value, low, high) in zip(rows, texts, strict=True)
    ]


def in_columns(table: pd.DataFrame, digits: int = 4) -> pd.DataFrame:
    """A table with its numbers as text, a column in one style, and truths as yes and no; the rest stays as it is."""

    def written(values: pd.Series) -> Sequence:
        if values.dtype == bool:
            return values.map({True: "yes", False: "no"})
        if not _are_measures(values):
            return values
        return column([np.nan if pd.isna(value) else float(value) for value in values], digits=digits)

    return pd.DataFrame({name: written(values) for name, values in table.items()}, index=table.index)


def _are_measures(values: Sequence) -> bool:
    """Whether there is nothing but numbers in a column, not all of them counts, or nothing at all."""
    known = [value for value in values if not pd.isna(value)]
    real = all(isinstance(value, numbers.Real) and not isinstance(value, bool | np.bool_) for value in known)
    return real and not (known and all(isinstance(value, numbers.Integral) for value in known))


def _power(value: float, digits: int) -> int:
    """The power of ten of the first of so many significant digits: of two, -2 of 0.0994, -1 of 0.0996."""
    return int(f"{value:.{digits - 1}e}".partition("e")[2])


def duration(seconds: float) -> str:
    """``0.81 s``, ``45 s``, ``3.2 min``, ``7.5 h``, ``12 days``; ``unknown`` for NaN."""
    for unit, length, most in (("s", 1, 100), ("min", 60, 100), ("h", 3600, 72)):
        if seconds < most * length:
            count = seconds / length
            return f"{count:.2g} {unit}" if count < 10 else f"{count:.0f} {unit}"
    return "unknown" if np.isnan(seconds) else f"{seconds / 86400:.0f} days"


def span(low: int, high: int) -> str:
    """Numbers of runs in words: ``n = 3``, ``n = 2 to 3``."""
    return f"n = {low}" + f" to {high}" * (high > low)


def gone(failed: int, diverged: int) -> str:
    """How many runs failed, and how: ``none failed``, ``2 diverged``, ``3 failed, 1 of them diverged``."""
    if failed == diverged:
        return f"{diverged} diverged" if diverged else "none failed"
    return f"{failed} failed" + f", {diverged} of them diverged" * bool(diverged)


def ended(n: int, failed: int, diverged: int) -> str:
    """How the runs of a cell ended: ``3``, ``5 (3 failed, 1 of them diverged)`` or ``none: 3 diverged``."""
    how = gone(failed, diverged) if failed else ""
    return f"{n or 'none'}" + (f" ({how})" if n else f": {how}") * bool(how)
