"""Results of an oscillator with numbers from thin air: of every kind that figures and pages have to show."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import xarray as xr

from hybridsam.analysis.cube import combine
from hybridsam.analysis.landscapes import OF_BOTH
from hybridsam.analysis.results import Results
from hybridsam.analysis.selection import select
from hybridsam.core import records
from hybridsam.figures import registry

GRID = {"erm": [0.0], "l2reg": [1e-4], "sam": [0.02, 0.05, 0.2], "fsam": [0.05, 0.1]}
STEPS, TIMES = np.arange(0, 101, 10), np.linspace(0, 4, 9)
COMPONENTS, UNITS = ["position", "velocity"], ["m", "m s-1"]
SPLITS = ["train", "validation", "test"]
TRUTH = {"k": 2.0, "mass": 0.5}
RUN, CUBE = records.RUN, records.CUBE


def make_dataset(truth: bool = True, synthetic: str = "yes") -> xr.Dataset:
    """Six samples of an oscillation, two in each split."""
    angle = TIMES + np.arange(6)[:, None]
    clean = np.stack([np.sin(angle), np.cos(angle)], -1)
    noisy = clean + 0.05 * np.random.default_rng(0).standard_normal(clean.shape)
    dims = ("sample", "time", "component")
    return xr.Dataset(
        {"state": (dims, noisy)} | ({"state_true": (dims, clean)} if truth else {}),
        coords={
            "time": TIMES,
            "component": COMPONENTS,
            "component_units": ("component", UNITS),
            "split": ("sample", np.repeat(SPLITS, 2)),
        },
        attrs={
            "synthetic": synthetic,
            "target": "state",
            "truth": json.dumps(TRUTH if truth else {}),
            "noise": 0.05,
        },
    )


def make_block(dataset: xr.Dataset, method: str, rho: float, seeds: list[int], diverged: list[int]) -> xr.Dataset:
    """A block of runs as the fit returns it, with numbers from thin air; diverged seeds run away halfway."""
    rng = np.random.default_rng([int(1e6 * rho), len(method), *seeds])
    shape = (1, 1, len(seeds))
    theta = 1 + (1 - np.exp(-STEPS / 30)) * rng.normal(0.8, 0.1, (*shape, 2, 1))
    loss = np.exp(-STEPS / 20) + rng.uniform(1e-3, 2e-3, (*shape, 1))
    gone = np.isin(seeds, diverged)
    theta[:, :, gone, :, 6:], loss[:, :, gone, 5:] = np.nan, 1e12
    numbers = np.flatnonzero(dataset["split"] == "test")[:3]
    test = dataset[dataset.attrs["target"]].isel(sample=numbers)
    test = test.isel(time=slice(1, None)) if {"time", "component"} <= set(test.dims) else test  # as of an ODE
    prediction = test.values * (1 + 0.1 * rng.standard_normal((*shape, *test.shape)))
    y_error = np.where(gone[:, None], np.inf, 10 ** rng.uniform(-2.5, -0.5, (*shape, 3)))
    long, units = ("example", *test.dims[1:]), {"units": "m2, (m s-1)2"}
    labels = {name: labels for name, labels in test.coords.items() if "sample" not in labels.dims}
    return xr.Dataset(
        {
            "theta": ((*RUN, "parameter"), theta[..., -1]),
            "y_error": ((*RUN, "split"), y_error, units),
            "validation_errors": ((*RUN, "validation_sample"), y_error[..., 1, None] * [0.8, 1.2], units),
            "status": (RUN, np.where(gone, "diverged", "completed").astype(object)[None, None]),
            "theta_history": ((*RUN, "step", "parameter"), theta.swapaxes(-1, -2)),
            "reason": (RUN, np.where(gone, "sqrt(-0.1) at t = 3 s", "").astype(object)[None, None]),
            "theta_moved": ((*RUN, "parameter"), theta[..., -1] - theta[..., 0]),
            "theta_moved_late": ((*RUN, "parameter"), 0.02 * theta[..., -1]),
            "theta_drift": ((*RUN, "parameter"), 0.2 * theta[..., -1]),
            "theta_step": ((*RUN, "parameter"), np.ones((*shape, 2))),
            "theta_influence": ((*RUN, "parameter"), np.broadcast_to([0.5, 1e-7], (*shape, 2))),
            "train_loss": ((*RUN, "step"), loss, units),
            "validation_loss": ((*RUN, "step"), 1.3 * loss, units),
            "learning_rate": ("step", 0.01 / (1 + STEPS)),
            "prediction": ((*RUN, *long), prediction),
            "prediction_science": ((*RUN, *long), prediction + 0.3),
            "sample": ("example", numbers),
        },
        coords={
            "training_method": [method],
            "rho": [rho],
            "seed": seeds,
            "parameter": list(TRUTH),
            "parameter_units": ("parameter", ["N m-1", "kg"]),
            "parameter_size": ("parameter", [1.0, 100.0]),
            "parameter_lower": ("parameter", [-np.inf, -np.inf]),
            "parameter_upper": ("parameter", [np.inf, np.inf]),
            "split": SPLITS,
            "step": STEPS,
            **labels,
        },
        attrs={
            "synthetic": dataset.attrs["synthetic"],
            "source": "a test",
            "configuration": json.dumps({"module": "hybridsam.tasks.pendulum"}),
            "configuration_hash": "h",
            "device": "cpu",
            "seconds": 1.0,
        },
    )


def make_results(
    folder: Path,
    seeds: int = 3,
    diverged: dict | None = None,
    grid: dict = GRID,
    dataset: xr.Dataset | None = None,
    change: Callable[[xr.Dataset], xr.Dataset] = lambda cube: cube,
) -> Results:
    """The files of a task. diverged: (method, rho) -> seeds; grid: method -> values of rho; change: of the cube."""
    dataset = make_dataset() if dataset is None else dataset
    blocks = []
    for method, rhos in grid.items():
        for rho in rhos:
            block = make_block(dataset, method, rho, list(range(seeds)), (diverged or {}).get((method, rho), []))
            path = f"runs/{method}/rho={rho}/seeds=0-{seeds - 1}.nc"
            records.write(block, folder / path, "runs", "test")
            block = records.read(folder / path, "runs")
            blocks.append(block.assign(file=(RUN, np.full(block["status"].shape, path, object))))
    cube = combine(blocks, blocks[0], dataset)
    cube.attrs["task_title"] = "Oscillator"
    cube = change(cube)
    records.write(make_identification(cube), folder / "identification.nc", "identification", "Oscillator")
    return Results(dataset, cube, select(cube), "validation", folder)


def make_identification(cube: xr.Dataset) -> xr.Dataset:
    """What two assumptions say of theta, the second nothing; numbers from thin air, around the theta of the runs."""
    names, runs = cube["parameter"].values, cube["theta"].stack(run=CUBE).dropna("run")
    size = np.abs(runs.values).max(1) if runs.sizes["run"] else np.ones(len(names))
    curve = size[:, None] * np.linspace(0.5, 1.5, 11)
    left = 1e-3 + (np.linspace(0.5, 1.5, 11) - 1) ** 2 * np.ones((2, len(names), 1))
    both, point = ("assumption", "parameter"), ("parameter", "point")
    found = {
        "theta": (both, np.stack([size, np.full(len(names), np.nan)])),
        "trained": (("member", "parameter"), size[None]),
        "curve_theta": (point, curve),
        "left": ((*both, "point"), left),
        "correlation": (point, np.minimum(1, 0.1 + left[0])),
        "combination": (point, left[0] ** 2),
    }
    if len(names) == 2:
        plane = left[0, 0][:, None] + left[0, 0]
        maps = {"left_map": (("assumption", "step", "step_2"), np.stack([plane, plane]))}
        maps |= {f"{name}_map": (("step", "step_2"), plane) for name in OF_BOTH}
        found |= {"map_theta": (("parameter", "step"), curve), **maps}
    return xr.Dataset(found, {"assumption": ["small", "straight"], "parameter": names})


def nine_parameters(cube: xr.Dataset) -> xr.Dataset:
    names = [f"p_{i}" for i in range(9)]
    return cube.isel(parameter=[0] * 9).assign_coords(parameter=names)


def endless(cube: xr.Dataset) -> xr.Dataset:
    """Runs of erm that completed with errors that are not finite."""
    errors = cube[["y_error", "validation_errors"]]
    return cube.assign(errors.where(cube["training_method"] != "erm", np.inf))


def diverging(*seeds: int) -> dict:
    """These seeds of every method and rho."""
    return {(method, rho): list(seeds) for method in GRID for rho in GRID[method]}


def long_names(cube: xr.Dataset) -> xr.Dataset:
    """Twelve parameters over 12 decades, whose names and units are long, of a task with a long title."""
    names = [f"heat_transfer_coefficient_of_wall_{i}" for i in range(12)]
    units = ["kg m-0.5 s-2 K-1", "1e4 pelts", "(rad s-1)2", "mol m-3 s-1 Pa-0.5"] * 3
    scale = xr.DataArray(10.0 ** np.arange(-6, 6), dims="parameter")
    many = cube.isel(parameter=[0] * 12).assign_coords(parameter=names, parameter_units=("parameter", units))
    many = many.assign({name: many[name] * scale for name in ("theta", "theta_history", "theta_true") if name in many})
    if "theta_error" in many:
        many["theta_error"].attrs["units"] = ", ".join(dict.fromkeys(units))
    many["y_error"].attrs["units"] = ", ".join(f"({unit})2" for unit in dict.fromkeys(units))
    return many.assign_attrs(task_title="Heat through the eleven layers of the wall of a furnace, " * 3)


def one_parameter(cube: xr.Dataset) -> xr.Dataset:
    return cube.isel(parameter=[0])


def decades(cube: xr.Dataset) -> xr.Dataset:
    """Errors from 1e-9 to 1e3, of runs none of which failed; losses too."""
    factor = xr.DataArray(np.logspace(-7, 5, cube.sizes["rho"]), dims="rho")
    names = ("train_loss", "validation_loss", "y_error", "validation_errors", "theta_error")
    large = {name: (cube[name] * factor).assign_attrs(cube[name].attrs) for name in names}
    return cube.assign(large | {"data_variance": cube["data_variance"] * 1e9})


def failing(cube: xr.Dataset) -> xr.Dataset:
    """The first seed of sam has a huge test error, of fsam none that is finite, of erm a huge validation error."""
    errors = cube[["y_error", "validation_errors"]].copy(deep=True)
    y_error = errors["y_error"]
    y_error.loc[{"training_method": "sam", "seed": 0, "split": "test"}] = 1e4
    y_error.loc[{"training_method": "fsam", "seed": 0, "split": "test"}] = np.nan
    y_error.loc[{"training_method": "erm", "seed": 0, "split": "validation"}] = 1e4
    errors["validation_errors"].loc[{"training_method": "erm", "seed": 0}] = 1e4
    return cube.assign(errors.where(cube["status"] != "missing"))


CASES = {
    "normal": {},
    "one_seed": {"seeds": 1},
    "two_seeds": {"seeds": 2},
    "two_seeds_decades": {"seeds": 2, "change": decades},
    "some_diverged": {"diverged": {("sam", 0.05): [1], ("sam", 0.2): [0, 1, 2], ("erm", 0.0): [2]}},
    "all_diverged": {"diverged": {("sam", rho): [0, 1, 2] for rho in GRID["sam"]} | {("erm", 0.0): [0, 1, 2]}},
    "everything_diverged": {"diverged": diverging(0, 1, 2)},
    "unknown_truth": {"dataset": make_dataset(truth=False)},
    "one_rho_without_erm": {"grid": {"sam": [0.05]}},
    "only_erm": {"grid": {"erm": [0.0]}},
    "twin": {"dataset": make_dataset(synthetic="twin")},
    "twenty_seeds": {"seeds": 20, "grid": {"erm": [0.0], "sam": [0.05, 0.1]}, "diverged": {("erm", 0.0): [0, 19]}},
    "infinite_errors": {"grid": {"erm": [0.0]}, "change": endless},
    "single_run": {"seeds": 1, "grid": {"sam": [0.05]}},
    "failed": {"change": failing, "diverged": {("sam", 0.05): [1], ("erm", 0.0): [2]}},
    "decades": {"change": decades},
    "one_parameter": {"change": one_parameter},
    "one_parameter_unknown": {"change": one_parameter, "dataset": make_dataset(truth=False)},
    "long_names": {"change": long_names, "diverged": diverging(1)},
    "long_names_diverged": {"change": long_names, "diverged": diverging(0, 1, 2)},
    "long_names_unknown": {"change": long_names, "dataset": make_dataset(truth=False)},
    "all_methods_diverging": {
        "grid": GRID | {"freg": [0.1], "asam": [0.2]},
        "diverged": diverging(1),
    },
    "nine_parameters": {"grid": {"erm": [0.0], "sam": [0.05]}, "change": nine_parameters},
}


def results_of(case: str, folder: Path) -> Results:
    """The files of a task of this case."""
    return make_results(folder, **CASES[case])


def drawn(name: str, results: Results):
    """The table of a figure, and the figure."""
    table = registry.tabulate(name, results)
    return table, registry.FIGURES[name][1](table, results.title)
