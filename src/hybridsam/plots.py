"""Every figure, one function each: a tidy table in, a Matplotlib figure out; nothing is read or computed here."""

from textwrap import fill
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator
from matplotlib.transforms import ScaledTranslation

from hybridsam.looks import (
    BASELINE,
    BESIDE,
    DASHED,
    DOTTED,
    PENALTIES,
    START,
    THICK,
    THIN,
    TRUE_VALUE,
    every_third,
    heading,
    in_order,
    label_below,
    legend,
    limit,
    log_scale,
    look,
    panels,
    styled,
    with_unit,
)
from hybridsam.settings import canonical

PAGE = 7.9  # in: height of all rows of panels on one page
LOW = 1.0  # in: a row below this has no room for an upright label


@styled
def theta_training(table: pd.DataFrame, title: str) -> Figure:
    """Theta against the training step: a column a method, a row a parameter; many rows are low, to fit on a page.

    table: method, rho, n, diverged, parameter, unit, true (or NaN), step, seed, status, statistic (run, mean), value,
    data (simulated, or where the data come from).
    """
    parameters = list(table["parameter"].unique())
    height = max(0.45, min(1.45, PAGE / len(parameters)))
    figure, axes = panels(parameters, in_order(table["method"]), title, height)
    for (parameter, method), panel in table.groupby(["parameter", "method"]):
        axis = axes[parameter, method]
        _runs_and_mean(axis, panel, "-")
        start = panel.loc[panel["step"] == panel["step"].min(), "value"]
        axis.plot(panel["step"].min(), start.iloc[0], clip_on=False, zorder=5, **START)
        axis.axhline(panel["true"].iloc[0], **TRUE_VALUE)
        axis.set_title(heading(panel.iloc[0], f"n = {panel['n'].iloc[0]}") if parameter == parameters[0] else "")
    for parameter in parameters:
        rows = table[table["parameter"] == parameter]
        completed = rows["status"] != "diverged"
        limit(axes[parameter, None], pd.concat([rows["value"][completed], rows["true"]]), rows["value"][~completed])
        if height > LOW:
            axes[parameter, None].set_ylabel(with_unit(parameter, rows["unit"].iloc[0]))
        else:
            axes[parameter, None].set_ylabel(with_unit(f"{parameter}\n", rows["unit"].iloc[0]), **BESIDE)
            axes[parameter, None].yaxis.set_major_locator(MaxNLocator(2))
    label_below(axes, parameters[-1], "training step")
    known = bool(table["true"].notna().any())
    name = "true value" if table["data"].iloc[0] == "simulated" else "published value"
    handles = [Line2D([], [], label=name, **TRUE_VALUE)] * known + [Line2D([], [], label="start", **START)]
    legend(figure, handles + _run_handles(table))
    return figure


@styled
def losses(table: pd.DataFrame, title: str) -> Figure:
    """Training and validation loss against the training step, on a logarithmic axis: a column a method.

    table: method, rho, n, diverged, split (training, validation), unit, step, seed, status, statistic, value.
    """
    dashes: dict[str, Any] = {"training": DOTTED, "validation": "-"}
    figure, axes = panels(["loss"], in_order(table["method"]), title, height=1.7)
    for (method, split), panel in table.groupby(["method", "split"]):
        axes["loss", method].set_yscale("log")
        axes["loss", method].set_title(heading(panel.iloc[0], f"n = {panel['n'].iloc[0]}"))
        _runs_and_mean(axes["loss", method], panel, dashes[split])
    completed = table["status"] != "diverged"
    limit(axes["loss", None], table["value"][completed], table["value"][~completed])
    axes["loss", None].set_ylabel(with_unit("mean squared error\n", table["unit"].iloc[0]))
    label_below(axes, "loss", "training step")
    splits = [Line2D([], [], color="0.3", linestyle=dash, label=f"{split} loss") for split, dash in dashes.items()]
    legend(figure, splits + _run_handles(table))
    return figure


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
def theta_summary(table: pd.DataFrame, title: str) -> Figure:
    """Relative error of theta at the selected strengths: a row a rule, a group a task, a marker a method.

    table: rule, task, method, mean, sd (NaN for a single run); dimensionless, on a logarithmic axis.
    """
    rules, tasks = list(table["rule"].unique()), list(table["task"].unique())
    methods = in_order(table["method"])
    figure, axes = panels(rules, ["error"], title, height=1.3, wide=len(tasks) > 3)
    for (rule, method), rows in table.groupby(["rule", "method"]):
        colour, marker = look(method)
        beside = 0.12 * (methods.index(method) - (len(methods) - 1) / 2)
        place = rows["task"].map(tasks.index) + beside
        axes[rule, "error"].errorbar(place, rows["mean"], rows["sd"], c=colour, marker=marker, ls="", elinewidth=1)
    ratio = table["mean"].max() / table["mean"].min()
    for rule in rules:
        axis = axes[rule, "error"]
        axis.set_xticks(range(len(tasks)), [_in_lines(task) for task in tasks])
        axis.set_xticks([i + 0.5 for i in range(len(tasks) - 1)], minor=True)  # between the groups
        axis.tick_params(axis="x", which="minor", length=0)
        axis.grid(axis="x", visible=False)
        axis.grid(axis="x", which="minor", visible=True)
        axis.set(title=rule.replace("_", " "), xlim=(-0.5, len(tasks) - 0.5), ylabel="relative\nerror of θ")
        log_scale(axis, ratio)
    ends = np.array([axes[rule, None].get_ylim() for rule in rules])
    for rule in rules:
        axes[rule, None].set_ylim(ends.min(), ends.max())
    legend(figure, [Line2D([], [], color=look(m)[0], marker=look(m)[1], ls="", label=m) for m in methods], len(methods))
    return figure


def _in_lines(task: str) -> str:
    """The name of a task in lines of about twelve characters, broken after underscores and spaces."""
    return "\n".join(fill(line.replace("_", "_ "), 12).replace("_ ", "_") for line in task.split("\n"))


def _runs_and_mean(axis: Axes, panel: pd.DataFrame, dash) -> None:
    """One thin line a run (a diverged one ends in a cross) and the thick mean of the completed ones."""
    colour, marker = look(panel["method"].iloc[0])
    for (_, status), run in panel[panel["statistic"] == "run"].groupby(["seed", "status"]):
        axis.plot(run["step"], run["value"], color=colour, linewidth=THIN, linestyle=dash)
        seen = run[np.isfinite(run["value"])]
        if status == "diverged" and len(seen):
            axis.plot(seen["step"].iloc[-1], seen["value"].iloc[-1], marker="x", color="black")
    mean = panel[panel["statistic"] == "mean"]
    axis.plot(mean["step"], mean["value"], c=colour, lw=THICK, ls=dash, marker=marker, markevery=every_third(mean))


def _run_handles(table: pd.DataFrame) -> list[Line2D]:
    thin = Line2D([], [], color="0.5", linewidth=THIN, label="one run")
    mean = Line2D([], [], color="0.5", linewidth=THICK, label="mean of the completed runs")
    cross = Line2D([], [], color="black", linestyle="", marker="x", label="last record of a diverged run")
    return [thin, mean] + [cross] * bool((table["status"] == "diverged").any())


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
    (points,) = axis.plot(runs["rho"], runs["value"], ls="", marker=".", markersize=4, color="0.45")
    axis.errorbar(means["rho"], means["value"], means["interval"], c=colour, marker=marker, capsize=2, linewidth=1.2)
    points.set_transform(axis.transData + ScaledTranslation(-4 / 72, 0, axis.figure.dpi_scale_trans))
    for row in means[means["diverged"] > 0].itertuples():
        upper_edge = axis.get_xaxis_transform()
        axis.plot(row.rho, 1.04, "kx", transform=upper_edge, clip_on=False)
        axis.annotate(f"{row.diverged}", (row.rho, 1.04), (5, 0), upper_edge, "offset points", va="center")
    _strength_ticks(axis, sorted(means["rho"]))


def _strength_ticks(axis: Axes, strengths: list[float]) -> None:
    """A logarithmic axis (linear below the lowest positive strength if 0 is one) with a tick at every strength.

    A tick is labelled where there is room.
    """
    zero = {"value": "symlog", "linthresh": min((rho for rho in strengths if rho > 0), default=1.0)}
    axis.set_xscale(**zero if 0 in strengths else {"value": "log"})
    place = axis.xaxis.get_transform().transform(np.array(strengths))
    width = np.ptp(place) or 2.0
    margin = 0.15 * width
    axis.set_xlim(*axis.xaxis.get_transform().inverted().transform([place[0] - margin, place[-1] + margin]))
    labels, last = [], -np.inf
    for strength, here in zip(strengths, place, strict=True):
        fits = here - last >= 0.4 * width
        labels.append(canonical(strength) if fits else "")
        last = here if fits else last
    axis.set_xticks(strengths, labels)
    axis.set_xticks([], minor=True)


def _error_scale(axis: Axes, rows: pd.DataFrame) -> None:
    """Logarithmic where errors differ by an order of magnitude, else linear from zero.

    Fits runs and means; of a much longer interval (two runs have one of 13 standard errors) only a part is seen.
    """
    means, completed = rows[rows["statistic"] == "mean"], rows[rows["status"] == "completed"]["value"]
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
        kind = "mean, 95 % Student t interval" if any_interval else "mean (one run: no interval)"
        handles.append(Line2D([], [], color="0.45", linestyle="", marker=".", label="one run"))
        handles.append(Line2D([], [], color="0.3", linewidth=1.2, marker="|", markersize=9, label=kind))
    for erm in means[means["method"] == BASELINE].iloc[:1].itertuples():
        count = f"n = {erm.n}" + f", {erm.diverged} diverged" * bool(erm.diverged)
        line = Line2D([], [], color=look(BASELINE)[0], linewidth=1.0, linestyle=DASHED, label=f"erm ({count})")
        handles.append((Patch(facecolor=look(BASELINE)[0], alpha=0.18), line) if np.isfinite(erm.interval) else line)
    if (means["diverged"] > 0).any():
        handles.append(Line2D([], [], color="black", linestyle="", marker="x", label="number of diverged runs"))
    return handles
