"""The figures of a task: the tidy table that each is drawn from, and writing both."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr
from matplotlib.figure import Figure

from hybridsam import (
    error_plots,
    evaluate,
    pictures,
    plots,
    predictions,
    reading_plots,
    records,
    residual_plots,
    residuals,
)
from hybridsam.errors import UserError
from hybridsam.looks import FORMATS, STEP, in_order, save
from hybridsam.predictions import rounded

METRICS = {"theta_error": "θ-error", "y_error": "y-error (test MSE)"}
LOSSES = {"train_loss": "training", "validation_loss": "validation"}
TWIN = records.ORIGINS["twin"]
NUMBERS = 100_000  # of the runs in a table of histories: a megabyte
ROWS = 5000  # of the runs in a table of errors
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
    selected = evaluate.read_selection(selection)
    if rule not in set(selected["rule"]):
        raise UserError(f"rule: {rule!r} is not in {selection}; it has {', '.join(selected['rule'].unique())}")
    return Results(records.read(dataset, "dataset"), records.read(cube, "cube"), selected, rule, Path(cube).parent)


def task_title(cube: xr.Dataset) -> str:
    """Title of the task, as the collect command writes it into the cube."""
    return cube.attrs.get("task_title", "untitled task")


def predicted(results: Results) -> pd.DataFrame:
    """What the models predict for test samples: of each method its first completed run; see hybridsam.predictions."""
    return predictions.table(results.dataset, results.selected, results.shown_runs)


def left_over(results: Results) -> pd.DataFrame:
    """What those runs leave unexplained of the data; see hybridsam.residuals."""
    return residuals.table(results.dataset, results.selected, results.shown_runs)


def draw_kind(table: pd.DataFrame, title: str) -> Figure:
    """The figure for the kind of target that the table shows."""
    return DRAWN[table["kind"].iloc[0]](table, title)


def theta_training(results: Results) -> pd.DataFrame:
    """Theta at every recorded step of runs at the selected strengths, their mean, and the true value."""
    table = _histories(results, results.cube["theta_history"], "parameter")
    units = results.cube["parameter_units"].to_series()
    true = results.cube["theta_true"].to_series() if "theta_true" in results.cube else {}
    return table.assign(unit=table["parameter"].map(units), true=table["parameter"].map(true).astype(float))


def losses(results: Results) -> pd.DataFrame:
    """Training and validation loss at every recorded step of runs at the selected strengths, and their means."""
    both = results.cube[list(LOSSES)].rename(LOSSES).to_array("split")
    return _histories(results, both, "split").assign(unit=_error_unit(results))


def _histories(results: Results, recorded: xr.DataArray, axis: str) -> pd.DataFrame:
    """What was recorded at the selected strengths: rows for each run and for the mean of the completed ones.

    A row for each label of ``axis``; statistic: ``run`` or ``mean``. Only the first runs have rows where all of them
    would be more than ``NUMBERS`` numbers; means are of all.
    """
    most = max(1, NUMBERS // (len(results.selected) * recorded.sizes[axis] * recorded.sizes["step"]))
    frames = []
    for method, rho in zip(results.selected["method"], results.selected["rho"], strict=True):
        histories = recorded.sel({"method": method, "rho": rho})
        status = results.cube["status"].sel({"method": method, "rho": rho}).to_series()
        rows = _rows(histories.sel(seed=status.index[status != "missing"][:most]), axis)
        frames.append(rows.assign(method=method, statistic="run", status=rows["seed"].map(status)))
        if (status == "completed").any():
            mean = histories.sel(seed=status.index[status == "completed"]).mean("seed")
            rows = _rows(mean.expand_dims(seed=[0]), axis)
            frames.append(rows.assign(method=method, statistic="mean", seed=pd.NA))
    table = results.selected.merge(pd.concat(frames, ignore_index=True), on="method")
    return table.assign(seed=table["seed"].astype("Int64"))


def _rows(histories: xr.DataArray, axis: str) -> pd.DataFrame:
    """A row for each seed and label of ``axis``, with a column ``step=...``, of six digits, for each step."""
    values = histories.transpose(axis, "seed", "step")
    index = pd.MultiIndex.from_product([values[axis].values, values["seed"].values], names=[axis, "seed"])
    columns = [f"{STEP}{step}" for step in values["step"].values]
    return pd.DataFrame(rounded(values.values, 6).reshape(len(index), -1), index, columns).reset_index()


def errors_rho(results: Results) -> pd.DataFrame:
    """Errors of runs, and for each strength their mean over completed runs with its 95 % Student t interval.

    Only the first runs of each strength have rows where all of them would be more than ``ROWS``; means are of all.
    """
    runs = evaluate.runs_table(results.cube).astype({"method": str})
    metrics = [name for name in evaluate.metrics_of(results.cube) if name in METRICS or name not in evaluate.METRICS]
    metrics.sort(key="y_error".__eq__)  # last
    runs = runs.melt(["method", "rho", "seed", "status"], metrics, "metric", "value")
    of_strength = runs.groupby(["metric", "method", "rho"])
    rows = []
    for (metric, method, rho), group in of_strength:
        completed = group.loc[group["status"] == "completed", "value"]
        row = {"metric": metric, "method": method, "rho": rho, "value": completed.mean(), "n": len(completed)}
        row |= {"interval": evaluate.interval(completed), "diverged": int((group["status"] == "diverged").sum())}
        rows.append(row)
    shown = of_strength.head(max(1, ROWS // of_strength.ngroups))
    table = pd.concat([shown.assign(statistic="run"), pd.DataFrame(rows).assign(statistic="mean")], ignore_index=True)
    own = {name: results.cube[name].attrs for name in metrics}
    units = {name: about.get("units", "1") for name, about in own.items()} | {"y_error": _error_unit(results)}
    meanings = {name: about.get("long_name", METRICS.get(name, name)) for name, about in own.items()}
    columns = {"label": _label, "unit": units, "meaning": meanings}
    table = table.assign(**{column: table["metric"].map(of_metric) for column, of_metric in columns.items()})
    return table.astype({"seed": "Int64", "n": "Int64", "diverged": "Int64"})


def tradeoff(results: Results) -> pd.DataFrame:
    """The errors of :func:`errors_rho` beside each other, and whether a strength's means lie on the Pareto front.

    Where theta is not known there is no column theta_error, and no front.
    """
    of_metric = {name: rows.reset_index(drop=True) for name, rows in errors_rho(results).groupby("metric")}
    columns = ["method", "rho", "seed", "status", "statistic", "n", "diverged"]
    table = of_metric["y_error"][columns].assign(front=False)
    for name in [name for name in METRICS if name in of_metric]:
        rows = of_metric[name]
        table = table.assign(**{name: rows["value"], f"{name}_unit": rows["unit"], f"{name}_meaning": rows["meaning"]})
    if "theta_error" in table:
        is_mean = table["statistic"] == "mean"
        table.loc[is_mean, "front"] = on_front(*(table.loc[is_mean, name].to_numpy() for name in METRICS))
    return table


def on_front(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Which points (point,) lie on the Pareto front: no other is lower in one of the two and not higher in the other.

    Points that are not finite lie on no front and keep no other from it.
    """
    no_higher = (first <= first[:, None]) & (second <= second[:, None])  # [point, other]
    lower = (first < first[:, None]) | (second < second[:, None])
    return np.isfinite(first + second) & ~(no_higher & lower).any(1)


def _label(metric: str) -> str:
    """``theta_gauge_free_error`` -> ``gauge-free θ-error``."""
    own = metric.removeprefix("theta_").removesuffix("_error").replace("_", "-")
    return METRICS.get(metric, f"{own} θ-error")


def _error_unit(results: Results) -> str:
    """The unit of errors and losses; standard units where they are those of standardised targets."""
    unit = results.cube["y_error"].attrs.get("units", "1")
    own = set(predictions.units_of(predictions.target_of(results.dataset)).values())
    return STANDARD if unit == "1" and own != {"1"} else unit


DRAWN: dict[str, Callable[[pd.DataFrame, str], Figure]] = {  # kind of table -> how it is drawn
    "time series": pictures.time_series,
    "readings": reading_plots.ratios,
    "differences": reading_plots.differences,
    "fields": pictures.fields,
    "frames": pictures.frames,
    "images": pictures.images,
    "residual series": residual_plots.series,
    "residual readings": residual_plots.readings,
    "residual maps": residual_plots.maps,
}
FIGURES: dict[str, tuple[Callable[[Results], pd.DataFrame], Callable[[pd.DataFrame, str], Figure]]] = {
    "predictions": (predicted, draw_kind),
    "residuals": (left_over, draw_kind),
    "theta_training": (theta_training, plots.theta_training),
    "errors_rho": (errors_rho, error_plots.errors_rho),
    "tradeoff": (tradeoff, error_plots.tradeoff),
    "losses": (losses, plots.losses),
}


def tabulate(name: str, results: Results) -> pd.DataFrame:
    """The table that a figure is drawn from, columns like ``step=20`` last; data says where the data come from."""
    if name not in FIGURES:
        raise UserError(f"figure: {name!r} is not one of {', '.join(FIGURES)}")
    table = FIGURES[name][0](results).assign(data=results.data)
    return table[sorted(table, key=lambda column: "=" in column)]


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
