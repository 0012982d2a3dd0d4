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
    theta_without_truth,
    with_standing,
    without_relative_error,
)
from hybridsam.core import records
from hybridsam.core.blocks import canonical
from hybridsam.core.methods import BASELINE
from hybridsam.core.records import TWIN
from hybridsam.figures.style import save, written_unit
from hybridsam.figures.summary import draw_theta_summary
from hybridsam.report import captions
from hybridsam.report.fragments import embedded, identifiability, rule_of_figures, several_datasets
from hybridsam.report.numbers import column, duration, plus_minus

NONE_COMPLETED = "no run completed"
ALL_EXPLODED = "runs of every method exploded"
UNBROKEN = "\N{NO-BREAK SPACE}"
DIRECTIONS = (
    "<em>Directions of θ in the science</em>: those on which the science alone depends. Where some are missing, no "
    "method finds all of θ; where none is, a network may still supply what θ should."
)
KNOWN = (  # what the columns mean where the true theta is known
    "<em>Lowest θ-error</em>: mean relative error of θ, or what the task measures instead, over the n completed runs "
    "of the method that has the lowest (of those without a run that exploded on validation or test data), ± half width "
    "of its 95 % Student t interval.",
    "<em>Not distinguishable</em>: the methods that the test of Table 1 cannot tell from that one. With few seeds they "
    "need not be equal. Methods of which a run exploded are named, not compared.",
    DIRECTIONS,
    "<em>y-error</em>: of the method with the lowest θ-error, against the lowest y-error of all. A low y-error says "
    "nothing about θ.",
)
UNKNOWN = (  # and where it is not
    "<em>θ</em>: nobody knows the true one, so there is no θ-error. The mean over the n completed runs of the method "
    "with the lowest validation error; every method's own is in Table 1.",
    "<em>Spread over seeds</em>: that method, and the least and the greatest θ of its runs. It says how much the "
    "initial network matters, and is no interval for the truth.",
    "<em>Methods</em>: the least and the greatest mean of a method. Where they lie apart, the data leave θ open; "
    "where they agree, it may still not have arrived, or all may share an error.",
    "<em>Science alone</em>: the θ that fits the training data best without a network.",
    "<em>Arrived</em>: in how many completed runs of all methods θ left its start, and as much training again would "
    "hardly move it on; the task's page says more.",
    DIRECTIONS,
    "<em>y-error</em>: the method with the lowest, and those that the test of Table 1 cannot tell from it. A low "
    "y-error says nothing about θ.",
)


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
    """What came out, at the rho by which the figures show each method, as HTML.

    A row a task where the true theta is known; where it is not, a row a parameter.
    """
    known, unknown, rules = [], [], {}
    for table in tables.values():
        for task, of_task in table.groupby("task", sort=False):
            rules[task] = rule_of_figures(folder / task)
            chosen = of_task[of_task["rule"] == rules[task]].set_index("method")
            diagnosis = identifiability(folder / task)
            rank, n = int(diagnosis["rank"].iloc[0]), cubes[task].sizes["parameter"]
            directions = f"{rank} of {n}" if rank == n else f"<strong>{rank} of {n}</strong>"
            twin = f"{TWIN}: " * (records.origin(cubes[task]) == TWIN)
            about = {"task": f"{twin}<a href='{task}.html'>{html.escape(task)}</a>"}
            last = {"directions of θ in the science": directions, "y-error": _y_verdict(chosen)}
            if "theta_error" in cubes[task]:
                known.append(about | _theta_verdict(chosen, cubes[task]) | last)
            else:
                unknown += _rows_without_truth(about, chosen, cubes[task], diagnosis, last)
    rule = " or ".join(dict.fromkeys(rules.values()))
    parts = [f"<p>Every method is taken at the ρ that the rule “{rule}” chooses.</p>"]
    for rows, meanings in ((known, KNOWN), (unknown, UNKNOWN)):
        if rows:
            parts.append(pd.DataFrame(rows).fillna("").to_html(index=False, border=0, escape=False))
            parts.append(f"<ul>{''.join(f'<li>{line}</li>' for line in meanings)}</ul>")
    return "".join(parts)


def _rows_without_truth(
    about: dict, chosen: pd.DataFrame, cube: xr.Dataset, diagnosis: pd.DataFrame, last: dict
) -> list[dict]:
    """A row a parameter; what is of the whole task stands in the first. chosen: the rows of a rule, by method."""
    if not chosen["n"].any():
        return [about | {"θ": NONE_COMPLETED} | last]
    table = theta_without_truth(cube, chosen)
    rows: list[dict] = []
    for name, row in table.iterrows():
        mean, least, most, low, high, alone = column(
            [*row[["mean", "least", "most", "lowest_mean", "highest_mean"]], _science_only(diagnosis, name)]
        )
        methods = f"{low} ({row['lowest']}) to {high} ({row['highest']})" if len(chosen) > 1 else "–"
        texts = {
            "θ": f"{html.escape(name)} = {mean} {html.escape(written_unit(row['unit']))}".rstrip(),
            "spread over seeds": (f"{least} to {most} " if row["n"] > 1 else "") + f"({row['method']}, n = {row['n']})",
            "methods": methods,
            "science alone": alone + _at_bound(diagnosis, name),
            "arrived": _arrived(row),
        }
        rows.append(about | texts | last if not rows else texts)
    return rows


def _science_only(diagnosis: pd.DataFrame, name: str) -> float:
    return float(diagnosis["science_only"].get(name, np.nan)) if "science_only" in diagnosis else float("nan")


def _at_bound(diagnosis: pd.DataFrame, name: str) -> str:
    reached = "science_only_at_bound" in diagnosis and pd.notna(diagnosis.loc[name, "science_only_at_bound"])
    return ", its bound" * bool(reached)


def _arrived(row: pd.Series) -> str:
    """In how many runs of all methods a parameter arrived; of older files, which do not say it, a dash."""
    if not row["runs"]:
        return "–"
    stayed = f", hardly left its start in {row['hardly_left']:.0f}" * bool(row["hardly_left"])
    return f"in {row['arrived']:.0f} of {row['runs']:.0f} runs{stayed}"


def _theta_verdict(chosen: pd.DataFrame, cube: xr.Dataset) -> dict[str, str]:
    """The lowest theta error, the methods that have it, and the baseline's; chosen: the rows of a rule, by method."""
    columns = ["lowest θ-error", "method", "not distinguishable", f"θ-error of {BASELINE}"]
    best = lowest(chosen).get("theta_error")
    if best is None:
        return dict.fromkeys(columns, "") | {columns[0]: _why_none(chosen)}
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
            "seeds": f"{cube.sizes['seed']}" + several_datasets(cube),
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
