"""Table 1 of the paper, once for each selection rule: all tasks and methods in one long table, and two renderings."""

import html
import json
from collections.abc import Mapping

import numpy as np
import pandas as pd

from hybridsam.analysis.cube import EXPLODED_MEANING, METRICS, SHOWN, THETA_ERROR
from hybridsam.core.blocks import canonical
from hybridsam.core.errors import UserError
from hybridsam.core.records import ORIGINS, TWIN
from hybridsam.figures.style import written_unit
from hybridsam.report.numbers import column, ended

RULE_TITLES = {
    "validation": "ρ with the lowest validation error (the default rule)",
    "one_standard_error": "Largest ρ within one standard error of the lowest validation error",
    "oracle": "ρ with the lowest θ-error (oracle: uses the truth, as the paper's Table 1 does)",
}
TABLE_NOTE = (
    "Errors at the final iterate, on test data; y-error is the mean squared error over all states and times, or of "
    "standardised targets. rho is the chosen ρ, radius of the perturbation or weight of the penalty, n the number of "
    "completed runs; diverged runs enter no mean."
)
THETA_ITSELF = (
    "No θ-error of {tasks}: the true θ is not known. In its place stands θ itself, a line a parameter: mean over the "
    "completed runs, ± half width of its 95 % Student t interval where there are two or more."
)
SPREAD = "Mean ± half width of its 95 % Student t interval over the completed runs, one a seed."
ONE_SEED = "No method has two completed runs, so there is no interval and no test: any difference may be chance."
MARKS = {"tied": "†", "untested": "‡", "exploded": "§"}
LOWEST = "Bold: the lowest mean of each task."
TESTED = (
    "Bold: the lowest mean of each task and, marked †, every other that is not distinguishable from it "
    "(paired t-test over seeds, Holm-adjusted over methods, 5 %). Runs of equal seed are compared, so a difference may "
    "be clear although the intervals overlap; with few seeds, what is not distinguishable need not be equal."
)
UNTESTED = "‡: not compared with it, for want of two seeds that both methods completed with finite errors."
EXPLODED_MARK = (
    "§: {number} completed runs in these tables exploded, which n counts in brackets: {meaning}. Means contain them, "
    "and the median stands beside. One such run makes any mean large and any difference seem chance, so these methods "
    "are not compared: they are neither bold nor †."
)
DATASETS = (
    "Runs of {task} are on {number} simulated datasets, from each seed: one a dataset and seed, compared as such."
)
INFINITE = "∞: the prediction of test data was not finite in a completed run."


def table_one(selections: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """The selections of all tasks, one below the other, with the task in front.

    Raises UserError where one task's data are measured and another's a synthetic twin of measurements.
    """
    origins = {task: frame["data"].iloc[0] for task, frame in selections.items()}
    by_origin = {o: [task for task in origins if origins[task] == o] for o in (TWIN, ORIGINS["no"])}
    if all(by_origin.values()):
        twins, measured = (", ".join(tasks) for tasks in by_origin.values())
        raise UserError(f"table: synthetic twins ({twins}) and measured data ({measured}) do not go into one table")
    return pd.concat([frame.assign(task=task) for task, frame in selections.items()], ignore_index=True)[
        lambda frame: ["task", *[name for name in frame.columns if name != "task"]]
    ]


def formatted(table: pd.DataFrame, rule: str, bold: str = "{}") -> pd.DataFrame:
    """Table 1 of the paper for one rule: a row a task and method, errors as mean ± half width of the interval.

    bold: how what stands out is written, around ``{}``: the best, and what is not distinguishable from it.
    """
    rows = table[table["rule"] == rule]
    twin = rows["data"] == TWIN
    tasks = rows["task"].where(~twin, f"{TWIN}: " + rows["task"])
    columns = {METRICS[name]: _cells(rows, name, bold) for name in SHOWN}
    if (unknown := ~_is_known(rows)).any():
        errors = columns.pop(METRICS["theta_error"]).mask(unknown, _theta_itself(rows[unknown]))
        columns = {"θ-error" if not unknown.all() else "θ": errors} | columns
    columns |= {"rho": rows["rho"].map(canonical)}
    columns["n"] = pd.Series([ended(row.n, row.diverged, row.exploded) for row in rows.itertuples()], rows.index)
    return pd.DataFrame(columns).set_index(pd.MultiIndex.from_arrays([tasks, rows["method"]], names=["task", "method"]))


def _cells(rows: pd.DataFrame, name: str, bold: str) -> pd.Series:
    """The means of one metric with their intervals, marked by their standing; the median too where runs exploded."""
    values = rows.reindex(columns=[f"{name}_{of}" for of in ("mean", "interval", "median", "standing")])
    means, medians = column(values.iloc[:, 0], values.iloc[:, 1]), column(values.iloc[:, 2])
    cells = []
    for mean, median, standing, exploded in zip(means, medians, values.iloc[:, 3], rows["exploded"], strict=True):
        text = f"{mean} (median {median})" if exploded else mean
        text = bold.format(text) if standing in ("best", "tied") else text
        cells.append(f"{text} {MARKS[standing]}" if standing in MARKS else text)
    return pd.Series(cells, rows.index)


def _is_known(rows: pd.DataFrame) -> pd.Series:
    """Of which rows the true theta is known."""
    return rows.reindex(columns=["theta_error_meaning"])["theta_error_meaning"].notna()


def _theta_itself(rows: pd.DataFrame) -> pd.Series:
    """``k = 1.80 ± 0.02 N m⁻¹``, a line a parameter; the numbers of a task's parameter are written in one way."""
    found = [pd.DataFrame(json.loads(text)).assign(row=row) for row, text in rows["theta"].items()]
    theta = (
        pd.concat(found, ignore_index=True).merge(rows["task"], left_on="row", right_index=True).astype({"mean": float})
    )
    theta["text"] = "–"
    for (name, _), values in theta.groupby(["parameter", "task"], sort=False):
        written = column(values["mean"], values["interval"])
        unit = html.escape(written_unit(values["unit"].iloc[0]))
        theta.loc[values.index, "text"] = [f"{html.escape(name)} = {text} {unit}".rstrip() for text in written]
    return theta.groupby("row")["text"].agg("<br>".join).where(rows["n"] > 0, "–")


def notes(table: pd.DataFrame) -> list[str]:
    """What a reader of Table 1 has to know: interval and marks, errors of another kind, synthetic twins."""
    means = table.reindex(columns=[f"{name}_mean" for name in SHOWN])
    standings = set(table.filter(regex="_standing$").to_numpy().ravel())
    lines = [f"{TABLE_NOTE} {SPREAD if table['n'].max() > 1 else ONE_SEED}"]
    if "best" in standings:
        lines.append(TESTED if standings & {"tied", "worse"} else LOWEST)
        lines[-1] += f" {UNTESTED}" * ("untested" in standings)
    if exploded := table.drop_duplicates(["task", "method", "rho"])["exploded"].sum():
        lines.append(EXPLODED_MARK.format(number=exploded, meaning=EXPLODED_MEANING))
    if np.isinf(means.to_numpy()).any():
        lines.append(INFINITE)
    if "theta_error_meaning" in table:
        meanings = table.drop_duplicates("task").set_index("task")["theta_error_meaning"]
        lines += [f"θ-error of {task}: {text}." for task, text in meanings.dropna().items() if text != THETA_ERROR]
    if "datasets" in table:
        numbers = table.drop_duplicates("task").set_index("task")["datasets"]
        lines += [DATASETS.format(task=task, number=number) for task, number in numbers.items() if number > 1]
    if unknown := table["task"][~_is_known(table)].unique().tolist():
        lines.append(THETA_ITSELF.format(tasks=", ".join(unknown)))
    twins = table.loc[table["data"] == TWIN, "task"].unique()
    if len(twins):
        lines.append(f"{TWIN}: the data of {', '.join(twins)} stand in for measurements.")
    return lines


def as_markdown(table: pd.DataFrame) -> str:
    """Table 1 for each selection rule, in Markdown."""
    parts = notes(table)
    for rule in table["rule"].unique():
        frame = _in_rows(formatted(table, rule, "**{}**"))
        parts.append(f"**{RULE_TITLES[rule]}**\n\n{frame.to_markdown(index=False, disable_numparse=True)}")
    return "\n\n".join(parts) + "\n"


def as_html(table: pd.DataFrame) -> str:
    """Table 1 for each selection rule, as a fragment of HTML."""
    parts = [f"<p>{html.escape(line)}</p>" for line in notes(table)]
    for rule in table["rule"].unique():
        frame = _in_rows(formatted(table, rule, "<strong>{}</strong>"))
        frame[["task", "method"]] = frame[["task", "method"]].map(html.escape)
        parts.append(f"<h3>{RULE_TITLES[rule]}</h3>\n{frame.to_html(index=False, border=0, escape=False)}")
    return "\n".join(parts) + "\n"


def _in_rows(frame: pd.DataFrame) -> pd.DataFrame:
    """Task and method as columns, the task on its first row only."""
    frame = frame.reset_index()
    return frame.assign(task=frame["task"].where(~frame["task"].duplicated(), ""))
