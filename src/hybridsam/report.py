"""What the notebooks of the report show, read from the files of an experiment; the notebooks only arrange it."""

import ast
import base64
import html
import importlib.util
import io
import json
from collections.abc import Mapping
from pathlib import Path

import pandas as pd
import xarray as xr

from hybridsam import evaluate, figures, plots, records
from hybridsam.errors import UserError
from hybridsam.looks import in_order, save, with_unit

ORIGINS = {"yes": "simulated", "no": "measured", "twin": "SYNTHETIC TWIN of measured data"}


def experiment_folder(results: str, experiment: str) -> Path:
    """The folder of an experiment; ``results`` is looked for here and in every folder above."""
    for start in (Path.cwd(), *Path.cwd().parents):
        folder = start / results / experiment
        if folder.is_dir():
            return folder
    raise UserError(f"report: no folder {results}/{experiment} in {Path.cwd()} or above it")


def cubes(folder: Path) -> dict[str, xr.Dataset]:
    """task -> cube, in the order of table.csv."""
    tasks = pd.read_csv(folder / "table.csv")["task"].unique()
    return {task: records.read(folder / task / "cube.nc", "cube") for task in tasks}


def sizes(cubes: Mapping[str, xr.Dataset]) -> pd.DataFrame:
    """One row a task: what was learnt from what, how long."""
    rows = {}
    for task, cube in cubes.items():
        settings = json.loads(cube.attrs["configuration"])
        rows[task] = {
            "title": figures.task_title(cube),
            "data": ORIGINS.get(cube.attrs["synthetic"], cube.attrs["synthetic"]),
            "θ": ", ".join(cube["parameter"].values.tolist()),
            "hidden layers": ", ".join(map(str, settings["model"].get("hidden", []))),
            "iterations": settings["training"]["iterations"],
            "seeds": cube.sizes["seed"],
            "training time": f"{float(cube['seconds'].sum()) / 3600:.2g} h",
        }
    return pd.DataFrame(rows).T


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
    """Figure of the relative theta error of all tasks with a known truth, for every rule, as HTML. table: table.csv."""
    column = "theta_relative_error"
    if f"{column}_mean" not in table:
        return "<p>No task has a known θ, so there is no θ-error.</p>"
    drawn = table.rename(columns={f"{column}_mean": "mean", f"{column}_sd": "sd"}).dropna(subset="mean")
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
        table["true value"] = cube["theta_true"].to_series()
    return table


def identifiability(folder: Path) -> pd.DataFrame:
    """What was known about theta before training: a row a parameter."""
    return pd.read_csv(folder / "identifiability.csv").set_index("parameter").rename_axis(None)


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
    origin = ORIGINS.get(cube.attrs["synthetic"], cube.attrs["synthetic"])
    return f"<h1>{html.escape(figures.task_title(cube))}</h1><p>Data: {origin}. <a href='index.html'>All tasks</a></p>"


def links(tasks: Mapping[str, xr.Dataset]) -> str:
    """A list of links to the pages of the tasks, as HTML."""
    items = [
        f"<li><a href='{task}.html'>{html.escape(figures.task_title(cube))}</a></li>" for task, cube in tasks.items()
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
