"""Six light sensors along a tunnel with two polarisers, measured (Gamella et al. 2025).

Data:     infrared and visible sensors before, between and behind the polarisers, at known brightness of red, green and
          blue, known angles of the polarisers and known auxiliary light beside each sensor.
Science:  linear response of the sensors to the colours, distance, transmission of the first polariser, and Malus' law
          with leakage for both, theta = (S, T_s, T_p, T_c). A network supplies the rest: auxiliary and stray light,
          offsets of the sensors.
"""

import json
from collections.abc import Mapping

import torch
import xarray as xr
from torch import Tensor

from hybridsam import MLP, HybridMap, Parameters, chambers, splits, values_of

EXPERIMENT = "uniform_reference"
COLOURS = ("red", "green", "blue")
KINDS = ("ir", "vis")
SENSORS = tuple(f"{kind}_{place}" for place in (1, 2, 3) for kind in KINDS)
AUXILIARY = tuple(f"l_{place}{lamp}" for place in (1, 2, 3) for lamp in (1, 2))
POLARISERS = ("pol_1", "pol_2")
THETA = tuple(f"{name}_{colour}" for name in ("s_ir", "s_vis", "t_s", "t_p", "t_c") for colour in COLOURS)
SENSITIVITY = tuple(f"{setting}_{sensor}" for setting in ("diode", "t") for sensor in SENSORS)
"""Size of the photodiode and exposure time: each step doubles a reading."""


def sensor_readings(theta: dict[str, Tensor], u: dict[str, Tensor], distances: list[float]) -> Tensor:
    """Readings (member, sample, 6) of the sensors in ``SENSORS``.

    u: ``brightness`` (..., sample, 3) of 255, ``pol_1`` and ``pol_2`` in degrees, ``gain`` (..., sample, 6).
    distances: of the three places from the light source, in any unit.
    """

    def by_colour(name: str) -> Tensor:
        return torch.stack([theta[f"{name}_{colour}"] for colour in COLOURS], -1)

    malus = torch.cos(torch.deg2rad(u["pol_1"] - u["pol_2"])).square().unsqueeze(-1)
    t_s, t_p, t_c = (by_colour(name) for name in ("t_s", "t_p", "t_c"))
    transmitted = [torch.ones_like(t_s), t_s, (t_p - t_c) * malus + t_c]
    arriving = [(distances[0] / d) ** 2 * t * u["brightness"] for d, t in zip(distances, transmitted, strict=True)]
    readings = [(by_colour(f"s_{kind}") * light).sum(-1) for light in arriving for kind in KINDS]
    return torch.stack(readings, -1) * u["gain"]


def convert(archive: chambers.Location, constants: Mapping) -> xr.Dataset:
    """The reference experiment of lt_interventions_standard_v1, split at random."""
    columns = (*COLOURS, *POLARISERS, *AUXILIARY, *SENSITIVITY, *SENSORS)
    table = chambers.read_table(archive / f"{EXPERIMENT}.csv", columns, constants["rows"])
    chosen, split = splits.at_random(len(table), constants)
    table = table.iloc[chosen]
    gain = 2 ** (table[[f"diode_{s}" for s in SENSORS]].to_numpy() + table[[f"t_{s}" for s in SENSORS]].to_numpy())

    def variable(names: tuple[str, ...], dim: str, long_name: str, units: str = "1") -> tuple:
        return ("sample", dim), table[list(names)].to_numpy(), {"long_name": long_name, "units": units}

    angles = {name: ("sample", table[name].to_numpy(), {"long_name": name, "units": "degree"}) for name in POLARISERS}
    return xr.Dataset(
        {
            "reading": variable(SENSORS, "component", "reading of the light sensor", "counts"),
            "brightness": variable(COLOURS, "colour", "brightness setting of the light source, of 255"),
            "auxiliary": variable(AUXILIARY, "lamp", "brightness of the auxiliary lamps, of 255"),
            "gain": (("sample", "component"), gain, {"long_name": "gain by diode size and exposure", "units": "1"}),
            **angles,
        },
        coords={
            "split": ("sample", split),
            "component": list(SENSORS),
            "component_units": ("component", ["counts"] * len(SENSORS)),
            "colour": list(COLOURS),
            "lamp": list(AUXILIARY),
        },
        attrs={"target": "reading", "truth": json.dumps({name: constants[name] for name in THETA})},
    )


def build(model: Mapping) -> HybridMap:
    """The hybrid model from the ``model`` section of the task file."""
    distances = values_of(model["constants"])["distances"]

    def science(theta: dict[str, Tensor], u: dict[str, Tensor]) -> Tensor:
        """Readings of the sensors, (member, sample, 6)."""
        return sensor_readings(theta, u, distances)

    return HybridMap(
        science,
        Parameters.from_settings(model["theta"]),
        MLP((len(SENSORS) + len(COLOURS) + len(AUXILIARY), *model["hidden"], len(SENSORS))),
        target="reading",
        inputs=("brightness", *POLARISERS, "auxiliary", "gain"),
        network_inputs={"brightness": 1 / 255, "auxiliary": 1 / 255},
        standardise=True,
    )
