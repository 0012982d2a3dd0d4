"""The runs from whose whole theta is identified, and how much of their theta is left of where it started."""

from dataclasses import dataclass

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from hybridsam.analysis.cube import combine, worse_than_mean
from hybridsam.analysis.intervals import LEVEL
from hybridsam.core.errors import UserError
from hybridsam.core.methods import BASELINE
from hybridsam.training.ensemble import FEWEST


@dataclass(frozen=True)
class Members:
    """Runs that fit: their seeds, theta and its start (member, parameter) in natural units, and phi (member, n).

    running: running statistics of their networks, (member, n). trained: how many there are, with those that do not fit.
    """

    seeds: np.ndarray
    theta: Tensor
    start: np.ndarray
    phi: Tensor
    running: Tensor
    trained: int

    @property
    def too_few(self) -> str:
        """Why nothing can be told from them, in words; empty if they are enough."""
        if len(self.seeds) >= FEWEST:
            return ""
        return (
            f"{len(self.seeds)} of {self.trained} runs of {BASELINE} fit the validation data better than their mean "
            f"would, and theta is identified from at least {FEWEST}"
        )


def ensemble_in(runs: xr.Dataset, dataset: xr.Dataset) -> Members:
    """The runs of plain erm among some, on the axes ``RUN`` and with ``phi``, that fit.

    A run does not if it diverged, or predicts validation data worse than their mean would. Raises UserError where none
    is of erm.
    """
    if BASELINE not in runs["training_method"]:
        there = ", ".join(runs["training_method"].values)
        raise UserError(f"runs: none of {BASELINE}, from which theta is identified; there are {there}")
    of_erm = runs.sel(training_method=[BASELINE], rho=[0])
    fits = fit(of_erm, dataset)
    of_erm = of_erm.isel(training_method=0, rho=0)
    chosen = of_erm.isel(seed=np.flatnonzero(fits))
    theta, phi, running = (torch.as_tensor(chosen[name].values).float() for name in ("theta", "phi", "running"))
    start = chosen["theta_start"] if "theta_start" in chosen else chosen["theta"] - chosen["theta_moved"]
    return Members(chosen["seed"].values, theta, start.values, phi, running, len(fits))


def fit(runs: xr.Dataset, dataset: xr.Dataset) -> np.ndarray:
    """(seed,) which runs of one method and rho, on the axes ``RUN``, fit; see :func:`ensemble_in`."""
    if "data_variance" not in runs:
        runs = combine([runs], runs, dataset)
    return ((runs["status"] == "completed") & ~worse_than_mean(runs, "validation")).values.ravel()


def slopes(members: Members) -> np.ndarray:
    """(3, parameter) slope of theta on its start over the members, and the ends of Student's interval.

    1: theta stays where it starts. 0: it does not matter where it starts. NaN: all start at the same place, or
    they are too few.
    """
    from scipy import stats

    n, found = len(members.seeds), []
    for start, theta in zip(members.start.T, members.theta.double().numpy().T, strict=True):
        if n < FEWEST or np.ptp(start) == 0:
            found.append((np.nan,) * 3)
            continue
        line = stats.linregress(start, theta)
        half = stats.t.ppf((1 + LEVEL) / 2, n - 2) * line.stderr
        found.append((line.slope, line.slope - half, line.slope + half))
    return np.array(found).T
