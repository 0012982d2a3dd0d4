"""The figure ``predictions`` of what is seen over time or space: a table in, a Matplotlib figure out."""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from hybridsam.core.methods import in_order
from hybridsam.figures.style import (
    DATA,
    DENSE_DATA,
    MANY,
    SCIENCE,
    THICK,
    TRUTH,
    Look,
    every_third,
    in_lines,
    label_below,
    leftmost,
    legend,
    limit,
    look,
    panels,
    row_label,
    run_heading,
    styled,
    with_unit,
)


@styled
def draw_time_series(table: pd.DataFrame, title: str) -> Figure:
    """One test sample against time: a column a method, a row a component.

    The axis of a row fits data and truth; a model that runs far away leaves the panel.
    """
    components = list(table["component"].unique())
    height = 1.45 if len(components) > 1 else 2.2
    figure, axes = panels(components, in_order(table["method"]), title, height)
    for (component, method), panel in table.groupby(["component", "method"]):
        _lines(axes[component, method], panel)
        axes[component, method].set_title(run_heading(panel) if component == components[0] else "")
    for component in components:
        rows = table[table["component"] == component]
        measured = rows["series"].isin(["data", "truth"])
        limit(axes[component, None], rows["value"][measured], rows["value"][~measured], reach=0.5)
        for axis in leftmost(axes, component):
            axis.set_ylabel(row_label(component, rows["unit"].iloc[0]))
    label_below(axes, components[-1], in_lines(with_unit(table["time_name"].iloc[0], table["time_unit"].iloc[0]), 15))
    truth_is_known = bool((table["series"] == "truth").any())
    legend(
        figure,
        [
            Line2D([], [], label="data", **_data_look(table)),
            *[Line2D([], [], label="truth without noise", **TRUTH)] * truth_is_known,
            Line2D([], [], color="0.5", linewidth=THICK, label="full model (in the method's colour)"),
            Line2D([], [], label="science part alone", **SCIENCE),
        ],
    )
    return figure


def _lines(axis: Axes, panel: pd.DataFrame) -> None:
    colour, marker = look(panel["method"].iloc[0])
    full: Look = {"color": colour, "linewidth": THICK, "marker": marker}
    looks = {"science part": SCIENCE, "full model": full, "truth": TRUTH, "data": _data_look(panel)}
    for series, how in looks.items():
        line = panel[panel["series"] == series]
        every = every_third(len(line)) if series == "full model" else None
        axis.plot(line["time"], line["value"], markevery=every, **how)


def _data_look(table: pd.DataFrame) -> Look:
    if table["time"].nunique() <= MANY:
        return DATA
    return DENSE_DATA | ({"color": "0.6"} if (table["series"] == "truth").any() else {})
