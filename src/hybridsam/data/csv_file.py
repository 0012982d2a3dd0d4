"""A CSV file as named columns of text: what its bytes spell, which lines count, what separates its columns.

What cannot be told for sure is asked of the user, who answers in ``table.dialect``.
"""

import codecs
import csv
import gzip
import io
import logging
import re
import zlib
from collections.abc import Iterable, Mapping
from math import isnan
from pathlib import Path

import pandas as pd

from hybridsam.core.errors import UserError
from hybridsam.data.cells import number
from hybridsam.data.netcdf_file import ENDINGS
from hybridsam.data.table_schema import Dialect

SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs"}
FOREIGN = {  # how files begin that are no text
    b"\x1f\x8b": "it is compressed by gzip; give it a name that ends in .csv.gz",
    b"PK\x03\x04": "it is a zip archive or an Excel workbook; unpack it, or save it as CSV",
    b"\xd0\xcf\x11\xe0": "it is an old Excel workbook; save it as CSV",
    b"\x89HDF": f"it is an HDF5 file; a NetCDF file ends in {', '.join(ENDINGS)}",
    b"CDF": f"it is a NetCDF file; a NetCDF file ends in {', '.join(ENDINGS)}",
}
UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)

logger = logging.getLogger(__name__)


def read(file: Path, dialect: Dialect) -> pd.DataFrame:
    """The columns of a file, all cells text, without comments and empty lines; the first line is the header."""
    lines, comments = _without_comments(io.StringIO(_text(file, dialect), newline=""), dialect.comment)
    first = next(filter(str.strip, lines), "").strip("\r\n")
    if not first:
        raise UserError(f"{file}: empty; expected a CSV file with a header")
    delimiter = dialect.delimiter or _delimiter(first, file)
    reader = csv.reader(lines, delimiter=delimiter, skipinitialspace=delimiter == " ", strict=True)
    try:
        header, *rows = _without_ends([row for row in reader if any(map(str.strip, row))], file)
    except csv.Error as error:
        raise UserError(f"{file}: not a CSV file: {error}, after line {reader.line_num} without comments") from error
    for row, cells in enumerate(rows, 1):
        if len(cells) != len(header):
            commas = "; a decimal comma cannot stand between columns separated by commas" * (delimiter == ",")
            raise UserError(f"{file}: row {row} has {len(cells)} values, the header has {len(header)}{commas}")
    _log_comments(comments, dialect, delimiter, len(header), file)
    return pd.DataFrame(rows, columns=[name.strip() for name in header], dtype=object)


def _text(file: Path, dialect: Dialect) -> str:
    content = file.read_bytes()
    if file.suffix == ".gz":
        try:
            content = gzip.decompress(content)
        except (OSError, EOFError, zlib.error) as error:
            raise UserError(f"{file}: not a gzip file, or not all of it: {error}") from error
    for start, what in FOREIGN.items():
        if content.startswith(start):
            raise UserError(f"{file}: not a CSV file: {what}")
    if not dialect.encoding and (content.startswith(UTF_16) or b"\0" in content[:100]):
        raise UserError(f"{file}: looks like UTF-16 (Excel's 'Unicode text'); write table.dialect.encoding: utf-16")
    try:
        return content.decode(dialect.encoding or "utf-8").removeprefix("\ufeff")  # which spreadsheets begin with
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        what = f"line {line} is not {dialect.encoding or 'UTF-8'}"
        advice = "write its encoding as table.dialect.encoding, such as cp1252 (of Windows and Excel)"
        raise UserError(f"{file}: {what}, at the byte 0x{content[error.start]:02x}; {advice}") from error


def _without_comments(lines: Iterable[str], comment: str) -> tuple[list[str], dict[int, str]]:
    """The lines that do not begin with ``comment``, but for those inside of quotes; and the others below the header.

    These are line number -> line.
    """
    quoted = False
    kept: list[str] = []
    comments: dict[int, str] = {}
    for line_number, line in enumerate(lines, 1):
        if quoted or not comment or not line.lstrip().startswith(comment):
            quoted ^= line.count('"') % 2 == 1
            kept.append(line)
        elif any(map(str.strip, kept)):  # below the header
            comments[line_number] = line
    return kept, comments


def _log_comments(comments: Mapping[int, str], dialect: Dialect, delimiter: str, width: int, file: Path) -> None:
    """Say which lines below the header are left out, by their number where they may be rows."""
    rows = [str(at) for at, line in comments.items() if _may_be_row(line, dialect, delimiter, width)]
    if rows:
        listed = ", ".join(rows[:5]) + ", …" * (len(rows) > 5)
        logger.warning(
            f"{file}: comments that have as many values as a row are left out: line {listed} ({len(rows)} in all); "
            'if they are data, write table.dialect.comment: ""'
        )
    if others := len(comments) - len(rows):
        logger.info(f"{file}: comments below the header are left out: {others} in all")


def _may_be_row(line: str, dialect: Dialect, delimiter: str, width: int) -> bool:
    """Whether a comment has as many cells as a row, and a number behind the first."""
    text = line.strip().removeprefix(dialect.comment).strip()
    cells = next(csv.reader([text], delimiter=delimiter, skipinitialspace=delimiter == " "), [])
    return len(cells) == width and not all(isnan(number(cell, dialect.decimal_sign)) for cell in cells[1:])


def _delimiter(header: str, file: Path) -> str:
    """What separates the columns: the only character in the header that can."""
    found = [separator for separator in SEPARATORS if separator in re.sub('"[^"]*"', "", header)]
    shown = header if len(header) < 60 else f"{header[:60]}…"
    if not found:
        raise UserError(
            f"{file}: the header {shown!r} is one column; allowed are several, separated by commas, semicolons, tabs, "
            "or by table.dialect.delimiter"
        )
    if len(found) > 1:
        which = " and ".join(SEPARATORS[separator] for separator in found)
        raise UserError(
            f"{file}: the header {shown!r} has {which}; write what separates the columns as table.dialect.delimiter"
        )
    if found != [","]:
        logger.info(f"{file}: columns are separated by {SEPARATORS[found[0]]}")
    return found[0]


def _without_ends(rows: list[list[str]], file: Path) -> list[list[str]]:
    """The rows without cells that are empty in all of them and stand behind the last name of the header."""
    width = max((i for i, name in enumerate(rows[0], 1) if name.strip()), default=0)
    filled = [i for i, row in enumerate(rows) if any(map(str.strip, row[width:]))]
    if not filled:
        return [row[:width] for row in rows]
    if width < len(rows[0]):
        last = rows[0][width - 1].strip()
        raise UserError(
            f"{file}: row {filled[0]} has a value behind the last name of the header, {last!r}; name its column or, if "
            "it stands behind a decimal comma, quote such numbers or separate columns by semicolons"
        )
    return rows
