"""What the entry page of the report shows, read from the files of an experiment; its notebook only arranges it."""

import html
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import xarray as xr

from hybridsam import evaluate, figures, plots, records
from hybridsam.captions import span
from hybridsam.looks import in_order, save
from hybridsam.report import embedded, identifiability


def tables(folder: Path, names: str) -> dict[str, pd.DataFrame]:
    """name -> table, for names separated by spaces."""
    return {name: pd.read_csv(folder / f"{name}.csv") for name in names.split()}


def cubes(folder: Path, tables: Mapping[str, pd.DataFrame]) -> dict[str, xr.Dataset]:
    """task -> cube, in the order of the tables."""
    tasks = [task for table in tables.values() for task in table["task"].unique()]
    return {task: records.read(folder / task / "cube.nc", "cube") for task in tasks}


def head(experiment: str, cubes: Mapping[str, xr.Dataset], left_out: str) -> str:
    """Heading of the entry page, as HTML; it says first what is a synthetic twin, and which tasks were left out."""
    twins = ", ".join(task for task, cube in cubes.items() if records.origin(cube) == "SYNTHETIC TWIN")
    lines = [f"<h1>Experiment {html.escape(experiment)}</h1>"]
    if twins:
        lines.append(
            f"<p><strong>SYNTHETIC TWIN: {twins}.</strong> The data of these tasks are not measurements: a simulator "
            "that is more complete than the fitted science stands in for them.</p>"
        )
    if left_out:
        lines.append(f"<p>Left out, for want of their measured data: {html.escape(', '.join(left_out.split()))}.</p>")
    return "".join(lines)


def sizes(folder: Path, cubes: Mapping[str, xr.Dataset]) -> pd.DataFrame:
    """One row a task: what was learnt from what, how long, and how much of theta can be told at all."""
    rows = {}
    for task, cube in cubes.items():
        settings = json.loads(cube.attrs["configuration"])
        rank = int(identifiability(folder / task)["rank"].iloc[0])
        rows[task] = {
            "title": figures.task_title(cube),
            "data": records.origin(cube),
            "parameters θ": cube.sizes["parameter"],
            "identifiable directions": f"{rank} of {cube.sizes['parameter']}",
            "iterations": settings["training"]["iterations"],
            "seeds": cube.sizes["seed"],
            "training time": f"{float(cube['seconds'].sum()) / 3600:.2g} h",
        }
    return pd.DataFrame(rows).T


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
            parts.append(f"{what} are {min(shares):.2g} % to {max(shares):.3g} %")
    if not parts:
        return "<p>Iterations and numbers of training samples are those of the task files.</p>"
    return (
        f"<p><strong>Sizes are reduced:</strong> {' and '.join(parts)} of those in the task files, which are the "
        "paper's where the paper gives them. What these runs show is how methods compare at these sizes, not what "
        "the paper's sizes would give. Every setting that differs:</p>"
    )


def _ratio(before: Any, here: Any) -> str:
    numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for value in (before, here))
    return f"{here / before:.2g}" if numbers and before else ""


def attribution(cubes: Mapping[str, xr.Dataset]) -> str:
    """Whose measured data were used or imitated, under which licence, as HTML; nothing for simulated data alone."""
    sources: dict[str, list[str]] = {}
    for task, cube in cubes.items():
        if "attribution" in cube.attrs:
            name = f"{task} (imitated by a SYNTHETIC TWIN)" if records.origin(cube) == "SYNTHETIC TWIN" else task
            sources.setdefault(f"{cube.attrs['attribution']} ({cube.attrs['licence']})", []).append(name)
        elif records.origin(cube) == "measured" and "constants" in cube.attrs:
            file = json.loads(cube.attrs["constants"]).get("file", {"value": "unknown file"})["value"]
            sources.setdefault(f"data of your own, {file}", []).append(task)
    items = [f"<li>{', '.join(tasks)}: {html.escape(source)}</li>" for source, tasks in sources.items()]
    return f"<ul>{''.join(items)}</ul>" if items else "<p>All data are simulated.</p>"


def strengths(cubes: Mapping[str, xr.Dataset]) -> pd.DataFrame:
    """The strengths that were run: a row a method, a column a task."""
    columns = {}
    for task, cube in cubes.items():
        rhos = evaluate.runs_table(cube).groupby("method", observed=True)["rho"].unique()
        columns[task] = rhos.map(lambda values: ", ".join(f"{rho:g}" for rho in values))
    table = pd.DataFrame(columns)
    return table.loc[in_order(table.index)].fillna("–").rename_axis(None)


def counts(cubes: Mapping[str, xr.Dataset]) -> pd.DataFrame:
    """How the runs of each task ended; missing are the seeds that a strength lacks and another one has."""
    rows = {}
    for task, cube in cubes.items():
        started = (cube["status"] != "missing").any("seed")
        status = cube["status"].where(started).to_series().dropna()
        rows[task] = {name: int((status == name).sum()) for name in ("completed", "diverged", "missing")}
    return pd.DataFrame(rows).T


def provenance(cubes: Mapping[str, xr.Dataset]) -> pd.DataFrame:
    """Commit, package versions and device of the runs, and the time that training them took, task by task."""
    rows = {}
    for task, cube in cubes.items():
        versions = [json.loads(text) for text in cube.attrs["runs_versions"].split(" | ")]
        rows[task] = {
            "commit": cube.attrs["runs_git_commit"],
            "device": cube.attrs["runs_device"],
            "versions": " | ".join(", ".join(f"{name} {value}" for name, value in v.items()) for v in versions),
        }
    return pd.DataFrame(rows).T


def theta_summary(table: pd.DataFrame, cubes: Mapping[str, xr.Dataset]) -> str:
    """Figure of the relative theta error of a table's tasks with a known truth, for every rule, as HTML."""
    column = "theta_relative_error"
    if f"{column}_mean" not in table:
        return "<p>No task has a known θ, so there is no θ-error.</p>"
    drawn = table.rename(columns={f"{column}_mean": "mean", f"{column}_sd": "sd"}).dropna(subset="mean")
    if drawn.empty:
        return f"<p>No run of these tasks ended with a θ-error: {', '.join(table['task'].unique())}.</p>"
    twins = {task: f"{task}\n(SYNTHETIC TWIN)" for task in cubes if cubes[task].attrs["synthetic"] == "twin"}
    png = io.BytesIO()
    title = "Error of θ at the strength that each rule chooses"
    save(plots.theta_summary(drawn.replace({"task": twins}), title), png, ".png")
    without = sorted(set(table["task"]) - set(drawn["task"]))
    n = span(int(drawn["n"].min()), int(drawn["n"].max()))
    text = f"Relative error of θ on a logarithmic axis: mean ± standard deviation over the completed runs ({n})."
    return embedded(png.getvalue(), text + f" Without a known θ: {', '.join(without)}." * bool(without))


def links(tasks: Mapping[str, xr.Dataset]) -> str:
    """A list of links to the pages of the tasks, as HTML."""
    items = [
        f"<li><a href='{task}.html'>{html.escape(figures.task_title(cube))}</a> ({records.origin(cube)})</li>"
        for task, cube in tasks.items()
    ]
    return f"<ul>{''.join(items)}</ul>"
