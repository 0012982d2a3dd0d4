"""The figures of a task: the tidy table that each is drawn from, its caption, and writing both."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr
from matplotlib.figure import Figure

from hybridsam import evaluate, plots, records
from hybridsam.errors import UserError
from hybridsam.looks import FORMATS, in_order, save

METRICS = {"theta_error": "θ-error", "y_error": "y-error (test MSE)"}
LOSSES = {"train_loss": "training", "validation_loss": "validation"}
EXAMPLE = 0  # of the test samples whose predictions the run files keep


@dataclass(frozen=True)
class Results:
    """What the figures of a task are made from.

    selection: as ``selection.csv``. rule: of the selection, by which one strength a method is shown. folder: where the
    cube lies; its variable ``file`` leads from there to the run files.
    """

    dataset: xr.Dataset
    cube: xr.Dataset
    selection: pd.DataFrame
    rule: str
    folder: Path

    @cached_property
    def selected(self) -> pd.DataFrame:
        """method, rho, n, diverged, rule: the strength that the rule selected for each method."""
        rows = self.selection[self.selection["rule"] == self.rule].set_index("method")
        return rows.loc[in_order(rows.index), ["rho", "n", "diverged", "rule"]].reset_index()

    @property
    def title(self) -> str:
        """Title of every figure; the marking of a synthetic twin comes first."""
        return "SYNTHETIC TWIN: " * (self.dataset.attrs.get("synthetic") == "twin") + task_title(self.cube)


def load(dataset: Path, cube: Path, selection: Path, rule: str) -> Results:
    """Read the three files of a task; raises UserError if the rule is none of those in the selection."""
    selected = read_selection(selection)
    if rule not in set(selected["rule"]):
        raise UserError(f"rule: {rule!r} is not in {selection}; it has {', '.join(selected['rule'].unique())}")
    return Results(records.read(dataset, "dataset"), records.read(cube, "cube"), selected, rule, Path(cube).parent)


def task_title(cube: xr.Dataset) -> str:
    """Title of the task, as the collect command writes it into the cube."""
    return cube.attrs.get("task_title", "untitled task")


def read_selection(path: Path) -> pd.DataFrame:
    """selection.csv, with strengths equal to the cube's to the last bit (pandas may read numbers less exactly)."""
    return pd.read_csv(path, dtype={"rho": str}).astype({"rho": float})


def predictions(results: Results) -> pd.DataFrame:
    """Data, truth, full model and science part for one test sample: of each method its first completed run."""
    number = np.flatnonzero(results.dataset["split"].values == "test")[EXAMPLE]
    sample = results.dataset.isel(sample=number)
    measured = {"data": sample["state"]} | ({"truth": sample["state_true"]} if "state_true" in sample else {})
    frames = []
    for method, rho, *_ in results.selected.itertuples(index=False):
        series = measured | _first_prediction(results, method, rho)
        for name, array in series.items():
            frame = array.reset_coords(drop=True).to_dataframe("value").reset_index()
            seed = array.attrs.get("seed", pd.NA)
            frames.append(frame.assign(method=method, rho=rho, seed=seed, sample=number, series=name))
    table = pd.concat(frames, ignore_index=True).merge(results.selected, on=["method", "rho"], sort=False)
    units = results.dataset["component_units"].to_series()
    return table.assign(unit=table["component"].map(units)).astype({"seed": "Int64"})


def _first_prediction(results: Results, method: str, rho: float) -> dict[str, xr.DataArray]:
    """Predictions of the first completed run, from its run file; nothing if all diverged."""
    runs = results.cube.sel({"method": method, "rho": rho})
    completed = runs["seed"].values[runs["status"].values == "completed"]
    if not len(completed):
        return {}
    seed = completed[0]
    block = records.read(results.folder / runs["file"].sel(seed=seed).item(), "runs")
    run = block.sel({"method": method, "rho": rho, "seed": seed}).isel(example=EXAMPLE)
    named = {"full model": run["prediction"], "science part": run["prediction_science"]}
    return {name: array.assign_attrs(seed=int(seed)) for name, array in named.items()}


def theta_training(results: Results) -> pd.DataFrame:
    """Theta at every recorded step of the runs at the selected strengths, their mean, and the true value."""
    table = _histories(results, ["theta_history"]).rename(columns={"parameter_units": "unit", "theta_history": "value"})
    true = results.cube["theta_true"].to_series() if "theta_true" in results.cube else {}
    return _with_means(table.assign(true=table["parameter"].map(true).astype(float)))


def losses(results: Results) -> pd.DataFrame:
    """Training and validation loss at every recorded step of the runs at the selected strengths, and their means."""
    table = _histories(results, list(LOSSES)).rename(columns=LOSSES)
    keys = [name for name in table if name not in LOSSES.values()]
    long = table.melt(keys, list(LOSSES.values()), "split", "value")
    return _with_means(long.assign(unit=squared_units(results.dataset)))


def _histories(results: Results, names: Sequence[str]) -> pd.DataFrame:
    """The recorded variables of every run at the selected strengths, one row a run and step."""
    frames = []
    for method, rho, *_ in results.selected.itertuples(index=False):
        runs = results.cube[["status", *names]].sel({"method": method, "rho": rho})
        frames.append(runs.to_dataframe().reset_index())
    table = pd.concat(frames, ignore_index=True)
    return table[table["status"] != "missing"].merge(results.selected, on=["method", "rho"], sort=False)


def _with_means(runs: pd.DataFrame) -> pd.DataFrame:
    """The rows of the runs (statistic ``run``), below them the means over completed runs (``mean``)."""
    keys = [name for name in runs if name not in ("seed", "status", "value")]
    means = runs[runs["status"] == "completed"].groupby(keys, sort=False, dropna=False)["value"].mean().reset_index()
    table = pd.concat([runs.assign(statistic="run"), means.assign(statistic="mean")], ignore_index=True)
    return table.astype({"seed": "Int64"})


def errors_rho(results: Results) -> pd.DataFrame:
    """Errors of every run, and for each strength their mean over completed runs with its 95 % Student t interval."""
    runs = evaluate.runs_table(results.cube)
    metrics = [name for name in METRICS if name in runs]
    runs = runs.astype({"method": str}).melt(["method", "rho", "seed", "status"], metrics, "metric", "value")
    rows = []
    for (metric, method, rho), group in runs.groupby(["metric", "method", "rho"]):
        completed = group.loc[group["status"] == "completed", "value"]
        row = {"metric": metric, "method": method, "rho": rho, "value": completed.mean(), "n": len(completed)}
        row |= {"interval": evaluate.interval(completed), "diverged": int((group["status"] == "diverged").sum())}
        rows.append(row)
    table = pd.concat([runs.assign(statistic="run"), pd.DataFrame(rows).assign(statistic="mean")], ignore_index=True)
    units = {"theta_error": theta_unit(results.cube), "y_error": squared_units(results.dataset)}
    named = {"label": table["metric"].map(METRICS), "unit": table["metric"].map(units)}
    return table.assign(**named).astype({"seed": "Int64", "n": "Int64", "diverged": "Int64"})


def theta_unit(cube: xr.Dataset) -> str:
    """The unit of theta, or of its parts where they differ."""
    return ", ".join(dict.fromkeys(cube["parameter_units"].values.tolist()))


def squared_units(dataset: xr.Dataset) -> str:
    """The unit of a mean squared error over all components, which may mix several: ``rad2, (rad s-1)2``."""
    units = dict.fromkeys(dataset["component_units"].values.tolist())
    return ", ".join(f"({unit})2" if " " in unit else f"{unit}2" if unit != "1" else "1" for unit in units)


FIGURES: dict[str, tuple[Callable[[Results], pd.DataFrame], Callable[[pd.DataFrame, str], Figure]]] = {
    "predictions": (predictions, plots.predictions),
    "theta_training": (theta_training, plots.theta_training),
    "errors_rho": (errors_rho, plots.errors_rho),
    "losses": (losses, plots.losses),
}


def write(name: str, results: Results, outputs: Sequence[Path]) -> None:
    """Write one figure as .pdf, .svg or .png and its table as .csv; equal results give equal bytes."""
    if name not in FIGURES:
        raise UserError(f"figure: {name!r} is not one of {', '.join(FIGURES)}")
    table_of, plot = FIGURES[name]
    table = table_of(results)
    figure = plot(table, results.title)
    for path in outputs:
        if path.suffix == ".csv":
            records.write_whole(path, partial(table.to_csv, index=False))
        elif path.suffix in FORMATS:
            records.write_whole(path, partial(save, figure, kind=path.suffix))
        else:
            raise UserError(f"{path}: a figure is written as {', '.join(FORMATS)} or .csv")


CAPTIONS = {
    "predictions": "One test sample: data (dots), truth without noise (thin line, where known), full model (solid) and "
    "science part alone (dashed), at the strength that {rule} chooses. Of each method one run is shown, the first "
    "completed one (n = 1; {diverged}); so there is no interval. A line that runs far from the data leaves its panel.",
    "theta_training": "θ against the training step at the strength that {rule} chooses. Thin lines: every run; "
    "thick line: mean of the completed runs ({n} for each method; {diverged}). No interval is drawn. Dashed: true "
    "value, where known.",
    "errors_rho": "Errors on the test data at the final iterate against the strength, for every strength that was run. "
    "Points: single runs; markers: mean of the completed runs ({n} for each strength); bars: {interval}. Crosses on "
    "the upper edge count diverged runs ({diverged}), which no mean contains. Dashed line and band: erm, in the same "
    "way.",
    "losses": "Loss against the training step at the strength that {rule} chooses: validation (solid) and training "
    "(dotted). Thin lines: every run; thick lines: mean of the completed runs ({n} for each method; {diverged}). No "
    "interval is drawn.",
}


def caption(name: str, table: pd.DataFrame) -> str:
    """What a figure shows, with n and the kind of interval, from the table that it is drawn from."""
    counts = table.dropna(subset=["n"]).drop_duplicates(["method", "rho"])
    low, high, gone = (int(number) for number in (counts["n"].min(), counts["n"].max(), counts["diverged"].sum()))
    interval = "its 95 % Student t interval over seeds" + ", which fewer than two runs do not have" * (low < 2)
    return CAPTIONS[name].format(
        rule=f"the rule “{table['rule'].iloc[0]}”" if "rule" in table else "",
        n=span(low, high),
        diverged=f"{gone} diverged" if gone else "none diverged",
        interval=interval if high > 1 else "none, as that takes two completed runs",
    )


def span(low: int, high: int) -> str:
    """Numbers of runs in words: ``n = 3``, ``n = 2 to 3``."""
    return f"n = {low}" + f" to {high}" * (high > low)
