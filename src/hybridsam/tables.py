"""Table 1 of the paper, once for each selection rule: all tasks and methods in one long table, and two renderings."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from hybridsam.errors import UserError
from hybridsam.evaluate import THETA_ERROR


def table_one(selections: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """The selections of all tasks, one below the other, with the task in front.

    Raises UserError where one task's data are measured and another's a synthetic twin of measurements.
    """
    origins = {task: frame["data"].iloc[0] for task, frame in selections.items()}
    by_origin = {o: [task for task in origins if origins[task] == o] for o in ("SYNTHETIC TWIN", "measured")}
    if all(by_origin.values()):
        twins, measured = (", ".join(tasks) for tasks in by_origin.values())
        raise UserError(f"table: synthetic twins ({twins}) and measured data ({measured}) do not go into one table")
    return pd.concat([frame.assign(task=task) for task, frame in selections.items()], ignore_index=True)[
        lambda frame: ["task", *[name for name in frame.columns if name != "task"]]
    ]


def formatted(table: pd.DataFrame, rule: str) -> pd.DataFrame:
    """Table 1 of the paper for one rule: a row a task and method, theta error and y error as mean ± sd."""
    rows = table[table["rule"] == rule]
    twin = rows["data"] == "SYNTHETIC TWIN"
    tasks = rows["task"].where(~twin, "SYNTHETIC TWIN: " + rows["task"])
    return pd.DataFrame(
        {
            "θ-error": rows.apply(_mean_and_sd, axis=1, name="theta_error"),
            "y-error": rows.apply(_mean_and_sd, axis=1, name="y_error"),
            "rho": rows["rho"].map("{:g}".format),
            "n": [
                f"{n}" + f" ({gone} diverged)" * bool(gone) for n, gone in zip(rows["n"], rows["diverged"], strict=True)
            ],
        },
    ).set_index(pd.MultiIndex.from_arrays([tasks, rows["method"]], names=["task", "method"]))


def _mean_and_sd(row: pd.Series, name: str) -> str:
    mean, sd = row.get(f"{name}_mean", np.nan), row.get(f"{name}_sd", np.nan)
    if np.isnan(mean):
        return "–"
    return f"{mean:.3g}" + (f" ± {sd:.2g}" if not np.isnan(sd) else "")


RULE_TITLES = {
    "validation": "Strength with the lowest validation error (the default rule)",
    "one_standard_error": "Largest strength within one standard error of the lowest validation error",
    "oracle": "Strength with the lowest θ-error (oracle: uses the truth, as the paper's Table 1 does)",
}
TABLE_NOTE = (
    "Mean ± standard deviation over seeds at the final iterate, on test data; y-error is the mean squared error over "
    "all states and times, or of standardised targets. rho is the chosen strength, n the number of completed runs."
)


def notes(table: pd.DataFrame) -> list[str]:
    """What a reader of Table 1 has to know: kinds of mean, errors of another kind, synthetic twins."""
    lines = [TABLE_NOTE]
    if "theta_error_meaning" in table:
        meanings = table.drop_duplicates("task").set_index("task")["theta_error_meaning"]
        lines += [f"θ-error of {task}: {text}." for task, text in meanings.dropna().items() if text != THETA_ERROR]
    known = table["theta_error_meaning"].notna() if "theta_error_meaning" in table else pd.Series(False, table.index)
    if unknown := sorted(set(table["task"]) - set(table["task"][known])):
        lines.append(f"No θ-error of {', '.join(unknown)}: the true θ is not known.")
    twins = table.loc[table["data"] == "SYNTHETIC TWIN", "task"].unique()
    if len(twins):
        lines.append(f"SYNTHETIC TWIN: the data of {', '.join(twins)} stand in for measurements.")
    return lines


def as_markdown(table: pd.DataFrame) -> str:
    """Table 1 for each selection rule, in Markdown."""
    parts = notes(table)
    for rule in table["rule"].unique():
        frame = formatted(table, rule).reset_index()
        frame["task"] = frame["task"].where(~frame["task"].duplicated(), "")
        parts.append(f"**{RULE_TITLES[rule]}**\n\n{frame.to_markdown(index=False)}")
    return "\n\n".join(parts) + "\n"


def as_html(table: pd.DataFrame) -> str:
    """Table 1 for each selection rule, as a fragment of HTML."""
    parts = [f"<p>{line}</p>" for line in notes(table)]
    for rule in table["rule"].unique():
        parts.append(f"<h3>{RULE_TITLES[rule]}</h3>\n{formatted(table, rule).to_html(border=0)}")
    return "\n".join(parts) + "\n"
