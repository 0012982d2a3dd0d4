"""What the page of a task shows, read from the files of the task; its notebook only arranges it."""

import html
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import xarray as xr

from hybridsam.analysis.arrival import remarks, ways
from hybridsam.analysis.cube import METRICS, SHOWN, WORSE_THAN_MEAN, metrics_of, runs_table
from hybridsam.analysis.estimates import ratios_to_baseline, theta_errors, theta_estimates
from hybridsam.analysis.results import task_title
from hybridsam.core import records
from hybridsam.core.blocks import canonical
from hybridsam.core.errors import UserError
from hybridsam.core.methods import BASELINE, in_order
from hybridsam.core.records import TWIN
from hybridsam.core.scales import in_words
from hybridsam.figures.style import with_unit, written_unit
from hybridsam.report import captions
from hybridsam.report.equations import as_html
from hybridsam.report.fragments import embedded, identifiability, shown
from hybridsam.report.numbers import between, column, ended, gone

NEEDED = ("cube.nc", "selection.csv", "identifiability.csv", "figures/theta_training.csv", "figures/predictions.csv")

# Files


def task_folder(experiment: Path, task: str) -> Path:
    """The folder of a task in that of its experiment; raises UserError if it lacks what a page needs."""
    folder = experiment / task
    missing = [name for name in NEEDED if not (folder / name).is_file()]
    if NEEDED[0] in missing:
        known = sorted(path.parent.name for path in experiment.glob(f"*/{NEEDED[0]}"))
        raise UserError(f"task: {task!r} has no results in {experiment}; there are {', '.join(known) or 'none'}")
    if missing:
        raise UserError(f"task: {folder} has no {', '.join(missing)}; the workflow's target {task} makes them")
    return folder


def table_of(folder: Path) -> pd.DataFrame:
    """The rows of Table 1 of the task in this folder.

    A task may have moved from one table to another, and its old rows may still be there: the newest table counts.
    """
    experiment, task = folder.parent, folder.name
    newest_first = sorted(experiment.glob("table*.csv"), key=lambda path: path.stat().st_mtime, reverse=True)
    for table in map(pd.read_csv, newest_first):
        if task in set(table["task"]):
            return table[table["task"] == task]
    raise UserError(f"task: {task!r} is in no table*.csv in {experiment}; the workflow's target {task} makes one")


# Task and data


def heading(cube: xr.Dataset) -> str:
    """Heading of a task's page, which says first whether the data are a synthetic twin, as HTML."""
    twin = f"{TWIN}: " * (records.origin(cube) == TWIN)
    about, what = cube.attrs, " It imitates measurements of" * bool(twin)
    credit = f"{what} {html.escape(about['attribution'])}, {about['licence']}." if "attribution" in about else ""
    title = html.escape(task_title(cube))
    return f"<h1>{twin}{title}</h1><p>Data: {records.origin(cube)}.{credit} <a href='index.html'>All tasks</a></p>"


def reservations(cube: xr.Dataset) -> str:
    """What these runs cannot show, to be said before any number, as HTML."""
    runs, lines = runs_table(cube), []
    failed = runs.groupby("method", observed=True)["failed"].all()
    if failed.all():
        how = gone(len(runs), int((runs["status"] == "diverged").sum()))
        lines.append(f"Every run failed ({how}): there are no estimates and no errors.")
    elif failed.any():
        lines.append(f"Every run of {', '.join(in_order(failed.index[failed]))} failed: no estimate and no error.")
    if cube.sizes["seed"] == cube.sizes["data"] == 1:
        lines.append("There is one seed, so nothing says how much the results vary.")
    if "theta_error" not in cube:
        lines.append("The true θ is not known, so there is no θ-error.")
    return "".join(f"<p><strong>{line}</strong></p>" for line in lines)


def equations(cube: xr.Dataset, states: Sequence[str] = ()) -> str:
    """The equations of a task, as HTML; states: of :func:`states`, which name the symbols."""
    return as_html(cube, states)


def states(folder: Path) -> list[str]:
    """Name and unit of each component of the state or target, as the figures of the task have them."""
    columns = ["component", "unit"]
    drawn = pd.read_csv(folder / "figures/predictions.csv", usecols=lambda name: name in columns, dtype=str)
    drawn = drawn.reindex(columns=columns)
    return [with_unit(*state) for state in drawn.dropna().drop_duplicates().itertuples(index=False)]


def samples(cube: xr.Dataset) -> str:
    """How many samples each split has, and in which units errors are, as HTML."""
    numbers = zip(cube["split"].values, cube["samples"].values, strict=True)
    text = f"Samples: {', '.join(f'{number} {split}' for split, number in numbers)}.{_scales(cube)}"
    return f"<p>{text}{_of_truth(cube)}{_datasets(cube)}</p>"


def _scales(cube: xr.Dataset) -> str:
    """A sentence on the standard units of the target; empty where there are none."""
    if "target_scale" not in cube:
        return ""
    words = html.escape(in_words(cube.isel(data=0))) + " in the first dataset" * (cube.sizes["data"] > 1)
    return f" Errors are in units of the standard deviation of the target in the training samples: {words}."


def _of_truth(cube: xr.Dataset) -> str:
    """A sentence on the y-error of the true model, where it is known."""
    if "y_error_of_truth" not in cube:
        return ""
    errors = cube["y_error_of_truth"].sel(split="test").values
    written = column(errors)
    range_of = (
        written[0] if len(written) == 1 else f"{written[int(errors.argmin())]} to {written[int(errors.argmax())]}"
    )
    unit = written_unit(cube["y_error"].attrs.get("units", "1"))
    return (
        f" From the same noisy initial states the true model itself has a y-error of {f'{range_of} {unit}'.strip()} on "
        "the test data, below which a model comes by chance only."
    )


def _datasets(cube: xr.Dataset) -> str:
    """A sentence on the datasets, where there are several."""
    if cube.sizes["data"] == 1:
        return ""
    seeds = ", ".join(map(str, cube["data"].values))
    return (
        f" There are {cube.sizes['data']} datasets of so many samples, which differ in their seed ({seeds}), and a run "
        "for each dataset and seed. The constants, what was known before training, and figures that show samples are "
        "of the first."
    )


def constants(cube: xr.Dataset) -> pd.DataFrame:
    """The constants of the data, or what is said of the user's own table: a row a value, by dotted name; its unit."""
    rows = {
        name: {"value": value, "unit": entry.get("unit", "")}
        for key, entry in json.loads(cube.attrs.get("constants", "{}")).items()
        for name, value in _leaves(key, entry["value"])
    }
    table = pd.DataFrame(rows).T
    if "unit" in table:
        table["unit"] = table["unit"].astype(str).map(written_unit)
    return table.loc[:, (table != "").any()]


def _leaves(name: str, value: Any) -> Iterator[tuple[str, str]]:
    """Dotted name and text of every value inside; the values of a list stand in one text."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _leaves(f"{name}.{key}", inner)
    else:
        yield name, ", ".join(map(str, value)) if isinstance(value, list) else str(value)


# theta


def theta(cube: xr.Dataset) -> pd.DataFrame:
    """What the models estimate: unit, start, bounds, transform as in the task file, and the truth where it is known."""
    settings = json.loads(cube.attrs["configuration"])["model"]["theta"]
    table = pd.DataFrame({name: settings[name] for name in cube["parameter"].values}).T
    table = table.assign(unit=table["unit"].astype(str).map(written_unit)).map(_as_in_the_file)
    if "theta_true" in cube:
        name = "true value" if records.origin(cube) == "simulated" else "published value"
        table[name] = cube["theta_true"].to_series()
    return table


def _as_in_the_file(value: Any) -> str:
    """A setting of theta with the digits that it has there; nothing where it is left out."""
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        return " to ".join(map(_as_in_the_file, value))
    return "" if pd.isna(value) else f"{value:g}" if float(f"{value:g}") == value else str(value)


def known_before(folder: Path) -> str:
    """What was known of theta before any training, as HTML: what it means, the table, and what it says in words."""
    table = identifiability(folder)
    if "start" in table:
        table["start"] = table["start"].map(_as_in_the_file)
    least_norm = "the one for which the network has least to add in the mean square (<em>least_norm</em>), "
    absent = "the one for which the network has least to add needs true rates of change, which only simulated data have"
    has = "least_norm" in table
    text = (
        "What was known about θ before any training: the value that fits the data best without a network "
        "(<em>science_only</em>) and its standard error, if all that it leaves were independent noise, "
        f"{least_norm * has}whether the science alone tells a parameter from the others (<em>told_by_science</em>), "
        "and rank and condition number of its Jacobian, each column times its parameter. All this is of the science "
        "alone: beside a network that may supply anything, θ can be wrong all the same."
        f"{f' There is no <em>least_norm</em>: {absent}.' * (not has)}"
    )
    return f"<p>{text}</p>{shown(table)}{identified(folder)}"


def identified(folder: Path) -> str:
    """How much of theta the science alone can tell from these data, in words."""
    table = identifiability(folder)
    return _directions(table) + _at_bounds(table)


def _directions(table: pd.DataFrame) -> str:
    rank, n = int(table["rank"].iloc[0]), len(table)
    if rank == n:
        return f"<p>The science alone depends on all {n} directions of θ.</p>" if n > 1 else ""
    lost = ", ".join(table.index[~table["told_by_science"].astype(bool)])
    return (
        f"<p><strong>The science alone depends on {rank} of {n} directions of θ only.</strong> No method can tell "
        f"these parameters one by one, whatever its θ-error: {lost}.</p>"
    )


def _at_bounds(table: pd.DataFrame) -> str:
    reached = table["science_only_at_bound"].dropna() if "science_only_at_bound" in table else pd.Series()
    said = " ".join(f"{name} ended at its bound {bound:g}." for name, bound in reached.items())
    advice = "The data would have it go further: the bound, the data or the science may be wrong."
    return f"<p><strong>Fitted by the science alone, {html.escape(said)}</strong> {advice}</p>" if said else ""


def estimates(selection: pd.DataFrame, rule: str) -> pd.DataFrame:
    """Theta at the rho that a rule selected, with its interval or its spread, bias and root mean square error.

    A row a method and parameter.
    """
    table = theta_estimates(selection, rule)
    parts = []
    for _, rows in table.groupby("parameter", sort=False):
        unit = rows["unit"].iloc[0]
        texts = {
            "runs": [ended(row.n, row.failed, row.diverged) for row in rows.itertuples()],
            "median [95 % interval]": between(rows["median"], rows["low"], rows["high"]),
            "least": column(rows["least"]),
            "most": column(rows["most"]),
        }
        if "bias" in rows:
            texts["bias [95 % interval]"] = between(rows["bias"], rows["bias_low"], rows["bias_high"], sign="+")
            texts["RMS error"] = column(rows["rms"])
        about = {
            "method": rows["method"],
            "rho": rows["rho"].map(canonical),
            "θ": with_unit(rows["parameter"].iloc[0], unit),
        }
        parts.append(pd.DataFrame(about | texts, index=rows.index))
    return pd.concat(parts).set_index(["θ", "method"])


def arrived(cube: xr.Dataset, selection: pd.DataFrame, rule: str) -> str:
    """What has to be said of the way of theta at the rho that a rule selected: whether it arrived, as HTML."""
    chosen = selection.loc[selection["rule"] == rule, ["method", "rho"]]
    rows = ways(cube).merge(chosen, on=["method", "rho"])
    if len(rows):
        rows = rows.assign(unit=rows["unit"].map(lambda unit: written_unit(unit) or unit))
    said = "".join(f"<li>{html.escape(line)}.</li>" for line in remarks(rows))
    return f"<ul>{said}</ul>" if said else "<p>Every θ left its start and arrived.</p>" * bool(len(rows))


def theta_metrics(cube: xr.Dataset, selection: pd.DataFrame, rule: str) -> pd.DataFrame:
    """All errors of theta at the rho that a rule selected: root mean square, and median with its interval.

    A row a method.
    """
    rows: dict[str, dict] = {}
    table = theta_errors(cube, selection, rule)
    for (meaning, unit), errors in table.groupby(["meaning", "unit"], sort=False):
        texts = zip(column(errors["rms"]), between(errors["centre"], errors["low"], errors["high"]), strict=True)
        for method, (rms, median) in zip(errors["method"], texts, strict=True):
            of_method = rows.setdefault(method, {})
            of_method[f"{with_unit(meaning, unit)}, RMS"] = rms
            of_method[f"{with_unit(meaning, unit)}, median"] = median
    return pd.DataFrame(rows).T


# Runs


def ratios(selection: pd.DataFrame) -> pd.DataFrame:
    """Ratios to erm over the runs that failed for neither, with their intervals; below 1 is better than erm.

    Empty where no method has such a run.
    """
    table = ratios_to_baseline(selection)
    written = table[["rho", "n_paired"]].assign(rho=table["rho"].map(canonical))
    for name in [name for name in SHOWN if name in table]:
        texts = between(table[name], table[f"{name}_low"], table[f"{name}_high"])
        written[f"{METRICS[name]} / that of {BASELINE}"] = texts
    return written


def runs(cube: xr.Dataset) -> str:
    """Every run: those that failed at once, all of them to unfold, as HTML."""
    table = runs_table(cube).drop(columns=["data"] if cube.sizes["data"] == 1 else [])
    worse = table["failed"] & (table["status"] == "completed")
    parts = []
    for what, which in {
        "diverged": table["status"] == "diverged",
        f"failed otherwise ({WORSE_THAN_MEAN})": worse,
    }.items():
        parts.append(f"<p>{which.sum()} of {len(table)} runs {what}{':' if which.any() else '.'}</p>")
        parts += [shown(_seeds(table[which], cube), index=False)] if which.any() else []
    table["rho"] = table["rho"].map(canonical)
    units = {name: cube[name].attrs.get("units", "1") for name in metrics_of(cube)}
    units["validation_error"] = cube["y_error"].attrs.get("units", "1")
    table = table.drop(columns="failed_validation").assign(failed=table["failed"].map({True: "yes", False: ""}))
    everything = shown(table.rename(columns={name: with_unit(name, units[name]) for name in units}), index=False)
    return "".join(parts) + f"<details><summary>All {len(table)} runs</summary>{everything}</details>"


def _seeds(runs: pd.DataFrame, cube: xr.Dataset) -> pd.DataFrame:
    """Which seeds of each method and rho, and dataset if there are several, these runs are.

    And why the first of them diverged, if that is known.
    """
    alike = ["method", "rho", "data"] if "data" in runs else ["method", "rho"]
    of_rho = runs.groupby(alike, observed=True, sort=False)["seed"]
    table = of_rho.agg(seeds=lambda seed: ", ".join(map(str, seed))).reset_index()
    if "reason" in cube:
        firsts = of_rho.first().reset_index().rename(columns={"method": "training_method"}).to_dict("records")
        reasons = [cube["reason"].sel(first).squeeze().item() for first in firsts]
        table = table.assign(**{"the first of them": reasons} if any(reasons) else {})
    return table.assign(rho=table["rho"].map(canonical))


def figure(folder: Path, name: str) -> str:
    """A figure of a task with its caption, as HTML that needs no other file."""
    table = pd.read_csv(folder / "figures" / f"{name}.csv")
    return embedded((folder / "figures" / f"{name}.png").read_bytes(), captions.caption(name, table))
