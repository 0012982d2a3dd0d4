"""What the pages of the report share: where an experiment lies, numbers with their spread, figures inside a page."""

import base64
import html
from pathlib import Path

import pandas as pd

from hybridsam.errors import UserError


def experiment_folder(results: str, experiment: str) -> Path:
    """The folder of an experiment; ``results`` is looked for here and in every folder above."""
    for start in (Path.cwd(), *Path.cwd().parents):
        folder = start / results / experiment
        if folder.is_dir():
            return folder
    raise UserError(f"report: no folder {results}/{experiment} in {Path.cwd()} or above it")


def identifiability(folder: Path) -> pd.DataFrame:
    """What was known about theta before training: a row a parameter; folder: of the task."""
    return pd.read_csv(folder / "identifiability.csv").drop(columns="data").set_index("parameter").rename_axis(None)


def plus_minus(mean: float, spread: float, sign: str = "") -> str:
    """``0.12 ± 0.03``; a dash for what is not known."""
    if pd.isna(mean):
        return "–"
    return f"{mean:{sign}.3g}" + (f" ± {spread:.2g}" if pd.notna(spread) else "")


def embedded(png: bytes, caption: str) -> str:
    """A figure with its caption, as HTML that needs no other file."""
    text, data = html.escape(caption), base64.b64encode(png).decode()
    return f'<figure><img alt="{text}" src="data:image/png;base64,{data}"><figcaption>{text}</figcaption></figure>'
