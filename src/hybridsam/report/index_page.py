"""What the entry page of the report shows, read from the files of an experiment; its notebook only arranges it."""

import html
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from hybridsam.analysis.cube import THETA_ERROR, runs_table
from hybridsam.analysis.results import task_title
from hybridsam.core import records
from hybridsam.core.blocks import canonical
from hybridsam.core.methods import BASELINE, in_order
from hybridsam.core.records import TWIN
from hybridsam.figures.style import save
from hybridsam.figures.summary import draw_theta_summary
from hybridsam.report.captions import span
from hybridsam.report.fragments import embedded, identifiability, rule_of_figures
from hybridsam.report.markdown_page import duration, elapsed, training_time
from hybridsam.report.table_one import plus_minus

NOT_KNOWN = "θ not known"
NONE_COMPLETED = "no run completed"
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
    """What came out, a row a task, at the strengths that the figures show, as HTML."""
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
    return f"<p>Every method is taken at the strength that the rule “{rule}” chooses.</p>{table}"


def _theta_verdict(chosen: pd.DataFrame, cube: xr.Dataset) -> dict[str, str]:
    """The lowest theta error, the methods that have it, and the baseline's; chosen: the rows of a rule, by method."""
    columns = ["lowest θ-error", "method", "not distinguishable", f"θ-error of {BASELINE}"]
    best = _lowest(chosen, "theta_error")
    if best is None:
        return dict.fromkeys(columns, "–") | {columns[0]: NONE_COMPLETED if "theta_error" in cube else NOT_KNOWN}
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
    lowest = _lowest(chosen, "y_error")
    if lowest is None:
        return NONE_COMPLETED
    best = _lowest(chosen, "theta_error")
    if best is None:
        others = _others(chosen, "y_error")
        return f"lowest: {lowest}; " + "not distinguishable: " * (not others.startswith("not tested")) + others
    if best == lowest:
        return "the lowest"
    ratio = chosen.loc[best, "y_error_mean"] / chosen.loc[lowest, "y_error_mean"]
    number = "∞" if np.isinf(ratio) else f"{ratio:.1f}" if ratio < 10 else f"{ratio:,.0f}"
    standing = {"tied": ", not distinguishable", "untested": ", not tested"}
    return f"{number} times that of {lowest}{standing.get(chosen.loc[best, 'y_error_standing'], '')}"


def _lowest(chosen: pd.DataFrame, metric: str) -> str | None:
    """The method with the lowest mean; None where no run has one."""
    means = chosen.get(f"{metric}_mean", pd.Series(dtype=float)).dropna()
    return str(means.idxmin()) if len(means) else None


def _others(chosen: pd.DataFrame, metric: str) -> str:
    """The methods that are not distinguishable from the best one, in words."""
    standing = chosen[f"{metric}_standing"]
    tied, untested = (", ".join(in_order(standing.index[standing == name])) for name in ("tied", "untested"))
    return "; ".join([tied] * bool(tied) + [f"not tested: {untested}"] * bool(untested)) or "none"


def _theta_error(row: pd.Series, cube: xr.Dataset) -> str:
    """The relative theta error in percent; of a task that measures it in its own way, what that gives."""
    if cube["theta_error"].attrs["long_name"] != THETA_ERROR:
        return plus_minus(row["theta_error_mean"], row["theta_error_interval"])
    text = plus_minus(*(100 * row[f"theta_relative_error_{name}"] for name in ("mean", "interval")))
    number = f"({text})" if "±" in text and not text.startswith("(") else text
    return text if text == "–" else f"{number} %".replace(" ", UNBROKEN)


# What was run


def sizes(cubes: Mapping[str, xr.Dataset]) -> pd.DataFrame:
    """One row a task: what was learnt from what, by how many runs, and how long that took."""
    rows = {}
    for task, cube in cubes.items():
        ended = counts({task: cube}).loc[task]
        rows[task] = {
            "title": task_title(cube),
            "data": records.origin(cube),
            "samples: train, validation, test": ", ".join(map(str, cube["samples"].values)),
            "iterations": json.loads(cube.attrs["configuration"])["training"]["iterations"],
            "seeds": cube.sizes["seed"],
            "runs": ", ".join(f"{number} {how}" for how, number in ended.items() if number) or "none",
            "training time (first start to last end)": f"{training_time([cube])} ({duration(elapsed([cube]))})",
        }
    return pd.DataFrame(rows).T


def in_all(cubes: Mapping[str, xr.Dataset]) -> str:
    """Runs and time of the whole experiment, as HTML."""
    ended, wall = counts(cubes).sum(), duration(elapsed(cubes.values()))
    why = ", as some run files, of an older version, do not say it" * (wall == "unknown")
    return (
        f"<p>In all: {ended['completed']} runs completed, {ended['diverged']} diverged, {ended['missing']} missing. "
        f"Training took {training_time(cubes.values())}, summed over all runs; from the start of the first training to "
        f"the end of the last one: {wall}{why}. A diverged run is counted in every table and figure and enters no "
        "mean; missing are the seeds that a strength lacks and another one has.</p>"
    )


def changes(cubes: Mapping[str, xr.Dataset]) -> pd.DataFrame:
    """What the experiment changes in the task files, which hold the paper's sizes: a row a task and setting."""
    rows = [
        {
            "task": task,
            "setting": name.removesuffix(".value"),
            "task file": before,
            "here": here,
            "ratio": _ratio(before, here),
        }
        for task, cube in cubes.items()
        for name, (before, here) in json.loads(cube.attrs.get("changes", "{}")).items()
    ]
    return pd.DataFrame(rows, columns=["task", "setting", "task file", "here", "ratio"]).set_index(["task", "setting"])


def reduction(cubes: Mapping[str, xr.Dataset]) -> str:
    """In words, as HTML, how iterations and training samples compare with those of the task files."""
    table = changes(cubes)
    parts = []
    for setting, what in {"training.iterations": "iterations", "data.train": "training samples"}.items():
        ratios = table[table.index.get_level_values("setting") == setting]["ratio"].replace("", pd.NA).dropna()
        shares = [100.0] * (len(ratios) < len(cubes)) + [100 * float(ratio) for ratio in ratios]
        if min(shares) < 100:
            least, most = f"{min(shares):.2g} %", f"{max(shares):.3g} %"
            parts.append(f"{what} are {least}" + f" to {most}" * (least != most))
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


def _ratio(before: Any, here: Any) -> str:
    numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for value in (before, here))
    return f"{here / before:.2g}" if numbers and before else ""


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


def strengths(cubes: Mapping[str, xr.Dataset]) -> pd.DataFrame:
    """The strengths that were run: a row a method, a column for tasks that have the same."""
    columns: dict[tuple, list[str]] = {}
    methods = in_order({name for cube in cubes.values() for name in cube["method"].values.tolist()})
    for task, cube in cubes.items():
        rhos = runs_table(cube).groupby("method", observed=True)["rho"].unique()
        words = rhos.map(lambda values: ", ".join(map(canonical, values))).reindex(methods).fillna("–")
        columns.setdefault(tuple(words), []).append(task)
    return pd.DataFrame({_named(tasks, cubes): words for words, tasks in columns.items()}, index=methods)


def _named(tasks: list[str], all_of_them: Mapping[str, xr.Dataset]) -> str:
    return "all tasks" if len(tasks) == len(all_of_them) > 1 else ", ".join(tasks)


def counts(cubes: Mapping[str, xr.Dataset]) -> pd.DataFrame:
    """How the runs of each task ended; missing are the seeds that a strength lacks and another one has."""
    rows = {}
    for task, cube in cubes.items():
        started = (cube["status"] != "missing").any("seed")
        status = cube["status"].where(started).to_series().dropna()
        rows[task] = {name: int((status == name).sum()) for name in ("completed", "diverged", "missing")}
    return pd.DataFrame(rows).T


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
    column = "theta_relative_error"
    if f"{column}_mean" not in table:
        return "<p>No task has a known θ, so there is no θ-error.</p>"
    drawn = table.rename(columns={f"{column}_mean": "mean", f"{column}_interval": "interval"}).dropna(subset="mean")
    if drawn.empty:
        return f"<p>No run of these tasks ended with a θ-error: {', '.join(table['task'].unique())}.</p>"
    twins = {task: f"{task}\n({TWIN})" for task in cubes if cubes[task].attrs["synthetic"] == "twin"}
    png = io.BytesIO()
    title = "Error of θ at the strength that each rule chooses"
    save(draw_theta_summary(drawn.replace({"task": twins}), title), png, ".png")
    absent = table[~table["task"].isin(drawn["task"])]
    known = absent["theta_error_meaning"].notna()
    reasons = {"θ is not known": absent["task"][~known].unique(), "no run completed": absent["task"][known].unique()}
    without = "".join(f" Not shown, as {why}: {', '.join(tasks)}." for why, tasks in reasons.items() if len(tasks))
    n = span(int(drawn["n"].min()), int(drawn["n"].max()))
    bars = "± half width of its 95 % Student t interval over" if drawn["n"].max() > 1 else "of"
    text = f"Relative error of θ on a logarithmic axis: mean {bars} the completed runs ({n})."
    text += " A bar that is cut off below reaches zero." * bool((drawn["interval"] >= drawn["mean"]).any())
    return embedded(png.getvalue(), text + without)
