"""The figure ``profile``: loss, what the network does and sharpness against the value at which a parameter is held."""

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from hybridsam.core.records import TWIN, origin
from hybridsam.figures.style import (
    DOTTED,
    THICK,
    TRUE_VALUE,
    Look,
    empty_figure,
    legend,
    log_scale,
    styled,
    with_unit,
)

COLUMNS = {  # heading -> its lines: variable and dashes
    "mean squared error": {"validation_loss": "-", "train_loss": DOTTED},
    "R of the network": {"penalty": "-"},
    "largest loss within ρ": {"loss_within": "-"},
    "Hessian by φ": {"trace": "-", "top_eigenvalue": DOTTED},
}
HEIGHT = 1.5  # in: of a row of panels
ALLOWED: Look = {"color": "0.88", "linewidth": 0}


@styled
def draw_profile(found: xr.Dataset) -> Figure:
    """A row a parameter, a column a quantity; found: as :func:`hybridsam.analysis.profiles.profile` returns."""
    names = found["parameter"].values.tolist()
    title = f"{TWIN}: " * (origin(found) == TWIN) + "Profile: θ held, φ refitted"
    figure = empty_figure(title, HEIGHT * len(names))
    axes = figure.subplots(
        len(names), len(COLUMNS), squeeze=False, gridspec_kw={"height_ratios": [HEIGHT] * len(names)}
    )
    for row, name in zip(axes, names, strict=True):
        of = found.sel(parameter=name)
        for axis, lines in zip(row, COLUMNS.values(), strict=True):
            _panel(axis, of, lines)
            axis.set_xlabel(with_unit(name, str(of["parameter_units"].item())))
    for axis, heading in zip(axes[0], COLUMNS, strict=True):
        axis.set_title(heading)
    handles: list = [
        Patch(label="values that the data allow", **ALLOWED),
        Line2D([], [], color="0.2", linewidth=THICK, label="validation; trace"),
        Line2D([], [], color="0.2", linewidth=THICK, linestyle=DOTTED, label="training; top eigenvalue"),
    ]
    legend(figure, handles + [Line2D([], [], label="true value", **TRUE_VALUE)] * ("theta_true" in found))
    return figure


def _panel(axis: Axes, of: xr.Dataset, lines: dict) -> None:
    held = of["held"].values
    edges = np.r_[held[0], (held[1:] + held[:-1]) / 2, held[-1]]
    for low, high, allowed in zip(edges, edges[1:], of["compatible"].values, strict=False):
        if allowed:
            axis.axvspan(low, high, **ALLOWED)
    positive = []
    for name, dash in lines.items():
        values = of[name].values
        axis.plot(held, values, color="0.2", linewidth=THICK, linestyle=dash, marker=".", markersize=5)
        positive.extend(values[values > 0])
    if positive:
        log_scale(axis, max(positive) / min(positive))
    if "theta_true" in of:
        axis.axvline(of["theta_true"].item(), **TRUE_VALUE)
