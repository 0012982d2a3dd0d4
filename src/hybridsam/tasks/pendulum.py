"""A damped pendulum whose damping the science leaves out (Takeishi 2026; data after Yin et al. 2021).

Truth:    q'' = -omega^2 sin q - xi q'
Science:  f = (p, -omega^2 sin q), theta = omega;  the network supplies the rest.
"""

from collections.abc import Mapping

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from hybridsam import MLP, HybridODE, Parameters, Solver, simulate_ode

COMPONENTS = {"angle": "rad", "angular velocity": "rad s-1"}


def simulate(constants: Mapping) -> xr.Dataset:
    """Trajectories of the damped pendulum."""
    omega, xi = constants["omega"], constants["xi"]

    def field(t: float, x: np.ndarray) -> np.ndarray:
        q, p = x
        return np.array([p, -(omega**2) * np.sin(q) - xi * p])

    bounds = np.array([constants["initial_angle"], constants["initial_velocity"]])
    return simulate_ode(field, bounds, COMPONENTS, constants, truth={"omega": omega}, standardise=False)


def science(theta: dict[str, Tensor], x: Tensor) -> Tensor:
    """The undamped pendulum; x is (..., 2): angle in rad, angular velocity in rad/s."""
    q, p = x.unbind(-1)
    return torch.stack([p, -(theta["omega"] ** 2) * torch.sin(q)], -1)


def build(model: Mapping) -> HybridODE:
    """The hybrid model from the ``model`` section of the task file."""
    return HybridODE(
        science,
        Parameters.from_settings(model["theta"]),
        MLP((2, *model["hidden"], 2)),
        Solver.from_settings(model["solver"]),
        network_scale=1.0,
    )
