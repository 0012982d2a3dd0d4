"""The errors at every strength, drawn against the strength and against each other."""

from typing import Any, Literal

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.transforms import Bbox, ScaledTranslation

from hybridsam.looks import (
    BASELINE,
    CROWD,
    DASHED,
    PENALTIES,
    THIN,
    WIDTH,
    Look,
    empty_figure,
    in_order,
    legend,
    limit,
    log_scale,
    look,
    panels,
    styled,
    with_unit,
)
from hybridsam.settings import canonical

MANY_STRENGTHS = 12  # of a method, between which there is no room for markers, numbers and ticks
MARKER = 12  # pixels of the screen, with some air around it
LABEL: Look = {"facecolor": "white", "alpha": 0.7, "linewidth": 0, "pad": 0.5}
LABELS = {  # where the label of a marker may stand, by preference: offset in points -> alignment
    (5, 3): ("left", "bottom"),
    (-5, 3): ("right", "bottom"),
    (5, -3): ("left", "top"),
    (-5, -3): ("right", "top"),
}


@styled
def errors_rho(table: pd.DataFrame, title: str) -> Figure:
    """Errors against the strength: a column a method that has strengths, a row a metric; erm is a horizontal band.

    table: metric, label, unit, method, rho, seed, status, statistic (run, mean), value and, for means, interval (half
    width or NaN), n, diverged. A cross with a number on the upper edge counts the diverged runs of that strength.
    """
    metrics = list(table["metric"].unique())
    methods = [name for name in in_order(table["method"]) if name != BASELINE] or [BASELINE]
    figure, axes = panels(metrics, methods, title, sharex="col")
    for metric in metrics:
        rows = table[table["metric"] == metric]
        for method in methods:
            axis = axes[metric, method]
            _baseline(axis, rows[(rows["method"] == BASELINE) & (rows["statistic"] == "mean")])
            _strengths(axis, rows[rows["method"] == method]) if method != BASELINE else axis.set_xticks([])
            if metric == metrics[0]:
                axis.set_title(method, pad=14)  # leaves room for the crosses
        _error_scale(axes[metric, None], rows)
        axes[metric, None].set_ylabel(with_unit(f"{rows['label'].iloc[0]}\n", rows["unit"].iloc[0]))
    for method in methods:
        axes[metrics[-1], method].set_xlabel("penalty weight λ" if method in PENALTIES else "ρ" * (method != BASELINE))
    legend(figure, _error_handles(table))
    return figure


@styled
def tradeoff(table: pd.DataFrame, title: str) -> Figure:
    """The plane of θ-error and y-error: a marker for each method and strength, dots for runs, the Pareto front.

    table: method, rho, seed, status, statistic (run, mean), n, diverged, front (whether a mean lies on it), y_error,
    y_error_unit and, where theta is known, theta_error, theta_error_unit. Where a method has several strengths, a line
    joins them in order, and the ends of the line have labels as far as there is room.
    """
    means = table[(table["statistic"] == "mean") & (table["n"] > 0)]
    if "theta_error" not in table or not means["front"].any():
        known = "theta_error" in table
        reason = "No run completed with finite errors" if known else "θ is not known, so there is no θ-error"
        return _sentence(f"{reason}: there is nothing to compare.", title)
    figure = empty_figure(title, 4.2, 0.6 * WIDTH)
    axis = figure.subplots()
    runs = table[table["status"] == "completed"]
    for method in in_order(means["method"]):
        _method_in_plane(axis, runs[runs["method"] == method], means[means["method"] == method])
    sides: dict[str, Literal["x", "y"]] = {"theta_error": "x", "y_error": "y"}
    for name, which in sides.items():
        values = pd.concat([runs[name], means[name]])
        low, high = values.min(), values.max()
        if low > 0 and high / low >= 5:
            log_scale(axis, high / low, which)
    _front(axis, means[means["front"]])
    axis.set_xlabel(with_unit("θ-error", table["theta_error_unit"].iloc[0]))
    axis.set_ylabel(with_unit("y-error (test MSE)", table["y_error_unit"].iloc[0]))
    legend(figure, _plane_handles(means), 3)
    _label_ends(figure, axis, means)
    return figure


def _sentence(text: str, title: str) -> Figure:
    """A figure that says why there is nothing to draw."""
    figure = empty_figure(title, 0.8, 0.6 * WIDTH)
    axis = figure.subplots()
    axis.set_axis_off()
    axis.text(0, 0.5, text, va="center")
    return figure


def _method_in_plane(axis: Axes, runs: pd.DataFrame, means: pd.DataFrame) -> None:
    """Runs as faint dots; the means at all strengths, hollow where runs diverged, joined in order of the strength."""
    colour, marker = look(means["method"].iloc[0])
    dots: Look = {"linestyle": "", "marker": ".", "markersize": 4, "markeredgewidth": 0, "alpha": 0.4}
    axis.plot(runs["theta_error"], runs["y_error"], color=colour, rasterized=len(runs) > CROWD, **dots)
    means = means.sort_values("rho")
    axis.plot(means["theta_error"], means["y_error"], color=colour, linewidth=THIN)
    for diverged, face in ((means["diverged"] == 0, colour), (means["diverged"] > 0, "white")):
        some: Look = {"linestyle": "", "marker": marker, "markersize": 6, "markerfacecolor": face, "zorder": 3}
        axis.plot(means["theta_error"][diverged], means["y_error"][diverged], color=colour, **some)


def _front(axis: Axes, means: pd.DataFrame) -> None:
    """What can be reached: a step line through the means on the front, to the edges of the panel."""
    front = means.sort_values(["theta_error", "y_error"])
    axis.set(xlim=axis.get_xlim(), ylim=axis.get_ylim())
    right, top = axis.get_xlim()[1], axis.get_ylim()[1]
    x = [front["theta_error"].iloc[0], *front["theta_error"], right]
    y = [top, *front["y_error"], front["y_error"].iloc[-1]]
    axis.plot(x, y, color="black", linewidth=1.2, drawstyle="steps-post", zorder=2.5)


def _label_ends(figure: Figure, axis: Axes, means: pd.DataFrame) -> None:
    """The smallest and the largest strength of each method, where that hides no marker and no other label."""
    figure.draw_without_rendering()  # before that, nothing has a place
    places = axis.transData.transform(means[["theta_error", "y_error"]].to_numpy(dtype=float))
    taken = [Bbox.from_bounds(x - MARKER / 2, y - MARKER / 2, MARKER, MARKER) for x, y in places]
    for _, strengths in means[means["method"] != BASELINE].groupby("method"):
        for _, end in strengths.sort_values("rho").iloc[[0, -1]].drop_duplicates("rho").iterrows():
            _label_if_there_is_room(axis, end, taken)


def _label_if_there_is_room(axis: Axes, mean: pd.Series, taken: list[Bbox]) -> None:
    how: Look = {"textcoords": "offset points", "in_layout": False, "bbox": LABEL}
    for offset, (ha, va) in LABELS.items():
        point = mean["theta_error"], mean["y_error"]
        text = axis.annotate(canonical(mean["rho"]), point, offset, ha=ha, va=va, **how)
        box = text.get_window_extent()
        inside = all(axis.bbox.contains(x, y) for x, y in box.corners())
        if inside and not any(box.overlaps(other) for other in taken):
            taken.append(box)
            return
        text.remove()


def _plane_handles(means: pd.DataFrame) -> list[Line2D]:
    handles = []
    for method in in_order(means["method"]):
        colour, marker = look(method)
        name = f"{method} (baseline)" if method == BASELINE else method
        handles.append(Line2D([], [], color=colour, linewidth=THIN, marker=marker, markersize=6, label=name))
    handles.append(Line2D([], [], color="0.5", linestyle="", marker=".", label="one run"))
    handles.append(Line2D([], [], color="black", linewidth=1.2, label="Pareto front"))
    hollow: Look = {"linestyle": "", "marker": "o", "markersize": 6, "markerfacecolor": "white"}
    if (means["diverged"] > 0).any():
        handles.append(Line2D([], [], color="0.3", label="some runs diverged", **hollow))
    return handles


def _baseline(axis: Axes, means: pd.DataFrame) -> None:
    for row in means.itertuples():
        axis.axhline(row.value, color=look(BASELINE)[0], linewidth=1.0, linestyle=DASHED)
        if np.isfinite(row.interval):
            axis.axhspan(row.value - row.interval, row.value + row.interval, color=look(BASELINE)[0], alpha=0.18, lw=0)


def _strengths(axis: Axes, panel: pd.DataFrame) -> None:
    """Runs as points (a little to the left), means with their intervals, diverged runs counted on the upper edge."""
    colour, marker = look(panel["method"].iloc[0])
    means = panel[panel["statistic"] == "mean"]
    runs = panel[(panel["statistic"] == "run") & (panel["status"] == "completed")]
    dots: Look = {"linestyle": "", "marker": ".", "markersize": 4, "color": "0.45", "rasterized": len(runs) > CROWD}
    (points,) = axis.plot(runs["rho"], runs["value"], **dots)
    if crowded := len(means) > MANY_STRENGTHS:
        low, high = (means["value"] + sign * means["interval"] for sign in (-1, 1))
        axis.fill_between(means["rho"], low, high, color=colour, alpha=0.4, linewidth=0)
        axis.plot(means["rho"], means["value"], color=colour, linewidth=1.2)
    else:
        axis.errorbar(
            means["rho"], means["value"], means["interval"], c=colour, marker=marker, capsize=2, linewidth=1.2
        )
    points.set_transform(axis.transData + ScaledTranslation(-4 / 72, 0, axis.figure.dpi_scale_trans))
    for row in means[means["diverged"] > 0].itertuples():
        upper_edge = axis.get_xaxis_transform()
        axis.plot(row.rho, 1.04, "kx", transform=upper_edge, clip_on=False)
        if not crowded:
            axis.annotate(f"{row.diverged}", (row.rho, 1.04), (5, 0), upper_edge, "offset points", va="center")
    _strength_ticks(axis, sorted(means["rho"]))


def _strength_ticks(axis: Axes, strengths: list[float]) -> None:
    """A logarithmic axis (linear below the lowest positive strength if 0 is one) with a tick at every strength.

    A tick is labelled where there is room; of many strengths only these have one.
    """
    zero = {"value": "symlog", "linthresh": min((rho for rho in strengths if rho > 0), default=1.0)}
    axis.set_xscale(**zero if 0 in strengths else {"value": "log"})
    place = axis.xaxis.get_transform().transform(np.array(strengths))
    width = np.ptp(place) or 2.0
    margin = 0.15 * width
    axis.set_xlim(*axis.xaxis.get_transform().inverted().transform([place[0] - margin, place[-1] + margin]))
    few, labels, last = len(strengths) <= MANY_STRENGTHS, {}, -np.inf
    for strength, here in zip(strengths, place, strict=True):
        if here - last >= 0.4 * width:
            labels[strength], last = canonical(strength if few else f"{strength:.2g}"), here
    ticks = strengths if few else list(labels)
    axis.set_xticks(ticks, [labels.get(strength, "") for strength in ticks])
    axis.set_xticks([], minor=True)


def _error_scale(axis: Axes, rows: pd.DataFrame) -> None:
    """Logarithmic where errors differ by an order of magnitude, else linear from zero.

    Fits runs and means; of a much longer interval (two runs have one of 13 standard errors) only a part is seen.
    """
    means, completed = rows[rows["statistic"] == "mean"], rows[rows["status"] == "completed"]["value"]
    completed = completed[np.isfinite(completed)]
    ends = pd.concat([means["value"] - means["interval"], means["value"] + means["interval"]])
    ratio = completed.max() / completed.min() if len(completed) and completed.min() > 0 else 1.0
    if not len(completed):
        axis.set_yticks([])
    elif ratio >= 10:
        log_scale(axis, ratio)
        limit(axis, completed, ends, reach=0.3)
    else:
        axis.set_ylim(0, 1.06 * pd.concat([completed, ends.clip(upper=2 * completed.max())]).max())


def _error_handles(table: pd.DataFrame) -> list:
    means = table[table["statistic"] == "mean"]
    any_interval = means["interval"].notna().any()
    handles: list[Any] = []
    if (means["method"] != BASELINE).any():
        kind = "mean, 95 % Student t interval" if any_interval else "mean (no interval: fewer than two runs)"
        handles.append(Line2D([], [], color="0.45", linestyle="", marker=".", label="one run"))
        handles.append(Line2D([], [], color="0.3", linewidth=1.2, marker="|", markersize=9, label=kind))
    for erm in means[means["method"] == BASELINE].iloc[:1].itertuples():
        count = f"n = {erm.n}" + f", {erm.diverged} diverged" * bool(erm.diverged)
        line = Line2D([], [], color=look(BASELINE)[0], linewidth=1.0, linestyle=DASHED, label=f"erm ({count})")
        handles.append((Patch(facecolor=look(BASELINE)[0], alpha=0.18), line) if np.isfinite(erm.interval) else line)
    if (means["diverged"] > 0).any():
        handles.append(Line2D([], [], color="black", linestyle="", marker="x", label="diverged runs, their number"))
    return handles
