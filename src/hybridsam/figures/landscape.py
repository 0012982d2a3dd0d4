"""The figure ``landscape``: measures of what the science lacks over theta; a table in, a Matplotlib figure out."""

import math
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from hybridsam.analysis.landscapes import OF_BOTH
from hybridsam.core.methods import in_order
from hybridsam.figures.style import (
    DOTTED,
    FIELDS,
    TRUE_VALUE,
    WIDTH,
    Look,
    empty_figure,
    in_lines,
    legend,
    log_scale,
    look,
    sentence,
    styled,
    with_unit,
)

HEADINGS = {
    "left": "root mean square of g that\nthe assumption does not allow",
    "correlation": "size of the correlation\nof f and g",
    "combination": "mean square of g times\nsize of its mean product with f",
}
ACROSS = 3  # panels beside each other
HEIGHT, LOW, PAGE = 1.3, 0.55, 5.0  # in: of a row of panels, at least, and of all curves where that is enough
DASHES: tuple[Any, ...] = ("-", (0, (5, 1.5)), (0, (5, 1, 1, 1)), (0, (2.5, 1)), DOTTED)
GREYS = ("0.0", "0.45")
MINIMUM: Look = {"linestyle": "", "marker": "v", "markersize": 5, "markerfacecolor": "white", "zorder": 4}
TRAINED: Look = {"linestyle": "", "markersize": 5, "zorder": 5, "clip_on": False}
TRUTH: Look = {"color": "black", "linestyle": "", "marker": "x", "markersize": 7, "zorder": 6}
FLOOR = 1e-6  # of the largest value, below which nothing is shown, such as round-off
FLAT = 1e-6  # decades from the least to the largest value of a map, below which it has no shades
LEVELS = 10  # of the shades of a map


@styled
def draw_landscape(table: pd.DataFrame, title: str) -> Figure:
    """A row of curves for each parameter, and of two parameters a map for each measure.

    table: of :func:`hybridsam.analysis.landscapes.landscape`.
    """
    curves, maps = (table[table["statistic"] == kind] for kind in ("curve", "map"))
    if curves.empty:
        return sentence(f"There is no landscape: {table['reason'].iloc[0]}.", title)
    parameters, measures = list(curves["parameter"].unique()), list(curves["measure"].unique())
    height = max(LOW, min(HEIGHT, PAGE / len(parameters)))
    rows = [height] * len(parameters) + [HEIGHT] * math.ceil(len(measures) / ACROSS * (not maps.empty))
    figure = empty_figure(title, sum(rows) + 0.7 * len(rows) + 0.6, WIDTH)
    axes = figure.subplots(len(rows), ACROSS, squeeze=False, gridspec_kw={"height_ratios": rows})
    styles = _styles([name for name in measures if name not in OF_BOTH])
    for row, parameter in zip(axes, parameters, strict=False):
        _curves(row, table[table["parameter"] == parameter], styles)
    for axis, heading in zip(axes[0], HEADINGS.values(), strict=True):
        axis.set_title(heading)
    of_maps = axes[len(parameters) :].ravel()
    for axis, measure in zip(of_maps, measures, strict=False):
        _map(axis, table, maps[maps["measure"] == measure], styles)
    for axis in of_maps[len(measures) :]:
        axis.set_axis_off()
    legend(figure, _handles(table, styles, not maps.empty), 3)
    return figure


def _styles(assumptions: list[str]) -> dict[str, Look]:
    """How the curve of each assumption looks."""
    return {
        name: {"color": GREYS[i // len(DASHES) % 2], "linestyle": DASHES[i % len(DASHES)], "linewidth": 1.3}
        for i, name in enumerate(assumptions)
    }


def _curves(row: np.ndarray, of: pd.DataFrame, styles: dict[str, Look]) -> None:
    """The three panels of a parameter; of: its rows."""
    curves, minima = (of[of["statistic"] == kind] for kind in ("curve", "minimum"))
    plain: Look = {"color": "black", "linewidth": 1.3}
    for axis, measures in zip(row, (styles, *({name: plain} for name in OF_BOTH)), strict=True):
        values = []
        for name, how in measures.items():
            curve = curves[curves["measure"] == name]
            axis.plot(curve["theta"], curve["value"], **how)
            for theta in minima.loc[minima["measure"] == name, "theta"]:
                least = np.interp(theta, curve["theta"], curve["value"])
                axis.plot(theta, least, color=how["color"], **MINIMUM)
            values.extend(curve.loc[curve["value"] > 0, "value"])
        if "correlation" in measures:
            axis.set_ylim(0, 1)
        elif values:
            bottom = max(min(values), FLOOR * max(values))
            log_scale(axis, max(values) / bottom)
            axis.set_ylim(0.7 * bottom, 1.4 * max(values))
        if of["true"].notna().any():
            axis.axvline(of["true"].dropna().iloc[0], **TRUE_VALUE)
        axis.xaxis.set_major_locator(MaxNLocator(3, steps=[1, 2, 5, 10]))
        axis.set_xlim(curves["theta"].min(), curves["theta"].max())
        axis.set_xlabel(in_lines(with_unit(of["parameter"].iloc[0], of["unit"].iloc[0]), 34))
    for method, theta in _trained(of).items():
        colour, marker = look(method)
        if curves["theta"].min() <= theta <= curves["theta"].max():
            for axis in row:
                axis.plot(theta, 0, color=colour, marker=marker, transform=axis.get_xaxis_transform(), **TRAINED)


def _map(axis: Axes, table: pd.DataFrame, of: pd.DataFrame, styles: dict[str, Look]) -> None:
    """A measure over two parameters, from dark, where it is small, to bright."""
    grid = of.pivot(index="theta_2", columns="theta", values="value")
    values = np.log10(np.maximum(grid.to_numpy(), np.finfo(float).tiny))
    shades = np.quantile(values, np.linspace(0, 1, LEVELS + 1))
    if shades[-1] - shades[0] > FLAT:
        axis.contourf(grid.columns, grid.index, values, np.unique(shades), cmap=FIELDS)
    measure, names = of["measure"].iloc[0], (of["parameter"].iloc[0], of["parameter_2"].iloc[0])
    both = table.set_index("parameter")
    minimum = both[(both["statistic"] == "minimum") & (both["measure"] == measure)]["theta"]
    if set(names) <= set(minimum.index):
        axis.plot(*(minimum[name] for name in names), color="black", **MINIMUM)
    true = both["true"].dropna().groupby(level=0).first()
    if set(names) <= set(true.index):
        axis.plot(*(true[name] for name in names), **TRUTH)
    first, second = (_trained(both.loc[[name]]) for name in names)
    for method in first.index:
        colour, marker = look(method)
        axis.plot(first[method], second[method], color=colour, marker=marker, **TRAINED | {"clip_on": True})
    axis.set(xlim=(grid.columns.min(), grid.columns.max()), ylim=(grid.index.min(), grid.index.max()))
    axis.grid(False)
    axis.set_title(in_lines(measure, 30))
    labels = [in_lines(with_unit(name, both.loc[[name], "unit"].iloc[0]), 26) for name in names]
    axis.set(xlabel=labels[0], ylabel=labels[1])
    for numbers in (axis.xaxis, axis.yaxis):
        numbers.set_major_locator(MaxNLocator(3, steps=[1, 2, 5, 10]))


def _trained(of: pd.DataFrame) -> pd.Series:
    """method -> median of theta over its runs; of: rows of one parameter."""
    runs = of[of["statistic"] == "run"].dropna(subset="theta")
    medians = runs.groupby("method")["theta"].median()
    return medians[in_order(medians.index)]


def _handles(table: pd.DataFrame, styles: dict[str, Look], maps: bool) -> list[Line2D]:
    handles = [Line2D([], [], label=in_lines(name, 40), **how) for name, how in styles.items()]
    if (table["statistic"] == "minimum").any():
        handles.append(Line2D([], [], color="black", label="least: θ by the assumption", **MINIMUM))
    if table["true"].notna().any():
        known = "true" if table["data"].iloc[0] == "simulated" else "published"
        handles.append(Line2D([], [], label=f"{known} value", **TRUE_VALUE))
        handles += [Line2D([], [], label=f"{known} value, in maps", **TRUTH)] * maps
    for method in in_order(table.dropna(subset="theta").query("statistic == 'run'")["method"].unique()):
        colour, marker = look(method)
        handles.append(Line2D([], [], color=colour, marker=marker, label=f"{method}, trained", **TRAINED))
    return handles
