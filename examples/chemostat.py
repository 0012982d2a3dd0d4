"""A multiplicative closure: microbes in a chemostat, without the harm that much food does to them.

Truth:    growth = mu s / (k + s + s^2 / i) x   (Haldane);   s' = d (s_in - s) - growth / yield,   x' = growth - d x
Science:  growth = mu s / (k + s) x   (Monod), theta = (mu, k); d, s_in and the yield are known.
Taken away: inhibition by the substrate, i. The network corrects the growth by a factor, exp(g(s, x)), so that matter is
conserved whatever it learns; g = 0 is the science.
"""

import numpy as np
import torch

from hybridsam import MLP, HybridODE, Parameters, Solver, simulate_ode, values_of


def simulate(constants):
    """Substrate and biomass over time."""
    mu, k, i, d, s_in, made = (constants[name] for name in ("mu", "k", "i", "d", "s_in", "yield"))

    def rates(t, state):
        s, x = state
        growth = mu * s / (k + s + s**2 / i) * x
        return np.array([d * (s_in - s) - growth / made, growth - d * x])

    bounds = np.array([constants["initial_substrate"], constants["initial_biomass"]])
    dataset = simulate_ode(rates, bounds, {"substrate": "g l-1", "biomass": "g l-1"}, constants, {"mu": mu, "k": k})
    dataset["time"].attrs["units"], dataset["rate_true"].attrs["units"] = "h", "g l-1 h-1"
    return dataset


class Chemostat(HybridODE):
    """known: the dilution rate d, the substrate s_in that flows in, the yield."""

    def __init__(self, known, parameters, network, solver):
        super().__init__(self.monod, parameters, network, solver)
        self.known = known

    def monod(self, theta, x):
        """The science: the rates without a correction."""
        return self.field(theta, x, torch.zeros_like(x[..., :1]))

    def field(self, theta, x, g):
        """The rates, from the state and what the network makes of it, (member, sample, 1)."""
        s, biomass = x.unbind(-1)
        inflow, outflow = self.known["d"] * (self.known["s_in"] - s), self.known["d"] * biomass
        growth = theta["mu"] * s / (theta["k"] + s) * biomass * torch.exp(g[..., 0])
        return torch.stack([inflow - growth / self.known["yield"], growth - outflow], -1)


def build(model):
    """The hybrid model from the ``model`` section of the task file."""
    known, parameters = values_of(model["constants"]), Parameters.from_settings(model["theta"])
    solver = Solver.from_settings(model["solver"])
    return Chemostat(known, parameters, MLP((2, *model["hidden"], 1)), solver)
