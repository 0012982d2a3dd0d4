"""An additive vector field: prey and predators, without the satiety of the predators.

Truth:    x' = a x (1 - x / c) - b x y / (1 + h x),   y' = e b x y / (1 + h x) - m y   (Rosenzweig & MacArthur 1963)
Science:  the same with h = 0   (Lotka-Volterra with a limit c to the prey), theta = (a, m); b, c and e are known.
Taken away: the handling time h, after which a predator hunts again. The network adds g(x, y) to the rates.
"""

import numpy as np
import torch

from hybridsam import MLP, HybridODE, Parameters, Solver, simulate_ode, values_of

COMPONENTS = {"prey": "1000 animals", "predators": "1000 animals"}


def simulate(constants):
    """Numbers of prey and predators over time."""
    a, m, b, c, e, h = (constants[name] for name in ("a", "m", "b", "c", "e", "h"))

    def rates(t, state):
        x, y = state
        eaten = b * x * y / (1 + h * x)
        return np.array([a * x * (1 - x / c) - eaten, e * eaten - m * y])

    bounds = np.array([constants["initial_prey"], constants["initial_predators"]])
    dataset = simulate_ode(rates, bounds, COMPONENTS, constants, truth={"a": a, "m": m})
    dataset["time"].attrs["units"], dataset["rate_true"].attrs["units"] = "year", "1000 animals year-1"
    return dataset


def build(model):
    """The hybrid model from the ``model`` section of the task file."""
    known = values_of(model["constants"])

    def science(theta, state):
        x, y = state.unbind(-1)
        eaten = known["b"] * x * y
        growth = theta["a"] * x * (1 - x / known["c"])
        return torch.stack([growth - eaten, known["e"] * eaten - theta["m"] * y], -1)

    return HybridODE(
        science,
        Parameters.from_settings(model["theta"]),
        MLP((2, *model["hidden"], 2)),
        Solver.from_settings(model["solver"]),
    )
