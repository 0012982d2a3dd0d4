"""What the pages of the report share: where an experiment lies, tables and numbers as text, figures inside a page."""

import base64
import html
import re
from pathlib import Path

import pandas as pd
import xarray as xr

from hybridsam.core.errors import UserError
from hybridsam.figures.style import written_unit
from hybridsam.report.numbers import in_columns

PIXELS = slice(16, 20), slice(20, 24)  # of a PNG file: width and height
PER_INCH = 96 / 200  # pixels of a page over pixels of a figure: hybridsam.figures.style draws 200 of them in an inch


def found_above(path: str | Path) -> Path | None:
    """A path seen from here, or from the nearest folder above from which it is there; None if there is none."""
    places = (folder / path for folder in (Path.cwd(), *Path.cwd().parents))
    return next((place for place in places if place.exists()), None)


def experiment_folder(results: str, experiment: str) -> Path:
    """The folder of an experiment; ``results`` is looked for here and in every folder above."""
    folder = found_above(Path(results, experiment))
    if folder and folder.is_dir():
        return folder
    known = found_above(results)
    there = f"; there are {', '.join(sorted(path.name for path in known.iterdir()))}" if known else ""
    raise UserError(f"report: no folder {results}/{experiment} in {Path.cwd()} or above it{there}")


def identifiability(folder: Path) -> pd.DataFrame:
    """What was known about theta before training: a row a parameter; folder: of the task."""
    return tidy(pd.read_csv(folder / "identifiability.csv")).set_index("parameter").rename_axis(None)


def tidy(diagnosis: pd.DataFrame) -> pd.DataFrame:
    """An identifiability table as pages show it: without what they say elsewhere, and without columns of nothing.

    Nothing is known of the truth of measured data, of least-norm values without true rates, of bounds where none was
    reached.
    """
    table = diagnosis.drop(columns="data").dropna(axis="columns", how="all")
    return table.assign(unit=table["unit"].astype(str).map(written_unit)) if "unit" in table else table


def rule_of_figures(folder: Path) -> str:
    """The selection rule by which the figures of a task show one ρ of each method; folder: of the task."""
    return str(pd.read_csv(folder / "figures/theta_training.csv", usecols=["rule"], nrows=1)["rule"].item())


def several_datasets(cube: xr.Dataset) -> str:
    """What is said behind a number of seeds, where there are several datasets: `` on each of 3 datasets``."""
    return f" on each of {cube.sizes['data']} datasets" * (cube.sizes["data"] > 1)


def shown(table: pd.DataFrame, otherwise: str = "", index: bool = True) -> str:
    """A table as compact HTML, numbers as :func:`in_columns`; an empty one is the sentence ``otherwise``."""
    if table.empty:
        return f"<p>{html.escape(otherwise)}</p>"
    text = in_columns(table).to_html(index=index, border=0, na_rep="–")
    return re.sub(r"\n\s*", "", text)


def embedded(png: bytes, caption: str) -> str:
    """A figure with its caption, as HTML that needs no other file.

    It has its printed size, and shrinks where the page is narrower; there a click shows it at its size, to be scrolled.
    """
    text, data = html.escape(caption), base64.b64encode(png).decode()
    width, height = (round(PER_INCH * int.from_bytes(png[place])) for place in PIXELS)
    image = f'<img alt="{text.split(". ")[0]}" width="{width}" height="{height}" src="data:image/png;base64,{data}">'
    return (
        f'<figure><label><input type="checkbox" aria-label="full size">{image}</label>'
        f"<figcaption>{text}</figcaption></figure>"
    )
