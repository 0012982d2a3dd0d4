"""The figure ``tradeoff``, the plane of both errors: a table in, a Matplotlib figure out."""

from typing import Literal

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.transforms import Bbox

from hybridsam.core.blocks import canonical
from hybridsam.core.methods import BASELINE, has_rho, in_order
from hybridsam.figures.style import (
    CROWD,
    THIN,
    WIDTH,
    Look,
    empty_figure,
    in_lines,
    legend,
    log_scale,
    look,
    row_label,
    sentence,
    styled,
    with_unit,
)

ACROSS = 3  # panels beside each other, of parameters
MARKER = 12  # pixels of the screen, with some air around it
LABEL: Look = {"facecolor": "white", "alpha": 0.7, "linewidth": 0, "pad": 0.5}
LABELS = {  # where the label of a marker may stand, by preference: offset in points -> alignment
    (5, 3): ("left", "bottom"),
    (-5, 3): ("right", "bottom"),
    (5, -3): ("left", "top"),
    (-5, -3): ("right", "top"),
}


def nothing_to_compare(table: pd.DataFrame) -> bool:
    """Whether no centre has a place in the plane."""
    places = table.loc[
        table["statistic"] == "centre", ["theta_error" if "theta_error" in table else "theta", "y_error"]
    ]
    return not np.isfinite(places.to_numpy(dtype=float)).all(axis=1).any()


@styled
def draw_tradeoff(table: pd.DataFrame, title: str) -> Figure:
    """The plane of θ-error and y-error: a marker for each method and rho, dots for runs, the Pareto front.

    table: method, rho, seed, statistic (run, centre), n, failed, diverged, front (whether a centre lies on it),
    y_error, y_error_unit and, where theta is known, theta_error, theta_error_unit. Where a method has several centres,
    a line joins them in the order of rho, and its ends have labels as far as there is room. Where theta is not known,
    theta itself takes the place of its error, a panel a parameter: parameter, theta, unit.
    """
    if nothing_to_compare(table):
        return sentence("Every run failed: there is nothing to compare.", title)
    x = "theta_error" if "theta_error" in table else "theta"  # none of a method that does without the science
    centres = table[(table["statistic"] == "centre") & (table["n"] > 0) & table[x].notna()]
    runs = table[(table["statistic"] == "run") & (table["failed"] == 0)]
    if "theta_error" not in table:
        return _theta_itself(runs, centres, title)
    figure = empty_figure(title, 4.2, 0.6 * WIDTH)
    axis = figure.subplots(height_ratios=[2.9])
    for method in in_order(centres["method"]):
        _method_in_plane(axis, runs[runs["method"] == method], centres[centres["method"] == method], "theta_error")
    sides: dict[str, Literal["x", "y"]] = {"theta_error": "x", "y_error": "y"}
    for name, which in sides.items():
        values = pd.concat([runs[name], centres[name]])
        low, high = values.min(), values.max()
        if low > 0 and high / low >= 5:
            log_scale(axis, high / low, which)
    if centres["front"].any():
        _front(axis, centres[centres["front"]])
    axis.set_xlabel(in_lines(with_unit("θ-error", table["theta_error_unit"].iloc[0]), 50))
    axis.set_ylabel(in_lines(with_unit("y-error (test MSE)", table["y_error_unit"].iloc[0]), 44))
    legend(figure, _plane_handles(centres), 3)
    _label_ends(figure, axis, centres)
    return figure


def _theta_itself(runs: pd.DataFrame, centres: pd.DataFrame, title: str) -> Figure:
    """The y-error over each parameter, where there is no θ-error."""
    parameters = list(centres["parameter"].unique())
    across = min(ACROSS, len(parameters))
    down = -(-len(parameters) // across)
    figure = empty_figure(title, 1.9 * down + 1.3, WIDTH * (1 if across > 1 else 0.6))
    grid = figure.subplots(down, across, sharey=True, squeeze=False, height_ratios=[1.6] * down)
    for axis in grid.flat[len(parameters) :]:
        axis.set_axis_off()
    for axis, parameter in zip(grid.flat, parameters, strict=False):
        own, own_centres = (rows[rows["parameter"] == parameter] for rows in (runs, centres))
        for method in in_order(own_centres["method"]):
            _method_in_plane(axis, own[own["method"] == method], own_centres[own_centres["method"] == method], "theta")
        axis.set_xlabel(in_lines(with_unit(parameter, own_centres["unit"].iloc[0]), 24))
        axis.locator_params(axis="x", nbins=3)
    errors = pd.concat([runs["y_error"], centres["y_error"]])
    errors = errors[np.isfinite(errors)]
    if errors.min() > 0 and errors.max() / errors.min() >= 5:
        log_scale(grid[0, 0], errors.max() / errors.min())
    for axis in grid[:, 0]:
        axis.set_ylabel(row_label("y-error (test MSE)", centres["y_error_unit"].iloc[0]))
    legend(figure, _plane_handles(centres))
    return figure


def _method_in_plane(axis: Axes, runs: pd.DataFrame, centres: pd.DataFrame, x: str) -> None:
    """Runs as faint dots; the centres at every rho, hollow where runs failed, joined in the order of rho.

    x: what is to the right, theta_error or theta.
    """
    colour, marker = look(centres["method"].iloc[0])
    dots: Look = {"linestyle": "", "marker": ".", "markersize": 4, "markeredgewidth": 0, "alpha": 0.4}
    axis.plot(runs[x], runs["y_error"], color=colour, rasterized=len(runs) > CROWD, **dots)
    centres = centres.sort_values("rho")
    axis.plot(centres[x], centres["y_error"], color=colour, linewidth=THIN)
    gone = centres["failed"] > 0
    for which, face in ((~gone, colour), (gone, "white")):
        some: Look = {"linestyle": "", "marker": marker, "markersize": 6, "markerfacecolor": face, "zorder": 3}
        axis.plot(centres[x][which], centres["y_error"][which], color=colour, **some)


def _front(axis: Axes, centres: pd.DataFrame) -> None:
    """What can be reached: a step line through the centres on the front, to the edges of the panel."""
    front = centres.sort_values(["theta_error", "y_error"])
    axis.set(xlim=axis.get_xlim(), ylim=axis.get_ylim())
    right, top = axis.get_xlim()[1], axis.get_ylim()[1]
    x = [front["theta_error"].iloc[0], *front["theta_error"], right]
    y = [top, *front["y_error"], front["y_error"].iloc[-1]]
    axis.plot(x, y, color="black", linewidth=1.2, drawstyle="steps-post", zorder=2.5)


def _label_ends(figure: Figure, axis: Axes, centres: pd.DataFrame) -> None:
    """The smallest and the largest rho of each method, where that hides no marker and no other label."""
    figure.draw_without_rendering()  # before that, nothing has a place
    places = axis.transData.transform(centres[["theta_error", "y_error"]].to_numpy(dtype=float))
    taken = [Bbox.from_bounds(x - MARKER / 2, y - MARKER / 2, MARKER, MARKER) for x, y in places]
    for _, of_method in centres[centres["method"].map(has_rho)].groupby("method"):
        for _, end in of_method.sort_values("rho").iloc[[0, -1]].drop_duplicates("rho").iterrows():
            _label_if_there_is_room(axis, end, taken)


def _label_if_there_is_room(axis: Axes, centre: pd.Series, taken: list[Bbox]) -> None:
    how: Look = {"textcoords": "offset points", "in_layout": False, "bbox": LABEL}
    for offset, (ha, va) in LABELS.items():
        point = centre["theta_error"], centre["y_error"]
        text = axis.annotate(canonical(centre["rho"]), point, offset, ha=ha, va=va, **how)
        box = text.get_window_extent()
        inside = all(axis.bbox.contains(x, y) for x, y in box.corners())
        if inside and not any(box.overlaps(other) for other in taken):
            taken.append(box)
            return
        text.remove()


def _plane_handles(centres: pd.DataFrame) -> list[Line2D]:
    handles = []
    for method in in_order(centres["method"]):
        colour, marker = look(method)
        name = f"{method} (baseline)" if method == BASELINE else method
        handles.append(Line2D([], [], color=colour, linewidth=THIN, marker=marker, markersize=6, label=name))
    handles.append(Line2D([], [], color="0.5", linestyle="", marker=".", label="one run"))
    if centres["front"].any():
        handles.append(Line2D([], [], color="black", linewidth=1.2, label="Pareto front"))
    hollow: Look = {"linestyle": "", "marker": "o", "markersize": 6, "markerfacecolor": "white"}
    if (centres["failed"] > 0).any():
        handles.append(Line2D([], [], color="0.3", label="some runs failed", **hollow))
    return handles
