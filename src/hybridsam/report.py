"""What the notebooks of the report show, read from the files of an experiment; the notebooks only arrange it."""

import ast
import base64
import html
import importlib.util
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import xarray as xr

from hybridsam import evaluate, figures, plots, records
from hybridsam.errors import UserError
from hybridsam.looks import in_order, save, with_unit


def experiment_folder(results: str, experiment: str) -> Path:
    """The folder of an experiment; ``results`` is looked for here and in every folder above."""
    for start in (Path.cwd(), *Path.cwd().parents):
        folder = start / results / experiment
        if folder.is_dir():
            return folder
    raise UserError(f"report: no folder {results}/{experiment} in {Path.cwd()} or above it")


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
    n = figures.span(int(drawn["n"].min()), int(drawn["n"].max()))
    text = f"Relative error of θ on a logarithmic axis: mean ± standard deviation over the completed runs ({n})."
    return _figure(png.getvalue(), text + f" Without a known θ: {', '.join(without)}." * bool(without))


def equations(cube: xr.Dataset) -> str:
    """The documentation of the task's module, which states its equations, as HTML; the module is not run."""
    module = json.loads(cube.attrs["configuration"])["module"]
    path = module if module.endswith(".py") else getattr(importlib.util.find_spec(module), "origin", "")
    text = ast.get_docstring(ast.parse(Path(path).read_text())) if Path(path).is_file() else None
    return f"<pre>{html.escape(text or f'{module} is not documented')}</pre>"


def constants(cube: xr.Dataset) -> pd.DataFrame:
    """The constants of the data: value and unit."""
    return pd.DataFrame(json.loads(cube.attrs.get("constants", "{}"))).T


def theta(cube: xr.Dataset) -> pd.DataFrame:
    """What the models estimate: unit, start, bounds, transform, and the truth where it is known."""
    settings = json.loads(cube.attrs["configuration"])["model"]["theta"]
    table = pd.DataFrame({name: settings[name] for name in cube["parameter"].values}).T
    if "theta_true" in cube:
        name = "true value" if records.origin(cube) == "simulated" else "published value"
        table[name] = cube["theta_true"].to_series()
    return table


def identifiability(folder: Path) -> pd.DataFrame:
    """What was known about theta before training: a row a parameter; folder: of the task."""
    return pd.read_csv(folder / "identifiability.csv").drop(columns="data").set_index("parameter").rename_axis(None)


def estimates(cube: xr.Dataset, selection: pd.DataFrame, rule: str) -> pd.DataFrame:
    """Theta at the selected strengths: mean over completed runs ± half width of the 95 % Student t interval."""
    rows = {}
    for chosen in selection[selection["rule"] == rule].set_index("method").itertuples():
        runs = cube.sel({"method": chosen.Index, "rho": chosen.rho})
        values = runs["theta"].where(runs["status"] == "completed").dropna("seed")
        rows[chosen.Index] = {"strength": f"{chosen.rho:g}", "n": chosen.n, "diverged": chosen.diverged}
        for name, unit in zip(cube["parameter"].values, cube["parameter_units"].values, strict=True):
            of_runs = values.sel(parameter=name).values
            mean = of_runs.mean() if len(of_runs) else float("nan")
            rows[chosen.Index][with_unit(name, unit)] = _plus_minus(mean, evaluate.interval(of_runs))
    return pd.DataFrame(rows).T.loc[in_order(rows)]


def paired(selection: pd.DataFrame) -> pd.DataFrame:
    """Differences to erm over the seeds that both completed, mean ± standard deviation; negative is better than erm."""
    others = selection[selection["method"] != evaluate.BASELINE]
    table = others[["rule", "method", "rho", "n_paired"]].copy()
    for name, label in figures.METRICS.items():
        column = f"{name}_minus_{evaluate.BASELINE}"
        if column in others:
            pairs = zip(others[column], others[f"{column}_sd"], strict=True)
            table[f"{label} − erm"] = [_plus_minus(mean, sd, "+") for mean, sd in pairs]
    table["rho"] = table["rho"].map("{:g}".format)
    table["rule"] = pd.Categorical(table["rule"], list(evaluate.RULES))
    table["method"] = pd.Categorical(table["method"], in_order(table["method"]))
    return table.sort_values(["rule", "method"]).set_index(["rule", "method"])


def _plus_minus(mean: float, spread: float, sign: str = "") -> str:
    if pd.isna(mean):
        return "–"
    return f"{mean:{sign}.3g}" + (f" ± {spread:.2g}" if pd.notna(spread) else "")


def heading(cube: xr.Dataset) -> str:
    """Heading of a task's page, which says first whether the data are a synthetic twin, as HTML."""
    twin = "SYNTHETIC TWIN: " * (records.origin(cube) == "SYNTHETIC TWIN")
    about, what = cube.attrs, " It imitates measurements of" * bool(twin)
    credit = f"{what} {html.escape(about['attribution'])}, {about['licence']}." if "attribution" in about else ""
    title = html.escape(figures.task_title(cube))
    return f"<h1>{twin}{title}</h1><p>Data: {records.origin(cube)}.{credit} <a href='index.html'>All tasks</a></p>"


def identified(folder: Path) -> str:
    """How much of theta the science alone can tell from these data, in words."""
    table = identifiability(folder)
    rank, n = int(table["rank"].iloc[0]), len(table)
    if rank == n:
        return f"<p>The science alone depends on all {n} directions of θ.</p>" if n > 1 else ""
    lost = ", ".join(table.index[~table["identifiable"].astype(bool)])
    return (
        f"<p><strong>The science alone depends on {rank} of {n} directions of θ only.</strong> No method can tell "
        f"these parameters one by one, whatever its θ-error: {lost}.</p>"
    )


def theta_metrics(cube: xr.Dataset, selection: pd.DataFrame, rule: str) -> pd.DataFrame:
    """All errors of theta at the selected strengths, mean ± standard deviation over completed runs: a row a method."""
    chosen = selection[selection["rule"] == rule].set_index("method")
    names = [name for name in evaluate.metrics_of(cube) if name.startswith("theta_")]
    columns = {}
    for name in names:
        pairs = zip(chosen[f"{name}_mean"], chosen[f"{name}_sd"], strict=True)
        columns[cube[name].attrs["long_name"]] = [_plus_minus(mean, sd) for mean, sd in pairs]
    return pd.DataFrame(columns, index=chosen.index.rename(None)).loc[in_order(chosen.index)]


def links(tasks: Mapping[str, xr.Dataset]) -> str:
    """A list of links to the pages of the tasks, as HTML."""
    items = [
        f"<li><a href='{task}.html'>{html.escape(figures.task_title(cube))}</a> ({records.origin(cube)})</li>"
        for task, cube in tasks.items()
    ]
    return f"<ul>{''.join(items)}</ul>"


def runs(cube: xr.Dataset) -> str:
    """Every run: the ones that diverged at once, all of them to unfold, as HTML."""
    table = evaluate.runs_table(cube).drop(columns="file")
    diverged = table[table["status"] == "diverged"]
    shown = diverged[["method", "rho", "seed"]].to_html(index=False, border=0) if len(diverged) else ""
    unfolded = table.to_html(index=False, border=0, float_format="{:.4g}".format)
    return (
        f"<p>{len(diverged)} of {len(table)} runs diverged{':' if shown else '.'}</p>{shown}"
        f"<details><summary>All {len(table)} runs</summary>{unfolded}</details>"
    )


def figure(folder: Path, name: str) -> str:
    """A figure of a task with its caption, as HTML that needs no other file."""
    table = pd.read_csv(folder / "figures" / f"{name}.csv")
    return _figure((folder / "figures" / f"{name}.png").read_bytes(), figures.caption(name, table))


def _figure(png: bytes, caption: str) -> str:
    text, data = html.escape(caption), base64.b64encode(png).decode()
    return f'<figure><img alt="{text}" src="data:image/png;base64,{data}"><figcaption>{text}</figcaption></figure>'
