"""The figure ``errors_rho``: a table in, a Matplotlib figure out."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.transforms import ScaledTranslation

from hybridsam.core.blocks import canonical
from hybridsam.core.methods import BASELINE, has_rho, in_order
from hybridsam.figures.style import (
    CROWD,
    DASHED,
    THIN,
    Look,
    both_sides,
    is_penalty,
    leftmost,
    legend,
    limits,
    log_scale,
    look,
    panels,
    row_label,
    styled,
)

FEW = 3  # runs: of fewer these are drawn and no interval, which of two is 13 standard errors long
MANY_RHOS = 12  # of a method, between which there is no room for markers, numbers and ticks


@styled
def draw_errors_rho(table: pd.DataFrame, title: str) -> Figure:
    """Errors against rho: a column a method that has one, a row a metric; erm is a horizontal band.

    table: metric, label, unit, centre (what it is, in words), method, rho, seed, failed, statistic (run, centre), value
    and, for centres, low and high (ends of the interval or NaN, drawn of ``FEW`` runs or more), n, diverged. A cross
    with a number on the upper edge counts the runs at that rho that failed.
    """
    table = with_intervals_drawn(table)
    metrics = list(table["metric"].unique())
    methods = [name for name in in_order(table["method"]) if has_rho(name)] or [BASELINE]
    figure, axes = panels(metrics, methods, title, sharex="col")
    for metric in metrics:
        rows = table[table["metric"] == metric]
        for method in methods:
            axis = axes[metric, method]
            _baseline(axis, rows[rows["method"] == BASELINE])
            _errors(axis, rows[rows["method"] == method]) if method != BASELINE else axis.set_xticks([])
            if metric == metrics[0]:
                axis.set_title(method, pad=14)  # leaves room for crosses
        _error_scale(axes[metric, None], rows)
        for axis in leftmost(axes, metric):
            axis.set_ylabel(row_label(rows["label"].iloc[0], rows["unit"].iloc[0]))
    for method in methods:
        axes[metrics[-1], method].set_xlabel("penalty weight λ" if is_penalty(method) else "ρ" * (method != BASELINE))
    legend(figure, _error_handles(table))
    return figure


def with_intervals_drawn(table: pd.DataFrame) -> pd.DataFrame:
    """The table without the intervals of few runs."""
    enough = table["n"].astype(float) >= FEW
    return table.assign(low=table["low"].where(enough), high=table["high"].where(enough))


def intervals_cut_off(table: pd.DataFrame) -> bool:
    """Whether a panel shows only a part of an interval that is drawn."""
    for _, rows in with_intervals_drawn(table).groupby("metric"):
        _, ends = _limits(rows)
        low, high = ends or (-np.inf, np.inf)
        if (rows["low"] < low).any() or (rows["high"] > high).any():
            return True
    return False


def _baseline(axis: Axes, erm: pd.DataFrame) -> None:
    """The centre as a line; its interval as a band, or, where there is none, each run as a thin line."""
    colour = look(BASELINE)[0]
    for row in erm[erm["statistic"] == "centre"].itertuples():
        axis.axhline(row.value, color=colour, linewidth=1.0, linestyle=DASHED)
        if np.isfinite(row.low):
            axis.axhspan(row.low, row.high, color=colour, alpha=0.18, lw=0)
        elif row.n > 1:
            for value in _good_runs(erm)["value"]:
                axis.axhline(value, color=colour, linewidth=THIN)


def _good_runs(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows of runs that did not fail."""
    return rows[(rows["statistic"] == "run") & (rows["failed"] == 0)]


def _errors(axis: Axes, panel: pd.DataFrame) -> None:
    """Runs as points (a little to the left), centres with their intervals, failed runs counted on the upper edge."""
    colour, marker = look(panel["method"].iloc[0])
    centres, runs = panel[panel["statistic"] == "centre"], _good_runs(panel)
    dots: Look = {"linestyle": "", "marker": ".", "markersize": 4, "color": "0.45", "rasterized": len(runs) > CROWD}
    (points,) = axis.plot(runs["rho"], runs["value"], **dots)
    if crowded := len(centres) > MANY_RHOS:
        axis.fill_between(centres["rho"], centres["low"], centres["high"], color=colour, alpha=0.4, linewidth=0)
        axis.plot(centres["rho"], centres["value"], color=colour, linewidth=1.2)
    else:
        bars = both_sides(centres["value"], centres["low"], centres["high"])
        axis.errorbar(centres["rho"], centres["value"], bars, c=colour, marker=marker, capsize=2, linewidth=1.2)
    points.set_transform(axis.transData + ScaledTranslation(-4 / 72, 0, axis.figure.dpi_scale_trans))
    upper_edge = axis.get_xaxis_transform() + ScaledTranslation(0, 4 / 72, axis.figure.dpi_scale_trans)
    for row in centres[centres["failed"] > 0].itertuples():
        axis.plot(row.rho, 1, "kx", transform=upper_edge, clip_on=False)
        if not crowded:
            axis.annotate(f"{row.failed}", (row.rho, 1), (5, 0), upper_edge, "offset points", va="center")
    _rho_ticks(axis, sorted(centres["rho"]))


def _rho_ticks(axis: Axes, rhos: list[float]) -> None:
    """A logarithmic axis (linear below the lowest positive rho if 0 is one) with a tick at every rho.

    A tick is labelled where there is room; of many values only these have one.
    """
    zero = {"value": "symlog", "linthresh": min((rho for rho in rhos if rho > 0), default=1.0)}
    axis.set_xscale(**zero if 0 in rhos else {"value": "log"})
    place = axis.xaxis.get_transform().transform(np.array(rhos))
    width = np.ptp(place) or 2.0
    margin = 0.15 * width
    axis.set_xlim(*axis.xaxis.get_transform().inverted().transform([place[0] - margin, place[-1] + margin]))
    few, labels, last = len(rhos) <= MANY_RHOS, {}, -np.inf
    for rho, here in zip(rhos, place, strict=True):
        if here - last >= 0.4 * width:
            labels[rho], last = canonical(rho if few else f"{rho:.2g}"), here
    ticks = rhos if few else list(labels)
    axis.set_xticks(ticks, [labels.get(rho, "") for rho in ticks])
    axis.set_xticks([], minor=True)


def _error_scale(axis: Axes, rows: pd.DataFrame) -> None:
    """Logarithmic where errors differ by an order of magnitude, else linear from zero."""
    ratio, ends = _limits(rows)
    if ratio >= 10:
        log_scale(axis, ratio)
    if ends:
        axis.set_ylim(*ends)
    elif _good_runs(rows).empty:
        axis.set_yticks([])


def _limits(rows: pd.DataFrame) -> tuple[float, tuple[float, float] | None]:
    """The ratio of the largest error of a metric to the smallest, and the ends of its axis, if there are any errors.

    The axis fits runs and centres; of a much longer interval (three runs have one of 4.3 standard errors) a part is
    seen.
    """
    runs = _good_runs(rows)["value"]
    if not len(runs):
        return 1.0, None
    ends = pd.concat([rows["low"], rows["high"]])
    ratio = runs.max() / runs.min() if runs.min() > 0 else 1.0
    if ratio >= 10:
        return ratio, limits(runs, ends, 0.3, log=True)
    return ratio, (0.0, 1.06 * float(pd.concat([runs, ends.clip(upper=2 * runs.max())]).max()))


def _error_handles(table: pd.DataFrame) -> list:
    centres = table[table["statistic"] == "centre"]
    handles: list[Any] = []
    if (centres["method"] != BASELINE).any():
        kind = "centre" + ", 95 % interval" * bool(centres["low"].notna().any())
        handles.append(Line2D([], [], color="0.45", linestyle="", marker=".", label="one run"))
        handles.append(Line2D([], [], color="0.3", linewidth=1.2, marker="|", markersize=9, label=kind))
    erms = centres[centres["method"] == BASELINE]
    for erm in erms.iloc[:1].itertuples():
        count = f"n = {erm.n}" + f", {erm.failed} failed" * bool(erm.failed)
        runs = ", thin: its runs" * bool(erm.n > 1 and erms["low"].isna().any())
        line = Line2D([], [], color=look(BASELINE)[0], linewidth=1.0, linestyle=DASHED, label=f"erm ({count}){runs}")
        handles.append((Patch(facecolor=look(BASELINE)[0], alpha=0.18), line) if erms["low"].notna().any() else line)
    if ((centres["failed"] > 0) & (centres["method"] != BASELINE)).any():
        handles.append(Line2D([], [], color="black", linestyle="", marker="x", label="failed runs, their number"))
    return handles
