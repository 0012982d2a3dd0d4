"""A network of one's own, any nn.Module: the joint of a robot arm, without its friction.

Truth:    q'' = -k sin q - friction(q'),   friction(p) = sign(p) (c + (s - c) exp(-(p / p0)^2)) + b p   (Stribeck)
Science:  q'' = -k sin q, theta = k: gravity over length.
Taken away: the friction. The network is a module that can only brake: -p times a positive number. A fully connected one
could also push, which no friction does.
"""

import numpy as np
import torch
from torch import nn

from hybridsam import HybridODE, Parameters, Solver, TorchModule, simulate_ode

COMPONENTS = {"angle": "rad", "velocity": "rad s-1"}


def simulate(constants):
    """Angle and velocity of the arm let go."""
    k, c, s, p0, b = (constants[name] for name in ("k", "c", "s", "p0", "b"))

    def rates(t, state):
        q, p = state
        friction = np.tanh(p / 0.05) * (c + (s - c) * np.exp(-((p / p0) ** 2))) + b * p
        return np.array([p, -k * np.sin(q) - friction])

    bounds = np.array([constants["initial_angle"], constants["initial_velocity"]])
    return simulate_ode(rates, bounds, COMPONENTS, constants, truth={"k": k})


class Brake(nn.Module):
    """States (sample, 2) to what friction adds to their rates: nothing to q', a braking to p'. No member axis here."""

    def __init__(self, width):
        super().__init__()
        self.strength = nn.Sequential(nn.Linear(1, width), nn.Tanh(), nn.Linear(width, 1), nn.Softplus())

    def forward(self, x):
        p = x[..., 1:]
        return torch.cat([torch.zeros_like(p), -p * self.strength(p.abs())], -1)


def science(theta, state):
    """The arm without friction; state is (..., 2): angle in rad, velocity in rad/s."""
    q, p = state.unbind(-1)
    return torch.stack([p, -theta["k"] * torch.sin(q)], -1)


def build(model):
    """The hybrid model from the ``model`` section of the task file."""
    parameters, network = Parameters.from_settings(model["theta"]), TorchModule(lambda: Brake(model["width"]))
    return HybridODE(science, parameters, network, Solver.from_settings(model["solver"]))
