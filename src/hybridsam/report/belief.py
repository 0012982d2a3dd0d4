"""What pages say of whether theta may be believed: verdicts, and what each assumption makes of theta."""

import html
from collections.abc import Iterable, Iterator
from pathlib import Path

import pandas as pd
import xarray as xr

from hybridsam.core import records
from hybridsam.figures.style import written_unit
from hybridsam.report.captions import caption
from hybridsam.report.fragments import embedded, shown

FEW = 3  # parameters of one verdict, of which the entry page has the sentences
LEAST = 1e-3  # share that is shown with three decimals
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
    verdicts = _table(folder)
    if verdicts.empty:
        return NONE
    found = records.read(folder / "identification.nc", "identification")
    said = "".join(f"<li>{_bold(kind)}: {html.escape(_in_print(*of))}</li>" for kind, *of in _rows(verdicts))
    return f"<ul>{said}</ul>{_assumptions(folder, found)}{_profile(folder, found)}"


def of_experiment(folder: Path, tasks: Iterable[str]) -> str:
    """The verdicts of all tasks, as HTML, with the names alone where many parameters have the same.

    folder: of the experiment.
    """
    rows = "".join(
        f"<li><a href='{task}.html'>{html.escape(task)}</a>: {_bold(kind)}: {html.escape(said)}</li>"
        for task in tasks
        for kind, said in _by_kind(_table(folder / task))
    )
    return f"<ul>{rows}</ul>" if rows else NONE


def _by_kind(table: pd.DataFrame) -> Iterator[tuple[str, str]]:
    """Each kind of verdict, and the sentence of each parameter that has it, or the names of many that do."""
    for kind, rows in table.groupby("verdict", sort=False):
        if len(rows) > FEW:
            yield str(kind), f"{', '.join(rows['parameter'])}."
        else:
            yield from ((kind, _in_print(sentence, unit)) for kind, sentence, unit in _rows(rows))


def _rows(table: pd.DataFrame) -> Iterator[tuple[str, str, str]]:
    """Verdict, sentence and unit of each parameter; files of an older version have no unit."""
    for of in table.assign(unit=table.get("unit", "1")).itertuples():
        yield of.verdict, of.sentence, str(of.unit)


def _in_print(sentence: str, unit: str) -> str:
    """A sentence with its unit as pages write it."""
    return (
        sentence
        if unit == "1"
        else sentence.replace(f" {unit}", f" {written_unit(unit)}".replace(" ", "\N{NO-BREAK SPACE}"))
    )


def _table(folder: Path) -> pd.DataFrame:
    """Parameter, verdict and sentence; no rows of results of an older version."""
    file = folder / "verdict.csv"
    return pd.read_csv(file) if file.is_file() else pd.DataFrame(columns=["parameter", "verdict", "sentence"])


def _bold(kind: str) -> str:
    return f"<strong>{html.escape(kind)}</strong>"


def _assumptions(folder: Path, found: xr.Dataset) -> str:
    if not found.sizes["assumption"]:
        return f"<p>There is no θ by an assumption: {html.escape(found.attrs['reason'])}.</p>"
    table = pd.read_csv(folder / "identification.csv")
    table = table.assign(unit=table["unit"].astype(str).map(written_unit)).set_index("assumption").rename_axis(None)
    table["information"] = [f"{share:.3f}" if share >= LEAST else f"< {LEAST}" for share in table["information"]]
    kept = table.reindex(columns=[name for name in COLUMNS if name in table]).rename(columns=COLUMNS)
    return f"<p>{ABOUT.format(n=found.sizes['member'], starts=_starts(found))}</p>{shown(kept)}"


def _profile(folder: Path, found: xr.Dataset) -> str:
    """The figure of the profile, if the verdicts know one."""
    if "allowed_low" not in found:
        return ""
    table = pd.read_csv(folder / "profile.csv")
    return embedded((folder / "profile.png").read_bytes(), caption("profile", table))


def _starts(found: xr.Dataset) -> str:
    """The least and the greatest start of each parameter in the ensemble."""
    units = found["parameter_units"].to_series()
    starts = found["theta_start"].to_pandas().agg(["min", "max"])
    return "; ".join(
        f"{of['min']:.3g} and {of['max']:.3g}{f' {written_unit(units[name])}' * (units[name] != '1')} ({name})"
        for name, of in starts.items()
    )
