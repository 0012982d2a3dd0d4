"""A model whose fitted wholes are known functions: an oscillator that lacks something."""

import numpy as np
import torch
import xarray as xr

from hybridsam.analysis.ensemble import Members
from hybridsam.models.hybrid import Comparison, HybridModel
from hybridsam.models.parameters import Parameter, Parameters
from hybridsam.models.samples import Samples

ASKED = ["small", "straight", {"depends_on": ["velocity"]}, {"depends_on": ["position"]}]
K = Parameter("k", "s-1", 0.5, "softplus", lower=0.0)
LIFT = Parameter("lift", "1", (-1.0, 3.0))


class Known(HybridModel):
    """A model of a state (position, velocity), whose fitted wholes, one a member, and science are functions of it."""

    target = "state"

    def __init__(self, wholes, science, *rows, scale=1.0):
        self.parameters, self.wholes, self.science, self.scale = Parameters(rows), wholes, science, scale

    def data(self, dataset, split, dtype, device):
        x = torch.as_tensor(dataset["state"].values)[None]
        return Samples({"state": x}, x)

    def comparison(self, data):
        def whole(theta, phi, points):
            x = points["state"][0].double()
            return torch.stack([of_member(x) for of_member in self.wholes]) / self.scale

        def science(theta, points):
            return self.science(self.parameters.named(theta), points["state"]) / self.scale

        return Comparison(data.inputs, whole, science)


def states(series=30, times=12, seed=0):
    """Series that are alike but for chance; the velocity is not a function of the position."""
    rng = np.random.default_rng(seed)
    return xr.Dataset(
        {"state": (("sample", "time", "component"), rng.uniform(-2, 2, (series, times, 2)))},
        coords={"component": ["position", "velocity"]},
        attrs={"target": "state"},
    )


def oscillator(theta, x):
    """Only the velocity changes by what is not known; k is a rate."""
    q, p = x.unbind(-1)
    return torch.stack([p, -theta["k"] * torch.sin(q)], -1)


def lifted(theta, x):
    return oscillator(theta, x) + torch.stack([0 * x[..., 0], theta["lift"].unsqueeze(-1) * x[..., 0] ** 2], -1)


def with_missing(missing, k=1.3):
    """The whole that is an oscillator with that rate, and what is missing in its second component."""
    return lambda x: oscillator({"k": torch.tensor(k)}, x) + torch.stack([0 * x[..., 0], missing(x)], -1)


def members(n, n_theta=1, start=None):
    theta = torch.linspace(0.4, 2.0, n).unsqueeze(1).repeat(1, n_theta)
    start = theta.numpy() if start is None else start
    return Members(np.arange(n), theta, start, torch.zeros(n, 0), torch.zeros(n, 0), n)
