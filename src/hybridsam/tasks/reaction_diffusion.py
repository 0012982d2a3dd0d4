"""Two reacting and diffusing substances; the science knows the diffusion (Takeishi 2026; data after Yin et al. 2021).

Truth:    du/dt = a lap(u) + u - u^3 - k - v,   dv/dt = b lap(v) + u - v   (FitzHugh-Nagumo)
Science:  f = (a lap(u), b lap(v)), theta = (a, b);  a convolutional network supplies the reaction.

Nothing flows through the edges of the square: in data and science an outermost value stands beyond the edge as well, as
in deepgreybox (Takeishi & Kalousis 2023). There the network's convolutions are padded so, too (replicate); here they
see zeros beyond the edge.
"""

from collections.abc import Mapping
from math import isclose

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from hybridsam import ConvNet, HybridODE, Network, Parameters, Samples, Solver, UserError, simulate_ode

COMPONENTS = {"u": "1", "v": "1"}


def laplacian(x: Tensor, spacing: float) -> Tensor:
    """Five-point stencil with no flux through the edges; x (..., y, x, component) on a grid of that spacing in m.

    The edge lies half a spacing beyond the outermost points, so a point outside equals its neighbour inside.
    """
    total = torch.zeros_like(x)
    for dim in (-3, -2):
        first, last = x.narrow(dim, 0, 1), x.narrow(dim, -1, 1)
        total = total + torch.diff(x, n=2, dim=dim, prepend=first, append=last)
    return total / spacing**2


def simulate(constants: Mapping) -> xr.Dataset:
    """Fields on a square grid from initial values drawn independently at every point."""
    points, side = constants["points"], constants["side"]
    a, b, k = (constants[name] for name in ("a", "b", "k"))
    diffusion = np.array([a, b])

    def field(t: float, state: np.ndarray) -> np.ndarray:
        u, v = state[..., 0], state[..., 1]
        reaction = np.stack([u - u**3 - k - v, u - v], -1)
        return diffusion * laplacian(torch.from_numpy(state), side / (points - 1)).numpy() + reaction

    grid = dict.fromkeys(("y", "x"), np.linspace(-side / 2, side / 2, points))
    bounds = np.array([constants["initial_value"]] * 2)
    return simulate_ode(field, bounds, COMPONENTS, constants, truth={"a": a, "b": b}, grid=grid, standardise=False)


class Diffusion(HybridODE):
    """Diffusion on a square of which ``side`` is the distance between the outermost points of the grid, in m."""

    def __init__(self, side: float, parameters: Parameters, network: Network, solver: Solver) -> None:
        super().__init__(self.diffusion, parameters, network, solver, network_scale=1.0)
        self.side = side

    def diffusion(self, theta: dict[str, Tensor], state: Tensor) -> Tensor:
        """state is (member, sample, y, x, 2)."""
        coefficients = torch.stack([theta["a"], theta["b"]], -1)[:, :, None, None]
        return coefficients * laplacian(state, self.side / (state.shape[-2] - 1))

    def data(self, dataset: xr.Dataset, split: str, dtype: torch.dtype = torch.float32, device: str = "cpu") -> Samples:
        """Trajectories on a grid of this side; on another theta would mean something else, hence UserError."""
        found = float(dataset["x"][-1] - dataset["x"][0])
        if not isclose(found, self.side):
            raise UserError(f"model.side: {self.side} m, but the grid of the data has a side of {found} m (data.side)")
        return super().data(dataset, split, dtype, device)


def build(model: Mapping) -> Diffusion:
    """The hybrid model from the ``model`` section of the task file."""
    return Diffusion(
        model["side"],
        Parameters.from_settings(model["theta"]),
        ConvNet((2, *model["channels"], 2)),
        Solver.from_settings(model["solver"]),
    )
