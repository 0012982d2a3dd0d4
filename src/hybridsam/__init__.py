"""Hybrid models of science and neural networks, trained by sharpness-aware minimization.

A hybrid model joins a scientific model f with few, meaningful parameters theta and a neural network g with parameters
phi that supplies what the science leaves out. Trained naively, the network is so flexible that it fits the data
whatever theta is. Sharpness-aware minimization that perturbs phi alone keeps it simple, so that theta can be found.

    import numpy as np
    import torch

    import hybridsam as hs

    def truth(t, x):                            # a pendulum with friction: angle, velocity
        return np.array([x[1], -1.1 * np.sin(x[0]) - 0.2 * x[1]])

    def science(theta, x):                      # frictionless; x (..., component), theta["k"] broadcasts over it
        angle, velocity = x.unbind(-1)
        return torch.stack([velocity, -theta["k"] * torch.sin(angle)], -1)

    constants = {"dt": 0.05, "subsample": 5, "steps": 20, "noise": 0.02, "seed": 0}
    constants |= {"train": 50, "validation": 10, "test": 10}
    starts, units = np.array([[-1.5, 1.5], [-1.5, 1.5]]), {"angle": "rad", "velocity": "rad s-1"}
    dataset = hs.simulate_ode(truth, starts, units, constants, {"k": 1.1})

    theta = hs.Parameters([hs.Parameter("k", unit="s-2", start=0.5)])
    model = hs.HybridODE(science, theta, hs.MLP((2, 32, 32, 2)), hs.Solver(method="rk4", step=0.25))
    runs = hs.fit(model, dataset, methods={"erm": [0], "fsam": [0.1, 0.3]}, seeds=3)
    runs["theta"].mean("seed")                  # an xarray Dataset on (training_method, rho, seed)
    fsam = runs.sel(training_method="fsam", rho=0.3)
    hs.predict(model, fsam, dataset, times=range(100))
    hs.parameter_table(model, fsam)             # theta of the best run, in the format of PEtab
    hs.to_module(model, fsam.sel(seed=0), dataset)    # one run as a plain nn.Module, without a member axis

Data of your own become a dataset by :func:`dataset_of`. The workflow (`snakemake`) does the same for whole studies, and
selects rho on validation data.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # what PUBLIC says, for type checkers and editors
    from hybridsam.analysis.profiles import profile as profile
    from hybridsam.analysis.refitting import refit as refit
    from hybridsam.analysis.runs import load_runs as load_runs
    from hybridsam.analysis.trust import identify as identify
    from hybridsam.api import fit as fit
    from hybridsam.api import predict as predict
    from hybridsam.core.errors import UserError as UserError
    from hybridsam.core.settings import values_of as values_of
    from hybridsam.data import chambers as chambers
    from hybridsam.data import splits as splits
    from hybridsam.data.simulate import simulate_ode as simulate_ode
    from hybridsam.data.table import dataset_of as dataset_of
    from hybridsam.export import HybridModule as HybridModule
    from hybridsam.export import load_module as load_module
    from hybridsam.export import parameter_table as parameter_table
    from hybridsam.export import to_module as to_module
    from hybridsam.models import samples as samples
    from hybridsam.models.convolutions import ConvNet as ConvNet
    from hybridsam.models.convolutions import Decoder as Decoder
    from hybridsam.models.convolutions import UNet as UNet
    from hybridsam.models.hybrid import HybridModel as HybridModel
    from hybridsam.models.law import HybridEncoder as HybridEncoder
    from hybridsam.models.law import HybridMap as HybridMap
    from hybridsam.models.law import HybridSum as HybridSum
    from hybridsam.models.networks import MLP as MLP
    from hybridsam.models.networks import Network as Network
    from hybridsam.models.networks import Networks as Networks
    from hybridsam.models.networks import RunningStatistics as RunningStatistics
    from hybridsam.models.ode import HybridODE as HybridODE
    from hybridsam.models.parameters import Parameter as Parameter
    from hybridsam.models.parameters import Parameters as Parameters
    from hybridsam.models.samples import Samples as Samples
    from hybridsam.models.solver import Solver as Solver
    from hybridsam.models.torch_module import TorchModule as TorchModule

__version__ = "0.1.0"

PUBLIC = {  # name -> module; imported when asked for: the command line, and each of its jobs, needs few of them
    "fit": "api",
    "identify": "analysis.trust",
    "load_runs": "analysis.runs",
    "profile": "analysis.profiles",
    "predict": "api",
    "refit": "analysis.refitting",
    "HybridModule": "export",
    "load_module": "export",
    "parameter_table": "export",
    "to_module": "export",
    "HybridEncoder": "models.law",
    "HybridMap": "models.law",
    "HybridModel": "models.hybrid",
    "HybridODE": "models.ode",
    "HybridSum": "models.law",
    "ConvNet": "models.convolutions",
    "Decoder": "models.convolutions",
    "MLP": "models.networks",
    "Network": "models.networks",
    "Networks": "models.networks",
    "RunningStatistics": "models.networks",
    "UNet": "models.convolutions",
    "Parameter": "models.parameters",
    "Parameters": "models.parameters",
    "Samples": "models.samples",
    "samples": "models.samples",
    "Solver": "models.solver",
    "TorchModule": "models.torch_module",
    "chambers": "data.chambers",
    "simulate_ode": "data.simulate",
    "splits": "data.splits",
    "dataset_of": "data.table",
    "UserError": "core.errors",
    "values_of": "core.settings",
}
__all__ = list(PUBLIC)


def __getattr__(name: str) -> Any:
    if name not in PUBLIC:
        raise AttributeError(f"module 'hybridsam' has no attribute {name!r}")
    module = import_module(f"hybridsam.{PUBLIC[name]}")
    return module if PUBLIC[name].endswith(f".{name}") else getattr(module, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *PUBLIC})
