"""A trained run to take away: a plain PyTorch module without a member axis, and theta as a PEtab parameter table."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pandas as pd
import torch
import xarray as xr
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from hybridsam.analysis.runs import dtype_of, load_runs, model_of
from hybridsam.core.errors import UserError
from hybridsam.core.methods import BASELINE
from hybridsam.core.records import RUN, origin
from hybridsam.core.scales import STANDARD
from hybridsam.models.hybrid import HybridModel
from hybridsam.models.networks import Network, RunningStatistics
from hybridsam.models.ode import HybridODE
from hybridsam.models.parts import trained_part
from hybridsam.models.samples import Samples


class PlainNetwork(nn.Module):
    """The network g of one run: its parameters under their own names, (sample, ..., in) -> (sample, ..., out)."""

    def __init__(self, network: Network, values: Mapping[str, Tensor]) -> None:
        """values: name -> tensor, of the parameters of ``network`` and its running statistics."""
        super().__init__()
        self.of_members = network
        for name in (*network.shapes, *network.running):
            *parents, own = name.split(".")
            place: nn.Module = self
            for parent in parents:
                if parent not in place._modules:
                    place.add_module(parent, nn.Module())
                place = place.get_submodule(parent)
            if name in network.shapes:
                place.register_parameter(own, nn.Parameter(values[name].clone()))
            else:
                place.register_buffer(own, values[name].clone())

    def forward(self, x: Tensor) -> Tensor:
        """g(x)."""
        return self.of_members(self.of_members.unflatten(self.phi()), x.unsqueeze(0)).squeeze(0)

    def phi(self) -> Tensor:
        """All parameters as one vector of one member, (1, parameter)."""
        return torch.cat([self.get_parameter(name).flatten() for name in self.of_members.shapes]).unsqueeze(0)

    def running(self) -> Tensor:
        """All running statistics as one vector of one member, (1, n)."""
        parts = [self.get_buffer(name).flatten() for name in self.of_members.running]
        return (torch.cat(parts) if parts else torch.empty(0)).unsqueeze(0)


class HybridModule(nn.Module):
    """One trained run of a hybrid model as an ordinary PyTorch module, without a member axis.

    ``module(**inputs)`` is the whole model in the units of the data. The inputs are those of the model's own ``data``,
    each (sample, ...): of a vector field ``states`` (sample, 1, component), the initial ones, and ``times``, the first
    one being that of the initial states; of a law its inputs by their names.

    Parameters
    ----------
    model : HybridModel
    state : mapping of str to Tensor
        As of :meth:`state_dict`; of a run it comes from :func:`to_module`, of a file from ``load_file``.

    Attributes
    ----------
    theta : torch.nn.ParameterDict
        name -> scalar parameter in natural units, as the science function takes it.
    network : torch.nn.Module
        The trained network, from (sample, ..., in) to (sample, ..., out), both in the units in which it works.
    """

    def __init__(self, model: HybridModel, state: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.model = model
        self.theta = nn.ParameterDict({name: state[f"theta.{name}"].clone() for name in model.parameters.names})
        own = {name.removeprefix("network."): values for name, values in state.items() if name.startswith("network.")}
        self.network = PlainNetwork(model.network, own)
        self.mean: Tensor = nn.Buffer(state["mean"].clone())
        self.scale: Tensor = nn.Buffer(state["scale"].clone())
        self.rate: Tensor = nn.Buffer(state.get("rate", torch.tensor(1.0)).clone())  # which older files lack

    def forward(self, times: Sequence[float] = (), **inputs: Tensor) -> Tensor:
        """The whole model.

        Parameters
        ----------
        times : sequence of float, optional
            Of time series; the first one is that of the initial states.
        **inputs : Tensor of shape (sample, ...)

        Returns
        -------
        Tensor of shape (sample, ...)
            In the units of the data; of time series (sample, time - 1, ...).

        Raises
        ------
        UserError
            For an input that is missing.
        """
        return self._predicted(self.model.predict, times, inputs)

    def science(self, times: Sequence[float] = (), **inputs: Tensor) -> Tensor:
        """The science part alone; shapes and units as in :meth:`forward`.

        Parameters
        ----------
        times : sequence of float, optional
        **inputs : Tensor of shape (sample, ...)

        Returns
        -------
        Tensor of shape (sample, ...)
        """
        return self._predicted(self.model.predict_science, times, inputs)

    def g(self, states: Tensor) -> Tensor:
        """What the network adds to the science of a vector field.

        Parameters
        ----------
        states : Tensor of shape (sample, ..., component)

        Returns
        -------
        Tensor of shape (sample, ..., component)
            In the units of the state per unit of time.

        Raises
        ------
        UserError
            Of a model that is no vector field.
        """
        if not isinstance(self.model, HybridODE):
            raise UserError(f"g: {type(self.model).__name__} is no HybridODE; its network is the attribute network")
        layers = self.model.network.unflatten(self.network.phi())
        return self.model.supplied(layers, states.unsqueeze(0), self._samples({}, states.unsqueeze(0))).squeeze(0)

    def _predicted(self, predict: Callable, times: Sequence[float], inputs: Mapping[str, Tensor]) -> Tensor:
        of_one = {name: values.unsqueeze(0) for name, values in inputs.items()}
        # In the place of targets, of which only the number of samples is looked at:
        some = next(iter(of_one.values()), torch.empty(1, 0))
        data = self._samples(of_one, some, times)
        theta = torch.stack([self.theta[name] for name in self.model.parameters.names]).unsqueeze(0)
        try:
            prediction = predict(theta, self.network.phi(), data, RunningStatistics(self.network.running()))
        except KeyError as error:
            raise UserError(f"inputs: {error} is missing; given are {', '.join(inputs) or 'none'}") from error
        return data.in_units(prediction).squeeze(0)

    def _samples(self, inputs: dict[str, Tensor], targets: Tensor, times: Sequence[float] = ()) -> Samples:
        """In the standard units of training."""
        return Samples(inputs, targets, tuple(map(float, times)), self.mean, self.scale, self.rate)


def to_module(model: HybridModel, run: xr.Dataset, dataset: xr.Dataset) -> HybridModule:
    """One trained run as a plain PyTorch module.

    Parameters
    ----------
    model : HybridModel
    run : xarray.Dataset
        One of :func:`hybridsam.fit` or :func:`hybridsam.load_runs`, such as ``runs.sel(training_method="sam",
        rho=0.05, seed=0)``.
    dataset : xarray.Dataset
        The one it was trained on, whose mean and scale a law may need.

    Returns
    -------
    HybridModule

    Raises
    ------
    UserError
        For several runs, and for one that was not completed.
    """
    dtype = dtype_of(run)
    if several := [f"{name} {run[name].values.tolist()}" for name in RUN if name in run.dims]:
        raise UserError(f"run: has several of {', '.join(several)}; select one of each")
    if (status := run["status"].item()) != "completed":
        which = ", ".join(f"{name} {run[name].item()}" for name in RUN)
        raise UserError(f"run: {which}: {status}; only a completed run becomes a module")
    theta, phi, running = (torch.as_tensor(run[name].values).to(dtype) for name in ("theta", "phi", "running"))
    model = trained_part(model, run["training_method"].item())
    network = model.network
    layers = network.unflatten(phi.unsqueeze(0)) | network.unflatten_running(running.unsqueeze(0))
    dataset = dataset.assign({name: run[name].variable for name in STANDARD if name in run})  # those of training
    data = model.data(dataset, "train", dtype, "cpu")
    state = {f"theta.{name}": value for name, value in zip(model.parameters.names, theta, strict=True)}
    state |= {f"network.{name}": values.squeeze(0) for name, values in layers.items()}
    state |= {name: torch.as_tensor(getattr(data, name), dtype=dtype) for name in ("mean", "scale", "rate")}
    return HybridModule(model, state)


def load_module(path: str | Path) -> HybridModule:
    """The module in a file that the workflow exported.

    Parameters
    ----------
    path : str or pathlib.Path

    Returns
    -------
    HybridModule

    Raises
    ------
    UserError
        Naming the file if there is no such module in it.
    """
    try:
        with safe_open(path, framework="pt") as file:
            about = json.loads((file.metadata() or {})["hybridsam"])
            if "reason" in about:
                raise UserError(f"{path}: there is no model: {about['reason']}")
            configuration, method = about["configuration"], about.get("training_method", BASELINE)
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  no mapping
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise UserError(f"{path}: no model that hybridsam exported: {error}") from error
    return HybridModule(trained_part(model_of(configuration), method), state)


def parameter_table(model: HybridModel, runs: xr.Dataset) -> pd.DataFrame:
    """Theta of the best run, and its spread over the completed runs, in the columns of a PEtab parameter table.

    Parameters
    ----------
    model : HybridModel
    runs : xarray.Dataset
        Of one method and rho.

    Returns
    -------
    pandas.DataFrame
        One row a parameter, none of a method that does without the science: ``parameterId``, ``parameterScale`` (lin:
        natural units), ``lowerBound`` and ``upperBound`` (-inf, inf where there is none), ``nominalValue``, that of the
        completed run with the lowest validation error, to which its network belongs (:func:`best_run`), and
        ``estimate`` (1); beside PEtab's columns ``seed``, of that run, ``meanOverSeeds`` and ``spreadOverSeeds``, mean
        and standard deviation of the ``completedRuns`` (the spread is empty for one), ``unit``, and, where the runs
        have them, ``verdict`` and ``sentence``: whether the value may be believed. The spread says how much the initial
        network matters, and is no uncertainty of theta. PEtab's files are separated by tabs.

    Raises
    ------
    UserError
        If no run completed, and for several methods or values of rho.
    """
    if several := [f"{name} {runs[name].values.tolist()}" for name in RUN[:2] if name in runs.dims]:
        raise UserError(f"runs: have several of {', '.join(several)}; select one of each")
    runs = runs if "seed" in runs.dims else runs.expand_dims("seed")
    best, rows = best_run(runs), model.parameters.rows
    completed = runs["theta"].where(runs["status"] == "completed")
    n = int((runs["status"] == "completed").sum())
    return pd.DataFrame(
        {
            "parameterId": model.parameters.names,
            "parameterScale": "lin",
            "lowerBound": [row.lower for row in rows],
            "upperBound": [row.upper for row in rows],
            "nominalValue": best["theta"].values,
            "estimate": 1,
            "seed": best["seed"].item(),
            "meanOverSeeds": completed.mean("seed").values,
            "spreadOverSeeds": completed.std("seed", ddof=1).values if n > 1 else float("nan"),
            "completedRuns": n,
            "unit": model.parameters.units,
        }
        | {name: runs[name].values for name in ("verdict", "sentence") if name in runs}
    ).dropna(subset="nominalValue")


def without_model(reason: str) -> tuple[pd.DataFrame, dict[str, str]]:
    """What stands in the place of :func:`parameter_table` and a module, of a method that was not run for a reason."""
    columns = ["parameterId", "parameterScale", "lowerBound", "upperBound", "nominalValue", "estimate"]
    return pd.DataFrame(columns=columns), {"hybridsam": json.dumps({"reason": reason})}


def selected(cube: xr.Dataset, selection: pd.DataFrame, method: str, rule: str) -> xr.Dataset:
    """The runs of a cube, on its first dataset, at the rho that a rule chose for a method.

    Runs on others are left out, as validation errors are comparable on the same data only. Raises UserError where
    nothing was chosen.
    """
    chosen = selection[(selection["method"] == method) & (selection["rule"] == rule)]
    if chosen.empty:
        known = {name: ", ".join(dict.fromkeys(selection[name])) for name in ("method", "rule")}
        raise UserError(
            f"method {method}, rule {rule}: not selected; there are methods {known['method']}, rules {known['rule']}"
        )
    return cube.sel(training_method=method, rho=chosen["rho"].item()).isel(data=0)


def best_run(runs: xr.Dataset) -> xr.Dataset:
    """Of the completed runs of one method and rho, that with the lowest validation error."""
    errors = runs["y_error"].sel(split="validation").where(runs["status"] == "completed")
    if errors.isnull().all():
        raise UserError(f"runs: none of method {runs['training_method'].item()}, rho {runs['rho'].item():g} completed")
    return runs.isel(seed=int(errors.argmin("seed")))


def selected_module(folder: Path, runs: xr.Dataset, dataset: xr.Dataset) -> tuple[HybridModule, dict[str, str]]:
    """The best of some runs of a cube in ``folder`` as a module, and what it is, for the head of its file."""
    best = best_run(runs)
    own = {name: best[name].item() for name in RUN}
    model, block = load_runs(folder / best["file"].item())
    module = to_module(model, block.sel(own), dataset)
    about = own | {"configuration": json.loads(block.attrs["configuration"]), "data": origin(block)}
    return module, {"hybridsam": json.dumps(about)}  # one entry: several are written in random order
