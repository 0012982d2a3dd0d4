"""How tables, captions and pages write numbers."""

import numpy as np


def plus_minus(mean: float, spread: float, sign: str = "") -> str:
    """``0.504 ± 0.012``, ``(3.1 ± 1.4)e-05``: both to the second digit of the spread. A dash for what is not known.

    Without a spread the mean has three digits. sign: ``+`` to write that of positive numbers too.
    """
    if not np.isfinite(mean):
        return "∞" if np.isinf(mean) else "–"
    if not np.isfinite(spread) or spread == 0:
        return f"{mean:{sign}.3g}" + " ± 0" * bool(spread == 0)
    size = _power(max(abs(mean), spread))
    exponent = 0 if -5 < size < 6 else size
    last = _power(spread) - 1 - exponent  # place of the last digit
    mean, spread = (round(value / 10**exponent, -last) for value in (mean, spread))
    decimals = max(0, -last)
    text = f"{mean:{sign}.{decimals}f} ± {spread:.{decimals}f}"
    return f"({text})e{exponent:+03d}" if exponent else text


def _power(value: float) -> int:
    """The power of ten of the first of two significant digits: -2 of 0.0994, -1 of 0.0996."""
    return int(f"{value:.1e}".partition("e")[2])


def duration(seconds: float) -> str:
    """``0.81 s``, ``45 s``, ``3.2 min``, ``7.5 h``, ``12 days``; ``unknown`` for NaN."""
    for unit, length, most in (("s", 1, 100), ("min", 60, 100), ("h", 3600, 72)):
        if seconds < most * length:
            number = seconds / length
            return f"{number:.2g} {unit}" if number < 10 else f"{number:.0f} {unit}"
    return "unknown" if np.isnan(seconds) else f"{seconds / 86400:.0f} days"


def span(low: int, high: int) -> str:
    """Numbers of runs in words: ``n = 3``, ``n = 2 to 3``."""
    return f"n = {low}" + f" to {high}" * (high > low)
