"""A static law and what it leaves out: the pressure of a gas, without the attraction and the size of its molecules.

Truth:    p = n R T / (V - n b) - a n^2 / V^2   (van der Waals)
Science:  p = n R T / V, the ideal gas; theta = n, how much gas there is.
Taken away: a and b. The network adds g(T, V) to the pressure.
"""

import json

import numpy as np
import xarray as xr

from hybridsam import MLP, HybridSum, Parameters, splits

R = 0.08314  # l bar mol-1 K-1


def simulate(constants):
    """Pressures at random temperatures and volumes."""
    rng = np.random.default_rng(constants["seed"])
    split = [name for name, n in splits.sizes(constants).items() for _ in range(n)]
    t, v = (rng.uniform(*constants[name], (len(split), 1)) for name in ("temperature", "volume"))
    n, a, b = (constants[name] for name in ("n", "a", "b"))
    clean = n * R * t / (v - n * b) - a * n**2 / v**2
    noisy = clean + constants["noise"] * rng.standard_normal(clean.shape)
    dims, units = ("sample", "component"), {"long_name": "pressure", "units": "bar"}
    return xr.Dataset(
        {
            "pressure": (dims, noisy, units),
            "pressure_true": (dims, clean, units),
            "temperature": (dims, t, {"long_name": "temperature", "units": "K"}),
            "volume": (dims, v, {"long_name": "volume", "units": "l"}),
        },
        coords={"split": ("sample", split), "component": ["pressure"]},
        attrs={"synthetic": "yes", "target": "pressure", "truth": json.dumps({"n": n})},
    )


def ideal_gas(theta, u):
    """Pressure in bar, (member, sample, 1)."""
    return theta["n"].unsqueeze(-1) * R * u["temperature"] / u["volume"]


def build(model):
    """The hybrid model from the ``model`` section of the task file."""
    network_inputs = {"temperature": 1 / 300, "volume": 1.0}
    network = MLP((2, *model["hidden"], 1))
    parameters = Parameters.from_settings(model["theta"])
    return HybridSum(
        ideal_gas, parameters, network, "pressure", tuple(network_inputs), network_inputs, standardise=True
    )
