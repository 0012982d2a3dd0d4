"""The figures ``theta_training`` and ``losses``: a table in, a Matplotlib figure out."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from hybridsam.analysis.histories import STEP
from hybridsam.core.methods import in_order
from hybridsam.figures.style import (
    BESIDE,
    DOTTED,
    LINE,
    MANY_NUMBERS,
    START,
    THICK,
    THIN,
    TRUE_VALUE,
    every_third,
    heading,
    label_below,
    leftmost,
    legend,
    limit,
    log_scale,
    look,
    panels,
    parts_of,
    row_label,
    styled,
)

PAGE = 7.9  # in: height of all rows of panels on one page
GAP = 0.14  # in: between two rows
LOW = 1.0  # in: a row below this has no room for an upright label


@styled
def draw_theta_training(table: pd.DataFrame, title: str) -> Figure:
    """Theta against the training step: a column a method, a row a parameter; many rows are low, to fit on a page.

    table: method, rho, n, diverged, parameter, unit, true (or NaN), seed, status, statistic (run, mean), data
    (simulated, or where the data come from), and a column ``step=...`` for each step.
    """
    parameters = list(table["parameter"].unique())
    units = table.drop_duplicates("parameter").set_index("parameter")["unit"]
    labels = {parameter: row_label(parameter, units[parameter]) for parameter in parameters}
    lines = max(label.count("\n") + 1 for label in labels.values())
    methods = in_order(table["method"])
    height = max(0.34, min(1.45, PAGE / (len(parameters) * parts_of(methods)) - GAP))
    height = height if height > LOW else max(height, LINE * lines)
    figure, axes = panels(parameters, methods, title, height)
    for (parameter, method), panel in table.groupby(["parameter", "method"]):
        axis = axes[parameter, method]
        _runs_and_mean(axis, panel, "-", _is_large(table))
        steps, values = _histories(panel)
        axis.plot(steps[0], values[0, 0], clip_on=False, zorder=5, **START)
        axis.axhline(panel["true"].iloc[0], **TRUE_VALUE)
        axis.set_title(heading(panel.iloc[0], f"n = {panel['n'].iloc[0]}") if parameter == parameters[0] else "")
    for parameter in parameters:
        rows = table[table["parameter"] == parameter]
        completed, diverged = _completed_and_diverged(rows)
        limit(axes[parameter, None], pd.concat([completed, rows["true"]]), diverged)
        for axis in leftmost(axes, parameter):
            axis.set_ylabel(labels[parameter], **{} if height > LOW else BESIDE)
        if height <= LOW:
            axes[parameter, None].yaxis.set_major_locator(MaxNLocator(2))
    for (parameter, method), panel in table.groupby(["parameter", "method"]):
        _crosses(axes[parameter, method], panel)
    label_below(axes, parameters[-1], "training step")
    known = bool(table["true"].notna().any())
    name = "true value" if table["data"].iloc[0] == "simulated" else "published value"
    handles = [Line2D([], [], label=name, **TRUE_VALUE)] * known + [Line2D([], [], label="start", **START)]
    legend(figure, handles + _run_handles(table))
    return figure


@styled
def draw_losses(table: pd.DataFrame, title: str) -> Figure:
    """Training and validation loss against the training step, on a logarithmic axis: a column a method.

    table: method, rho, n, diverged, split (training, validation), unit, seed, status, statistic, ``step=...``.
    """
    dashes: dict[str, Any] = {"training": DOTTED, "validation": "-"}
    figure, axes = panels(["loss"], in_order(table["method"]), title, height=1.7)
    for (method, split), panel in table.groupby(["method", "split"]):
        axes["loss", method].set_yscale("log")
        axes["loss", method].set_title(heading(panel.iloc[0], f"n = {panel['n'].iloc[0]}"))
        _runs_and_mean(axes["loss", method], panel, dashes[split], _is_large(table))
    completed, diverged = _completed_and_diverged(table)
    limit(axes["loss", None], completed, diverged)
    low, high = axes["loss", None].get_ylim()
    log_scale(axes["loss", None], high / low)
    for method, panel in table.groupby("method"):
        _crosses(axes["loss", method], panel)
    for axis in leftmost(axes, "loss"):
        axis.set_ylabel(row_label("mean squared error", table["unit"].iloc[0]))
    label_below(axes, "loss", "training step")
    splits = [Line2D([], [], color="0.3", linestyle=dash, label=f"{split} loss") for split, dash in dashes.items()]
    legend(figure, splits + _run_handles(table))
    return figure


def _histories(rows: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Steps (step,) and values (row, step)."""
    values = rows.filter(like=STEP)
    return np.array([int(name.removeprefix(STEP)) for name in values]), values.to_numpy(dtype=float)


def _completed_and_diverged(rows: pd.DataFrame) -> tuple[pd.Series, pd.Series]:
    """All values of completed runs and means, and of diverged runs."""
    diverged = rows["status"] == "diverged"
    return tuple(pd.Series(_histories(rows[which])[1].ravel()) for which in (~diverged, diverged))


def _is_large(table: pd.DataFrame) -> bool:
    return _histories(table)[1].size > MANY_NUMBERS


def _runs_and_mean(axis: Axes, panel: pd.DataFrame, dash, as_image: bool) -> None:
    """One thin line a run, in vector formats as an image if so asked, and the thick mean of the completed ones."""
    colour, marker = look(panel["method"].iloc[0])
    runs = panel[panel["statistic"] == "run"]
    steps, values = _histories(runs)
    axis.plot(steps, values.T, color=colour, linewidth=THIN, linestyle=dash, rasterized=as_image)
    steps, means = _histories(panel[panel["statistic"] == "mean"])
    for mean in means:
        axis.plot(steps, mean, c=colour, lw=THICK, ls=dash, marker=marker, markevery=every_third(len(mean)))


def _crosses(axis: Axes, panel: pd.DataFrame) -> None:
    """A cross where a diverged run is seen last in its panel, whose limits are set."""
    steps, values = _histories(panel[panel["status"] == "diverged"])
    low, high = axis.get_ylim()
    for run in values:
        seen = np.flatnonzero((run >= low) & (run <= high))[-1:]
        axis.plot(steps[seen], run[seen], "kx", clip_on=False)


def _run_handles(table: pd.DataFrame) -> list[Line2D]:
    thin = Line2D([], [], color="0.5", linewidth=THIN, label="one run")
    mean = Line2D([], [], color="0.5", linewidth=THICK, label="mean of the runs that did not fail")
    cross = Line2D([], [], color="black", linestyle="", marker="x", label="end of a diverged run")
    return [thin, mean] + [cross] * bool((table["status"] == "diverged").any())
