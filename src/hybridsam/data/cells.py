"""A cell of a user's table as a number: digits, a decimal point, an exponent, and nothing else."""

import re
from typing import Any

NUMBER = re.compile(r"[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?")  # float() takes 1_5 and digits of any script


def number(cell: Any) -> float:
    """The value of a cell; NaN if it is no number."""
    if isinstance(cell, str):
        return float(cell) if NUMBER.fullmatch(cell.strip()) else float("nan")
    try:
        return float(cell)
    except (TypeError, ValueError):
        return float("nan")
