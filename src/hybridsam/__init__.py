"""Hybrid models of science and neural networks, trained by sharpness-aware minimization.

A hybrid model joins a scientific model f with few, meaningful parameters theta and a neural network g with parameters
phi that supplies what the science leaves out. Trained naively, the network is so flexible that it fits the data
whatever theta is. Sharpness-aware minimization that perturbs phi alone keeps it simple, so that theta can be found.

    import hybridsam as hs

    def science(theta, x):                      # x (..., component), theta["r"] broadcasts over it
        (population,) = x.unbind(-1)
        return (theta["r"] * population).unsqueeze(-1)

    theta = hs.Parameters([hs.Parameter("r", unit="s-1", start=0.5)])
    model = hs.HybridODE(science, theta, hs.MLP((1, 64, 64, 1)), hs.Solver(method="rk4", step=0.25))
    runs = hs.fit(model, dataset, methods={"erm": [0], "fsam": [0.02, 0.05]}, seeds=3)
    runs["theta"].mean("seed")                  # an xarray Dataset on (method, rho, seed)
    fsam = runs.sel({"method": "fsam", "rho": 0.05})
    hs.predict(model, fsam, dataset, times=range(100))
    hs.parameter_table(model, fsam)             # theta with its spread, in the format of PEtab
    hs.to_module(model, fsam.sel(seed=0), dataset)    # one run as a plain nn.Module, without a member axis

The workflow (`snakemake`) does the same for whole studies, and selects strengths on validation data.
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_HOMES = {  # imported when asked for: the command line, and each of its jobs, needs few of them
    "fit": "api",
    "predict": "api",
    "load_runs": "api",
    "to_module": "export",
    "load_module": "export",
    "parameter_table": "export",
    "HybridModule": "export",
    "dataset_of": "data.table",
    "simulate_ode": "data.simulate",
    "HybridODE": "models.hybrid",
    "HybridMap": "models.hybrid",
    "HybridSum": "models.hybrid",
    "HybridEncoder": "models.hybrid",
    "Parameter": "models.parameters",
    "Parameters": "models.parameters",
    "MLP": "models.networks",
    "ConvNet": "models.networks",
    "TorchModule": "models.torch_module",
    "Solver": "models.solver",
    "UserError": "core.errors",
}
__all__ = list(_HOMES)


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"hybridsam.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'hybridsam' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
