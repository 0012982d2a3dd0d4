"""The figure ``predictions`` of fields, frames and images, and what all pictures share: a table in, a figure out."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from hybridsam.core.methods import in_order
from hybridsam.figures.style import (
    BESIDE,
    DIFFERENCES,
    FIELDS,
    IMAGES,
    WIDTH,
    empty_figure,
    run_heading,
    styled,
    with_unit,
)

Scale = dict[str, Any]  # colour map and norm, keywords of imshow


@styled
def draw_fields(table: pd.DataFrame, title: str) -> Figure:
    """Fields of one test sample: a column for data and truth, one for each method; three rows for each component.

    A component has one scale for all its values, which fits data and truth and half their range on both sides, and one
    around 0 for all differences.
    """
    components, methods = list(table["component"].dropna().unique()), in_order(table["method"].dropna())
    height, width = 0.78 * 3 * len(components) + 1, 1.9 + (WIDTH - 1.9) * (1 + len(methods)) / 7
    figure = empty_figure(title, height, width, "compressed")
    grid = image_grid(figure, 3 * len(components), 1 + len(methods))
    grid[0, 0].set_title(_time_and_place(table))
    for axis, method in zip(grid[0, 1:], methods, strict=True):
        axis.set_title(run_heading(table[table["method"] == method]))
    for i, component in enumerate(components):
        _field_rows(figure, grid[3 * i : 3 * i + 3], table[table["component"] == component], methods)
    return figure


def _field_rows(figure: Figure, axes: np.ndarray, rows: pd.DataFrame, methods: Sequence[str]) -> None:
    """Full model, science part and difference of one component."""
    differs, of_model = rows["series"].str.contains("−"), rows["method"].notna()
    measured, values = (pixels_of(rows[~differs & which]) for which in (~of_model, True))
    reach, middle = np.ptp(measured), (measured.min() + measured.max()) / 2
    low, high = max(np.nanmin(values), middle - reach), min(np.nanmax(values), middle + reach)
    most = min(np.nanmax(np.abs(pixels_of(rows[differs])), initial=0), reach)
    scales: list[Scale] = [{"cmap": FIELDS, "norm": Normalize(low, high)}] * 2
    scales.append({"cmap": DIFFERENCES, "norm": Normalize(-most, most)})
    known = [name for name in ("truth", "data", "data − truth") if name in set(rows["series"])]
    for i, series in enumerate(known):
        picture(axes[i, 0], rows[~of_model & (rows["series"] == series)], scales[i])
        axes[i, 0].set_ylabel(series)
    for axis in axes[len(known) :, 0]:
        axis.set_axis_off()
    for i, series in enumerate(("full model", "science part", f"full model − {known[0]}")):
        axes[i, 1].set_ylabel(series.replace(" −", "\n−"))
        for axis, method in zip(axes[i, 1:], methods, strict=True):
            picture(axis, rows[(rows["series"] == series) & (rows["method"] == method)], scales[i])
    name, unit = rows["component"].iloc[0], rows["unit"].iloc[0]
    colour_bar(figure, axes[:2], scales[0], with_unit(name, unit), values)
    colour_bar(figure, axes[2:], scales[2], with_unit(f"difference\nof {name}", unit), pixels_of(rows[differs]))


@styled
def draw_frames(table: pd.DataFrame, title: str) -> Figure:
    """A sequence of images: a row for the data and for each method, columns are times, first of the full model."""
    methods, times = in_order(table["method"].dropna()), table["time"].dropna().unique()
    figure = empty_figure(title, 0.5 * (1 + len(methods)) + 1.3, layout="compressed")
    grid = image_grid(
        figure, 1 + len(methods), 2 * len(times) + 1, width_ratios=[*[1] * len(times), 0.3, *[1] * len(times)]
    )
    for axis in grid[:, len(times)]:
        axis.set_visible(False)
    data = table[table["series"] == "data"]
    scale: Scale = {"cmap": IMAGES, "norm": Normalize(pixels_of(data).min(), pixels_of(data).max())}
    for block, series in ((grid[:, : len(times)], "full model"), (grid[:, -len(times) :], "science part")):
        place = {"xycoords": "axes fraction", "textcoords": "offset points", "in_layout": False}
        block[0, 0].annotate(series, (0, 1), (0, 18), **place)  # the titles' empty lines leave room for it
        for j, time in enumerate(times):
            block[0, j].set_title(f"\n\n{time:g} {table['time_unit'].iloc[0]}")
            picture(block[0, j], data[data["time"] == time], scale)
            shown = table[(table["time"] == time) & (table["series"] == series)]
            for axis, method in zip(block[1:, j], methods, strict=True):
                picture(axis, shown[shown["method"] == method], scale)
    for axis, method in zip(grid[1:, 0], methods, strict=True):
        axis.set_ylabel(
            run_heading(table[table["method"] == method]).replace("\n", ", ", 1).replace("none\n", "none "), **BESIDE
        )
    grid[0, 0].set_ylabel("data", **BESIDE)
    if data["channel"].nunique() == 1:
        label = with_unit(data["channel"].iloc[0], data["unit"].iloc[0])
        colour_bar(figure, grid, scale, label, pixels_of(table), location="bottom", aspect=30, shrink=0.3)
    return figure


@styled
def draw_images(table: pd.DataFrame, title: str) -> Figure:
    """Images: a row a test sample; columns for the data and, of each method, the science part and the full model.

    sample_label, where the table has it, stands below the sample's number, a line for each part after a semicolon.
    """
    methods, samples = in_order(table["method"].dropna()), table["sample"].dropna().unique()
    columns = [(None, "data"), *[(method, series) for method in methods for series in ("science part", "full model")]]
    figure = empty_figure(title, 1.1 * len(samples) + 0.9, 1.3 + (WIDTH - 1.3) * len(columns) / 5, "compressed")
    grid = image_grid(figure, len(samples), len(columns))
    scale: Scale = {"cmap": IMAGES, "norm": Normalize(0, 1)}  # of images with one channel
    for j, (method, series) in enumerate(columns):
        shown = table[(table["method"] == method) if method else table["method"].isna()]
        grid[0, j].set_title(f"{run_heading(shown)}\n{series}" if method else series)
        for axis, sample in zip(grid[:, j], samples, strict=True):
            picture(axis, shown[(shown["sample"] == sample) & (shown["series"] == series)], scale)
    for axis, (sample, rows) in zip(grid[:, 0], table.groupby("sample"), strict=True):
        label = ["", *rows["sample_label"].iloc[0].split("; ")] if "sample_label" in table else []
        axis.set_ylabel(f"test sample {sample:.0f}" + "\n".join(label), **BESIDE)
    return figure


def image_grid(figure: Figure, rows: int, columns: int, **options) -> np.ndarray:
    """Panels for images, (rows, columns)."""
    engine = figure.get_layout_engine()
    assert isinstance(engine, ConstrainedLayoutEngine)
    engine.set(w_pad=0.03, h_pad=0.03, wspace=0.0, hspace=0.0)
    grid = figure.subplots(rows, columns, squeeze=False, **options)
    for axis in grid.flat:
        axis.grid(False)
        axis.set(xticks=[], yticks=[])
        axis.spines[:].set(visible=True, linewidth=0.3)
    return grid


def picture(axis: Axes, rows: pd.DataFrame, scale: Scale) -> None:
    """Rows of pixels of one image, or that there is none; several channels are colours, cut off at 0 and 1."""
    channels = rows["channel"].nunique() if "channel" in rows else 1
    pixels = pixels_of(rows)
    if not np.isfinite(pixels).any():
        axis.set(xlim=(0, 1), ylim=(0, 1), aspect="equal")
        axis.text(0.5, 0.5, "none", ha="center", va="center")
        return
    image = pixels.reshape(channels, -1, pixels.shape[-1])
    if channels == 1:
        axis.imshow(image[0], interpolation="nearest", **scale)
    else:
        axis.imshow(np.clip(np.moveaxis(image, 0, -1), 0, 1), interpolation="nearest")


def pixels_of(rows: pd.DataFrame) -> np.ndarray:
    return rows.filter(regex="^x=").to_numpy()


def colour_bar(figure: Figure, axes: np.ndarray, scale: Scale, label: str, values: np.ndarray, **options) -> None:
    """The colour bar of these panels; its ends are pointed where values lie beyond."""
    low, high = scale["norm"].vmin, scale["norm"].vmax
    below, above = bool((values < low).any()), bool((values > high).any())
    extend: Any = {(False, False): "neither", (True, False): "min", (False, True): "max"}.get((below, above), "both")
    options = {"aspect": 12 * len(axes), "shrink": 0.9} | options
    figure.colorbar(ScalarMappable(**scale), ax=list(axes.flat), label=label, extend=extend, **options)


def _time_and_place(table: pd.DataFrame) -> str:
    """Time of the fields, and how far their outermost points are apart."""
    x = [float(name.removeprefix("x=")) for name in table.filter(regex="^x=")]
    y = table["y"].dropna().astype(float)
    width, height = (f"{np.ptp(values):.3g} {table['length_unit'].iloc[0]}" for values in (x, y))
    return f"t = {table['time'].iloc[0]:g} {table['time_unit'].iloc[0]}\n{width} × {height}"
