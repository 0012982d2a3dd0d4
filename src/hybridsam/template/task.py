"""NAME: a population that is also eaten. Replace it by your own model, piece by piece; it runs as it is.

Truth:    dx/dt = r x (1 - x / K) - c x^2 / (1 + x^2)     (only needed where data are simulated)
Science:  f = r x (1 - x / K), theta = r, K;  the network supplies the rest.
"""

from collections.abc import Mapping

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from hybridsam import MLP, HybridODE, Parameters, Solver, simulate_ode

COMPONENTS = {"population": "1"}  # of the state: name -> unit


def simulate(constants: Mapping) -> xr.Dataset:
    """Trajectories of the truth, with noise; constants are the values of `data` in the task file."""
    r, capacity, eaten = constants["r"], constants["K"], constants["c"]

    def field(t: float, x: np.ndarray) -> np.ndarray:
        return r * x * (1 - x / capacity) - eaten * x**2 / (1 + x**2)

    bounds = np.array([constants["initial"]])  # of each component: initial states are drawn between them
    return simulate_ode(field, bounds, COMPONENTS, constants, truth={"r": r, "K": capacity})


def science(theta: dict[str, Tensor], x: Tensor) -> Tensor:
    """What is known: logistic growth. x is (..., component); theta holds a value for each name in the task file."""
    (population,) = x.unbind(-1)
    return torch.stack([theta["r"] * population * (1 - population / theta["K"])], -1)


def build(model: Mapping) -> HybridODE:
    """The hybrid model, dx/dt = f(x; theta) + network(x), from the `model` section of the task file."""
    return HybridODE(
        science,
        Parameters.from_settings(model["theta"]),
        MLP((len(COMPONENTS), *model["hidden"], len(COMPONENTS))),
        Solver.from_settings(model["solver"]),
    )
