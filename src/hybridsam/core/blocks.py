"""Blocks of runs: one method, one rho, some seeds."""

from collections.abc import Iterable
from itertools import groupby

import numpy as np

from hybridsam.core.errors import UserError


def canonical(rho: float | str) -> str:
    """The one way to write a strength in a path: 0, 0.05, 1e-4."""
    try:
        number = float(rho)
    except (TypeError, ValueError):
        number = np.nan
    if not (np.isfinite(number) and number >= 0):
        raise UserError(f"rho: {rho!r} is not a number that is zero or larger")
    if number == 0:
        return "0"
    if 1e-3 <= number < 1e4:
        return np.format_float_positional(number, trim="-")
    return np.format_float_scientific(number, trim="-", exp_digits=1)


def blocks_of(seeds: Iterable[int], size: int) -> list[str]:
    """Blocks <first>-<last> of at most ``size`` seeds without gaps: a new seed leaves full blocks as they are."""
    blocks = []
    for _, run in groupby(enumerate(sorted(seeds)), key=lambda pair: pair[1] - pair[0]):
        without_gaps = [seed for _, seed in run]
        for start in range(0, len(without_gaps), size):
            block = without_gaps[start : start + size]
            blocks.append(f"{block[0]}-{block[-1]}")
    return blocks
