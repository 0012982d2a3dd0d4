"""The figure ``predictions`` of readings, one number for each component: a table in, a Matplotlib figure out."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from hybridsam.core.methods import in_order
from hybridsam.figures.style import (
    SCIENCE_POINTS,
    TRUTH,
    Look,
    leftmost,
    legend,
    look,
    panels,
    ratio_scale,
    run_heading,
    styled,
    with_unit,
)

Ends = tuple[float, float]
LINE = 0.145  # in: height of a line


@styled
def draw_ratios(table: pd.DataFrame, title: str) -> Figure:
    """Predicted over measured values on a logarithmic axis: a column a method, a line a component and test sample.

    A ratio beyond the axis, or that is not positive, is a triangle on its edge.
    """
    return _compared(table.assign(row="", compared=table["ratio"]), title)


@styled
def draw_differences(table: pd.DataFrame, title: str) -> Figure:
    """Predicted minus measured values: as :func:`ratios`, with a row of panels, on one axis, for each unit."""
    return _compared(table.assign(row=table["unit"], compared=table["difference"]), title)


def _compared(table: pd.DataFrame, title: str) -> Figure:
    methods, samples = in_order(table["method"]), list(table["sample"].unique())
    components = {row: list(rows["component"].unique()) for row, rows in table.groupby("row", sort=False)}
    each = len(samples) + 0.6  # the lines of a component and a gap
    position = {name: i for names in components.values() for i, name in enumerate(names)}
    table = table.assign(place=each * table["component"].map(position) + table["sample"].map(samples.index))
    heights = [0.6 + LINE * each * len(names) + 0.4 * (len(components) > 1) for names in components.values()]
    figure, axes = panels(list(components), methods, title, heights, sharex="row")
    beyond = False
    for (row, method), panel in table.groupby(["row", "method"]):
        axis, of_row = axes[row, method], table[table["row"] == row]
        axis.set_title(run_heading(panel) if row == next(iter(components)) else "")
        axis.axvline(1 if "ratio" in table else 0, **TRUTH)
        low, high = ratio_scale(axis, of_row["ratio"]) if "ratio" in table else _difference_scale(axis, of_row)
        for series, how in _point_looks(method).items():
            _points(axis, panel[panel["series"] == series], (low, high), how)
        axis.set_xlabel(with_unit("predicted −\nmeasured\n", row) if row else "predicted /\nmeasured")
        beyond |= bool((panel["compared"].lt(low) | panel["compared"].gt(high)).any())
    for row, rows in table.groupby("row"):
        for axis in leftmost(axes, row):
            _name_lines(axis, rows)
    how = _point_looks("")
    full = Line2D([], [], label="full model (in the method's colour and marker)", **how["full model"])
    science = Line2D([], [], label="science part alone", **how["science part"])
    outside = Line2D([], [], color="0.3", linestyle="", marker=">", label="beyond the axis")
    legend(figure, [full, science] + [outside] * beyond)
    return figure


def _difference_scale(axis: Axes, rows: pd.DataFrame) -> Ends:
    """An axis around 0 for all differences of full models, and for others up to three times as large; its ends."""
    sizes = rows["compared"].abs().where(np.isfinite(rows["compared"]), 0.0)
    most, far = sizes[rows["series"] == "full model"].max(), sizes.max()
    end = float(min(far, 3 * most) if most else far) or 1.0
    axis.set_xlim(-1.1 * end, 1.1 * end)
    return -end, end


def _name_lines(axis: Axes, rows: pd.DataFrame) -> None:
    """The measured value on the left of each line, and left of these the component: with its unit where they differ."""
    first = rows.drop_duplicates("place")
    axis.set_ylim(first["place"].max() + 1, -1)
    values = [f"{value:.5g}".replace("-", "−") for value in first["measured"]]
    axis.set_yticks(first["place"], values)
    units = dict(zip(first["component"], first["unit"], strict=True))
    alike, alone = len(set(units.values())) == 1, len(units) == 1
    if not alone:
        names = [name if alike else with_unit(name, unit) for name, unit in units.items()]
        axis.set_yticks(first.groupby("component", sort=False)["place"].mean(), names, minor=True)
        axis.yaxis.remove_overlapping_locs = False  # the minor ticks, which carry the components' names
        axis.tick_params(axis="y", which="minor", pad=14 + 5.5 * max(map(len, values)), length=0)
    name = first["component" if alone else "name"].iloc[0]
    axis.set_ylabel(with_unit(f"{name}, measured", first["unit"].iloc[0] if alike else "1"))


def _point_looks(method: str) -> dict[str, Look]:
    colour, marker = look(method)
    return {"science part": SCIENCE_POINTS, "full model": {"color": colour, "marker": marker, "linestyle": ""}}


def _points(axis: Axes, points: pd.DataFrame, ends: Ends, how: Look) -> None:
    low, high = ends
    compared, place = points["compared"], points["place"]
    axis.plot(compared[compared.between(low, high)], place[compared.between(low, high)], **how)
    for beyond, edge, marker in ((compared > high, high, ">"), (compared < low, low, "<")):
        if beyond.any():
            axis.plot([edge] * beyond.sum(), place[beyond], **how | {"marker": marker})
