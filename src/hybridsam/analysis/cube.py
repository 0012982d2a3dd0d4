"""The cube of a task: all its runs on the axes (method, rho, seed), and their errors against the truth."""

import json
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr

from hybridsam.core.errors import UserError
from hybridsam.core.records import RUN, Numbers, is_of_runs

METRICS = {  # errors of a run -> what tables and figures call them
    "theta_error": "θ-error",
    "theta_relative_error": "relative θ-error",
    "y_error": "y-error",
    "y_error_over_noise": "y-error over noise",
    "validation_error": "validation error",
}
SHOWN = ("theta_error", "y_error")  # the metrics that tables and figures show, and by which methods are compared
PASSED_ON = ("constants", "attribution", "licence")  # attributes from the dataset to the cube
MADE_BY = ("git_commit", "device", "versions")  # attributes of run files of which the cube lists every value
PERIOD = {"started": min, "ended": max}  # attributes of run files, ISO 8601 in UTC -> the one that the cube has

THETA_ERROR = "Euclidean distance of theta from the truth"

Arrays = dict[str, np.ndarray]
ThetaMetrics = Callable[[Arrays, dict[str, float]], dict[str, tuple[np.ndarray, str]]]


def collect(
    blocks: Iterable[tuple[Path, xr.Dataset | Numbers]],
    expected: Mapping[Path, str],
    like: xr.Dataset,
    dataset: xr.Dataset,
    folder: Path,
    theta_metrics: ThetaMetrics | None = None,
) -> xr.Dataset:
    """All blocks of a task on the axes (method, rho, seed); combinations that were not run have status ``missing``.

    blocks: path and block of runs, one after the other; of none is more kept than what goes into the cube. expected:
    path -> hash of the configuration that the path stands for; a block with another hash is refused. like: one of the
    blocks, whole, for the units and what all have in common. folder: where the cube will lie. Predictions stay in the
    run files, to which the variable ``file`` holds the path from there. theta_metrics: see :func:`add_errors`.
    """
    per_run = {str(name): variable for name, variable in like.data_vars.items() if is_of_runs(variable.dims)}
    labels: list[tuple[str, float, list[int]]] = []
    values: dict[str, list] = {name: [] for name in (*per_run, "file", "seconds")}  # name -> of each block
    made_by: dict[str, set[str]] = {name: set() for name in MADE_BY}
    period: dict[str, list[str]] = {name: [] for name in PERIOD}
    for path, block in blocks:
        found = block.attrs.get("configuration_hash")
        if found != expected[path]:
            raise UserError(
                f"{path}: this run file was made with another configuration (it has {found}, "
                f"expected {expected[path]}); delete it and run again"
            )
        [method], [rho], seeds = (np.asarray(block.variables[name]).tolist() for name in RUN)
        labels.append((method, rho, seeds))
        for name in per_run:
            values[name].append(np.asarray(block.variables[name])[0, 0])
        values["file"].append(os.path.relpath(path, folder))
        values["seconds"].append(block.attrs["seconds"] / len(seeds))
        for name in made_by:
            made_by[name].add(str(block.attrs[name]))
        for name in period.keys() & block.attrs:  # older versions did not write them
            period[name].append(block.attrs[name])

    methods, rhos, seeds_of = zip(*labels, strict=True)
    axes: dict[str, list] = {
        "method": list(dict.fromkeys(methods)),
        "rho": sorted(set(rhos)),
        "seed": sorted({seed for seeds in seeds_of for seed in seeds}),
    }
    position = {name: {label: i for i, label in enumerate(axis)} for name, axis in axes.items()}
    places = [
        (position["method"][method], position["rho"][rho], [position["seed"][seed] for seed in seeds])
        for method, rho, seeds in labels
    ]
    shape = tuple(map(len, axes.values()))

    def on_axes(name: str, missing: float | str = np.nan, of_a_run: tuple[int, ...] = ()) -> np.ndarray:
        whole = np.full((*shape, *of_a_run), missing, dtype=object if isinstance(missing, str) else float)
        for place, part in zip(places, values.pop(name), strict=True):
            whole[place] = part
        return whole

    shared = ("parameter", "parameter_units", "split", "step")
    missing = {"status": "missing"}
    cube = xr.Dataset(
        {
            name: (variable.dims, on_axes(name, missing.get(name, np.nan), variable.shape[3:]), variable.attrs)
            for name, variable in per_run.items()
        },
        coords=axes | {name: like[name].variable for name in shared},
        attrs={name: like.attrs[name] for name in ("synthetic", "source", "configuration")}
        | {name: dataset.attrs[name] for name in PASSED_ON if name in dataset.attrs}
        | {f"runs_{name}": " | ".join(sorted(found)) for name, found in made_by.items()}
        | {f"runs_{name}": PERIOD[name](found) for name, found in period.items() if len(found) == len(labels)},
    )
    cube["file"] = (RUN, on_axes("file", ""), {"long_name": "file of the run, seen from the folder of this file"})
    about = {"long_name": "training time, a run's share of its block's", "units": "s"}
    cube["seconds"] = (RUN, on_axes("seconds"), about)
    cube["learning_rate"] = like["learning_rate"]
    samples = [int((dataset["split"] == split).sum()) for split in cube["split"].values]
    cube["samples"] = ("split", samples, {"long_name": "number of samples", "units": "1"})
    return add_errors(cube, dataset, theta_metrics)


def add_errors(cube: xr.Dataset, dataset: xr.Dataset, theta_metrics: ThetaMetrics | None = None) -> xr.Dataset:
    """Add theta_error, theta_relative_error and y_error_over_noise where the dataset says what is true.

    theta_error: Euclidean norm of the difference, in natural units. theta_relative_error: mean of |difference / truth|.
    y_error_over_noise: root of y_error over the standard deviation of the measurement noise. theta_metrics: of a task
    that measures errors of theta in a way of its own, (name -> values, name -> truth) to name -> (values, meaning);
    what it calls ``theta_error`` replaces the distance.
    """
    truth = json.loads(dataset.attrs.get("truth", "{}"))
    names = cube["parameter"].values.tolist()
    if set(names) <= set(truth):
        true = xr.DataArray([float(truth[name]) for name in names], dims="parameter")
        difference = cube["theta"] - true
        cube["theta_true"] = true.assign_attrs(long_name="true theta", units="see parameter_units")
        distance = (difference**2).sum("parameter", skipna=False) ** 0.5
        units = ", ".join(dict.fromkeys(cube["parameter_units"].values.tolist()))
        cube["theta_error"] = distance.assign_attrs(long_name=THETA_ERROR, units=units)
        relative = abs(difference / true).mean("parameter", skipna=False)
        cube["theta_relative_error"] = relative.assign_attrs(long_name="mean relative error of theta", units="1")
        if theta_metrics:
            values = {name: cube["theta"].sel(parameter=name).values for name in names}
            for name, (error, meaning) in theta_metrics(values, truth).items():
                cube[name] = (RUN, error, {"long_name": meaning, "units": "1"})
    if dataset.attrs.get("noise", 0) > 0:
        scaled = cube["y_error"] ** 0.5 / dataset.attrs["noise"]
        cube["y_error_over_noise"] = scaled.assign_attrs(long_name="RMSE over noise standard deviation", units="1")
    return cube


def metrics_of(cube: xr.Dataset) -> list[str]:
    """Names of the errors that a cube holds for each run, those of a task's own last."""
    own = [str(name) for name in cube.data_vars if str(name).startswith("theta_") and cube[name].dims == RUN]
    return [*[name for name in METRICS if name in cube], *[name for name in own if name not in METRICS]]


def runs_table(cube: xr.Dataset) -> pd.DataFrame:
    """One row a run that was configured: method, rho, seed, status, file and the metrics on the test data.

    A completed run whose prediction ran away on other data than those of training has an infinite error there.
    """
    columns = {"status": cube["status"], "file": cube["file"]}
    columns["validation_error"] = cube["y_error"].sel(split="validation", drop=True)
    for name in metrics_of(cube):
        columns[name] = cube[name].sel(split="test", drop=True) if "split" in cube[name].dims else cube[name]
    frames = {name: array.to_series() for name, array in columns.items()}
    table = pd.DataFrame(frames).reset_index()
    for name in table.columns.intersection(["validation_error", "y_error", "y_error_over_noise"]):
        table[name] = table[name].mask((table["status"] == "completed") & table[name].isna(), np.inf)
    table["method"] = pd.Categorical(table["method"], cube["method"].values.tolist(), ordered=True)
    return table[table["status"] != "missing"].sort_values(list(RUN), ignore_index=True)
