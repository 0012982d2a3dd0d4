"""Every figure, one function each: a tidy table in, a Matplotlib figure out; nothing is read or computed here."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.transforms import ScaledTranslation

from hybridsam.looks import (
    BASELINE,
    DASHED,
    DATA,
    DOTTED,
    PENALTIES,
    SCIENCE,
    START,
    THICK,
    THIN,
    TRUE_VALUE,
    TRUTH,
    Look,
    every_third,
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


@styled
def predictions(table: pd.DataFrame, title: str) -> Figure:
    """The states of one test sample against time: a column a method, a row a component.

    table: method, rho, seed, diverged, component, unit, time (s), series (data, truth, full model, science
    part), value.
    The axis of a row fits data and truth; a model that runs far away leaves the panel.
    """
    components = list(table["component"].unique())
    figure, axes = panels(components, in_order(table["method"]), title)
    for (component, method), panel in table.groupby(["component", "method"]):
        _prediction(axes[component, method], panel)
        seed = panel["seed"].dropna()
        heading = _heading(panel.iloc[0], f"seed {seed.iloc[0]}" if len(seed) else "no run completed")
        axes[component, method].set_title(heading if component == components[0] else "")
    for component in components:
        rows = table[table["component"] == component]
        measured = rows["series"].isin(["data", "truth"])
        limit(axes[component, None], rows["value"][measured], rows["value"][~measured], reach=0.5)
        axes[component, None].set_ylabel(with_unit(f"{component}\n", rows["unit"].iloc[0]))
    label_below(axes, components[-1], "time (s)")
    legend(figure, _prediction_handles(bool((table["series"] == "truth").any())))
    return figure


@styled
def theta_training(table: pd.DataFrame, title: str) -> Figure:
    """Theta against the training step: a column a method, a row a parameter.

    table: method, rho, n, diverged, parameter, unit, true (or NaN), step, seed, status, statistic (run, mean), value.
    """
    parameters = list(table["parameter"].unique())
    figure, axes = panels(parameters, in_order(table["method"]), title)
    for (parameter, method), panel in table.groupby(["parameter", "method"]):
        axis = axes[parameter, method]
        _runs_and_mean(axis, panel, "-")
        start = panel.loc[panel["step"] == panel["step"].min(), "value"]
        axis.plot(panel["step"].min(), start.iloc[0], clip_on=False, zorder=5, **START)
        axis.axhline(panel["true"].iloc[0], **TRUE_VALUE)
        axis.set_title(_heading(panel.iloc[0], f"n = {panel['n'].iloc[0]}") if parameter == parameters[0] else "")
    for parameter in parameters:
        rows = table[table["parameter"] == parameter]
        completed = rows["status"] != "diverged"
        limit(axes[parameter, None], pd.concat([rows["value"][completed], rows["true"]]), rows["value"][~completed])
        axes[parameter, None].set_ylabel(with_unit(parameter, rows["unit"].iloc[0]))
    label_below(axes, parameters[-1], "training step")
    known = bool(table["true"].notna().any())
    handles = [Line2D([], [], label="true value", **TRUE_VALUE)] * known + [Line2D([], [], label="start", **START)]
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
        axes["loss", method].set_title(_heading(panel.iloc[0], f"n = {panel['n'].iloc[0]}"))
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
        axes[metrics[-1], method].set_xlabel("penalty weight" if method in PENALTIES else "ρ" * (method != BASELINE))
    legend(figure, _error_handles(table))
    return figure


@styled
def theta_summary(table: pd.DataFrame, title: str) -> Figure:
    """Relative error of theta at the selected strengths: a panel a rule, a group a task, a marker a method.

    table: rule, task, method, mean, sd (NaN for a single run); dimensionless, on a logarithmic axis.
    """
    rules, tasks = list(table["rule"].unique()), list(table["task"].unique())
    methods = in_order(table["method"])
    figure, axes = panels(["error"], rules, title, height=1.7)
    for (rule, method), rows in table.groupby(["rule", "method"]):
        colour, marker = look(method)
        beside = 0.12 * (methods.index(method) - (len(methods) - 1) / 2)
        place = rows["task"].map(tasks.index) + beside
        axes["error", rule].errorbar(place, rows["mean"], rows["sd"], c=colour, marker=marker, ls="", elinewidth=1)
    for rule in rules:
        axis = axes["error", rule]
        axis.set(title=rule.replace("_", " "), xlim=(-0.5, len(tasks) - 0.5))
        axis.set_xticks(range(len(tasks)), tasks, rotation=90 if len(tasks) > 2 else 0)
    log_scale(axes["error", None], table["mean"].max() / table["mean"].min())
    axes["error", None].set_ylabel("relative error of θ (1)")
    legend(figure, [Line2D([], [], color=look(m)[0], marker=look(m)[1], ls="", label=m) for m in methods])
    return figure


def _heading(run: pd.Series, last: str) -> str:
    kind = "baseline" if run["method"] == BASELINE else "weight" if run["method"] in PENALTIES else "ρ"
    strength = kind if kind == "baseline" else f"{kind} = {canonical(run['rho'])}"
    return f"{run['method']}\n{strength}\n{last}" + f"\n{run['diverged']} diverged" * bool(run["diverged"])


def _prediction(axis: Axes, panel: pd.DataFrame) -> None:
    colour, marker = look(panel["method"].iloc[0])
    full: Look = {"color": colour, "linewidth": THICK, "marker": marker}
    for series, how in {"science part": SCIENCE, "full model": full, "truth": TRUTH, "data": DATA}.items():
        line = panel[panel["series"] == series]
        every = every_third(line) if series == "full model" else None
        axis.plot(line["time"], line["value"], markevery=every, **how)


def _prediction_handles(truth_is_known: bool) -> list[Line2D]:
    return [
        Line2D([], [], label="data", **DATA),
        *[Line2D([], [], label="truth without noise", **TRUTH)] * truth_is_known,
        Line2D([], [], color="0.5", linewidth=THICK, label="full model (in the method's colour)"),
        Line2D([], [], label="science part alone", **SCIENCE),
    ]


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
