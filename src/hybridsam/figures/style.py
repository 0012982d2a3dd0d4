"""How figures look, in one place: the style, the methods' colours and markers, panels, legends and limits.

Text is 8 pt at the printed size. A method has one colour and one marker in every figure (``LOOKS``), and no figure
needs its colours to be understood: panels carry the method's name, lines differ in width and dashes.
"""

import functools
import io
import re
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from textwrap import fill
from typing import IO, Any, Literal

import matplotlib.style
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.gridspec import SubplotSpec
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter
from matplotlib.transforms import Bbox
from PIL import Image

from hybridsam.core.blocks import canonical
from hybridsam.core.methods import BASELINE, METHODS, has_rho

Panels = dict[tuple[str, str | None], Axes]
Look = dict[str, Any]  # keywords of Axes.plot, or of a text

LOOKS = {  # of the methods: colour (seaborn's palette "colorblind", and Tol's "muted") and marker
    "erm": ("#0173B2", "o"),
    "l2reg": ("#DE8F05", "s"),
    "freg": ("#029E73", "D"),
    "sam": ("#D55E00", "^"),
    "asam": ("#CC78BC", "v"),
    "fsam": ("#CA9161", "P"),
    "erm_small": ("#56B4E9", "<"),
    "erm_straight": ("#332288", ">"),
    "erm_depends_on": ("#882255", "X"),
    "science": ("#999933", "*"),
    "black_box": ("#666666", "p"),
}
OTHER = ("#949494", "h")  # a method of the user's own
LINE = 0.14  # in: of text
LETTERS = 13  # in an inch of bold text, at least
WIDTH = 7.1  # in: the two columns of a journal's page
SIZES = ("font.size", "axes.titlesize", "axes.labelsize", "xtick.labelsize", "ytick.labelsize", "legend.fontsize")
STYLE = dict.fromkeys((*SIZES, "figure.labelsize", "figure.titlesize"), 8) | {
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "axes.formatter.useoffset": False,  # no +2.98e2 above an axis: ticks say what they are
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "0.9",
    "grid.linewidth": 0.5,
    "legend.frameon": False,
    "lines.markersize": 4,
    "savefig.dpi": 200,
    "pdf.fonttype": 42,  # text stays text
    "svg.hashsalt": "hybridsam",  # equal figures have equal identifiers
}
FORMATS: dict[str, dict] = {  # ending -> metadata without the time, so that equal figures are equal bytes
    ".pdf": {"CreationDate": None},
    ".svg": {"Date": None},
    ".png": {},
}
FIELDS, DIFFERENCES, IMAGES = "viridis", "RdBu_r", "gray_r"  # colour maps; in grey they keep order or size
THIN, THICK = 0.6, 1.8
MANY = 60  # points on a line that are too many for dots
MOST = 8  # panels beside each other
NARROW = 12  # letters of a method's name that fit above a panel
CROWD = 500  # dots of a panel that a vector format holds as an image, which is smaller
MANY_NUMBERS = 20_000  # of the lines of a figure, which it holds as images then
DASHED: Any = (0, (4, 1.5))
DOTTED: Any = (0, (1, 1))
DATA: Look = {"color": "black", "linestyle": "", "marker": ".", "markersize": 3}
TRUTH: Look = {"color": "black", "linewidth": THIN}
DENSE_DATA: Look = {"color": "black", "linewidth": 0.5}
SCIENCE: Look = {"color": "0.35", "linewidth": 1.1, "linestyle": DASHED}
SCIENCE_POINTS: Look = {"color": "0.35", "linestyle": "", "marker": "o", "markersize": 6, "markerfacecolor": "white"}
TRUE_VALUE: Look = {"color": "black", "linewidth": 1.0, "linestyle": DASHED}
BESIDE: Look = {"rotation": 0, "ha": "right", "va": "center"}  # the label of a low row
SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
# In a unit: a number that stands alone, as in 1e4 pelts, or in CO2; the power of a symbol or bracket.
POWER = re.compile(
    r"(?P<number>(?<![\w)°%^*.-])\d[\d.]*(e[+-]?\d+)?|\b(CO|NO|SO|NH|CH|PO|O)[2-4]\b)"
    r"|(?<=[^\W\d_]|[)°%])(\^|\*\*)?(?P<power>-?\d+([./]\d+)?)(?!\w)"
)
START: Look = {"color": "black", "linestyle": "", "marker": ">", "markersize": 5}


def style() -> AbstractContextManager:
    """A context in which this module's style holds, whatever the user's own is."""
    return matplotlib.style.context(["default", STYLE])


def styled(draw: Callable[..., Figure]) -> Callable[..., Figure]:
    """The drawing function under this module's style."""

    @functools.wraps(draw)
    def inside(*args, **kwargs) -> Figure:
        with style():
            return draw(*args, **kwargs)

    return inside


def save(figure: Figure, file: Path | IO[bytes], kind: str) -> None:
    """Write a figure as ``.pdf``, ``.svg`` or ``.png``; without images 256 colours do, in a third of the bytes."""
    pixels: Any = io.BytesIO() if kind == ".png" and not any(axis.images for axis in figure.axes) else None
    with style():
        figure.savefig(pixels or file, format=kind[1:], metadata=FORMATS[kind])
    if pixels:
        with Image.open(pixels) as image:
            few = image.convert("RGB").quantize(256, dither=Image.Dither.NONE)
            few.save(file, "PNG", dpi=(STYLE["savefig.dpi"],) * 2)


def look(method: str) -> tuple[str, str]:
    """Colour and marker of a method."""
    return LOOKS.get(method, OTHER)


def with_unit(name: str, unit: str) -> str:
    """The label of an axis: ``angular velocity (rad s⁻¹)``; a name that ends its line stays on it. 1 is left out."""
    if unit == "1":
        return name.rstrip("\n")
    raised = written_unit(unit)
    return f"{name}({raised})" if name.endswith("\n") else f"{name} ({raised})"


def written_unit(unit: str) -> str:
    """``rad s⁻¹`` of ``rad s-1``, ``kg m^-0.5`` of ``kg m-0.5``, ``1e4 pelts`` as it is; nothing of 1.

    There is no raised decimal point, so a power that is no whole number stands behind a ``^``, in figures as on pages:
    a small raised one would be below 8 pt.
    """
    return "" if unit == "1" else POWER.sub(lambda found: found["number"] or _raised(found["power"]), unit)


def _raised(power: str) -> str:
    whole = power.removeprefix("-").isdigit()
    return power.translate(SUPERSCRIPTS) if whole else f"^({power})" if "/" in power else f"^{power}"


def in_lines(text: str, width: int) -> str:
    """Text in lines of so many characters at most, broken at spaces and after underscores; a longer word is cut."""
    lines = (fill(line.replace("_", "_ "), width, break_on_hyphens=False) for line in text.split("\n"))
    return "\n".join(lines).replace("_ ", "_")


def row_label(name: str, unit: str) -> str:
    """The label of a row of panels: the name, and below it the unit, in lines that are no longer than the row."""
    return in_lines(with_unit(f"{name}\n", unit), 22)


def is_penalty(method: str) -> bool:
    """Whether a method's rho is the weight of a penalty, which readers know as λ, and not a radius."""
    return method in METHODS and METHODS[method].penalty is not None


def heading(run: pd.Series, last: str) -> str:
    """What stands above the panels of a method: its name, its rho, ``last``, how many runs failed."""
    rho = f"{'λ' if is_penalty(run['method']) else 'ρ'} = {canonical(run['rho'])}" * has_rho(run["method"])
    rho = "baseline" if run["method"] == BASELINE else rho
    name = run["method"] if len(run["method"]) <= NARROW else run["method"].replace("_", "_\n", 1)
    return "\n".join(filter(None, (name, rho, last, f"{run['failed']} failed" * bool(run["failed"]))))


def both_sides(values: pd.Series, low: pd.Series, high: pd.Series) -> np.ndarray:
    """The lengths of bars to both ends of an interval, (2, value), as Matplotlib takes them."""
    return np.stack([values - low, high - values]).astype(float)


def run_heading(panel: pd.DataFrame) -> str:
    """The heading of a method of which one run is shown, from rows of that method."""
    seed = panel["seed"].dropna()
    return heading(panel.iloc[0], f"seed {seed.iloc[0]}" if len(seed) else "none\ncompleted")


def empty_figure(
    title: str, height: float, width: float = WIDTH, layout: Literal["constrained", "compressed"] = "constrained"
) -> Figure:
    """A figure with its title; sizes in inches. layout: compressed for panels of fixed aspect."""
    title = in_lines(title, int(LETTERS * width))
    figure = Figure(figsize=(width, height + LINE * title.count("\n")), layout=layout)
    figure.suptitle(title, x=0.01, ha="left", fontweight="bold")
    return figure


def sentence(text: str, title: str) -> Figure:
    """A figure that says why there is nothing to draw."""
    text = in_lines(text, int(LETTERS * 0.6 * WIDTH) + 20)
    figure = empty_figure(title, 0.8 + LINE * text.count("\n"), 0.6 * WIDTH)
    axis = figure.subplots()
    axis.set_axis_off()
    axis.text(0, 0.5, text, va="center")
    return figure


def panels(
    rows: Sequence[str],
    columns: Sequence[str],
    title: str,
    height: float | Sequence[float] = 1.45,
    sharex: Literal["all", "col", "row"] = "all",
    wide: bool = False,
) -> tuple[Figure, Panels]:
    """An empty grid: axes[row, column] is a panel, axes[row, None] the first one of a row.

    Where columns are in several parts, all rows stand once more for each part, below the last one and on its y axes.
    height: of a row, or of each. wide: take the whole width even for one or two columns.
    """
    heights = [height] * len(rows) if isinstance(height, float) else list(height)
    parts = parts_of(columns)
    beside = -(-len(columns) // parts)
    room = parts * (sum(heights) + 0.6) + 0.65
    figure = empty_figure(title, room, WIDTH if wide or len(columns) > 2 else WIDTH * 0.6)
    shared: dict[str, Any] = {"sharex": sharex, "sharey": "row", "squeeze": False}
    grid = figure.subplots(parts * len(rows), beside, height_ratios=heights * parts, **shared)
    axes = {}
    for i, row in enumerate(rows):
        for j, column in enumerate(columns):
            axes[row, column] = grid[i + j // beside * len(rows), j % beside]
        for again in grid[i + len(rows) :: len(rows), 0]:
            again.sharey(grid[i, 0])
    for unused in grid[-len(rows) :, len(columns) - (parts - 1) * beside :].flat:
        unused.remove()
    for axis in axes.values():
        axis.xaxis.set_major_locator(MaxNLocator(2, steps=[1, 2, 5, 10]))
        _plain_numbers(axis.xaxis)
    return figure, axes | {(row, None): grid[i, 0] for i, row in enumerate(rows)}


def parts_of(columns: Sequence[str]) -> int:
    """In how many parts, below each other, so many columns are divided."""
    return -(-len(columns) // MOST)


def leftmost(axes: Panels, row: str) -> list[Axes]:
    """The panels that carry the label of a row: one, or one of each part that its columns are divided into."""
    return [axis for (name, column), axis in axes.items() if name == row and column and _place(axis).is_first_col()]


def _place(axis: Axes) -> SubplotSpec:
    place = axis.get_subplotspec()
    assert place
    return place


def _plain_numbers(numbers: Axis) -> None:
    """No prefixes on a linear axis: 500m beside a unit of seconds reads like metres."""
    numbers.set_major_formatter(FuncFormatter(lambda value, _: _on_linear_axis(value, *numbers.get_view_interval())))


def _on_linear_axis(value: float, low: float, high: float) -> str:
    """``0.5``, or ``5e-5`` on an axis on which all numbers are small or one is large."""
    most = max(abs(low), abs(high))
    if abs(value) < 1e-9 * most:
        return "0"
    text = f"{value:.6g}"
    if not 1e-3 <= most < 1e6:
        digits, power = f"{value:.5e}".split("e")
        text = f"{float(digits):g}e{int(power)}"
    return text.replace("-", "−", 1) if value < 0 else text


def label_below(axes: Panels, last_row: str, label: str) -> None:
    for (row, _), axis in axes.items():
        axis.set_xlabel(label if row == last_row else "")
        axis.tick_params(axis="x", labelbottom=row == last_row)


def legend(figure: Figure, handles: list, most: int = 4) -> None:
    """The legend below all panels, in as many columns as fit; last of all, as the panels then get their heights.

    A handle may be a tuple of handles drawn on each other and named by the last.
    """
    labels = [(handle[-1] if isinstance(handle, tuple) else handle).get_label() for handle in handles]
    for number in range(min(most, len(handles)), 0, -1):
        below = figure.legend(handles, labels, loc="outside lower center", ncols=number)
        if below.get_window_extent().width <= figure.bbox.width or number == 1:
            break
        below.remove()
    _give_heights(figure)
    _leave_room_between_ticks(figure)


def _give_heights(figure: Figure) -> None:
    """Make the figure so high that its rows of panels are as high as they were asked for, whatever else needs room.

    They were asked for by the height ratios of the grid, in inches.
    """
    places = [axis.get_subplotspec() for axis in figure.axes]
    rows = {place.rowspan.start: axis for place, axis in zip(places, figure.axes, strict=True) if place}
    grid: Any = figure.axes[0].get_gridspec()
    for _ in range(2):  # a second time for what moved
        figure.draw_without_rendering()  # before that, nothing has a place
        height = sum(axis.bbox.height for axis in rows.values()) / figure.dpi
        figure.set_figheight(figure.get_figheight() + sum(grid.get_height_ratios()) - height)


def _leave_room_between_ticks(figure: Figure) -> None:
    """Fewer ticks on linear x axes whose numbers would run into each other: long ones, and those that hardly differ."""
    for axis in figure.axes:
        for number in (3, 2, 1) if isinstance(axis.xaxis.get_major_locator(), MaxNLocator) else ():
            boxes = [label.get_window_extent() for label in axis.get_xticklabels() if label.get_text()]
            if not any(map(Bbox.overlaps, boxes, boxes[1:])):
                break
            axis.locator_params(axis="x", nbins=number, min_n_ticks=min(2, number))


def every_third(points: int) -> tuple[int, int]:
    """Which points of a line carry a marker: three, evenly, the first not at the start."""
    return points // 6, max(1, points // 3)


def limit(axis: Axes, values: pd.Series, others: pd.Series, reach: float = 0.0) -> None:
    """Show all of ``values``, and of ``others`` what lies within ``reach`` times their range."""
    ends = limits(values, others, reach, axis.get_yscale() == "log")
    if ends:
        axis.set_ylim(*ends)


def limits(values: pd.Series, others: pd.Series, reach: float, log: bool) -> tuple[float, float] | None:
    """The ends of an axis that shows what :func:`limit` says; None where there are not two different values."""
    values, others = (_finite(series, log) for series in (values, others))
    values = values if len(values) else others
    if not len(values) or values.min() == values.max():
        return None
    span = np.ptp(values)
    seen = np.clip([*values, *others], values.min() - reach * span, values.max() + reach * span)
    bottom, top = float(seen.min() - 0.06 * span), float(seen.max() + 0.06 * span)
    return (10**bottom, 10**top) if log else (bottom, top)


def log_scale(axis: Axes, ratio: float, which: Literal["x", "y"] = "y") -> None:
    """A logarithmic x or y axis with numbers in one style; ratio: of the largest value to the smallest."""
    axis.set(**{f"{which}scale": "log"})
    subs = (1, 2, 3, 4, 5, 7) if ratio < 4 else (1, 2, 5) if ratio < 100 else (1,)
    numbers = axis.xaxis if which == "x" else axis.yaxis
    numbers.set_major_locator(LogLocator(subs=subs))
    numbers.set_major_formatter(FuncFormatter(lambda value, _: _on_log_axis(value, *numbers.get_view_interval())))
    numbers.set_minor_formatter(NullFormatter())


def _on_log_axis(value: float, low: float, high: float) -> str:
    """``0.02``, or ``2e-2`` on an axis that reaches further than plain numbers do."""
    if low >= 1e-4 and high < 1e5:
        return f"{value:.6g}"
    digits, power = f"{value:.0e}".split("e")
    return f"{digits}e{int(power)}"


def ratio_scale(axis: Axes, ratios: pd.Series, most: float = 10.0) -> tuple[float, float]:
    """A logarithmic x axis for all of the ratios that are within a factor ``most`` of 1; returns its ends."""
    seen = _finite(ratios, log=True)
    low, high = (float(10**end) for end in np.clip([seen.min(initial=-0.1), seen.max(initial=0.1)], -1, 1))
    axis.set_xscale("log")
    axis.set_xlim(low / 1.1, high * 1.1)
    apart = next(factor for factor in (1.25, 2, 4, 10) if high / low < factor**4 or factor == 10)
    axis.set_xticks([tick for tick in apart ** np.arange(-3.0, 4) if low <= tick <= high])
    axis.set_xticks([], minor=True)
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    return low, high


def _finite(series: pd.Series, log: bool) -> np.ndarray:
    values = series.to_numpy(dtype=float)
    values = np.log10(values[values > 0]) if log else values
    return values[np.isfinite(values)]
