"""A Duffing oscillator of which the science knows one stiffness term in form.

Truth:    x'' = -alpha x - beta x^3
Science:  f = (v, -alpha x), theta = alpha ("linear", the default), or f = (v, -beta x^3), theta = beta ("cubic");
          the network supplies the other term. docs/duffing.md says why the choice decides what can be identified.
"""

from collections.abc import Mapping

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from hybridsam import MLP, HybridODE, Parameters, Solver, UserError, simulate_ode

COMPONENTS = {"position": "m", "velocity": "m s-1"}


def simulate(constants: Mapping) -> xr.Dataset:
    """Trajectories of the undamped, unforced oscillator."""
    alpha, beta = constants["alpha"], constants["beta"]

    def field(t: float, state: np.ndarray) -> np.ndarray:
        x, v = state
        return np.array([v, -alpha * x - beta * x**3])

    bounds = np.array([constants["initial_position"], constants["initial_velocity"]])
    return simulate_ode(field, bounds, COMPONENTS, constants, truth={"alpha": alpha, "beta": beta}, standardise=False)


def linear(theta: dict[str, Tensor], state: Tensor) -> Tensor:
    """A linear spring; state is (..., 2): position in m, velocity in m/s."""
    x, v = state.unbind(-1)
    return torch.stack([v, -theta["alpha"] * x], -1)


def cubic(theta: dict[str, Tensor], state: Tensor) -> Tensor:
    """A purely cubic spring; state as in :func:`linear`."""
    x, v = state.unbind(-1)
    return torch.stack([v, -theta["beta"] * x**3], -1)


KNOWN = {"linear": (linear, "alpha"), "cubic": (cubic, "beta")}


def build(model: Mapping) -> HybridODE:
    """The hybrid model from the ``model`` section of the task file."""
    if model["known_term"] not in KNOWN:
        raise UserError(f"model.known_term: {model['known_term']!r} is not one of {', '.join(KNOWN)}")
    science, name = KNOWN[model["known_term"]]
    return HybridODE(
        science,
        Parameters.from_settings({name: model["theta"][name]}),
        MLP((2, *model["hidden"], 2)),
        Solver.from_settings(model["solver"]),
        network_scale=1.0,
    )
