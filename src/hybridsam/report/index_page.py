"""What the entry page of the report shows, read from the files of an experiment; its notebook only arranges it."""

import html
import io
import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr

from hybridsam.analysis.cube import EXPLODED_MEANING, THETA_ERROR
from hybridsam.analysis.experiment import (
    ENDS,
    changed_settings,
    elapsed_seconds,
    ends_of_runs,
    rhos_run,
    shares,
    training_seconds,
)
from hybridsam.analysis.results import task_title
from hybridsam.analysis.verdict import (
    RELATIVE,
    cost_in_prediction,
    lowest,
    relative_errors,
    with_standing,
    without_relative_error,
)
from hybridsam.core import records
from hybridsam.core.blocks import canonical
from hybridsam.core.methods import BASELINE
from hybridsam.core.records import TWIN
from hybridsam.figures.style import save
from hybridsam.figures.summary import draw_theta_summary
from hybridsam.report import captions
from hybridsam.report.fragments import embedded, identifiability, rule_of_figures
from hybridsam.report.numbers import duration, plus_minus

NOT_KNOWN = "θ not known"
NONE_COMPLETED = "no run completed"
ALL_EXPLODED = "runs of every method exploded"
UNBROKEN = "\N{NO-BREAK SPACE}"


def tables(folder: Path, names: str) -> dict[str, pd.DataFrame]:
    """name -> table, for those of the names, separated by spaces, that there are."""
    paths = {name: folder / f"{name}.csv" for name in names.split()}
    return {name: pd.read_csv(path) for name, path in paths.items() if path.is_file()}


def cubes(folder: Path, tables: Mapping[str, pd.DataFrame]) -> dict[str, xr.Dataset]:
    """task -> cube, in the order of the tables."""
    tasks = [task for table in tables.values() for task in table["task"].unique()]
    return {task: records.read(folder / task / "cube.nc", "cube") for task in tasks}


def head(experiment: str, cubes: Mapping[str, xr.Dataset], left_out: str) -> str:
    """Heading of the entry page, as HTML; it says first what is a synthetic twin, and which tasks were left out."""
    twins = ", ".join(task for task, cube in cubes.items() if records.origin(cube) == TWIN)
    lines = [f"<h1>Experiment {html.escape(experiment)}</h1>"]
    if twins:
        lines.append(
            f"<p><strong>{TWIN}: {twins}.</strong> The data of these tasks are not measurements: a simulator "
            "that is more complete than the fitted science stands in for them.</p>"
        )
    if left_out:
        lines.append(f"<p>Left out, for want of their measured data: {html.escape(', '.join(left_out.split()))}.</p>")
    return "".join(lines)


# In short


def verdict(folder: Path, tables: Mapping[str, pd.DataFrame], cubes: Mapping[str, xr.Dataset]) -> str:
    """What came out, a row a task, at the rho by which the figures show each method, as HTML."""
    rows, rules = [], {}
    for table in tables.values():
        for task, of_task in table.groupby("task", sort=False):
            rules[task] = rule_of_figures(folder / task)
            chosen = of_task[of_task["rule"] == rules[task]].set_index("method")
            rank = int(identifiability(folder / task)["rank"].iloc[0])
            n = cubes[task].sizes["parameter"]
            known = {"identifiable directions": f"{rank} of {n}" if rank == n else f"<strong>{rank} of {n}</strong>"}
            twin = f"{TWIN}: " * (records.origin(cubes[task]) == TWIN)
            link = f"{twin}<a href='{task}.html'>{html.escape(task)}</a>"
            rows.append({"task": link} | _theta_verdict(chosen, cubes[task]) | known | {"y-error": _y_verdict(chosen)})
    rule = " or ".join(dict.fromkeys(rules.values()))
    table = pd.DataFrame(rows).to_html(index=False, border=0, escape=False)
    return f"<p>Every method is taken at the ρ that the rule “{rule}” chooses.</p>{table}"


def _theta_verdict(chosen: pd.DataFrame, cube: xr.Dataset) -> dict[str, str]:
    """The lowest theta error, the methods that have it, and the baseline's; chosen: the rows of a rule, by method."""
    columns = ["lowest θ-error", "method", "not distinguishable", f"θ-error of {BASELINE}"]
    best = lowest(chosen).get("theta_error")
    if best is None:
        return dict.fromkeys(columns, "–") | {columns[0]: _why_none(chosen) if "theta_error" in cube else NOT_KNOWN}
    own = cube["theta_error"].attrs["long_name"]
    meaning = f" ({html.escape(own)})" * (own != THETA_ERROR)
    reference = " off the published values" * (records.origin(cube) == "measured")
    words = [
        _theta_error(chosen.loc[best], cube) + meaning + reference,
        f"{best} (n = {chosen.loc[best, 'n']})".replace(" ", UNBROKEN),
        _others(chosen, "theta_error"),
        _theta_error(chosen.loc[BASELINE], cube) if BASELINE in chosen.index else "–",
    ]
    return dict(zip(columns, words, strict=True))


def _y_verdict(chosen: pd.DataFrame) -> str:
    """The y-error of the method with the lowest theta error over the lowest of all; without a truth, who has that."""
    best = lowest(chosen)
    if "y_error" not in best:
        return _why_none(chosen)
    if "theta_error" not in best:
        others = _others(chosen, "y_error")
        return (
            f"lowest: {best['y_error']}; "
            + "not distinguishable: " * (not others.startswith(("not tested", "exploded")))
            + others
        )
    if best["theta_error"] == best["y_error"]:
        return "the lowest"
    ratio = cost_in_prediction(chosen)
    number = "∞" if np.isinf(ratio) else f"{ratio:.1f}" if ratio < 10 else f"{ratio:,.0f}"
    standing = {"tied": ", not distinguishable", "untested": ", not tested"}
    own = standing.get(chosen.loc[best["theta_error"], "y_error_standing"], "")
    return f"{number} times that of {best['y_error']}{own}"


def _why_none(chosen: pd.DataFrame) -> str:
    """Why no method of a task has the lowest error."""
    return ALL_EXPLODED if chosen["n"].any() else NONE_COMPLETED


def _others(chosen: pd.DataFrame, metric: str) -> str:
    """The methods that are not distinguishable from the best one, in words."""
    tied, untested, exploded = (
        ", ".join(with_standing(chosen, metric, name)) for name in ("tied", "untested", "exploded")
    )
    parts = {"": tied, "not tested: ": untested, "exploded: ": exploded}
    return "; ".join(f"{what}{methods}" for what, methods in parts.items() if methods) or "none"


def _theta_error(row: pd.Series, cube: xr.Dataset) -> str:
    """The relative theta error in percent; of a task that measures it in its own way, what that gives."""
    if cube["theta_error"].attrs["long_name"] != THETA_ERROR:
        return plus_minus(row["theta_error_mean"], row["theta_error_interval"])
    text = plus_minus(*(100 * row[f"{RELATIVE}_{name}"] for name in ("mean", "interval")))
    number = f"({text})" if "±" in text and not text.startswith("(") else text
    return text if text == "–" else f"{number} %".replace(" ", UNBROKEN)


# What was run


def sizes(cubes: Mapping[str, xr.Dataset]) -> pd.DataFrame:
    """One row a task: what was learnt from what, by how many runs, and how long that took."""
    rows = {}
    for task, ended in ends_of_runs(cubes).iterrows():
        cube = cubes[task]
        training, elapsed = duration(training_seconds([cube])), duration(elapsed_seconds([cube]))
        rows[task] = {
            "title": task_title(cube),
            "data": records.origin(cube),
            "samples: train, validation, test": ", ".join(map(str, cube["samples"].values)),
            "iterations": json.loads(cube.attrs["configuration"])["training"]["iterations"],
            "seeds": cube.sizes["seed"],
            "runs": _ends(ended),
            "training time (first start to last end)": f"{training} ({elapsed})",
        }
    return pd.DataFrame(rows).T


def _ends(ends: pd.Series) -> str:
    """``16 completed (1 exploded), 5 diverged``."""
    exploded = f" ({ends['exploded']} exploded)" * bool(ends["exploded"])
    return ", ".join(f"{ends[how]} {how}" + exploded * (how == "completed") for how in ENDS if ends[how]) or "none"


def in_all(cubes: Mapping[str, xr.Dataset]) -> str:
    """Runs and time of the whole experiment, as HTML."""
    ends, elapsed = ends_of_runs(cubes).sum(), elapsed_seconds(cubes.values())
    why = ", as some run files, of an older version, do not say it" * bool(np.isnan(elapsed))
    return (
        f"<p>In all: {ends['completed']} runs completed, of which {ends['exploded']} exploded; {ends['diverged']} "
        f"diverged, {ends['missing']} missing. "
        f"Training took {duration(training_seconds(cubes.values()))}, summed over all runs; from the start of the "
        f"first training to the end of the last one: {duration(elapsed)}{why}. A diverged run is counted in every "
        "table and figure and enters no mean. One that exploded completed, but "
        f"{EXPLODED_MEANING}: it is counted beside n, means contain it, and its method is never called the best or not "
        "distinguishable from it. Missing are the seeds that one ρ lacks and another one has.</p>"
    )


def changes(cubes: Mapping[str, xr.Dataset]) -> pd.DataFrame:
    """What the experiment changes in the task files, which hold the paper's sizes: a row a task and setting."""
    table = changed_settings(cubes)
    return table.assign(ratio=["" if np.isnan(ratio) else f"{ratio:.2g}" for ratio in table["ratio"]])


def reduction(cubes: Mapping[str, xr.Dataset]) -> str:
    """In words, as HTML, how iterations and training samples compare with those of the task files."""
    parts = []
    for setting, what in {"training.iterations": "iterations", "data.train": "training samples"}.items():
        percents = [100 * float(f"{share:.2g}") for share in shares(cubes, setting)]
        if min(percents) < 100:
            least, most = f"{min(percents):.2g} %", f"{max(percents):.3g} %"
            parts.append(f"{what} are {least}" + f" to {most}" * (least != most))
    table = changes(cubes)
    every = (
        f"<details><summary>Every setting that differs</summary>{table.to_html(border=0)}</details>"
        if len(table)
        else ""
    )
    if not parts:
        rest = "" if every else " So are all other settings."
        return f"<p>Iterations and numbers of training samples are those of the task files.{rest}</p>{every}"
    return (
        f"<p><strong>Sizes are reduced:</strong> {' and '.join(parts)} of those in the task files, which are the "
        "paper's where the paper gives them. What these runs show is how methods compare at these sizes, not what "
        f"the paper's sizes would give.</p>{every}"
    )


def attribution(cubes: Mapping[str, xr.Dataset]) -> str:
    """Whose measured data were used or imitated, under which licence, as HTML; nothing for simulated data alone."""
    sources: dict[str, list[str]] = {}
    for task, cube in cubes.items():
        if "attribution" in cube.attrs:
            name = f"{task} (imitated by a {TWIN})" if records.origin(cube) == TWIN else task
            sources.setdefault(f"{cube.attrs['attribution']} ({cube.attrs['licence']})", []).append(name)
        elif records.origin(cube) == "measured" and "constants" in cube.attrs:
            file = json.loads(cube.attrs["constants"]).get("file", {"value": "unknown file"})["value"]
            sources.setdefault(f"data of your own, {file}", []).append(task)
    items = [f"<li>{', '.join(tasks)}: {html.escape(source)}</li>" for source, tasks in sources.items()]
    return f"<ul>{''.join(items)}</ul>" if items else "<p>All data are simulated.</p>"


def rhos(cubes: Mapping[str, xr.Dataset]) -> pd.DataFrame:
    """The values of rho that were run: a row a method, a column for tasks that have the same."""
    words = rhos_run(cubes).map(lambda values: ", ".join(map(canonical, values)) or "–")
    columns: dict[tuple, list[str]] = {}
    for task in words:
        columns.setdefault(tuple(words[task]), []).append(task)
    return pd.DataFrame({_named(tasks, cubes): own for own, tasks in columns.items()}, index=words.index)


def _named(tasks: list[str], all_of_them: Mapping[str, xr.Dataset]) -> str:
    return "all tasks" if len(tasks) == len(all_of_them) > 1 else ", ".join(tasks)


def provenance(cubes: Mapping[str, xr.Dataset]) -> pd.DataFrame:
    """Commit, device and package versions of the runs, a column for tasks of which they are the same."""
    columns: dict[tuple, list[str]] = {}
    for task, cube in cubes.items():
        versions = [json.loads(text) for text in cube.attrs["runs_versions"].split(" | ")]
        words = " | ".join(", ".join(f"{name} {value}" for name, value in v.items()) for v in versions)
        columns.setdefault((cube.attrs["runs_git_commit"], cube.attrs["runs_device"], words), []).append(task)
    rows = {_named(tasks, cubes): of_tasks for of_tasks, tasks in columns.items()}
    return pd.DataFrame(rows, index=["commit", "device", "versions"])


# Figure


def theta_summary(table: pd.DataFrame, cubes: Mapping[str, xr.Dataset]) -> str:
    """Figure of the relative theta error of a table's tasks with a known truth, for every rule, as HTML."""
    if f"{RELATIVE}_mean" not in table:
        return "<p>No task has a known θ, so there is no θ-error.</p>"
    drawn = relative_errors(table)
    if drawn.empty:
        return f"<p>No run of these tasks ended with a θ-error: {', '.join(table['task'].unique())}.</p>"
    twins = {task: f"{task}\n({TWIN})" for task in cubes if cubes[task].attrs["synthetic"] == "twin"}
    png = io.BytesIO()
    save(draw_theta_summary(drawn.replace({"task": twins}), "Error of θ at the ρ that each rule chooses"), png, ".png")
    absent = without_relative_error(table)
    return embedded(png.getvalue(), captions.theta_summary(drawn, table, absent))
