"""The figure ``residuals`` for each kind of target: a table in, a Matplotlib figure out."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from hybridsam.core.methods import in_order
from hybridsam.figures.images import Scale, colour_bar, image_grid, picture, pixels_of
from hybridsam.figures.style import (
    FIELDS,
    MANY,
    TRUTH,
    WIDTH,
    Look,
    empty_figure,
    in_lines,
    label_below,
    leftmost,
    legend,
    limit,
    log_scale,
    look,
    panels,
    row_label,
    run_heading,
    styled,
    with_unit,
)

BAND: Look = {"color": "0.87", "linewidth": 0}
FAR = 4  # times the least of all methods' largest values: further up, maps have one colour


@styled
def draw_residual_series(table: pd.DataFrame, title: str) -> Figure:
    """Residuals against time: a column a method, a row a component, a line a test sample.

    The axis of a row fits the method with the least residuals; lines that run far from it leave their panel.
    """
    components = list(table["component"].unique())
    height = 1.45 if len(components) > 1 else 2.2
    figure, axes = panels(components, in_order(table["method"]), title, height)
    many = table["time"].nunique() > MANY
    for (component, method), panel in table.groupby(["component", "method"]):
        axis, first = axes[component, method], panel.iloc[0]
        colour = look(method)[0]
        how: Look = {"color": colour, "linewidth": 0.5 if many else 0.8, "marker": "" if many else "."}
        for _, line in panel.groupby("sample"):
            axis.plot(line["time"], line["value"], **how)
        _background(axis, first)
        if np.isfinite(first["rms"]):
            _corner(axis, f"RMS {_short(first['rms'])}\nr₁ {first['autocorrelation']:z.2f}".replace("-", "−"))
        axis.set_title(run_heading(panel) if component == components[0] else "")
    for component in components:
        rows = table[table["component"] == component]
        _limit(axes[component, None], rows, 0.35)
        for axis in leftmost(axes, component):
            axis.set_ylabel(row_label(f"residual of {component}", rows["unit"].iloc[0]))
    if table["rms"].isna().all():
        axes[components[0], None].set_xlim(table["time"].min(), table["time"].max())
    label_below(axes, components[-1], in_lines(with_unit(table["time_name"].iloc[0], table["time_unit"].iloc[0]), 15))
    one = Line2D([], [], color="0.5", linewidth=0.8, marker="" if many else ".", label="one test sample")
    lag = Line2D([], [], linestyle="", label="r₁: autocorrelation at lag 1")
    legend(figure, [one, *_band_handle(table), lag])
    return figure


@styled
def draw_residual_readings(table: pd.DataFrame, title: str) -> Figure:
    """Residuals against the measured value: a column a method, a row a unit, a point a component and test sample."""
    units, methods = list(table["unit"].unique()), in_order(table["method"])
    figure, axes = panels(units, methods, title, 1.9 if len(units) == 1 else 1.6, sharex="row")
    for (unit, method), panel in table.groupby(["unit", "method"]):
        axis, (colour, marker) = axes[unit, method], look(method)
        axis.margins(x=0.12)
        axis.plot(panel["measured"], panel["value"], linestyle="", color=colour, marker=marker)
        _background(axis, panel.iloc[0])
        _corner(axis, f"RMS {_short(panel['rms'].iloc[0])}" * bool(np.isfinite(panel["rms"].iloc[0])))
        axis.set_title(run_heading(panel) if unit == units[0] else "")
        axis.set_xlabel(with_unit("measured\n", unit))
    for unit in units:
        rows = table[table["unit"] == unit]
        low, high = rows["measured"].min(), rows["measured"].max()
        if low > 0 and high / low >= 10 and rows["rms"].notna().any():
            log_scale(axes[unit, None], np.inf, "x")  # panels are too narrow for more than powers of ten
        _limit(axes[unit, None], rows, 0.35)
        alone = rows["component"].nunique() == 1
        of = rows["component" if alone else "name"].iloc[0]
        for axis in leftmost(axes, unit):
            axis.set_ylabel(row_label(f"residual of {of}", unit))
    point = Line2D([], [], color="0.5", linestyle="", marker="o", label="one component of one test sample")
    legend(figure, [point, *_band_handle(table)])
    return figure


@styled
def draw_residual_maps(table: pd.DataFrame, title: str) -> Figure:
    """Root mean square residual at each pixel: a column a method, a row a component, which has one colour scale."""
    components, methods = list(table["component"].unique()), in_order(table["method"])
    height, width = 1.05 * len(components) + 0.85, 1.9 + (WIDTH - 1.9) * len(methods) / 6
    figure = empty_figure(title, height, width, "compressed")
    grid = image_grid(figure, len(components), len(methods))
    for i, component in enumerate(components):
        rows = table[table["component"] == component]
        most = [np.nanmax(pixels_of(of_method)) for _, of_method in rows.dropna(subset="rms").groupby("method")]
        scale: Scale = {"cmap": FIELDS, "norm": Normalize(0, min(max(most), FAR * min(most)) if most else 1)}
        for axis, method in zip(grid[i], methods, strict=True):
            panel = rows[rows["method"] == method]
            picture(axis, panel.dropna(subset="rms"), scale)
            above = f"{run_heading(panel)}\n" * (i == 0)
            axis.set_title(above + f"RMS {_short(panel['rms'].iloc[0])}" * bool(panel["rms"].notna().any()))
        label = in_lines(with_unit(f"RMS residual of {component}\n", rows["unit"].iloc[0]), 14)
        colour_bar(figure, grid[i : i + 1], scale, label, pixels_of(rows))
    return figure


def _background(axis: Axes, row: pd.Series) -> None:
    """The zero line and, where the noise is known, the band of two standard deviations."""
    axis.axhline(0, **TRUTH)
    if row["noise"] > 0:
        axis.axhspan(-2 * row["noise"], 2 * row["noise"], **BAND)


def _corner(axis: Axes, text: str) -> None:
    axis.text(0.04, 0.97, text, transform=axis.transAxes, va="top", linespacing=1.1)


def _short(value: float) -> str:
    """Two digits: ``0.040``, ``890``."""
    return f"{value:#.2g}".rstrip(".") if value < 99.5 else f"{float(f'{value:.2g}'):g}"


def _limit(axis: Axes, rows: pd.DataFrame, room: float) -> None:
    """Show the method with the least residuals, the noise and 0, of others what is near; room: for text, above."""
    if not rows["rms"].notna().any():
        axis.set_yticks([])
        return
    best = rows[rows["rms"] == rows["rms"].min()]
    noise = np.nan_to_num(rows["noise"].iloc[0])
    limit(axis, pd.concat([best["value"], pd.Series([-2 * noise, 0, 2 * noise])]), rows["value"], reach=1.0)
    bottom, top = axis.get_ylim()
    axis.set_ylim(bottom, top + room * (top - bottom))


def _band_handle(table: pd.DataFrame) -> list[Patch]:
    known = bool(table["noise"].iloc[0] > 0)
    return [Patch(facecolor=BAND["color"], label=f"± 2σ of the noise, σ = {table['noise'].iloc[0]:g}")] * known
