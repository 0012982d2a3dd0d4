"""A partial differential equation on a grid: a substance in a stream, without its reaction.

Truth:    c_t = d lap(c) - u c_x - v c_y + r c (1 - c)   (advection, mixing, autocatalysis)
Science:  c_t = d lap(c) - u c_x - v c_y, theta = (u, v), the stream's velocity; d is known.
Taken away: the reaction, of rate r. A convolutional network adds it as a source. What leaves the square
on one side comes back on the other.
"""

import numpy as np
import torch

from hybridsam import ConvNet, HybridODE, Parameters, Solver, simulate_ode, values_of


def transport(c, u, v, d, spacing):
    """Central differences on a periodic grid; c is (..., y, x, 1), the others are numbers or fit beside it."""
    east, west, north, south = (torch.roll(c, by, dim) for dim in (-2, -3) for by in (-1, 1))
    spread = d * (east + west + north + south - 4 * c) / spacing**2
    return spread - (u * (east - west) + v * (north - south)) / (2 * spacing)


def simulate(constants):
    """Fields that begin as noise at every point, which the mixing soon smoothes."""
    u, v, d, r, points, side = (constants[name] for name in ("u", "v", "d", "r", "points", "side"))

    def rate(t, c):
        return transport(torch.from_numpy(c), u, v, d, side / points).numpy() + r * c * (1 - c)

    grid = dict.fromkeys(("y", "x"), np.arange(points) * side / points)
    bounds = np.array([constants["initial"]])
    return simulate_ode(rate, bounds, {"concentration": "1"}, constants, truth={"u": u, "v": v}, grid=grid)


def build(model):
    """The hybrid model from the ``model`` section of the task file."""
    known = values_of(model["constants"])

    def science(theta, c):
        u, v = (theta[name][:, :, None, None, None] for name in ("u", "v"))
        return transport(c, u, v, known["d"], known["side"] / c.shape[-2])

    return HybridODE(
        science,
        Parameters.from_settings(model["theta"]),
        ConvNet((1, *model["channels"], 1)),
        Solver.from_settings(model["solver"]),
    )
