"""A cell of a user's table: a number, written as digits and nothing else, or the label of a series."""

import re
from collections.abc import Iterable
from typing import Any

import numpy as np

NUMBER = re.compile(r"[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?")  # float() takes 1_5 and digits of any script
WITH_COMMA = re.compile(r"[-+]?[0-9]*,[0-9]+([eE][-+]?[0-9]+)?")
GROUPED = re.compile(r"[-+]?[0-9]{1,3}([,.' \u00a0\u202f][0-9]{3})+([.,][0-9]*)?")
GROUP = re.compile(r"[-+]?[1-9][0-9]{0,2}\.[0-9]{3}")
NO_GROUP = re.compile(r"[-+]?([0-9]{1,3})")
WHOLE = re.compile(r"([-+]?[0-9]+)\.0*")


def number(cell: Any, decimal: str = ".") -> float:
    """The value of a cell, whose decimal sign is a point or a comma; NaN if it is no number."""
    if isinstance(cell, str):
        text = with_point(cell, decimal)
        return float(text) if NUMBER.fullmatch(text) else float("nan")
    try:
        return float(cell)
    except (TypeError, ValueError):
        return float("nan")


def with_point(cell: str, decimal: str) -> str:
    """A number as text, with a decimal point; of a decimal comma, a point makes it no number."""
    return cell.strip() if decimal == "." else cell.strip().translate({ord("."): ",", ord(decimal): "."})


def why_none(cell: str, decimal: str) -> str:
    """What may be done about a text that is no number, for the end of a message."""
    text = cell.strip()
    if decimal != "." and NUMBER.fullmatch(text):
        return f"; table.dialect.decimal is {decimal!r}"
    if decimal == "." and WITH_COMMA.fullmatch(text):
        groups = ", if it separates thousands remove it" if GROUPED.fullmatch(text) else ""
        return f"; if the comma is a decimal one, write table.dialect.decimal: ','{groups}"
    return "; remove what separates thousands" if GROUPED.fullmatch(text) else ""


def may_be_thousands(cells: Iterable[Any]) -> tuple[int, int] | None:
    """Where points may separate thousands: the numbers of a cell with a point and of one without.

    So they may where each has three digits behind it, as in 1.147, and cells without have no more than three, of which
    one is 100 or more. Decimals show themselves by 0.250, 1.5 or 1147, or as every cell has them.
    """
    grouped = hundreds = None
    for at, cell in enumerate(cells):
        text = cell.strip() if isinstance(cell, str) else ""
        if GROUP.fullmatch(text):
            grouped = at if grouped is None else grouped
        elif match := NO_GROUP.fullmatch(text):
            hundreds = at if hundreds is None and int(match[1]) >= 100 else hundreds
        else:
            return None
    return None if grouped is None or hundreds is None else (grouped, hundreds)


def labels(cells: Iterable[Any]) -> list[str]:
    """Cells as text. Whole numbers are so without decimals, as spreadsheets and missing values add these."""
    found = [str(int(cell)) if _is_whole(cell) else _text(cell) for cell in cells]
    whole = [WHOLE.fullmatch(label) for label in found]
    return [match[1] for match in whole if match] if all(whole) else found


def _is_whole(cell: Any) -> bool:
    return isinstance(cell, float | np.floating) and float(cell).is_integer()


def _text(cell: Any) -> str:
    return (cell.decode("utf-8", "backslashreplace") if isinstance(cell, bytes) else str(cell)).strip()
