"""What the page of a task shows, read from the files of the task; its notebook only arranges it."""

import ast
import html
import importlib.util
import json
from pathlib import Path

import pandas as pd
import xarray as xr

from hybridsam import captions, evaluate, figures, records
from hybridsam.looks import in_order, with_unit
from hybridsam.report import embedded, identifiability, plus_minus


def heading(cube: xr.Dataset) -> str:
    """Heading of a task's page, which says first whether the data are a synthetic twin, as HTML."""
    twin = "SYNTHETIC TWIN: " * (records.origin(cube) == "SYNTHETIC TWIN")
    about, what = cube.attrs, " It imitates measurements of" * bool(twin)
    credit = f"{what} {html.escape(about['attribution'])}, {about['licence']}." if "attribution" in about else ""
    title = html.escape(figures.task_title(cube))
    return f"<h1>{twin}{title}</h1><p>Data: {records.origin(cube)}.{credit} <a href='index.html'>All tasks</a></p>"


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
            rows[chosen.Index][with_unit(name, unit)] = plus_minus(mean, evaluate.interval(of_runs))
    return pd.DataFrame(rows).T.loc[in_order(rows)]


def theta_metrics(cube: xr.Dataset, selection: pd.DataFrame, rule: str) -> pd.DataFrame:
    """All errors of theta at the selected strengths, mean ± standard deviation over completed runs: a row a method."""
    chosen = selection[selection["rule"] == rule].set_index("method")
    names = [name for name in evaluate.metrics_of(cube) if name.startswith("theta_")]
    columns = {}
    for name in names:
        pairs = zip(chosen[f"{name}_mean"], chosen[f"{name}_sd"], strict=True)
        columns[cube[name].attrs["long_name"]] = [plus_minus(mean, sd) for mean, sd in pairs]
    return pd.DataFrame(columns, index=chosen.index.rename(None)).loc[in_order(chosen.index)]


def paired(selection: pd.DataFrame) -> pd.DataFrame:
    """Differences to erm over the seeds that both completed, mean ± standard deviation; negative is better than erm."""
    others = selection[selection["method"] != evaluate.BASELINE]
    table = others[["rule", "method", "rho", "n_paired"]].copy()
    for name, label in figures.METRICS.items():
        column = f"{name}_minus_{evaluate.BASELINE}"
        if column in others:
            pairs = zip(others[column], others[f"{column}_sd"], strict=True)
            table[f"{label} − erm"] = [plus_minus(mean, sd, "+") for mean, sd in pairs]
    table["rho"] = table["rho"].map("{:g}".format)
    table["rule"] = pd.Categorical(table["rule"], list(evaluate.RULES))
    table["method"] = pd.Categorical(table["method"], in_order(table["method"]))
    return table.sort_values(["rule", "method"]).set_index(["rule", "method"])


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
    return embedded((folder / "figures" / f"{name}.png").read_bytes(), captions.caption(name, table))
