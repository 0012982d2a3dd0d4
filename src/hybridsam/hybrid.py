"""Hybrid models: a scientific model with parameters theta, joined to a neural network with parameters phi."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import torch
import xarray as xr
from torch import Tensor

from hybridsam.errors import UserError
from hybridsam.integrate import Solver
from hybridsam.networks import MLP
from hybridsam.parameters import Parameters

Science = Callable[[dict[str, Tensor], Tensor], Tensor]


@dataclass(frozen=True)
class Trajectories:
    """Observed time series: times (time,), states (sample, time, component)."""

    times: list[float]
    states: Tensor

    @classmethod
    def from_dataset(
        cls, dataset: xr.Dataset, split: str, dtype: torch.dtype = torch.float32, device: str = "cpu"
    ) -> "Trajectories":
        """The samples of one split of a dataset file (variable ``state``)."""
        states = dataset["state"].isel(sample=(dataset["split"] == split).values)
        if not states.size:
            raise UserError(f"dataset: no samples in the split {split!r}")
        if not all(start < end for start, end in pairwise(dataset["time"].values)):
            raise UserError("dataset: the variable time does not increase")
        tensor = torch.as_tensor(states.values, dtype=dtype, device=device)
        return cls(dataset["time"].values.tolist(), tensor)

    @property
    def targets(self) -> Tensor:
        """What a prediction is compared with: all states after the initial one, (sample, time - 1, component)."""
        return self.states[:, 1:]


class HybridODE:
    """A vector field that is the sum of a known and a learned part (Takeishi 2026, Eq. 6).

        dx/dt = f(x; theta) + g(x; phi),   y = x(t_1), ..., x(t_T)

    science: f, called as f(theta, x) with theta a mapping from name to (member, 1) and x (member, sample, component);
        it is plain PyTorch on ``x.unbind(-1)`` or ``x[..., i]`` and returns the shape of x.
    network: g, from component to component.

    Rollouts start from the observed initial state.
    """

    def __init__(self, science: Science, parameters: Parameters, network: MLP, solver: Solver) -> None:
        self.science = science
        self.parameters = parameters
        self.network = network
        self.solver = solver

    def predict(self, theta: Tensor, phi: Tensor, data: Trajectories) -> Tensor:
        """The whole model: theta (member, parameter), phi (member, n) -> (member, sample, time - 1, component)."""
        if self.solver.adaptive and len(theta) > 1:  # one error estimate for all members would couple them
            members = zip(theta.split(1), phi.split(1), strict=True)
            return torch.cat([self.predict(one_theta, one_phi, data) for one_theta, one_phi in members])
        named, layers = self.parameters.named(theta), self.network.unflatten(phi)
        return self._rollout(lambda t, x: self.science(named, x) + self.network(layers, x), len(theta), data)

    def predict_science(self, theta: Tensor, data: Trajectories) -> Tensor:
        """The science part alone, without the network; shapes as in :meth:`predict`."""
        if self.solver.adaptive and len(theta) > 1:
            return torch.cat([self.predict_science(one, data) for one in theta.split(1)])
        named = self.parameters.named(theta)
        return self._rollout(lambda t, x: self.science(named, x), len(theta), data)

    def penalty(self, phi: Tensor, data: Trajectories) -> Tensor:
        """R of functional regularisation, (member,): mean over all observed states of ||g(x)||^2 (Yin et al. 2021)."""
        states = data.states.flatten(0, 1).expand(len(phi), -1, -1)
        return self.network(self.network.unflatten(phi), states).square().sum(2).mean(1)

    def _rollout(self, field: Callable[[float, Tensor], Tensor], members: int, data: Trajectories) -> Tensor:
        initial = data.states[:, 0].expand(members, -1, -1)
        return self.solver.rollout(field, initial, data.times)
