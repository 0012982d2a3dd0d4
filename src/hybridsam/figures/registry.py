"""The figures of a task: the table of the analysis that each is drawn from, how it is drawn, and writing both."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from hybridsam.analysis.errors_rho import errors_rho
from hybridsam.analysis.histories import losses, theta_training
from hybridsam.analysis.landscapes import landscape
from hybridsam.analysis.predictions import predictions
from hybridsam.analysis.residuals import residuals
from hybridsam.analysis.results import Results
from hybridsam.analysis.tradeoff import tradeoff
from hybridsam.core.errors import UserError
from hybridsam.core.files import write_whole
from hybridsam.figures.errors_rho import draw_errors_rho
from hybridsam.figures.histories import draw_losses, draw_theta_training
from hybridsam.figures.images import draw_fields, draw_frames, draw_images
from hybridsam.figures.landscape import draw_landscape
from hybridsam.figures.readings import draw_differences, draw_ratios
from hybridsam.figures.residuals import draw_residual_maps, draw_residual_readings, draw_residual_series
from hybridsam.figures.style import FORMATS, save
from hybridsam.figures.time_series import draw_time_series
from hybridsam.figures.tradeoff import draw_tradeoff

Draw = Callable[[pd.DataFrame, str], Figure]

DRAWN: dict[str, Draw] = {  # kind of table, by the kind of target -> how it is drawn
    "time series": draw_time_series,
    "readings": draw_ratios,
    "differences": draw_differences,
    "fields": draw_fields,
    "frames": draw_frames,
    "images": draw_images,
    "residual series": draw_residual_series,
    "residual readings": draw_residual_readings,
    "residual maps": draw_residual_maps,
}


def draw_kind(table: pd.DataFrame, title: str) -> Figure:
    """The figure for the kind of target that the table shows."""
    return DRAWN[table["kind"].iloc[0]](table, title)


FIGURES: dict[str, tuple[Callable[[Results], pd.DataFrame], Draw]] = {
    "predictions": (predictions, draw_kind),
    "residuals": (residuals, draw_kind),
    "theta_training": (theta_training, draw_theta_training),
    "errors_rho": (errors_rho, draw_errors_rho),
    "tradeoff": (tradeoff, draw_tradeoff),
    "losses": (losses, draw_losses),
    "landscape": (landscape, draw_landscape),
}


def tabulate(name: str, results: Results) -> pd.DataFrame:
    """The table that a figure is drawn from, columns like ``step=20`` last; data says where the data come from.

    A run in it is a dataset, by data_seed, and a seed; datasets says how many datasets there are.
    """
    if name not in FIGURES:
        raise UserError(f"figure: {name!r} is not one of {', '.join(FIGURES)}")
    table = FIGURES[name][0](results).assign(data=results.data, datasets=results.cube.sizes["data"])
    return table[sorted(table, key=lambda column: "=" in column)]


def write(name: str, results: Results, outputs: Sequence[Path]) -> None:
    """Write one figure as .pdf, .svg or .png and its table as .csv; equal results give equal bytes."""
    table = tabulate(name, results)
    figure = FIGURES[name][1](table, results.title)
    for path in outputs:
        if path.suffix == ".csv":
            write_whole(path, partial(table.to_csv, index=False))
        elif path.suffix in FORMATS:
            write_whole(path, partial(save, figure, kind=path.suffix))
        else:
            raise UserError(f"{path}: a figure is written as {', '.join(FORMATS)} or .csv")
