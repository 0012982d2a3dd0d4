"""Hybrid models in Python, without Snakemake: train and compare, predict."""

import json
import logging
import reprlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from itertools import pairwise

import numpy as np
import torch
import xarray as xr
from tqdm import tqdm

from hybridsam.analysis.arrival import remarks, ways
from hybridsam.analysis.cube import combine
from hybridsam.analysis.refitting import by_assumption, of_kind
from hybridsam.analysis.runs import checked, dtype_of, with_network
from hybridsam.analysis.trust import identify
from hybridsam.core.blocks import Block
from hybridsam.core.errors import UserError
from hybridsam.core.methods import BASELINE, get_method
from hybridsam.core.provenance import git_commit, versions
from hybridsam.core.records import RUN
from hybridsam.core.scales import STANDARD
from hybridsam.core.settings import typed
from hybridsam.models.check import check_parts
from hybridsam.models.hybrid import HybridModel
from hybridsam.models.networks import RunningStatistics
from hybridsam.models.parts import trained_part
from hybridsam.models.samples import Samples
from hybridsam.training.block import train_block
from hybridsam.training.ensemble import FEWEST
from hybridsam.training.loop import State, Training
from hybridsam.training.warm import Held

logger = logging.getLogger(__name__)

DEFAULT_METHODS = {"erm": (0.0,), "fsam": (0.02, 0.05, 0.1)}
PREDICTIONS = {"prediction": "prediction of the whole model", "prediction_science": "science part alone"}
TRAINING = {
    "iterations": 2000,
    "learning_rate": 1e-3,
    "learning_rate_final": 1e-5,
    "theta_rate_factor": 10.0,
    "clip_norm": 10.0,
    "perturb": "network",
    "record_every": 50,
    "diverged_after": 20,
    "dtype": "float32",
}


def fit(
    model: HybridModel,
    dataset: xr.Dataset,
    methods: Mapping[str, Sequence[float]] = DEFAULT_METHODS,
    seeds: int | Sequence[int] = 5,
    device: str = "auto",
    progress: bool = True,
    **training: float | str | bool,
) -> xr.Dataset:
    """Train a model by every method, rho and seed, as the workflow does, and put all runs on labelled axes.

    Parameters
    ----------
    model : HybridModel
        Such as a :class:`HybridODE`.
    dataset : xarray.Dataset
        Of :func:`dataset_of`, :func:`simulate_ode` or a file dataset.nc.
    methods : mapping of str to sequence of float, optional
        method -> values of rho, weights of the penalty (l2reg, freg) or radii of the perturbation (sam, asam, fsam);
        erm has the one rho 0.
    seeds : int or sequence of int, optional
        How many, or which.
    device : str, optional
        ``auto`` takes a GPU when there is one.
    progress : bool, optional
        Whether a bar shows how far it is.
    **training : float or str or bool
        Changes to ``TRAINING``, by the keys that config/README.md explains.

    Returns
    -------
    xarray.Dataset
        On the axes (training_method, rho, seed): ``theta`` (..., parameter) in natural units, how far it moved
        (``theta_moved``, ``theta_moved_late``, ``theta_drift``), ``y_error`` (..., split), the same of each
        validation sample (``validation_errors``), ``theta_error`` where the truth is known, ``status`` (completed,
        diverged, or missing where a method was not run at a rho), histories on ``step``, and the trained network,
        ``phi`` (..., weight), for :func:`predict`. Write it with ``to_netcdf``. A theta that has not arrived, or has
        hardly left its start, is named in the log. From three runs of erm on, ``verdict`` and ``sentence`` of each
        parameter say whether theta may be believed, as :func:`identify` finds it; let theta start at different places
        for that, ``start=(0.5, 2.0)``.

    Raises
    ------
    UserError
        In one line, for a model, data or settings that make no sense.
    """
    how = typed(Training, TRAINING | training, "training")
    check_parts(model, dataset)
    study = _study(methods, seeds)
    made_by = {"git_commit": git_commit(), "versions": json.dumps(versions())}
    made_by |= {"configuration": json.dumps(asdict(how)), "configuration_hash": ""}
    trained: list[xr.Dataset] = []
    with tqdm(total=len(study) * how.iterations, disable=not progress, unit="step") as bar:
        for block in study:
            bar.set_description(str(block))
            done = bar.n
            held = _held(model, block, trained, dataset)

            def advance(state: State, done: int = done) -> None:
                bar.update(done + state.step - bar.n)

            runs, weights = train_block(model, how, dataset, block, device, each_step=advance, held=held)
            trained.append(with_network(runs.assign_attrs(made_by), model, weights))
            bar.update(done + how.iterations - bar.n)  # also where all runs diverged
    runs = combine(trained, trained[0], dataset).isel(data=0, drop=True)
    for remark in remarks(ways(runs)):
        logger.warning(remark)
    return runs.assign(_believed(model, runs, dataset))


def _held(model: HybridModel, block: Block, trained: Sequence[xr.Dataset], dataset: xr.Dataset) -> Held | None:
    """Where theta stays, by the runs of erm among those that are trained; None for methods that train it."""
    if not (method := get_method(block.method)).holds:
        return None
    of_erm = next((runs for runs in trained if runs["training_method"].item() == BASELINE), None)
    if of_erm is None or not method.assumes:
        what = (
            f"erm, whose runs {method.name} begins from, comes before it" if method.assumes else "see hybridsam.refit"
        )
        raise UserError(f"methods: {method.name}: {what}")
    return by_assumption(model, of_erm, dataset, of_kind(method.assumes))


def _believed(model: HybridModel, runs: xr.Dataset, dataset: xr.Dataset) -> dict[str, xr.DataArray]:
    """Verdict and sentence of each parameter; nothing without erm, or if whatever goes wrong: the runs are trained."""
    if BASELINE not in runs["training_method"] or runs.sizes["seed"] < FEWEST:
        return {}
    try:
        found = identify(model, runs, dataset)
    except Exception as error:
        logger.warning(f"no verdict on theta: {error}")
        return {}
    return {name: found[name].reset_coords(drop=True) for name in ("verdict", "sentence")}


def _study(methods: Mapping[str, Sequence[float]], seeds: int | Sequence[int]) -> list[Block]:
    """All blocks; raises UserError for methods and seeds that make none."""
    if not isinstance(methods, Mapping) or not all(isinstance(rhos, Iterable) for rhos in methods.values()):
        raise UserError(f"methods: {methods!r} is not a mapping such as {{'erm': [0], 'sam': [0.05]}}")
    if isinstance(seeds, str) or not isinstance(seeds, Iterable | int):
        raise UserError(f"seeds: {seeds!r} is not how many, or a list of numbers")
    numbers = tuple(range(seeds) if isinstance(seeds, int) else seeds)
    study = [Block(get_method(method).name, rho, numbers) for method, rhos in methods.items() for rho in rhos]
    if not study:
        raise UserError(f"methods: {methods!r} has no rho; allowed is a mapping such as {{'erm': [0], 'sam': [0.05]}}")
    return study


@torch.no_grad()
def predict(
    model: HybridModel,
    runs: xr.Dataset,
    dataset: xr.Dataset,
    split: str = "test",
    times: Sequence[float] | None = None,
) -> xr.Dataset:
    """What trained runs predict for the samples of one split of a dataset.

    A network that normalises over the samples (:class:`ConvNet`) sees all of the split at once.

    Parameters
    ----------
    model : HybridModel
    runs : xarray.Dataset
        Of :func:`fit` or :func:`load_runs`, or a selection of them, such as ``runs.sel(training_method="fsam",
        rho=0.05)``.
    dataset : xarray.Dataset
        The one they were trained on, or another with the same variables and units.
    split : str, optional
        ``train``, ``validation`` or ``test``.
    times : sequence of float, optional
        Of time series, at which to predict, the first one being that of the initial state; they may go beyond those of
        training. Left out, those of the dataset.

    Returns
    -------
    xarray.Dataset
        ``prediction``, of the whole model, and ``prediction_science``, of the science alone, on the axes of the runs,
        then ``sample`` and those of the target, in its units; NaN for runs that are missing or diverged, and for the
        science part of a black box.

    Raises
    ------
    UserError
        For runs without their networks, or of another model, a dataset in other units than that of training, a split
        without samples, times that do not increase, and times of a model that has none.
    """
    stacked = checked(runs, model, dataset)[["theta", "phi", "running"]]
    dataset = dataset.assign({name: runs[name].variable for name in STANDARD if name in runs})  # those of training
    data = model.data(dataset, split, dtype_of(runs), "cpu")
    if times is not None:
        data = replace(data, times=_checked_times(times, data))
    if "status" in runs:
        stacked["phi"] = stacked["phi"].where(runs["status"] == "completed")
    of_methods = [_predicted(model, stacked.sel(training_method=[name]), data) for name in stacked[RUN[0]].values]
    target = dataset[model.target]
    dims = [*RUN, "sample", *map(str, target.dims[1:])]
    units = target.attrs.get("units", "1")
    predictions = xr.Dataset(
        {
            name: (dims, np.concatenate([of[name] for of in of_methods]), {"long_name": meaning, "units": units})
            for name, meaning in PREDICTIONS.items()
        },
        coords={name: stacked[name] for name in RUN} | {"sample": np.flatnonzero(dataset["split"].values == split)},
    )
    if data.times:
        times = data.times[-predictions.sizes["time"] :]  # a vector field leaves out the first, an image model does not
        predictions = predictions.assign_coords(time=("time", np.array(times), dataset["time"].attrs))
    own = {name: target[name] for name in target.coords if set(target[name].dims) <= set(dims[4:]) - {"time"}}
    return predictions.assign_coords(own).squeeze([name for name in RUN if name not in runs.dims])


def _predicted(model: HybridModel, runs: xr.Dataset, data: Samples) -> dict[str, np.ndarray]:
    """What the runs of one method predict, by the part that it trains, on the axes ``RUN`` and those of predictions."""
    method = runs["training_method"].item()
    part = trained_part(model, method)
    arrays = [torch.as_tensor(runs[name].transpose(*RUN, ...).values).flatten(0, 2) for name in runs.data_vars]
    theta, phi, running = (values.to(data.targets.dtype) for values in arrays)
    found = (predict(theta, phi, data, RunningStatistics(running)) for predict in (part.predict, part.predict_science))
    shape = [runs.sizes[name] for name in RUN]
    lost = phi.isnan().any(1)  # by a science alone, its run would predict all the same
    values = [
        data.in_units(of_each.masked_fill(lost.view(-1, *[1] * (of_each.ndim - 1)), torch.nan)) for of_each in found
    ]
    if get_method(method).lacks == "science":
        values[1] = torch.full_like(values[1], torch.nan)
    return {name: of.unflatten(0, shape).numpy() for name, of in zip(PREDICTIONS, values, strict=True)}


def _checked_times(times: Sequence[float], data: Samples) -> tuple[float, ...]:
    if not data.times:
        raise UserError("times: only a model of time series has them")
    try:
        found = tuple(map(float, times))
    except (TypeError, ValueError):
        raise UserError(f"times: {times!r} are not numbers") from None
    if len(found) < 2 or not all(start < end for start, end in pairwise(found)):
        raise UserError(f"times: {reprlib.repr(list(found))} are not two or more numbers that increase")
    return found
