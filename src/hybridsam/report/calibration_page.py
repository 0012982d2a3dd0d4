"""A page of Markdown that says how often the verdicts on theta are right, on truths that were drawn at random."""

import pandas as pd

from hybridsam.analysis import reliability
from hybridsam.analysis.assumptions import Small
from hybridsam.report.markdown_page import machine

YES = {True: "yes", False: "no"}
SOURCES = {"fields": "known fields", "training": "training"}
ABOUT = """\
A truth is an oscillator with a known term, times -θ, and one or two terms that the science lacks, drawn from p,
q, p|p|, q³, 1, cos q, sin q and q p (q position, p velocity), whose root mean square is 0.1 to 0.5 of that of
the known term. The science is a pendulum (sin q), a spring (q), a hardening spring (q³) or a damper (p). A
truth whose missing part contains the known term itself is *imitated*: nothing can tell the two apart, and no
method that does not know the truth can be right about it. In `src/hybridsam/analysis/calibration.py` stands how
they are drawn.

θ is identified twice: from six *known fields*, the true one with a smooth error of 1 % for each; and through
*training*, from an ensemble of six runs on 24 trajectories with noise, as the workflow does it. A value is
*right* that is within {tolerance} of the true one. Shares have Wilson's 95 % interval, and the number of cases
behind them."""
VERDICTS = """\
*Right*: the median of all θ that count for the verdict. *Holds the truth*: the range from the least to the
greatest of them, give or take the tolerance. *Right without small*: as *right*, by the assumptions alone that
were tested and fit, where there is one; *small* forbids nothing, so nothing tests it. A verdict that is undecided
has nothing that counts but *small*."""
ASSUMPTIONS = """\
Where an assumption says something of θ. Where it *holds*, it should not be rejected (false alarms), and its
interval should cover the truth in 95 % of cases. Where it does not hold, it should be rejected, or be right all
the same (misses are those that are neither). *Right* and *covers* are of those that are not rejected. Nothing
can reject *small*."""
THRESHOLDS = """\
The spread ratio above which an assumption is rejected is {rejected:g} by convention. Below, the one that the
three other sciences would choose, by the largest sum of two shares: *kept*, of assumptions that hold, and
*caught*, of those that do not and give a wrong θ; and both shares at that threshold for the science that was
left out."""


def as_page(table: pd.DataFrame, command: str) -> str:
    """The page: how the truths were made, and a table each of verdicts, assumptions and thresholds.

    table: of :func:`.calibrate`, of all sciences.
    """
    parts = [
        "# How often the verdicts are right",
        "This page is written by the workflow. The command that draws the truths, trains the runs and writes it:",
        f"```\n{command}\n```",
        f"Machine: {machine()}. {_number(table)}",
        ABOUT.format(tolerance=f"{reliability.TOLERANCE:.0%}"),
        "## Verdicts",
        VERDICTS,
        _markdown(
            reliability.of_verdicts(table).assign(imitated=lambda rows: rows["imitated"].map(YES)),
            {"right": "right", "holds": "holds the truth", "tested": "right without small"},
        ),
        "## Assumptions and their intervals",
        ASSUMPTIONS,
        _markdown(
            _with_holds_in_words(reliability.of_assumptions(table)),
            {"rejected": "rejected", "right": "right", "covered": "covers"},
        ),
        "## Threshold",
        THRESHOLDS.format(rejected=reliability.DEFAULT.rejected),
        _markdown(reliability.of_thresholds(table), {"kept": "kept", "caught": "caught"}),
    ]
    return "\n\n".join(parts) + "\n"


def _with_holds_in_words(table: pd.DataFrame) -> pd.DataFrame:
    """yes or no; of small, which forbids nothing, neither."""
    words = table["holds"].map(YES)
    return table.assign(holds=words.where(table["assumption"] != Small.title, "–"))


def _number(table: pd.DataFrame) -> str:
    truths = table.drop_duplicates(reliability.TRUTH)
    said = []
    for source, name in SOURCES.items():
        own = truths[truths["source"] == source]
        said.append(f"{len(own)} truths from {name}, of which {int(own['imitated'].sum())} imitated")
    return "; ".join(said) + "."


def _markdown(table: pd.DataFrame, shares: dict[str, str]) -> str:
    """A table with each share and its interval in one column; shares: name -> heading."""
    plain = table.columns[~table.columns.str.match(f"({'|'.join(shares)})(_|$)")]
    shown = table[plain].astype(object).fillna("–").assign(source=table["source"].map(SOURCES))
    for name, heading in shares.items():
        shown[heading] = [_share(row, name) for row in table.to_dict("records")]
    return shown.to_markdown(index=False, disable_numparse=True)


def _share(row: dict, name: str) -> str:
    if not row.get(f"{name}_n") or pd.isna(row[name]):
        return "–"
    return f"{row[name]:.2f} [{row[f'{name}_low']:.2f}, {row[f'{name}_high']:.2f}] of {row[f'{name}_n']:.0f}"
