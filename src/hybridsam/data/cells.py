"""A cell of a user's table: a number, written as digits and nothing else, or the label of a series."""

import re
from collections.abc import Iterable
from typing import Any

import numpy as np

NUMBER = re.compile(r"[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?")  # float() takes 1_5 and digits of any script
WITH_COMMA = re.compile(r"[-+]?[0-9]*,[0-9]+([eE][-+]?[0-9]+)?")
GROUPED = re.compile(r"[-+]?[0-9]{1,3}([,.' \u00a0\u202f][0-9]{3})+([.,][0-9]*)?")
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


def labels(cells: Iterable[Any]) -> list[str]:
    """Cells as text. Whole numbers are so without decimals, as spreadsheets and missing values add these."""
    found = [str(int(cell)) if _is_whole(cell) else _text(cell) for cell in cells]
    whole = [WHOLE.fullmatch(label) for label in found]
    return [match[1] for match in whole if match] if all(whole) else found


def _is_whole(cell: Any) -> bool:
    return isinstance(cell, float | np.floating) and float(cell).is_integer()


def _text(cell: Any) -> str:
    return (cell.decode("utf-8", "backslashreplace") if isinstance(cell, bytes) else str(cell)).strip()
