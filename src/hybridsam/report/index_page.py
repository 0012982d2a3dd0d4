"""What the entry page of the report shows, read from the files of an experiment; its notebook only arranges it."""

import html
import io
import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr

from hybridsam.analysis.cube import THETA_ERROR, WORSE_THAN_MEAN
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
    best,
    is_shown,
    relative_errors,
    theta_without_truth,
    with_standing,
    without_relative_error,
)
from hybridsam.core import records
from hybridsam.core.blocks import canonical
from hybridsam.core.records import TWIN
from hybridsam.figures.style import save, written_unit
from hybridsam.figures.summary import draw_theta_summary
from hybridsam.report import captions
from hybridsam.report.fragments import embedded, identifiability, rule_of_figures, several_datasets
from hybridsam.report.numbers import column, duration, gone, number

ALL_FAILED = "every run failed"
UNBROKEN = "\N{NO-BREAK SPACE}"
DIRECTIONS = (
    "<em>Directions of θ in the science</em>: those on which the science alone depends. Where some are missing, no "
    "method finds all of θ; where none is, a network may still supply what θ should."
)
KNOWN = (  # what the columns mean where the true theta is known
    "<em>Nearest to the true θ</em>: the method with the fewest failed runs and, of those with as few, the lowest root "
    "mean square error of θ over its n runs that did not fail, shown as a relative error where the task does not "
    "measure it in its own way. Bold where others are worse or failed, and of none it cannot be told.",
    "<em>Worse</em>, <em>equivalent</em>, <em>cannot be told</em>: how the others compare with that one, as in Table "
    "1; × is the ratio of the errors. What cannot be told may be better, equal or worse.",
    DIRECTIONS,
    "<em>y-error</em>: of the method nearest to the true θ, against the lowest y-error. A low y-error says nothing "
    "about θ.",
)
UNKNOWN = (  # and where it is not
    "<em>θ</em>: nobody knows the true one, so there is no θ-error. The median over the n runs of the method "
    "with the lowest validation error; every method's own is in Table 1.",
    "<em>Spread over seeds</em>: that method, and the least and the greatest θ of its runs. It says how much the "
    "initial network matters, and is no interval for the truth.",
    "<em>Methods</em>: the least and the greatest median of a method. Where they lie apart, the data leave θ open; "
    "where they agree, it may still not have arrived, or all may share an error.",
    "<em>Science alone</em>: the θ that fits the training data best without a network.",
    "<em>Arrived</em>: in how many completed runs of all methods θ left its start, and as much training again would "
    "hardly move it on; the task's page says more.",
    DIRECTIONS,
    "<em>y-error</em>: the method with the lowest, and how the others compare with it, as in Table 1. A low y-error "
    "says nothing about θ.",
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
    parts = [f"<p>Every method is taken at the ρ that the rule “{rule}” chooses, for each seed by the others.</p>"]
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
        return [about | {"θ": ALL_FAILED} | last]
    table = theta_without_truth(cube, chosen)
    rows: list[dict] = []
    for name, row in table.iterrows():
        median, least, most, low, high, alone = column(
            [*row[["median", "least", "most", "lowest_median", "highest_median"]], _science_only(diagnosis, name)]
        )
        methods = f"{low} ({row['lowest']}) to {high} ({row['highest']})" if len(chosen) > 1 else "–"
        texts = {
            "θ": f"{html.escape(name)} = {median} {html.escape(written_unit(row['unit']))}".rstrip(),
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
    """Which method is nearest to the true theta and how the others compare; chosen: the rows of a rule, by method."""
    found = chosen.index[chosen["n"] > 0]
    if found.empty:
        return {"nearest to the true θ": ALL_FAILED, "the others": "none to compare"}
    nearest = best(chosen, "theta_error") or found[0]  # the only one, where no two can be compared
    own = cube["theta_error"].attrs["long_name"]
    meaning = f" ({html.escape(own)})" * (own != THETA_ERROR)
    reference = " off the published values" * (records.origin(cube) == "measured")
    name = f"<strong>{nearest}</strong>" if is_shown(chosen, "theta_error") else nearest
    n = f"n = {chosen.loc[nearest, 'n']}".replace(" ", UNBROKEN)
    error = f"{_theta_error(chosen.loc[nearest], cube)}{meaning}{reference}"
    others = _others(chosen, "theta_error") or "none to compare"
    return {"nearest to the true θ": f"{name}: {error}, {n}", "the others": others}


def _y_verdict(chosen: pd.DataFrame) -> str:
    """The y-error of the method nearest to the true theta over the lowest; without a truth, how the methods compare."""
    lowest, nearest = best(chosen, "y_error"), best(chosen, "theta_error")
    if lowest is None:
        return ALL_FAILED if not chosen["n"].any() else "–"
    if nearest is None:
        return f"lowest: {lowest}; {_others(chosen, 'y_error')}"
    if nearest == lowest:
        return "the lowest"
    row = chosen.loc[nearest]
    words = {"equivalent": "equivalent to", "worse": "worse than", "inconclusive": "cannot be told from"}
    return f"{words[row['y_error_standing']]} that of {lowest}" + _ratio(row, "y_error", ", ")


def _others(chosen: pd.DataFrame, metric: str) -> str:
    """How the methods compare with the best, in words: ``worse: erm × 18; cannot be told: sam × 1.2``."""
    words = {"equivalent": "equivalent", "worse": "worse", "inconclusive": "cannot be told", "failed": ALL_FAILED}
    parts = []
    for standing, text in words.items():
        if methods := with_standing(chosen, metric, standing):
            rows = [chosen.loc[method] for method in methods]
            parts.append(f"{text}: {', '.join(f'{row.name}{_ratio(row, metric)}' for row in rows)}")
    return "; ".join(parts)


def _ratio(row: pd.Series, metric: str, before: str = " ") -> str:
    """`` × 1.8``; nothing where no run failed for neither."""
    ratio = row[f"{metric}_ratio"]
    return "" if np.isnan(ratio) else f"{before}×{UNBROKEN}{number(ratio, 2)}"


def _theta_error(row: pd.Series, cube: xr.Dataset) -> str:
    """The relative theta error in percent; of a task that measures it in its own way, what that gives."""
    if cube["theta_error"].attrs["long_name"] != THETA_ERROR:
        return number(row["theta_error_rms"], 2)
    return f"{number(100 * row[f'{RELATIVE}_rms'], 2)}{UNBROKEN}%"


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
    """``16 completed (1 of them failed), 5 diverged``."""
    worse = f" ({ends['worse']} of them failed)" * bool(ends["worse"])
    return ", ".join(f"{ends[how]} {how}" + worse * (how == "completed") for how in ENDS if ends[how]) or "none"


def in_all(cubes: Mapping[str, xr.Dataset]) -> str:
    """Runs and time of the whole experiment, as HTML."""
    ends, elapsed = ends_of_runs(cubes).sum(), elapsed_seconds(cubes.values())
    why = ", as some run files, of an older version, do not say it" * bool(np.isnan(elapsed))
    return (
        f"<p>In all: {ends['completed']} runs completed and {ends['diverged']} diverged, {ends['missing']} are "
        f"missing; {gone(ends['worse'] + ends['diverged'], ends['diverged'])}. "
        f"Training took {duration(training_seconds(cubes.values()))}, summed over all runs; from the start of the "
        f"first training to the end of the last one: {duration(elapsed)}{why}. A run failed if it diverged, or "
        f"{WORSE_THAN_MEAN}: it is counted in every table and figure, and in no mean and no median. Missing are the "
        "seeds that one ρ lacks and another one has.</p>"
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
    if f"{RELATIVE}_centre" not in table:
        return "<p>No task has a known θ, so there is no θ-error.</p>"
    drawn = relative_errors(table)
    if drawn.empty:
        return f"<p>No run of these tasks ended with a θ-error: {', '.join(table['task'].unique())}.</p>"
    twins = {task: f"{task}\n({TWIN})" for task in cubes if cubes[task].attrs["synthetic"] == "twin"}
    png = io.BytesIO()
    save(draw_theta_summary(drawn.replace({"task": twins}), "Error of θ at the ρ that each rule chooses"), png, ".png")
    absent = without_relative_error(table)
    return embedded(png.getvalue(), captions.theta_summary(drawn, table, absent))
