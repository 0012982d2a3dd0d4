"""The cube of a task: all its runs on the axes (training_method, rho, data, seed), and their errors."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from hybridsam.core.blocks import canonical
from hybridsam.core.errors import UserError
from hybridsam.core.records import CUBE, OF_TRUTH, RUN, Numbers, is_of_runs, seed_of_data, with_data
from hybridsam.core.scales import STANDARD

METRICS = {  # errors of a run -> what tables and figures call them
    "theta_error": "θ-error",
    "theta_relative_error": "relative θ-error",
    "y_error": "y-error",
    "y_error_over_noise": "y-error over noise",
    "y_error_above_truth": "y-error above that of the true model",
    "validation_error": "validation error",
}
SHOWN = ("theta_error", "y_error")  # the metrics that tables and figures show, and by which methods are compared
PASSED_ON = ("constants", "attribution", "licence")  # attributes from the dataset to the cube
OF_ALL = ("synthetic", "source", "configuration", "units_of_data")  # attributes that all blocks have in common
MADE_BY = ("git_commit", "device", "versions")  # attributes of run files of which the cube lists every value
PERIOD = {"started": min, "ended": max}  # attributes of run files, ISO 8601 in UTC -> the one that the cube has

MISSING = {"status": "missing", "reason": "", "file": ""}  # what stands where no run is; NaN for everything else

WORSE_THAN_MEAN = (
    "completed with an error on test data that is not finite or above the variance of these data, so that their mean "
    "would predict them better"
)

FINAL = ("theta", "y_error", "validation_errors")  # NaN of a run that diverged: where it stopped is no result

THETA_ERROR = "Euclidean distance of theta from the truth"

Arrays = dict[str, np.ndarray]
ThetaMetrics = Callable[[Arrays, dict[str, float]], dict[str, tuple[np.ndarray, str]]]


@dataclass(frozen=True)
class _Part:
    """What the cube keeps of a block of runs: its labels, values (seed, ...) by name, and attributes."""

    method: str
    rho: float
    seeds: Sequence[int]
    values: Mapping[str, np.ndarray]
    attrs: Mapping[str, Any]

    @classmethod
    def of(cls, block: xr.Dataset | Numbers, names: Iterable[str]) -> "_Part":
        [method], [rho], seeds = (np.asarray(block.variables[name]).tolist() for name in RUN)
        values = {name: np.asarray(block.variables[name])[0, 0] for name in names if name in block.variables}
        values["seconds"] = np.full(len(seeds), block.attrs["seconds"] / len(seeds))
        kept = {name: block.attrs[name] for name in (*MADE_BY, *PERIOD) if name in block.attrs}
        return cls(method, rho, seeds, values, kept)


def combine(
    blocks: Iterable[xr.Dataset | Numbers],
    like: xr.Dataset,
    dataset: xr.Dataset,
    theta_metrics: ThetaMetrics | None = None,
) -> xr.Dataset:
    """All blocks of a task on one dataset, as a cube; combinations that were not run have status ``missing``.

    blocks: one after the other; of none is more kept than what goes into the cube, so predictions are not. like: one of
    the blocks, whole, for the units and what all have in common. theta_metrics: see :func:`add_errors`.
    """
    per_run = {str(name): variable for name, variable in like.data_vars.items() if is_of_runs(variable.dims)}
    parts = [_Part.of(block, per_run) for block in blocks]
    ran = {part.method for part in parts if (part.values["status"] != "missing").any()}
    left_out = {part.method: str(part.values["reason"][0]) for part in parts if part.method not in ran}
    if not ran:
        raise UserError("; ".join(f"{method}: {reason}" for method, reason in left_out.items()) + ": nothing was run")
    parts = [part for part in parts if part.method in ran]
    per_run = {name: variable for name, variable in per_run.items() if all(name in part.values for part in parts)}
    axes: dict[str, list] = {
        "training_method": list(dict.fromkeys(part.method for part in parts)),
        "rho": sorted({part.rho for part in parts}),
        "seed": sorted({seed for part in parts for seed in part.seeds}),
    }
    shared = ["parameter", "parameter_units", "parameter_size", "parameter_lower", "parameter_upper", "split", "step"]
    if "validation_errors" in per_run:
        shared.append("validation_sample")
    if "target_scale" in like:
        shared += ["component", "component_units", *STANDARD]
    cube = xr.Dataset(
        {
            name: (variable.dims, _on_axes(parts, axes, name, variable.shape[3:]), variable.attrs)
            for name, variable in per_run.items()
        },
        coords=axes | {name: like[name].variable for name in shared if name in like.variables},
        attrs={name: like.attrs[name] for name in OF_ALL if name in like.attrs}
        | {name: dataset.attrs[name] for name in PASSED_ON if name in dataset.attrs}
        | {"not_run": json.dumps(left_out)}
        | _made_by(parts),
    )
    about = {"long_name": "training time, a run's share of its block's", "units": "s"}
    cube["seconds"] = (RUN, _on_axes(parts, axes, "seconds"), about)
    cube["learning_rate"] = like["learning_rate"]
    samples = [int((dataset["split"] == split).sum()) for split in cube["split"].values]
    cube["samples"] = ("split", samples, {"long_name": "number of samples", "units": "1"})
    about = {
        "long_name": "variance of the data, about the mean of each component",
        "units": cube["y_error"].attrs.get("units", "1"),
    }
    cube["data_variance"] = ("split", [_variance(dataset, split, cube) for split in cube["split"].values], about)
    for name in filter(cube.__contains__, FINAL):
        cube[name] = cube[name].where(cube["status"] == "completed")
    return with_data(add_errors(cube, dataset, theta_metrics), seed_of_data(dataset))


def together(cubes: Sequence[xr.Dataset]) -> xr.Dataset:
    """The cubes of a task on several datasets as one, in the order of the seeds of their data.

    What is not of runs or of each dataset is that of the first. Raises UserError for two datasets with the same seed.
    """
    cubes = sorted(cubes, key=lambda cube: cube["data"].item())
    seeds = [cube["data"].item() for cube in cubes]
    if len(set(seeds)) < len(seeds):
        raise UserError(f"datasets: their seeds, data.seed, are {', '.join(map(str, seeds))}; they must be different")
    how: dict[str, Any] = {"data_vars": "minimal", "coords": "minimal", "compat": "override", "join": "outer"}
    whole = xr.concat(cubes, "data", fill_value=MISSING, combine_attrs="override", **how)
    for name in (f"runs_{name}" for name in MADE_BY):
        values = {text for cube in cubes for text in cube.attrs[name].split(" | ")}
        whole.attrs[name] = " | ".join(sorted(values))
    nowhere = {name: why for name, why in not_run(cubes[0]).items() if all(name in not_run(cube) for cube in cubes)}
    whole.attrs["not_run"] = json.dumps(nowhere)
    for name, choose in PERIOD.items():
        if all(f"runs_{name}" in cube.attrs for cube in cubes):
            whole.attrs[f"runs_{name}"] = choose(cube.attrs[f"runs_{name}"] for cube in cubes)
    return whole


def not_run(cube: xr.Dataset) -> dict[str, str]:
    """The methods that were asked for and make no sense for a task, and why; they have no place on the axes."""
    return json.loads(cube.attrs.get("not_run", "{}"))


def pairs(runs: xr.DataArray) -> xr.DataArray:
    """Of a method and a rho, the axes data and seed as one, ``run``: a run is a dataset and a seed."""
    return runs.stack(run=("data", "seed"))


def _variance(dataset: xr.Dataset, split: str, cube: xr.Dataset) -> float:
    """The variance of the target in a split, about the mean of each component, in the units of the errors."""
    target = dataset[dataset.attrs["target"]].isel(sample=np.flatnonzero(dataset["split"] == split))
    variance = target.var([name for name in target.dims if name not in ("component", "channel")], dtype=float)
    return float((variance / cube["target_scale"] ** 2 if "target_scale" in cube else variance).mean())


def _on_axes(
    parts: Iterable[_Part], axes: Mapping[str, Sequence], name: str, of_a_run: tuple[int, ...] = ()
) -> np.ndarray:
    """Values (run, *of_a_run) of one name from all parts; where there are none, what ``MISSING`` says."""
    position = {axis: {label: i for i, label in enumerate(labels)} for axis, labels in axes.items()}
    missing = MISSING.get(name, np.nan)
    kind = object if isinstance(missing, str) else float
    whole = np.full((*map(len, axes.values()), *of_a_run), missing, dtype=kind)
    for part in parts:
        seeds = [position["seed"][seed] for seed in part.seeds]
        whole[position["training_method"][part.method], position["rho"][part.rho], seeds] = part.values[name]
    return whole


def _made_by(parts: Sequence[_Part]) -> dict[str, str]:
    """What made the runs: every value of ``MADE_BY``, and the time from the first start to the last end."""
    values = {name: sorted({str(part.attrs[name]) for part in parts}) for name in MADE_BY}
    found = {f"runs_{name}": " | ".join(of_all) for name, of_all in values.items()}
    for name, choose in PERIOD.items():
        if all(name in part.attrs for part in parts):  # older versions did not write them
            found[f"runs_{name}"] = choose(part.attrs[name] for part in parts)
    return found


def add_errors(cube: xr.Dataset, dataset: xr.Dataset, theta_metrics: ThetaMetrics | None = None) -> xr.Dataset:
    """Add theta_error, theta_relative_error and those of y against what is true, where the dataset says it.

    theta_error: Euclidean norm of the difference, in natural units. theta_relative_error: mean of |difference / truth|.
    y_error_over_noise: root of y_error over the standard deviation of the measurement noise. y_error_of_truth (split):
    y_error of the true model from the same noisy initial states, which no model avoids; y_error_above_truth: y_error
    less that, which chance may make negative. theta_metrics: of a task
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
        scaled = cube["y_error"] ** 0.5 / _noise(dataset, cube)
        cube["y_error_over_noise"] = scaled.assign_attrs(long_name="RMSE over noise standard deviation", units="1")
    if OF_TRUTH in dataset and dataset.attrs["target"] == "state":
        units = cube["y_error"].attrs.get("units", "1")
        of_truth = _error_of_truth(dataset, cube)
        above = cube["y_error"] - of_truth
        cube["y_error_of_truth"] = of_truth.assign_attrs(long_name="mean squared error of the true model", units=units)
        cube["y_error_above_truth"] = above.assign_attrs(long_name="y_error less that of the true model", units=units)
    return cube


def _error_of_truth(dataset: xr.Dataset, cube: xr.Dataset) -> xr.DataArray:
    """Mean squared error (split,) of the true model from the observed initial states, in the units of the errors."""
    difference = (dataset[OF_TRUTH] - dataset["state"]).isel(time=slice(1, None))  # the first is where models start
    squares = (difference / cube["target_scale"].reset_coords(drop=True) if "target_scale" in cube else difference) ** 2
    of_samples = squares.mean([name for name in squares.dims if name != "sample"])
    errors = [float(of_samples[(dataset["split"] == split).values].mean()) for split in cube["split"].values]
    return xr.DataArray(errors, coords={"split": cube["split"]})


def _noise(dataset: xr.Dataset, cube: xr.Dataset) -> float:
    """Root mean square of the measurement noise, in the units of the errors."""
    over_scale = float((cube["target_scale"] ** -2.0).mean()) if "target_scale" in cube else 1.0
    return dataset.attrs["noise"] * over_scale**0.5


def metrics_of(cube: xr.Dataset) -> list[str]:
    """Names of the errors that a cube holds for each run, those of a task's own last."""
    own = [str(name) for name in cube.data_vars if str(name).startswith("theta_") and cube[name].dims == CUBE]
    return [*[name for name in METRICS if name in cube], *[name for name in own if name not in METRICS]]


def worse_than_mean(cube: xr.Dataset, split: str) -> xr.DataArray:
    """Which runs completed, but predict a split worse than the mean of its data would: on the axes of runs.

    Their error is not finite, or above the variance of the data. A cube of an older version, which does not have that
    variance, tells the first of the two only.
    """
    variance = cube["data_variance"].sel(split=split) if "data_variance" in cube else np.inf
    return (cube["status"] == "completed") & ~(cube["y_error"].sel(split=split, drop=True) <= variance)


def runs_table(cube: xr.Dataset) -> pd.DataFrame:
    """One row a run that was configured: method, rho, data, seed, status, whether it failed, metrics on the test data.

    data: the seed of the dataset. failed: it diverged, or predicts test data worse than their mean would;
    failed_validation: the same of validation data, which is all that a rule of selection may see. See
    :func:`worse_than_mean`.
    """
    diverged = cube["status"] == "diverged"
    columns = {"status": cube["status"]}
    for name, split in {"failed": "test", "failed_validation": "validation"}.items():
        columns[name] = diverged | worse_than_mean(cube, split).drop_vars("split", errors="ignore")
    columns["validation_error"] = cube["y_error"].sel(split="validation", drop=True)
    for name in metrics_of(cube):
        columns[name] = cube[name].sel(split="test", drop=True) if "split" in cube[name].dims else cube[name]
    frames = {name: array.to_series() for name, array in columns.items()}
    table = pd.DataFrame(frames).reset_index().rename(columns={"training_method": "method"})
    table["method"] = pd.Categorical(table["method"], cube["training_method"].values.tolist(), ordered=True)
    return table[table["status"] != "missing"].sort_values(["method", "rho", "data", "seed"], ignore_index=True)


def diverged_in_words(cube: xr.Dataset) -> str:
    """How many runs of a task diverged, and why the first of them did, in words; empty if none did."""
    runs = runs_table(cube)
    diverged = runs[runs["status"] == "diverged"]
    if not len(diverged):
        return ""
    first = diverged.iloc[0]
    which = f"{first['method']}, rho = {canonical(first['rho'])}, seed {first['seed']}"
    which += f", data seed {first['data']}" * (cube.sizes["data"] > 1)
    run = {"training_method": first["method"]} | first[["rho", "data", "seed"]].to_dict()
    why = cube["reason"].sel(run).item() if "reason" in cube else ""
    return f"{len(diverged)} of {len(runs)} runs diverged; {which}{why and f': {why}'}"
