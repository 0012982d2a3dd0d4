"""The measured archives of the causal chambers: verified download, and reading of their tables and images."""

import csv
import hashlib
import io
import json
import logging
import os
import re
import shutil
import time
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import requests
import xarray as xr
from PIL import Image
from requests.adapters import HTTPAdapter
from urllib3.util import Retry

from hybridsam.core import modules
from hybridsam.core.errors import UserError
from hybridsam.core.files import TWIN_MARK
from hybridsam.core.records import TWIN
from hybridsam.core.settings import typed, values_of

Location = Path | zipfile.Path  # of a file or folder, on disk or inside an archive

RETRIES, BACKOFF_SECONDS, TIMEOUT_SECONDS = 3, 0.5, (10, 60)  # timeouts: to connect, between two pieces of an answer
CHUNK, PROGRESS_SECONDS = 1 << 20, 10.0
ROOM = "Make room or choose another disk"
BYTE_ORDER_MARKS = (b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")

logger = logging.getLogger(__name__)
new_md5 = partial(hashlib.md5, usedforsecurity=False)  # against damage, not against forgery


@dataclass(frozen=True)
class Archive:
    """A published archive, which holds one folder of its own name.

    bytes: its exact length, 0 if unknown; approximate_bytes then says how much room to plan for. url, md5: where it is
    and what it must hash to. Raises UserError where these cannot be.
    """

    name: str
    url: str
    md5: str
    licence: str
    attribution: str
    bytes: int = 0
    approximate_bytes: int = 0

    def __post_init__(self) -> None:
        if not re.fullmatch("[0-9a-f]{32}", self.md5):
            raise UserError(f"archives.{self.name}.md5: {self.md5!r} is not 32 hexadecimal digits in lower case")
        if min(self.bytes, self.approximate_bytes) != 0 or self.size <= 0:
            raise UserError(f"archives.{self.name}: needs a positive length, either bytes or approximate_bytes")

    @property
    def size(self) -> int:
        """Bytes to plan for."""
        return self.bytes or self.approximate_bytes


def archives(settings: Mapping[str, Mapping]) -> dict[str, Archive]:
    """name -> archive, from the content of config/archives.yaml."""
    return {name: typed(Archive, {"name": name, **entry}, f"archives.{name}") for name, entry in settings.items()}


def archive(settings: Mapping[str, Mapping], name: str) -> Archive:
    """One archive of that table; raises UserError if there is none of this name."""
    known = archives(settings)
    if name not in known:
        raise UserError(f"archive: {name!r} is not one of {', '.join(known)}")
    return known[name]


def converted(task: Mapping, table: Mapping[str, Mapping], path: Path) -> xr.Dataset:
    """The dataset of a task whose data are in an archive, or in its twin, at ``path``; table: of all archives."""
    own = archive(table, task["archive"])
    folder = open_archive(path, own)
    dataset = modules.call(task["module"], "convert", folder, values_of(task["data"]))
    synthetic = is_twin(folder)
    return dataset.assign_attrs(
        source=f"{TWIN} of {own.name}, simulated" if synthetic else f"measured, {own.url}",
        synthetic="twin" if synthetic else "no",
        attribution=own.attribution,
        licence=own.licence,
        constants=json.dumps(task["data"]),
    )


# Download


def download(archive: Archive, path: Path) -> None:
    """Fetch an archive to ``path``, which appears only when length and MD5 are right.

    What arrives is kept as ``<path>.part``: always the same name, so that a killed download leaves one file, which the
    next one replaces. Raises UserError with the address, what was expected and found, and what to do.
    """
    part = path.with_name(f"{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.unlink(missing_ok=True)  # what a killed download left is room for this one
        _announce(archive, path)
        try:
            _fetch(archive, part)
            os.replace(part, path)
        finally:
            part.unlink(missing_ok=True)
    except requests.exceptions.ChunkedEncodingError as error:
        raise _fault(archive, f"truncated, the connection ended early: {_reason(error)}") from error
    except requests.RequestException as error:  # an OSError too, so it comes first
        raise _fault(archive, f"cannot be fetched: {_reason(error)}") from error
    except OSError as error:
        free = f"; {_megabytes(_free(path))} are free in {path.parent}" if path.parent.is_dir() else ""
        needs = f"the archive needs {_megabytes(archive.size)}{free}"
        what = f"cannot be written to {path}: {error.strerror or error}; {needs}"
        raise _fault(archive, what, ROOM) from error


def _announce(archive: Archive, path: Path) -> None:
    free, about = _free(path), "" if archive.bytes else "about "
    sizes = f"{about}{_megabytes(archive.size)} to be fetched to {path}, {_megabytes(free)} free there"
    logger.info("%s: %s (%s, %s)", archive.url, sizes, archive.licence, archive.attribution)
    if free < archive.size:
        raise _fault(archive, f"the disk has not enough room: {sizes}", ROOM)


def _fetch(archive: Archive, part: Path) -> None:
    with requests.Session() as session:
        retry = Retry(RETRIES, backoff_factor=BACKOFF_SECONDS, status_forcelist=(500, 502, 503, 504))
        retry.raise_on_status = False  # the last answer is reported below
        retry.respect_retry_after_header = False  # it may ask for an hour
        for scheme in ("http://", "https://"):
            session.mount(scheme, HTTPAdapter(max_retries=retry))
        as_it_is = {"Accept-Encoding": "identity"}  # a compressed answer would have another length
        with session.get(archive.url, headers=as_it_is, stream=True, timeout=TIMEOUT_SECONDS) as response:
            if response.status_code != 200:
                raise _fault(archive, f"expected status 200, the server answers {response.status_code}")
            header = response.headers.get("Content-Length", "")
            announced = int(header) if header.isdigit() else 0
            if announced and archive.bytes not in (0, announced):
                raise _wrong_length(archive, archive.bytes, announced)
            received, md5 = _save(response, part, announced or archive.size)
    if received != (archive.bytes or announced or received):
        raise _wrong_length(archive, archive.bytes or announced, received)
    if md5 != archive.md5:
        raise _fault(archive, f"expected MD5 {archive.md5}, found {md5}")


def _save(response: requests.Response, part: Path, expected: int) -> tuple[int, str]:
    """Write the answer to a file as it comes; its length and MD5."""
    received, md5 = 0, new_md5()
    start = told = time.monotonic()
    with open(part, "wb") as file:
        for chunk in response.iter_content(CHUNK):
            file.write(chunk)
            md5.update(chunk)
            received += len(chunk)
            now = time.monotonic()
            if now - told >= PROGRESS_SECONDS:
                told = now
                rate = _megabytes(received / (now - start))
                logger.info("%s: %.0f %%, %s/s", part.stem, 100 * received / expected, rate)
        file.flush()
        os.fsync(file.fileno())
    return received, md5.hexdigest()


def _free(path: Path) -> int:
    return shutil.disk_usage(path.parent).free


def _megabytes(count: float) -> str:
    return f"{count / 1e6:,.1f} MB"


def _reason(error: BaseException) -> str:
    """What lies at the bottom of a chain of network errors, on one line."""
    while error.__context__:
        error = error.__context__
    return " ".join(str(error).split()) or type(error).__name__


def _wrong_length(archive: Archive, expected: int, found: int) -> UserError:
    return _fault(archive, f"wrong length: expected {expected} bytes, found {found}")


def _fault(archive: Archive, what: str, remedy: str = "Try again later") -> UserError:
    by_hand = f"put {archive.name}.zip, or the folder {archive.name} unpacked from it, into the folder that offline_dir"
    return UserError(f"{archive.url}: {what}. {remedy}; or fetch it by hand and {by_hand} names.")


# Reading


def open_archive(path: Path, archive: Archive) -> Location:
    """The archive's own folder.

    Parameters
    ----------
    path : pathlib.Path
        Of ``<name>.zip``, of which length and MD5 are checked, or of the folder ``<name>`` unpacked from it.
    archive : Archive

    Returns
    -------
    pathlib.Path or zipfile.Path
        Either kind has ``/``, exists, is_dir, iterdir, read_bytes and open; only what is read is unpacked.

    Raises
    ------
    UserError
        Naming the file that is missing, is not the published one, or cannot be read.
    """
    if path.is_dir():
        return path
    if not path.is_file():
        raise UserError(f"{path}: no such file or folder; expected {archive.name}.zip or its folder {archive.name}")
    length = path.stat().st_size
    if archive.bytes and length != archive.bytes:
        raise UserError(f"{path}: wrong length: expected {archive.bytes} bytes, found {length}; fetch it again")
    with path.open("rb") as file:
        md5 = hashlib.file_digest(file, new_md5).hexdigest()
    if md5 != archive.md5:
        raise UserError(f"{path}: expected MD5 {archive.md5}, found {md5}: damaged or another version; fetch it again")
    try:
        folder = zipfile.Path(path) / archive.name
    except zipfile.BadZipFile as error:
        raise UserError(f"{path}: not a readable zip file: {error}") from error
    if not folder.is_dir():
        raise UserError(f"{path}: holds no folder {archive.name}")
    return folder


def is_twin(folder: Location) -> bool:
    """Whether an archive's folder holds a synthetic twin, not measurements.

    Parameters
    ----------
    folder : pathlib.Path or zipfile.Path
        Of :func:`open_archive`.

    Returns
    -------
    bool
    """
    return (folder / TWIN_MARK).is_file()


def read_table(
    file: Location, columns: Sequence[str], rows: int | None = None, text_columns: Sequence[str] = ()
) -> pd.DataFrame:
    """These columns of a CSV file.

    Parameters
    ----------
    file : pathlib.Path or zipfile.Path
    columns : sequence of str
    rows : int, optional
        How many there must be; None for any number but zero.
    text_columns : sequence of str, optional
        Those of ``columns`` that stay text.

    Returns
    -------
    pandas.DataFrame
        As float64, but for ``text_columns``.

    Raises
    ------
    UserError
        Naming the file for anything that is not a table of finite numbers with these columns and rows.
    """
    header, *lines = _csv_lines(file)
    missing = [name for name in columns if name not in header]
    if missing:
        raise UserError(f"{file}: no column {', '.join(missing)}; there are {', '.join(header)}")
    for row, line in enumerate(lines, 1):
        if len(line) != len(header):
            raise UserError(f"{file}: row {row} has {len(line)} values, the header has {len(header)}")
    if len(lines) != rows and (rows is not None or not lines):
        raise UserError(f"{file}: expected {rows or 'some'} rows, found {len(lines)}")
    cells = {name: [line[header.index(name)] for line in lines] for name in columns}
    numeric = {name: [_number(cell) for cell in cells[name]] for name in columns if name not in text_columns}
    _check_finite(file, numeric, cells)
    return pd.DataFrame(cells | numeric)


def _csv_lines(file: Location) -> list[list[str]]:
    """The header and the rows, split into cells; empty lines are left out."""
    content = _content(file)
    if content.startswith(BYTE_ORDER_MARKS):
        raise UserError(f"{file}: begins with a byte order mark (BOM); expected UTF-8 text without it")
    try:
        lines = list(filter(None, csv.reader(io.StringIO(content.decode(), newline=""), strict=True)))
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{file}: not a CSV file: {error}") from error
    if not lines:
        raise UserError(f"{file}: empty; expected a CSV file with a header")
    return lines


def _number(cell: str) -> float:
    try:
        return float(cell)
    except ValueError:
        return float("nan")


def _check_finite(file: Location, numeric: Mapping[str, list[float]], cells: Mapping[str, list[str]]) -> None:
    bad = [(row, name) for name, values in numeric.items() for row in np.flatnonzero(~np.isfinite(values))]
    if bad:
        row, name = min(bad, key=lambda place: place[0])
        found = f"{cells[name][row]!r} is not a finite number ({len(bad)} such values in the columns read)"
        raise UserError(f"{file}: row {row + 1}, column {name}: {found}")


def read_images(folder: Location, names: Sequence[str], size: int) -> np.ndarray:
    """Images of an experiment, from the JPEG files in ``images_<size>``.

    Holds no more than the result and one image.

    Parameters
    ----------
    folder : pathlib.Path or zipfile.Path
        Of the experiment.
    names : sequence of str
        Of the files.
    size : int
        Pixels a side.

    Returns
    -------
    ndarray of shape (image, row, column, channel)
        uint8, in RGB.

    Raises
    ------
    UserError
        Naming the image that is missing, damaged, or not size x size pixels of RGB.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder")
    images_folder = folder / f"images_{size}"
    if not images_folder.is_dir():
        found = sorted(entry.name for entry in folder.iterdir() if entry.name.startswith("images_") and entry.is_dir())
        raise UserError(f"{images_folder}: no such folder; there are {', '.join(found) or 'no images_* folders'}")
    images = np.empty((len(names), size, size, 3), np.uint8)
    for image, name in zip(images, names, strict=True):
        image[:] = _image(images_folder / name, size)
    return images


def _image(file: Location, size: int) -> np.ndarray:
    content = _content(file)
    try:
        image = Image.open(io.BytesIO(content), formats=["JPEG"])
        image.load()
    except Exception as error:  # Pillow raises many kinds for a damaged file
        raise UserError(f"{file}: not a readable JPEG image (truncated or foreign): {error}") from error
    if (image.size, image.mode) != ((size, size), "RGB"):
        found = f"{image.width} x {image.height} pixels, {image.mode}"
        raise UserError(f"{file}: expected {size} x {size} pixels, RGB, found {found}")
    return np.asarray(image)


def _content(file: Location) -> bytes:
    try:
        return file.read_bytes()
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
        raise UserError(f"{file}: no such file") from error
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError) as error:
        raise UserError(f"{file}: cannot be read, it is damaged: {error}") from error
