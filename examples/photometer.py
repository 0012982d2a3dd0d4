"""A network behind the science: light through a solution, seen by a detector that saturates and gets warm.

Truth:    reading = s tanh(f / s) + w (temperature - 20 degrees),   f = exp(-epsilon c l)
Science:  f, the law of Beer and Lambert: the share of light that passes; theta = epsilon; the length l is known.
Taken away: the detector, s and w. The network maps f and the temperature to the reading; without it the reading is f.
"""

import json

import numpy as np
import torch
import xarray as xr

from hybridsam import MLP, HybridMap, Parameters, splits, values_of


def simulate(constants):
    """Readings at random concentrations and temperatures."""
    rng = np.random.default_rng(constants["seed"])
    split = [name for name, n in splits.sizes(constants).items() for _ in range(n)]
    c, temperature = (rng.uniform(*constants[name], (len(split), 1)) for name in ("concentration", "temperature"))
    passing, s = np.exp(-constants["epsilon"] * c * constants["length"]), constants["saturation"]
    clean = s * np.tanh(passing / s) + constants["drift"] * (temperature - 20)
    noisy = clean + constants["noise"] * rng.standard_normal(clean.shape)
    dims, units = ("sample", "component"), {"long_name": "reading of the detector", "units": "1"}
    return xr.Dataset(
        {
            "reading": (dims, noisy, units),
            "reading_true": (dims, clean, units),
            "concentration": (dims, c, {"long_name": "concentration", "units": "mol l-1"}),
            "warmth": (("sample", "sensor"), temperature - 20, {"long_name": "temperature over 20", "units": "degC"}),
        },
        coords={"split": ("sample", split), "component": ["reading"]},
        attrs={"synthetic": "yes", "target": "reading", "truth": json.dumps({"epsilon": constants["epsilon"]})},
    )


def build(model):
    """The hybrid model from the ``model`` section of the task file."""
    length = values_of(model["constants"])["length"]

    def science(theta, u):
        """The share of light that passes, (member, sample, 1)."""
        return torch.exp(-theta["epsilon"].unsqueeze(-1) * u["concentration"] * length)

    parameters, network = Parameters.from_settings(model["theta"]), MLP((2, *model["hidden"], 1))
    inputs, network_inputs = ("concentration", "warmth"), {"warmth": 0.1}
    return HybridMap(science, parameters, network, "reading", inputs, network_inputs, standardise=True)
