"""Table 1 of the paper, once for each selection rule: all tasks and methods in one long table, and two renderings."""

import html
import json
from collections.abc import Callable, Mapping

import pandas as pd

from hybridsam.analysis.cube import THETA_ERROR, WORSE_THAN_MEAN
from hybridsam.analysis.intervals import FEWEST
from hybridsam.analysis.selection import centre_of
from hybridsam.analysis.standings import EQUIVALENT
from hybridsam.analysis.verdict import is_shown, with_standing
from hybridsam.core.blocks import canonical
from hybridsam.core.errors import UserError
from hybridsam.core.methods import METHODS, get_method, has_rho, in_order
from hybridsam.core.records import ORIGINS, TWIN
from hybridsam.figures.style import written_unit
from hybridsam.report.numbers import between, column, ended

RULE_TITLES = {
    "validation": "ρ with the lowest validation error (the default rule)",
    "one_standard_error": "Largest ρ up to which the validation error is within one standard error of the lowest",
    "oracle": "ρ with the lowest θ-error (oracle: uses the truth, as the paper's Table 1 does)",
}
TABLE_NOTE = (
    "Errors at the final iterate, on test data; y-error is the mean squared error over all states and times, or of "
    "standardised targets. rho is the chosen ρ, radius of the perturbation or weight of the penalty. n is the number "
    f"of runs that did not fail, of which alone the errors are; a run failed if it diverged, or {WORSE_THAN_MEAN}."
)
SPREAD = (
    "RMS is the root mean square of the θ-error over runs; bias is the mean of θ less the truth. In square brackets "
    "stands a 95 % interval over seeds, and datasets where there are several: by the bootstrap for a median "
    f"({FEWEST} or more), Student's t for a bias and, on the logarithmic scale, for a geometric mean. It says how far "
    "other seeds or datasets would change the number, and not how far θ is from the truth."
)
CROSS_FITTED = (
    "rho is what all seeds choose together. The errors of a seed are those at the ρ that the other seeds choose for "
    "it, so that none is the lowest of several by chance; for how many seeds that is another ρ stands in brackets."
)
ONE_SEED = "There is one seed, which chooses its own ρ: errors may be the lowest of several by chance."
ONE_RUN = (
    "No method has two runs, so there is no interval: any difference may be chance, and every one is inconclusive."
)
COMPARED = (
    "Against the best: the best method of a task has the fewest failed runs and, of those with as few, the lowest RMS "
    "or geometric mean. × is the ratio to it, over the runs of equal data and seed that failed for neither, with an "
    "interval that holds for all methods of the task at once at 95 %. A method is worse if the interval lies above 1, "
    "or if more of its runs failed by Fisher's exact test; equivalent if the interval lies between "
    f"1/{EQUIVALENT} and {EQUIVALENT} and no more runs failed; inconclusive otherwise; failed if every run did."
)
BOLD = "Bold: the best and its equivalents, where others are worse or failed, and none is inconclusive."
THETA_ITSELF = (
    "No θ-error of {tasks}: the true θ is not known. In its place stands θ itself, a line a parameter: the median over "
    f"runs, with its 95 % interval where there are {FEWEST} seeds or more, else the least and the greatest."
)
GRADIENTS = "gradients is how many of the loss a run evaluated, with those of the run that it begins from."
WITHOUT_RHO = {
    "holds": "{methods}: θ is found from a run of erm by that assumption about what the science lacks, and held, while "
    "φ is trained anew.",
    "lacks": "science is fitted without a network, black_box is the network alone.",
}
NOT_RUN = "Not run for {task}: {methods}."
NUMBERS = ("median", "low", "high", "least", "most", "bias", "bias_low", "bias_high")  # of a parameter
DATASETS = "Runs of {task} are on {number} simulated datasets: one for each dataset and seed."


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
    """Table 1 of the paper for one rule: a row a task and method, errors with their intervals.

    bold: how what stands out is written, around ``{}``: the best and its equivalents, where they are shown to be.
    """
    rows = table[table["rule"] == rule]
    twin = rows["data"] == TWIN
    tasks = rows["task"].where(~twin, f"{TWIN}: " + rows["task"])
    known = _is_known(rows)
    columns = {}
    if not known.all():
        columns["θ"] = _lines(rows, ~known, _theta_itself)
    if known.any():
        columns["θ-error, RMS"] = pd.Series(column(rows["theta_error_rms"]), rows.index).where(known, "–")
        columns["θ-error, median"] = _centres(rows, "theta_error").where(known, "–")
        columns["bias of θ"] = _lines(rows, known, _bias)
        columns["θ-error against the best"] = _standings(rows, "theta_error", bold)
    columns[f"y-error, {centre_of('y_error')}"] = _centres(rows, "y_error")
    columns["y-error against the best"] = _standings(rows, "y_error", bold)
    chosen = [_rho(row.rho, json.loads(row.rho_of_seeds)) for row in rows.itertuples()]
    columns["rho"] = pd.Series(chosen, rows.index).where(rows["method"].map(has_rho), "–")
    if "gradients" in rows:
        columns["gradients"] = rows["gradients"].map("{:.0f}".format).replace("nan", "–")
    columns["n"] = pd.Series([ended(row.n, row.failed, row.diverged) for row in rows.itertuples()], rows.index)
    return pd.DataFrame(columns).set_index(pd.MultiIndex.from_arrays([tasks, rows["method"]], names=["task", "method"]))


def _centres(rows: pd.DataFrame, name: str) -> pd.Series:
    """The centres of one metric with their intervals."""
    centre, low, high = (rows[f"{name}_{of}"] for of in ("centre", "low", "high"))
    return pd.Series(between(centre, low, high), rows.index).str.replace(" [", "<br>[")


def _standings(rows: pd.DataFrame, name: str, bold: str) -> pd.Series:
    """``best``, or ``worse`` above ``× 1.8 [1.2, 2.7]``; an interval over many decades has an exponent by itself."""
    words = rows[f"{name}_standing"].astype(object).fillna("")
    ratios = rows[[f"{name}_ratio{end}" for end in ("", "_low", "_high")]].dropna(subset=f"{name}_ratio")
    for row, ratio in ratios.iterrows():
        [text] = between(ratio.iloc[:1], ratio.iloc[1:2], ratio.iloc[2:], digits=2)
        words[row] += f"<br>× {text}"
    for _, of_task in rows.groupby("task", sort=False):
        of_methods = of_task.set_index("method")
        if is_shown(of_methods, name):
            top = {method for kind in ("best", "equivalent") for method in with_standing(of_methods, name, kind)}
            here = of_task.index[of_task["method"].isin(top)]
            words[here] = words[here].map(bold.format)
    return words.replace("", "–")


def _rho(rho: float, seeds: Mapping[str, int]) -> str:
    """``0.05``, or with the values that other seeds choose, ``0.05 (0.02 for 3 of 10 seeds)``."""
    others = [f"{value} for {number}" for value, number in seeds.items() if value != canonical(rho)]
    return canonical(rho) + (f" ({', '.join(others)} of {sum(seeds.values())} seeds)" if others else "")


def _is_known(rows: pd.DataFrame) -> pd.Series:
    """Of which rows the true theta is known."""
    return rows.reindex(columns=["theta_error_meaning"])["theta_error_meaning"].notna()


def _lines(rows: pd.DataFrame, which: pd.Series, write: Callable[[pd.DataFrame], list[str]]) -> pd.Series:
    """What is written of each parameter, a line each; the numbers of a task's parameter are written in one way."""
    found = [pd.DataFrame(json.loads(rows.loc[row, "theta"])).assign(row=row) for row in rows.index[which]]
    theta = pd.concat(found, ignore_index=True).merge(rows["task"], left_on="row", right_index=True)
    theta["text"] = "–"
    for (name, task), values in theta.groupby(["parameter", "task"], sort=False):
        several = theta["parameter"][theta["task"] == task].nunique() > 1
        unit = html.escape(written_unit(values["unit"].iloc[0]))
        texts = write(values.astype(dict.fromkeys(values.columns.intersection(NUMBERS), float)))
        label = f"{html.escape(name)} " if several else ""
        texts = [f"{label}{text} {unit}".rstrip() if text != "–" else text for text in texts]
        theta.loc[values.index, "text"] = texts
    lines = theta.groupby("row")["text"].agg("<br>".join).reindex(rows.index)
    said = theta["text"].ne("–").groupby(theta["row"]).any().reindex(rows.index, fill_value=False)
    return lines.where(which & said & (rows["n"] > 0), "–")


def _theta_itself(values: pd.DataFrame) -> list[str]:
    """``1.80 [1.78, 1.83]``, or of few runs ``1.80 (1.78 to 1.83)``."""
    texts = between(values["median"], values["low"], values["high"])
    least, most = column(values["least"]), column(values["most"])
    spans = [f" ({a} to {b})" if a != b else "" for a, b in zip(least, most, strict=True)]
    few = values["low"].isna()
    return [text + span * bool(is_few) for text, span, is_few in zip(texts, spans, few, strict=True)]


def _bias(values: pd.DataFrame) -> list[str]:
    return between(values["bias"], values["bias_low"], values["bias_high"], sign="+", digits=2)


def notes(table: pd.DataFrame) -> list[str]:
    """What a reader of Table 1 has to know: intervals, comparisons, errors of another kind, synthetic twins."""
    standings = set(table.filter(regex="_standing$").to_numpy().ravel())
    lines = [TABLE_NOTE]
    lines.append(SPREAD if table["n"].max() > 1 else ONE_RUN)
    several_seeds = table["rho_of_seeds"].map(lambda text: sum(json.loads(text).values())).max() > 1
    lines.append(CROSS_FITTED if several_seeds else ONE_SEED)
    if "gradients" in table:
        lines.append(GRADIENTS)
    lines += _of_methods(table)
    if "best" in standings:
        lines.append(f"{COMPARED} {BOLD}")
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


def _of_methods(table: pd.DataFrame) -> list[str]:
    """What methods beside those of the paper do, and which were not run for a task, and why."""
    methods, lines = [get_method(name) for name in in_order(table["method"]) if name in METHODS], []
    if two_stage := [method.name for method in methods if method.holds]:
        lines.append(WITHOUT_RHO["holds"].format(methods=", ".join(two_stage)))
    if any(method.lacks for method in methods):
        lines.append(WITHOUT_RHO["lacks"])
    if "not_run" in table:
        for task, text in table.drop_duplicates("task").set_index("task")["not_run"].items():
            if left_out := [f"{method} ({why})" for method, why in json.loads(text).items()]:
                lines.append(NOT_RUN.format(task=task, methods=", ".join(left_out)))
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
