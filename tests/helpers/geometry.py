"""Where the texts of a figure lie, by Matplotlib's own measure, and what is cut off or lies on something else."""

from collections.abc import Iterator
from itertools import combinations

from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox

TOLERANCE = 1.0  # pixels of a screen, 100 to an inch: boxes of text have some air around the letters
SMALLEST = 8  # pt


def faults(figure: Figure) -> list[str]:
    """What is wrong with the layout of a figure, in words."""
    figure.draw_without_rendering()  # before that, nothing has a place
    texts = [(text, _box(text)) for text in _texts(figure)]
    found = [f"{_name(text)} has {text.get_fontsize()} pt" for text, _ in texts if text.get_fontsize() < SMALLEST]
    found += [f"{_name(text)} is cut off" for text, box in texts if not _inside(box, figure.bbox)]
    found += [f"{_name(a)} on {_name(b)}" for (a, box), (b, other) in combinations(texts, 2) if _on(box, other)]
    for legend in figure.legends:
        box = legend.get_window_extent()
        found += ["the legend is cut off"] * (not _inside(box, figure.bbox))
        found += [f"the legend on {_axes(axis)}" for axis in figure.axes if _on(box, axis.bbox)]
        others = [(text, extent) for text, extent in texts if text not in legend.get_texts()]
        found += [f"the legend on {_name(text)}" for text, extent in others if _on(box, extent)]
    outside = [(text, box) for text, box in texts if text.axes is not None and text in _titles(text.axes)]
    found += [f"{_name(t)} on {_axes(axis)}" for t, box in outside for axis in figure.axes if _on(box, axis.bbox)]
    found += [f"{_axes(axis)} has no room" for axis in figure.axes if min(axis.bbox.size) < 5]
    return found


def _texts(figure: Figure) -> Iterator[Text]:
    """What is written, but for the labels of ticks that are out of view."""
    hidden = set()
    for axis in figure.findobj(Axis):
        low, high = sorted(axis.get_view_interval())
        for tick in (*axis.get_major_ticks(), *axis.get_minor_ticks()):
            if not low <= tick.get_loc() <= high or not axis.get_visible() or not axis.axes.axison:
                hidden |= {tick.label1, tick.label2}
    for text in figure.findobj(Text):
        if text.get_text().strip() and text.get_visible() and text not in hidden and _is_shown(text):
            yield text


def _box(text: Text) -> Bbox:
    """Where a text lies, without empty lines at its head."""
    box, lines = text.get_window_extent(), text.get_text().split("\n")
    empty = next(number for number, line in enumerate(lines) if line.strip())
    return Bbox.from_extents(box.x0, box.y0, box.x1, box.y1 - box.height * empty / len(lines))


def _is_shown(text: Text) -> bool:
    return text.axes is None or (text.axes.get_visible() and (text.axes.axison or text in text.axes.texts))


def _titles(axes) -> tuple[Text, ...]:
    return (axes.title, axes.xaxis.label, axes.yaxis.label)


def _inside(box: Bbox, of: Bbox) -> bool:
    low, high = box.min + TOLERANCE, box.max - TOLERANCE
    return bool((low >= of.min).all() and (high <= of.max).all())


def _on(box: Bbox, other: Bbox) -> bool:
    """Whether two boxes lie on each other."""
    common = Bbox.intersection(box, other)
    return common is not None and bool((common.size > TOLERANCE).all())


def _name(text: Text) -> str:
    return repr(text.get_text())


def _axes(axes) -> str:
    return f"the panel {axes.get_title()!r}"
