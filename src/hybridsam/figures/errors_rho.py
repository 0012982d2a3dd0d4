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
from hybridsam.core.methods import BASELINE, in_order
from hybridsam.figures.style import (
    CROWD,
    DASHED,
    THIN,
    Look,
    is_penalty,
    legend,
    limits,
    log_scale,
    look,
    panels,
    row_label,
    styled,
)

COUNTED = {"diverged": ("x", 4), "exploded": ("*", 15)}  # runs -> the marker of their number, points above the panel
FEW = 3  # completed runs: of fewer the runs are drawn and no interval, which of two is 13 standard errors long
MANY_RHOS = 12  # of a method, between which there is no room for markers, numbers and ticks


@styled
def draw_errors_rho(table: pd.DataFrame, title: str) -> Figure:
    """Errors against rho: a column a method that has one, a row a metric; erm is a horizontal band.

    table: metric, label, unit, method, rho, seed, status, statistic (run, mean), value and, for means, interval (half
    width or NaN, drawn of ``FEW`` runs or more), n, diverged, exploded. A cross with a number on the upper edge counts
    the diverged runs at that rho, a star above it those that exploded.
    """
    table = with_intervals_drawn(table)
    metrics = list(table["metric"].unique())
    methods = [name for name in in_order(table["method"]) if name != BASELINE] or [BASELINE]
    figure, axes = panels(metrics, methods, title, sharex="col")
    for metric in metrics:
        rows = table[table["metric"] == metric]
        for method in methods:
            axis = axes[metric, method]
            _baseline(axis, rows[rows["method"] == BASELINE])
            _errors(axis, rows[rows["method"] == method]) if method != BASELINE else axis.set_xticks([])
            if metric == metrics[0]:
                axis.set_title(method, pad=26 if table["exploded"].any() else 14)  # leaves room for crosses and stars
        _error_scale(axes[metric, None], rows)
        axes[metric, None].set_ylabel(row_label(rows["label"].iloc[0], rows["unit"].iloc[0]))
    for method in methods:
        axes[metrics[-1], method].set_xlabel("penalty weight λ" if is_penalty(method) else "ρ" * (method != BASELINE))
    legend(figure, _error_handles(table))
    return figure


def with_intervals_drawn(table: pd.DataFrame) -> pd.DataFrame:
    """The table without the intervals of few runs."""
    return table.assign(interval=table["interval"].where(table["n"].astype(float) >= FEW))


def intervals_cut_off(table: pd.DataFrame) -> bool:
    """Whether a panel shows only a part of an interval that is drawn."""
    for _, rows in with_intervals_drawn(table).groupby("metric"):
        _, ends = _limits(rows)
        low, high = ends or (-np.inf, np.inf)
        means = rows[rows["statistic"] == "mean"]
        if (means["value"] - means["interval"] < low).any() or (means["value"] + means["interval"] > high).any():
            return True
    return False


def _baseline(axis: Axes, erm: pd.DataFrame) -> None:
    """The mean as a line; its interval as a band, or, of few runs, each run as a thin line."""
    colour = look(BASELINE)[0]
    for row in erm[erm["statistic"] == "mean"].itertuples():
        axis.axhline(row.value, color=colour, linewidth=1.0, linestyle=DASHED)
        if np.isfinite(row.interval):
            axis.axhspan(row.value - row.interval, row.value + row.interval, color=colour, alpha=0.18, lw=0)
        elif row.n > 1:
            for value in erm["value"][(erm["status"] == "completed") & np.isfinite(erm["value"])]:
                axis.axhline(value, color=colour, linewidth=THIN)


def _errors(axis: Axes, panel: pd.DataFrame) -> None:
    """Runs as points (a little to the left), means with their intervals, diverged runs counted on the upper edge."""
    colour, marker = look(panel["method"].iloc[0])
    means = panel[panel["statistic"] == "mean"]
    runs = panel[(panel["statistic"] == "run") & (panel["status"] == "completed")]
    dots: Look = {"linestyle": "", "marker": ".", "markersize": 4, "color": "0.45", "rasterized": len(runs) > CROWD}
    (points,) = axis.plot(runs["rho"], runs["value"], **dots)
    if crowded := len(means) > MANY_RHOS:
        low, high = (means["value"] + sign * means["interval"] for sign in (-1, 1))
        axis.fill_between(means["rho"], low, high, color=colour, alpha=0.4, linewidth=0)
        axis.plot(means["rho"], means["value"], color=colour, linewidth=1.2)
    else:
        axis.errorbar(
            means["rho"], means["value"], means["interval"], c=colour, marker=marker, capsize=2, linewidth=1.2
        )
    points.set_transform(axis.transData + ScaledTranslation(-4 / 72, 0, axis.figure.dpi_scale_trans))
    for name, (marker, points_above) in COUNTED.items():
        upper_edge = axis.get_xaxis_transform() + ScaledTranslation(0, points_above / 72, axis.figure.dpi_scale_trans)
        for row in means[means[name] > 0].itertuples():
            axis.plot(row.rho, 1, f"k{marker}", transform=upper_edge, clip_on=False)
            if not crowded:
                number = f"{getattr(row, name)}"
                axis.annotate(number, (row.rho, 1), (5, 0), upper_edge, "offset points", va="center")
    _rho_ticks(axis, sorted(means["rho"]))


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
    elif not np.isfinite(rows["value"][rows["status"] == "completed"]).any():
        axis.set_yticks([])


def _limits(rows: pd.DataFrame) -> tuple[float, tuple[float, float] | None]:
    """The ratio of the largest error of a metric to the smallest, and the ends of its axis, if there are any errors.

    The axis fits runs and means; of a much longer interval (three runs have one of 4.3 standard errors) a part is seen.
    """
    means, completed = rows[rows["statistic"] == "mean"], rows[rows["status"] == "completed"]["value"]
    completed = completed[np.isfinite(completed)]
    if not len(completed):
        return 1.0, None
    ends = pd.concat([means["value"] - means["interval"], means["value"] + means["interval"]])
    ratio = completed.max() / completed.min() if completed.min() > 0 else 1.0
    if ratio >= 10:
        return ratio, limits(completed, ends, 0.3, log=True)
    return ratio, (0.0, 1.06 * float(pd.concat([completed, ends.clip(upper=2 * completed.max())]).max()))


def _error_handles(table: pd.DataFrame) -> list:
    means = table[table["statistic"] == "mean"]
    any_interval = means["interval"].notna().any()
    handles: list[Any] = []
    if (means["method"] != BASELINE).any():
        kind = "mean, 95 % Student t interval" if any_interval else f"mean (no interval: fewer than {FEW} runs)"
        handles.append(Line2D([], [], color="0.45", linestyle="", marker=".", label="one run"))
        handles.append(Line2D([], [], color="0.3", linewidth=1.2, marker="|", markersize=9, label=kind))
    for erm in means[means["method"] == BASELINE].iloc[:1].itertuples():
        gone = [f", {getattr(erm, name)} {name}" for name in COUNTED if getattr(erm, name)]
        count = f"n = {erm.n}" + "".join(gone)
        runs = ", thin: its runs" * bool(erm.n > 1 and not np.isfinite(erm.interval))
        line = Line2D([], [], color=look(BASELINE)[0], linewidth=1.0, linestyle=DASHED, label=f"erm ({count}){runs}")
        handles.append((Patch(facecolor=look(BASELINE)[0], alpha=0.18), line) if np.isfinite(erm.interval) else line)
    for name, (marker, _) in COUNTED.items():
        if (means[name] > 0).any():
            label = f"{name} runs, their number"
            handles.append(Line2D([], [], color="black", linestyle="", marker=marker, label=label))
    return handles
