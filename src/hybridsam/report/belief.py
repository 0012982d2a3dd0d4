"""What pages say of whether theta may be believed: verdicts, and what each assumption makes of theta."""

import html
from collections.abc import Iterable
from pathlib import Path

import pandas as pd
import xarray as xr

from hybridsam.core import records
from hybridsam.figures.style import written_unit
from hybridsam.report.fragments import shown

COLUMNS = {  # of identification.csv -> as the page calls them
    "parameter": "parameter",
    "unit": "unit",
    "theta": "θ",
    "low": "from",
    "high": "to",
    "information": "information",
    "unexplained": "unexplained",
    "spread_ratio": "spread ratio",
    "true": "true",
}
ABOUT = (
    "The data fix the whole f + g where they lie, not how it splits: that is fixed by an assumption about g, the part "
    "that the science lacks. Each one gives the θ that needs no more than it allows, from what an ensemble of {n} runs "
    "of plain erm agrees on, whose θ started between {starts}. Intervals (95 %) are over runs and series, and "
    "not over other noise in the same data, an error that all runs share. "
    "<em>Information</em>: the share of what θ does to the science that neither the assumption nor another parameter "
    "can imitate; where there is next to none, there is no θ. <em>Unexplained</em>: how much of g the assumption does "
    "not allow, as a root mean square over that of g; <em>spread ratio</em>: the same over how much the runs differ "
    "there. Far above 1 the assumption is wrong; about 1 it fits, which does not make it true. <em>small</em> is the θ "
    "for which g is as small as can be, and forbids nothing, so nothing tests it."
)
NONE = "<p>Nothing is known here of what may be believed: there is no verdict.csv, which the workflow makes.</p>"


def of_task(folder: Path) -> str:
    """Verdicts of a task and the table of its assumptions, as HTML; folder: of the task."""
    if not (lines := _verdicts(folder)):
        return NONE
    found = records.read(folder / "identification.nc", "identification")
    said = "".join(f"<li>{line}</li>" for line in lines)
    return f"<ul>{said}</ul>{_assumptions(folder, found)}"


def of_experiment(folder: Path, tasks: Iterable[str]) -> str:
    """The verdicts of all tasks, as HTML; folder: of the experiment."""
    rows = "".join(
        f"<li><a href='{task}.html'>{html.escape(task)}</a>: {line}</li>"
        for task in tasks
        for line in _verdicts(folder / task)
    )
    return f"<ul>{rows}</ul>" if rows else NONE


def _verdicts(folder: Path) -> list[str]:
    """One line a parameter: its kind in bold, and the sentence; none in results of an older version."""
    if not (file := folder / "verdict.csv").is_file():
        return []
    rows = pd.read_csv(file).itertuples()
    return [f"<strong>{html.escape(row.verdict)}</strong>: {html.escape(row.sentence)}" for row in rows]


def _assumptions(folder: Path, found: xr.Dataset) -> str:
    if not found.sizes["assumption"]:
        return f"<p>There is no θ by an assumption: {html.escape(found.attrs['reason'])}.</p>"
    table = pd.read_csv(folder / "identification.csv")
    table = table.assign(unit=table["unit"].astype(str).map(written_unit)).set_index("assumption").rename_axis(None)
    kept = table.reindex(columns=[name for name in COLUMNS if name in table]).rename(columns=COLUMNS)
    return f"<p>{ABOUT.format(n=found.sizes['member'], starts=_starts(found))}</p>{shown(kept)}"


def _starts(found: xr.Dataset) -> str:
    """The least and the greatest start of each parameter in the ensemble."""
    units = found["parameter_units"].to_series()
    starts = found["theta_start"].to_pandas().agg(["min", "max"])
    return "; ".join(
        f"{of['min']:.3g} and {of['max']:.3g}{f' {written_unit(units[name])}' * (units[name] != '1')} ({name})"
        for name, of in starts.items()
    )
