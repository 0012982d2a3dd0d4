"""Runs with their networks: a run file with the weights beside it, and whether runs are of a model and data."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
import xarray as xr
from safetensors.torch import load_file
from torch import Tensor

from hybridsam.core import modules, records
from hybridsam.core.errors import UserError
from hybridsam.core.records import RUN
from hybridsam.core.settings import typed
from hybridsam.data.units import check_same
from hybridsam.models.check import check_parts
from hybridsam.models.hybrid import HybridModel
from hybridsam.models.parts import trained_part
from hybridsam.training.loop import Training


def load_runs(path: str | Path) -> tuple[HybridModel, xr.Dataset]:
    """A run file of the workflow, with the weights that lie beside it.

    Parameters
    ----------
    path : str or pathlib.Path
        Of the run file.

    Returns
    -------
    model : HybridModel
        That of the file.
    runs : xarray.Dataset
        For :func:`predict`.

    Raises
    ------
    UserError
        Naming the file if it is no run file, or if its weights are missing.
    """
    path = Path(path)
    runs = records.read(path, "runs")
    [method] = runs["training_method"].values.tolist()
    model = trained_part(model_of(json.loads(runs.attrs["configuration"])), method)
    if not (weights := path.with_suffix(".safetensors")).is_file():
        raise UserError(f"{weights}: no such file; the trained weights lie beside the run file")
    return model, with_network(runs, model, load_file(weights))


def model_of(configuration: Mapping) -> HybridModel:
    """The model of a task's settings, as run files hold them in the attribute ``configuration``."""
    return modules.build(configuration)


def checked(runs: xr.Dataset, model: HybridModel, dataset: xr.Dataset) -> xr.Dataset:
    """The runs, on all axes ``RUN``; raises UserError unless they have networks and are of such a model and dataset."""
    dtype_of(runs)
    check_are_of(runs, model, dataset)
    return runs.expand_dims([name for name in RUN if name not in runs.dims])


def training_of(runs: xr.Dataset) -> Training:
    """How runs were trained."""
    configuration = json.loads(runs.attrs["configuration"])
    return typed(Training, configuration.get("training", configuration), "training")


def check_are_of(runs: xr.Dataset, model: HybridModel, dataset: xr.Dataset) -> None:
    """Raise UserError unless runs are of such a model, and the dataset has the variables and units of their data."""
    check_parts(model, dataset)
    if (theirs := runs["parameter"].values.tolist()) != model.parameters.names:
        raise UserError(f"model: theta is {', '.join(model.parameters.names)}; the runs have {', '.join(theirs)}")
    if (weights := runs.sizes["weight"]) != len(model.network):
        raise UserError(f"model: its network has {len(model.network)} parameters; that of the runs has {weights}")
    check_same(json.loads(runs.attrs.get("units_of_data", "{}")), dataset)


def dtype_of(runs: xr.Dataset) -> torch.dtype:
    """The type of numbers in which runs were trained; raises UserError for those of old, or without their networks."""
    if not isinstance(runs, xr.Dataset):
        raise UserError(f"runs: {type(runs).__name__} is no xarray Dataset; allowed are results of hybridsam.fit")
    if "method" in runs.coords:
        raise UserError("runs: the axis method is called training_method now: runs.rename(method='training_method')")
    if "phi" not in runs:
        raise UserError("runs: no variable phi; allowed are results of hybridsam.fit and of hybridsam.load_runs")
    configuration = json.loads(runs.attrs["configuration"])
    return getattr(torch, configuration.get("training", configuration)["dtype"])


def with_network(runs: xr.Dataset, model: HybridModel, weights: Mapping[str, Tensor]) -> xr.Dataset:
    """The runs with ``phi`` (training_method, rho, seed, weight), and the running statistics of BatchNorm."""

    def vector(names: Sequence[str]) -> np.ndarray:
        parts = [weights[f"network.{name}"].flatten(1) for name in names]
        return (torch.cat(parts, 1) if parts else torch.empty(runs.sizes["seed"], 0)).numpy()[None, None]

    phi = (
        (*RUN, "weight"),
        vector(list(model.network.shapes)),
        {"long_name": "phi at the final iterate", "units": "1"},
    )
    about = {"long_name": "running statistics of the network", "units": "1"}
    return runs.assign(phi=phi, running=((*RUN, "statistic"), vector(list(model.network.running)), about))
