"""Hybrid models: a scientific model with parameters theta, joined to a neural network with parameters phi."""

from collections.abc import Callable, Mapping
from typing import Protocol

import torch
import xarray as xr
from torch import Tensor

from hybridsam.models.networks import Network, RunningStatistics
from hybridsam.models.parameters import Parameters
from hybridsam.models.samples import Samples, in_split, tensor, trajectories
from hybridsam.models.solver import Solver

Theta = dict[str, Tensor]


class HybridModel(Protocol):
    """What training, evaluation and diagnosis need of a model.

    theta (member, parameter) is in natural units, phi (member, n). Predictions are (member, sample, ...), in the
    standard units of the data's targets. target: the variable of the dataset that is predicted. fast: another way to
    the same loss, see hybridsam.training.methods.loss.
    """

    parameters: Parameters
    network: Network
    target: str
    fast: Callable[..., Tensor] | None = None

    def data(self, dataset: xr.Dataset, split: str, dtype: torch.dtype, device: str) -> Samples:
        """The samples of one split."""

    def predict(self, theta: Tensor, phi: Tensor, data: Samples, running: RunningStatistics | None = None) -> Tensor:
        """The whole model."""

    def predict_science(
        self, theta: Tensor, phi: Tensor, data: Samples, running: RunningStatistics | None = None
    ) -> Tensor:
        """The science part alone, as far as it can be seen in the units of the prediction."""

    def penalty(self, theta: Tensor, phi: Tensor, data: Samples, prediction: Tensor) -> Tensor:
        """R of functional regularisation, (member,): how much the network does, given the model's prediction."""


class HybridODE:
    """A vector field that is the sum of a known and a learned part (Takeishi 2026, Eq. 6).

        dx/dt = f(x; theta) + g(x; phi),   y = x(t_1), ..., x(t_T)

    science: f, called as f(theta, x) with theta a mapping from name to (member, 1) and x (member, sample, component),
        or (member, sample, y, x, component) for fields on a grid; it is plain PyTorch on ``x.unbind(-1)`` or
        ``x[..., i]`` and returns the shape of x.
    network: g, from x to the shape of x.

    Rollouts start from the observed initial state.
    """

    target = "state"
    fast: Callable[..., Tensor] | None = None

    def __init__(
        self, science: Callable[[Theta, Tensor], Tensor], parameters: Parameters, network: Network, solver: Solver
    ) -> None:
        self.science = science
        self.parameters = parameters
        self.network = network
        self.solver = solver

    def field(self, theta: Theta, x: Tensor, g: Tensor) -> Tensor:
        """dx/dt from the state and what the network makes of it."""
        return self.science(theta, x) + g

    def data(self, dataset: xr.Dataset, split: str, dtype: torch.dtype = torch.float32, device: str = "cpu") -> Samples:
        """Trajectories; targets are the states after the initial one, (1, sample, time - 1, ..., component)."""
        return trajectories(dataset, split, dtype, device)

    def predict(self, theta: Tensor, phi: Tensor, data: Samples, running: RunningStatistics | None = None) -> Tensor:
        """The whole model, (member, sample, time - 1, ..., component)."""
        if self.solver.adaptive and len(theta) > 1:  # one error estimate for all members would couple them
            return torch.cat([self.predict(theta[[i]], phi[[i]], data.of_member(i)) for i in range(len(theta))])
        named, layers = self.parameters.named(theta), self.network.unflatten(phi)
        return self._rollout(lambda t, x: self.field(named, x, self.network(layers, x)), len(theta), data)

    def predict_science(
        self, theta: Tensor, phi: Tensor | None, data: Samples, running: RunningStatistics | None = None
    ) -> Tensor:
        """The rollout of f alone; shapes as in :meth:`predict`."""
        if self.solver.adaptive and len(theta) > 1:
            return torch.cat([self.predict_science(theta[[i]], phi, data.of_member(i)) for i in range(len(theta))])
        named = self.parameters.named(theta)
        return self._rollout(lambda t, x: self.science(named, x), len(theta), data)

    def penalty(self, theta: Tensor, phi: Tensor, data: Samples, prediction: Tensor | None = None) -> Tensor:
        """Mean over all observed states of ||g(x)||^2 (Yin et al. 2021); over the pixels too where x is a field."""
        states = data.inputs["states"].flatten(1, 2)
        states = states.expand(len(phi), *states.shape[1:])
        return self.network(self.network.unflatten(phi), states).square().sum(-1).flatten(1).mean(1)

    def _rollout(self, field: Callable[[float, Tensor], Tensor], members: int, data: Samples) -> Tensor:
        initial = data.inputs["states"][:, :, 0]
        return self.solver.rollout(field, initial.expand(members, *initial.shape[1:]), data.times)


class HybridLaw:
    """What the models of a law, which need no rollout, have in common: inputs u, and a target.

    science: f, called as f(theta, u) with theta a mapping from name to (member, 1) and u a mapping from the names of
        the inputs to (member or 1, sample, ...); returns (member, sample, ...) in the units of the target.
    inputs: names of the variables of the dataset that are u.
    beside: the inputs that the network g sees, numbers or vectors in the last axis, each with the factor that brings it
        to order 1.
    standardise: whether f and the target are standardised, both with the mean and standard deviation of the training
        targets, for each component where there are several.
    """

    fast: Callable[..., Tensor] | None = None

    def __init__(
        self,
        science: Callable[[Theta, dict[str, Tensor]], Tensor],
        parameters: Parameters,
        network: Network,
        target: str,
        inputs: tuple[str, ...],
        beside: Mapping[str, float],
        standardise: bool,
    ) -> None:
        self.science = science
        self.parameters = parameters
        self.network = network
        self.target = target
        self.inputs = inputs
        self.beside = beside
        self.standardise = standardise

    def data(self, dataset: xr.Dataset, split: str, dtype: torch.dtype = torch.float32, device: str = "cpu") -> Samples:
        """Inputs and, as targets, the variable ``target`` in standard units."""
        chosen = in_split(dataset, split)
        inputs = {name: tensor(chosen[name], dtype, device) for name in self.inputs}
        targets = tensor(chosen[self.target], dtype, device)
        if not self.standardise:
            return Samples(inputs, targets)
        known = in_split(dataset, "train")[self.target]
        over = [name for name in known.dims if name != "component"]
        mean, scale = (tensor(values, dtype, device) for values in (known.mean(over), known.std(over)))
        return Samples(inputs, (targets - mean) / scale, mean=mean, scale=scale)

    def through_network(self, phi: Tensor, data: Samples, *first: Tensor) -> Tensor:
        """g of what may come first, (member, sample, ..., n), and the inputs ``beside``."""
        seen = [*first, *self.each_beside(data)]
        seen = [values.expand(len(phi), *values.shape[1:]) for values in seen]
        return self.network(self.network.unflatten(phi), torch.cat(seen, -1) if len(seen) > 1 else seen[0])

    def each_beside(self, data: Samples) -> list[Tensor]:
        """The inputs ``beside`` times their factors, (member or 1, sample, ..., n) each."""
        inputs = [data.inputs[name] * factor for name, factor in self.beside.items()]
        return [values.unsqueeze(-1) if values.ndim == 2 else values for values in inputs]


class HybridMap(HybridLaw):
    """A law seen through a network: y = g(f(u; theta), u; phi), where g = f if the law said everything."""

    def predict(self, theta: Tensor, phi: Tensor, data: Samples, running: RunningStatistics | None = None) -> Tensor:
        """The whole model, shaped like the targets."""
        return self.through_network(phi, data, self.predict_science(theta, phi, data))

    def seen_beside(self, data: Samples) -> Tensor:
        """What g sees beside f's output, (member or 1, sample, ..., n); n may be 0."""
        return torch.cat([data.targets[..., :0], *self.each_beside(data)], -1)

    def predict_science(
        self, theta: Tensor, phi: Tensor | None, data: Samples, running: RunningStatistics | None = None
    ) -> Tensor:
        """f in the standard units of the targets."""
        return (self.science(self.parameters.named(theta), data.inputs) - data.mean) / data.scale

    def penalty(self, theta: Tensor, phi: Tensor, data: Samples, prediction: Tensor) -> Tensor:
        """Mean square of what the network changes, h - f (Takeishi & Kalousis 2023, the reduction being f itself)."""
        return (prediction - self.predict_science(theta, phi, data)).square().flatten(1).mean(1)


class HybridSum(HybridMap):
    """A law that leaves something out: y = f(u; theta) + g(u; phi); g is shaped like the targets, in standard units."""

    def predict(self, theta: Tensor, phi: Tensor, data: Samples, running: RunningStatistics | None = None) -> Tensor:
        """The whole model, shaped like the targets."""
        return self.predict_science(theta, phi, data) + self.through_network(phi, data)


class HybridEncoder(HybridLaw):
    """A law of something that nobody measured: y = f(u, z; theta), of which a network finds z = g(u; phi) by sample.

    unmeasured: names of z, under which f has them beside the inputs, each (member, sample). They are 0 for a usual
        sample: f with zeros is the science alone.
    """

    def __init__(
        self,
        science: Callable[[Theta, dict[str, Tensor]], Tensor],
        parameters: Parameters,
        network: Network,
        target: str,
        inputs: tuple[str, ...],
        beside: Mapping[str, float],
        standardise: bool,
        unmeasured: tuple[str, ...],
    ) -> None:
        super().__init__(science, parameters, network, target, inputs, beside, standardise)
        self.unmeasured = unmeasured

    def predict(self, theta: Tensor, phi: Tensor, data: Samples, running: RunningStatistics | None = None) -> Tensor:
        """The whole model, shaped like the targets."""
        return self._law(theta, self.through_network(phi, data), data)

    def predict_science(
        self, theta: Tensor, phi: Tensor | None, data: Samples, running: RunningStatistics | None = None
    ) -> Tensor:
        """f where z = 0, in the standard units of the targets."""
        return self._law(theta, theta.new_zeros(len(theta), len(data), len(self.unmeasured)), data)

    def penalty(self, theta: Tensor, phi: Tensor, data: Samples, prediction: Tensor) -> Tensor:
        """Mean square of z, by which a sample differs from a usual one."""
        return self.through_network(phi, data).square().flatten(1).mean(1)

    def _law(self, theta: Tensor, z: Tensor, data: Samples) -> Tensor:
        inputs = data.inputs | dict(zip(self.unmeasured, z.unbind(-1), strict=True))
        return (self.science(self.parameters.named(theta), inputs) - data.mean) / data.scale
