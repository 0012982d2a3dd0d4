"""Pressure in a wind tunnel with two fans, measured (Takeishi 2026; chamber and laws: Gamella et al. 2025, A1 and C2).

Data:     windows of the pressure behind the fans over the ambient one, at known loads of both fans and a hatch.
Science:  the fans' steady speeds (A1) and the pressure that they make (C2), theta = r;  what it leaves out: the fans'
          inertia, their coupling through the air, the hatch. A network supplies that from all inputs of the window.

r and the largest pressure S_max appear as a product only, so S_max is fixed.
"""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from hybridsam import MLP, HybridMap, Parameters, Samples, UserError, chambers, splits, values_of

EXPERIMENT = "loads_hatch_mix_fast_run_{}"
INPUTS = {"load_in": "1", "load_out": "1", "hatch": "degree"}
PRESSURES = ("pressure_downwind", "pressure_ambient")


def fan_speed(load: Tensor, least_load: float, omega_max: float) -> Tensor:
    """Model A1: the steady speed of a fan at a load in [0, 1], in the unit of omega_max; a fan without load stands."""
    return torch.where(load == 0, 0.0, load.clamp(min=least_load) * omega_max)


def pressure_over_ambient(omega_in: Tensor, omega_out: Tensor, r: Tensor, s_max: float, omega_max: float) -> Tensor:
    """Model C2 in closed form: pressure in the unit of s_max from the two fans' speeds.

    The published form is the same function, but 0/0 at r = 1 and with infinite slopes where a fan stands.
    """
    return s_max * (1 - r) * ((omega_in / omega_max) ** 2 - (omega_out / omega_max) ** 2)


def convert(archive: chambers.Location, constants: Mapping) -> xr.Dataset:
    """Windows of the five fast runs of wt_walks_v1, split at random or by run."""
    length, stride, rows = (constants[name] for name in ("window", "stride", "rows"))
    if not 1 <= length <= rows:
        raise UserError(f"data.window: {length} is not a number of rows from 1 to those of a run, {rows}")
    if stride < 1:
        raise UserError(f"data.stride: {stride} is not a number of rows, at least 1")
    windows: dict[str, list[np.ndarray]] = {name: [] for name in (*INPUTS, "pressure")}
    numbers: list[int] = []
    for run in range(1, constants["runs"] + 1):
        table = chambers.read_table(archive / f"{EXPERIMENT.format(run)}.csv", (*INPUTS, *PRESSURES), rows)
        table["pressure"] = table["pressure_downwind"] - table["pressure_ambient"]
        for name, found in windows.items():
            found.append(np.lib.stride_tricks.sliding_window_view(table[name].to_numpy(), length)[::stride])
        numbers += [run] * len(windows["pressure"][-1])
    runs = np.array(numbers)
    if constants["split_by"] == "run":  # neighbouring windows overlap, so only another run is unseen
        groups = constants["run_splits"]
        if len(groups) != len(splits.SPLITS):
            raise UserError(f"data.run_splits: {groups} does not list the runs of each of {', '.join(splits.SPLITS)}")
        chosen, split = splits.by_group(runs, groups, constants)
    elif constants["split_by"] == "window":
        chosen, split = splits.at_random(len(runs), constants)
    else:
        raise UserError(f"data.split_by: {constants['split_by']!r} is not one of window, run")
    units = INPUTS | {"pressure": "Pa"}
    names = INPUTS | {"pressure": "pressure behind the fans over ambient pressure"}
    return xr.Dataset(
        {
            name: (("sample", "time"), np.concatenate(found)[chosen], {"long_name": names[name], "units": units[name]})
            for name, found in windows.items()
        },
        coords={
            "time": ("time", np.arange(length), {"long_name": "measurement in the window", "units": "1"}),
            "split": ("sample", split),
            "run": ("sample", runs[chosen], {"long_name": "number of the run", "units": "1"}),
        },
        attrs={"target": "pressure", "truth": f'{{"r": {constants["r"]}}}'},
    )


class SteadyPressure(HybridMap):
    """The law of two fans, of which the part without r is computed once: as input ``still``, pressure in still air."""

    def __init__(self, law: Mapping, parameters: Parameters, network: MLP) -> None:
        network_inputs = {"load_in": 1.0, "load_out": 1.0, "hatch": 1 / 45}
        super().__init__(self.pressure, parameters, network, "pressure", tuple(INPUTS), network_inputs, True)
        self.law = law

    def data(self, dataset: xr.Dataset, split: str, dtype: torch.dtype = torch.float32, device: str = "cpu") -> Samples:
        """As HybridMap.data, with the input ``still`` in Pa."""
        data = super().data(dataset, split, dtype, device)
        still = self.in_still_air(data.inputs["load_in"], data.inputs["load_out"])
        return replace(data, inputs=data.inputs | {"still": still})

    def in_still_air(self, load_in: Tensor, load_out: Tensor) -> Tensor:
        """Pressure in Pa at r = 0."""
        omega_in, omega_out = (fan_speed(load, self.law["least_load"], 1.0) for load in (load_in, load_out))
        return pressure_over_ambient(omega_in, omega_out, torch.zeros_like(omega_in), self.law["s_max"], 1.0)

    @staticmethod
    def pressure(theta: dict[str, Tensor], u: dict[str, Tensor]) -> Tensor:
        """Pressure in Pa, (member, sample, time)."""
        return (1 - theta["r"].unsqueeze(-1)) * u["still"]


def build(model: Mapping) -> SteadyPressure:
    """The hybrid model from the ``model`` section of the task file."""
    return SteadyPressure(
        values_of(model["constants"]),
        Parameters.from_settings(model["theta"]),
        MLP(((1 + len(INPUTS)) * model["window"], *model["hidden"], model["window"])),
    )
