"""A network in front of the science: a drug in the blood of patients who clear it at unequal rates.

Truth:    c(t) = dose / v exp(-k t),   k = k0 (weight / 70 kg)^(-1/4) exp(-0.4 (age - 50 years) / 20 years)
Science:  c(t) = dose / v exp(-k0 exp(z) t), theta = (v, k0), the same for all; z = 0 is the usual patient.
Taken away: how weight and age change the rate. The network finds each patient's z from these two.
"""

import json

import numpy as np
import torch
import xarray as xr

from hybridsam import MLP, HybridEncoder, Parameters, splits


def simulate(constants):
    """Concentrations at the same times in all patients, as a time series from the dose on."""
    rng = np.random.default_rng(constants["seed"])
    split = [name for name, n in splits.sizes(constants).items() for _ in range(n)]
    weight, age, dose = (rng.uniform(*constants[name], len(split)) for name in ("weight", "age", "dose"))
    rate = constants["k0"] * (weight / 70) ** -0.25 * np.exp(-0.4 * (age - 50) / 20)
    hours = np.linspace(constants["first"], constants["last"], constants["times"])
    clean = dose[:, None] / constants["v"] * np.exp(-rate[:, None] * hours)
    noisy = clean * (1 + constants["noise"] * rng.standard_normal(clean.shape))
    series, units = ("sample", "time"), {"long_name": "concentration", "units": "mg l-1"}
    patient = np.stack([(weight - 70) / 20, (age - 50) / 20], 1)
    return xr.Dataset(
        {
            "concentration": (series, noisy, units),
            "concentration_true": (series, clean, units),
            "hours": (series, np.tile(hours, (len(split), 1)), {"long_name": "time since the dose", "units": "h"}),
            "dose": ("sample", dose, {"long_name": "dose by weight", "units": "mg kg-1"}),
            "patient": (("sample", "trait"), patient, {"long_name": "weight and age, centred", "units": "1"}),
        },
        coords={"split": ("sample", split), "time": ("time", hours, {"units": "h"}), "trait": ["weight", "age"]},
        attrs={
            "synthetic": "yes",
            "target": "concentration",
            "truth": json.dumps({name: constants[name] for name in ("v", "k0")}),
        },
    )


def science(theta, u):
    """Concentration in mg/l, (member, sample, time)."""
    start, rate = u["dose"] / theta["v"], theta["k0"] * torch.exp(u["log_rate"])
    return start.unsqueeze(-1) * torch.exp(-rate.unsqueeze(-1) * u["hours"])


def build(model):
    """The hybrid model from the ``model`` section of the task file."""
    parameters, network = Parameters.from_settings(model["theta"]), MLP((2, *model["hidden"], 1))
    inputs, network_inputs = ("dose", "hours", "patient"), {"patient": 1.0}
    return HybridEncoder(
        science, parameters, network, "concentration", inputs, network_inputs, True, unmeasured=("log_rate",)
    )
