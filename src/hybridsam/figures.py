"""The figures of a task: the tidy table that each is drawn from, and writing both."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

import pandas as pd
import xarray as xr
from matplotlib.figure import Figure

from hybridsam import evaluate, pictures, plots, predictions, records
from hybridsam.errors import UserError
from hybridsam.looks import FORMATS, in_order, save

METRICS = {"theta_error": "θ-error", "y_error": "y-error (test MSE)"}
LOSSES = {"train_loss": "training", "validation_loss": "validation"}
TWIN = records.ORIGINS["twin"]
STANDARD = "standard units"  # of errors of a model whose targets are standardised


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

    @cached_property
    def shown_runs(self) -> dict[str, xr.Dataset]:
        """method -> its first completed run at the selected strength, predictions (sample, ...); none if all diverged.

        Read from the run files; sample is numbered as in the dataset.
        """
        found = {}
        for method, rho in zip(self.selected["method"], self.selected["rho"], strict=True):
            runs = self.cube.sel({"method": method, "rho": rho})
            for seed in runs["seed"].values[runs["status"].values == "completed"][:1]:
                block = records.read(self.folder / runs["file"].sel(seed=seed).item(), "runs")
                run = block.sel({"method": method, "rho": rho, "seed": seed})
                found[method] = run.set_coords("sample").swap_dims({"example": "sample"})
        return found

    @property
    def data(self) -> str:
        """Where the data come from: simulated, measured, or SYNTHETIC TWIN."""
        return records.origin(self.dataset)

    @property
    def title(self) -> str:
        """Title of every figure; the marking of a synthetic twin comes first."""
        return f"{TWIN}: " * (self.data == TWIN) + task_title(self.cube)


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


def predicted(results: Results) -> pd.DataFrame:
    """What the models predict for test samples: of each method its first completed run; see hybridsam.predictions."""
    return predictions.table(results.dataset, results.selected, results.shown_runs)


def draw_predicted(table: pd.DataFrame, title: str) -> Figure:
    """The figure for the kind of target that the table shows."""
    return PREDICTED[table["kind"].iloc[0]](table, title)


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
    return _with_means(long.assign(unit=_error_unit(results)))


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
    metrics = [name for name in evaluate.metrics_of(results.cube) if name in METRICS or name not in evaluate.METRICS]
    metrics.sort(key="y_error".__eq__)  # last
    runs = runs.astype({"method": str}).melt(["method", "rho", "seed", "status"], metrics, "metric", "value")
    rows = []
    for (metric, method, rho), group in runs.groupby(["metric", "method", "rho"]):
        completed = group.loc[group["status"] == "completed", "value"]
        row = {"metric": metric, "method": method, "rho": rho, "value": completed.mean(), "n": len(completed)}
        row |= {"interval": evaluate.interval(completed), "diverged": int((group["status"] == "diverged").sum())}
        rows.append(row)
    table = pd.concat([runs.assign(statistic="run"), pd.DataFrame(rows).assign(statistic="mean")], ignore_index=True)
    own = {name: results.cube[name].attrs for name in metrics}
    units = {name: about.get("units", "1") for name, about in own.items()} | {"y_error": _error_unit(results)}
    meanings = {name: about.get("long_name", METRICS.get(name, name)) for name, about in own.items()}
    columns = {"label": _label, "unit": units, "meaning": meanings}
    table = table.assign(**{column: table["metric"].map(of_metric) for column, of_metric in columns.items()})
    return table.astype({"seed": "Int64", "n": "Int64", "diverged": "Int64"})


def _label(metric: str) -> str:
    """``theta_gauge_free_error`` -> ``gauge-free θ-error``."""
    own = metric.removeprefix("theta_").removesuffix("_error").replace("_", "-")
    return METRICS.get(metric, f"{own} θ-error")


def _error_unit(results: Results) -> str:
    """The unit of errors and losses; standard units where they are those of standardised targets."""
    unit = results.cube["y_error"].attrs.get("units", "1")
    own = set(predictions.units_of(predictions.target_of(results.dataset)).values())
    return STANDARD if unit == "1" and own != {"1"} else unit


PREDICTED: dict[str, Callable[[pd.DataFrame, str], Figure]] = {  # kind of target -> how it is drawn
    "time series": pictures.time_series,
    "readings": pictures.readings,
    "fields": pictures.fields,
    "frames": pictures.frames,
    "images": pictures.images,
}
FIGURES: dict[str, tuple[Callable[[Results], pd.DataFrame], Callable[[pd.DataFrame, str], Figure]]] = {
    "predictions": (predicted, draw_predicted),
    "theta_training": (theta_training, plots.theta_training),
    "errors_rho": (errors_rho, plots.errors_rho),
    "losses": (losses, plots.losses),
}


def tabulate(name: str, results: Results) -> pd.DataFrame:
    """The table that a figure is drawn from; its column data says where the data come from."""
    if name not in FIGURES:
        raise UserError(f"figure: {name!r} is not one of {', '.join(FIGURES)}")
    return FIGURES[name][0](results).assign(data=results.data)


def write(name: str, results: Results, outputs: Sequence[Path]) -> None:
    """Write one figure as .pdf, .svg or .png and its table as .csv; equal results give equal bytes."""
    table = tabulate(name, results)
    figure = FIGURES[name][1](table, results.title)
    for path in outputs:
        if path.suffix == ".csv":
            records.write_whole(path, partial(table.to_csv, index=False))
        elif path.suffix in FORMATS:
            records.write_whole(path, partial(save, figure, kind=path.suffix))
        else:
            raise UserError(f"{path}: a figure is written as {', '.join(FORMATS)} or .csv")
