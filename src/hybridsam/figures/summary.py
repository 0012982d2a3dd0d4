"""The figure of the entry page, the relative error of theta of all tasks: a table in, a Matplotlib figure out."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from hybridsam.core.methods import in_order
from hybridsam.figures.style import both_sides, in_lines, legend, log_scale, look, panels, styled


@styled
def draw_theta_summary(table: pd.DataFrame, title: str) -> Figure:
    """Relative error of theta at the selected rho: a row a rule, a group a task, a marker a method.

    table: rule, task, method, centre, low, high (ends of its interval or NaN); dimensionless, on a logarithmic axis.
    """
    rules, tasks = list(table["rule"].unique()), list(table["task"].unique())
    methods = in_order(table["method"])
    figure, axes = panels(rules, ["error"], title, height=1.3, wide=True)
    for (rule, method), rows in table.groupby(["rule", "method"]):
        colour, marker = look(method)
        beside = min(0.12, 0.8 / len(methods)) * (methods.index(method) - (len(methods) - 1) / 2)
        place = rows["task"].map(tasks.index) + beside
        bars = both_sides(rows["centre"], rows["low"], rows["high"])
        axes[rule, "error"].errorbar(place, rows["centre"], bars, c=colour, marker=marker, ls="", elinewidth=1)
    ratio = table["centre"].max() / table["centre"].min()
    for rule in rules:
        axis = axes[rule, "error"]
        axis.set_xticks(range(len(tasks)), [in_lines(task, 12) for task in tasks])
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
