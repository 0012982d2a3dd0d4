"""A law that needs no rollout, and what a network does for it: it sees the law, adds to it, or finds what it needs."""

from collections.abc import Callable, Mapping
from dataclasses import replace

import torch
import xarray as xr
from torch import Tensor

from hybridsam.core.scales import standard_units
from hybridsam.models.hybrid import Comparison, HybridModel, Inputs, NetworkTrial, ScienceTrial, Theta, is_of
from hybridsam.models.networks import Network, RunningStatistics
from hybridsam.models.parameters import Parameters
from hybridsam.models.samples import Samples, in_split, tensor


class HybridLaw(HybridModel):
    """What the models of a law, which need no rollout, have in common: inputs u, and a target.

    Parameters
    ----------
    science : callable
        f, called as f(theta, u) with theta a mapping from name to (member, 1) and u a mapping from the names of the
        inputs to (member or 1, sample, ...); returns (member, sample, ...) in the units of the target.
    parameters : Parameters
    network : Network
        g.
    target : str
        Name of the variable of the dataset that is y.
    inputs : tuple of str
        Names of the variables of the dataset that are u.
    network_inputs : mapping of str to float
        The inputs that the network g sees, numbers or vectors in the last axis, each with the factor that brings it to
        order 1.
    standardise : bool
        Whether f and the target are standardised, both with the mean and standard deviation of the training targets,
        for each component where there are several.
    """

    adds = False  # whether g is added to f

    def __init__(
        self,
        science: Callable[[Theta, Inputs], Tensor],
        parameters: Parameters,
        network: Network,
        target: str,
        inputs: tuple[str, ...],
        network_inputs: Mapping[str, float],
        standardise: bool,
    ) -> None:
        self.science = science
        self.parameters = parameters
        self.network = network
        self.target = target
        self.inputs = inputs
        self.network_inputs = network_inputs
        self.standardise = standardise

    @property
    def variables(self) -> tuple[str, ...]:
        """The target and the inputs."""
        return (self.target, *self.inputs)

    def data(self, dataset: xr.Dataset, split: str, dtype: torch.dtype = torch.float32, device: str = "cpu") -> Samples:
        """Inputs and, as targets, the variable ``target`` in standard units."""
        chosen = in_split(dataset, split)
        inputs = {name: tensor(chosen[name], dtype, device) for name in self.inputs}
        targets = tensor(chosen[self.target], dtype, device)
        if not self.standardise:
            return Samples(inputs, targets)
        if not {"target_mean", "target_scale"} <= set(dataset.variables):
            dataset = dataset.assign(standard_units(dataset, self.target))
        mean, scale = (tensor(dataset[name], dtype, device) for name in ("target_mean", "target_scale"))
        return Samples(inputs, (targets - mean) / scale, mean=mean, scale=scale)

    def predict_science(
        self, theta: Tensor, phi: Tensor | None, data: Samples, running: RunningStatistics | None = None
    ) -> Tensor:
        """f in the standard units of the targets."""
        return (self.science(self.parameters.named(theta), data.inputs) - data.mean) / data.scale

    def penalty(self, theta: Tensor, phi: Tensor, data: Samples, prediction: Tensor) -> Tensor:
        """Mean square of what the network changes, h - f, as in [1]_, the reduction being f itself.

        References
        ----------
        .. [1] N. Takeishi and A. Kalousis, Deep Grey-Box Modeling With Adaptive Data-Driven Models Toward Trustworthy
               Estimation of Theory-Driven Models, AISTATS 2023, arXiv:2210.13103.
        """
        return (prediction - self.predict_science(theta, phi, data)).square().flatten(1).mean(1)

    def science_trial(self, data: Samples, members: int) -> ScienceTrial | None:
        """f on the inputs."""
        if not is_of(self, HybridLaw, "predict_science"):
            return None
        return ScienceTrial(data.inputs, "the targets", (members, *data.targets.shape[1:]))

    def comparison(self, data: Samples) -> Comparison | None:
        """The prediction and f at the inputs, in standard units of the targets."""
        if not is_of(self, HybridLaw, "predict_science"):
            return None

        def at(points: Inputs) -> Samples:
            inputs = {name: values.squeeze(2) for name, values in points.items()}
            number = next(iter(inputs.values())).shape[1]
            return replace(data, inputs=inputs, targets=data.targets[:, :1].expand(1, number, *data.targets.shape[2:]))

        def whole(theta: Tensor, phi: Tensor, points: Inputs) -> Tensor:
            return self.predict(theta, phi, at(points)).unsqueeze(2)

        def science(theta: Tensor, points: Inputs) -> Tensor:
            return self.predict_science(theta, None, at(points)).unsqueeze(2)

        points = {name: values.unsqueeze(2) for name, values in data.inputs.items()}
        return Comparison(points, whole, science, adds=self.adds)

    def through_network(self, phi: Tensor, data: Samples, *first: Tensor) -> Tensor:
        """g of what may come first, and of the inputs ``network_inputs``.

        Parameters
        ----------
        phi : Tensor of shape (member, n)
        data : Samples
        *first : Tensor of shape (member, sample, ..., n)

        Returns
        -------
        Tensor of shape (member, sample, ...)
        """
        seen = [*first, *self._each_network_input(data)]
        seen = [values.expand(len(phi), *values.shape[1:]) for values in seen]
        return self.network(self.network.unflatten(phi), torch.cat(seen, -1) if len(seen) > 1 else seen[0])

    def seen_by_network(self, data: Samples) -> Tensor:
        """The inputs that g sees.

        Parameters
        ----------
        data : Samples

        Returns
        -------
        Tensor of shape (member or 1, sample, ..., n)
            n may be 0.
        """
        return torch.cat([data.targets[..., :0], *self._each_network_input(data)], -1)

    def _each_network_input(self, data: Samples) -> list[Tensor]:
        """The inputs ``network_inputs`` times their factors, (member or 1, sample, ..., n) each."""
        inputs = [data.inputs[name] * factor for name, factor in self.network_inputs.items()]
        return [values.unsqueeze(-1) if values.ndim == 2 else values for values in inputs]

    def _network_trial(self, data: Samples, shape: tuple[int, ...]) -> NetworkTrial:
        sees = f"inputs: {', '.join(self.network_inputs)}"
        return NetworkTrial(lambda phi: self.through_network(phi, data), shape, sees)


class HybridMap(HybridLaw):
    """A law seen through a network: y = g(f(u; theta), u; phi), where g = f if the law said everything.

    What is not explained here is as of :class:`hybridsam.models.hybrid.HybridLaw`.

    Parameters
    ----------
    science : callable
    parameters : Parameters
    network : Network
        g, from f in the standard units of the targets, with ``network_inputs`` beside it in the last axis, to the shape
        of the targets.
    target : str
    inputs : tuple of str
    network_inputs : mapping of str to float
    standardise : bool
    """

    def predict(self, theta: Tensor, phi: Tensor, data: Samples, running: RunningStatistics | None = None) -> Tensor:
        """The whole model, shaped like the targets."""
        return self.through_network(phi, data, self.predict_science(theta, phi, data))


class HybridSum(HybridLaw):
    """A law that leaves something out: y = f(u; theta) + g(u; phi).

    What is not explained here is as of :class:`hybridsam.models.hybrid.HybridLaw`.

    Parameters
    ----------
    science : callable
    parameters : Parameters
    network : Network
        g, from ``network_inputs`` to the shape of the targets, in standard units.
    target : str
    inputs : tuple of str
    network_inputs : mapping of str to float
    standardise : bool
    """

    adds = True

    def predict(self, theta: Tensor, phi: Tensor, data: Samples, running: RunningStatistics | None = None) -> Tensor:
        """The whole model, shaped like the targets."""
        return self.predict_science(theta, phi, data) + self.through_network(phi, data)

    def network_trial(self, data: Samples) -> NetworkTrial | None:
        """g on the inputs that it sees."""
        return self._network_trial(data, tuple(data.targets[:1].shape)) if is_of(self, HybridSum, "predict") else None


class HybridEncoder(HybridLaw):
    """A law of something that nobody measured: y = f(u, z; theta), of which a network finds z = g(u; phi) by sample.

    What is not explained here is as of :class:`hybridsam.models.hybrid.HybridLaw`.

    Parameters
    ----------
    science : callable
    parameters : Parameters
    network : Network
        g, from ``network_inputs`` to (member, sample, n), n the number of ``unmeasured``.
    target : str
    inputs : tuple of str
    network_inputs : mapping of str to float
    standardise : bool
    unmeasured : tuple of str
        Names of z, under which f has them beside the inputs, each (member, sample). They are 0 for a usual sample: f
        with zeros is the science alone.
    """

    def __init__(
        self,
        science: Callable[[Theta, Inputs], Tensor],
        parameters: Parameters,
        network: Network,
        target: str,
        inputs: tuple[str, ...],
        network_inputs: Mapping[str, float],
        standardise: bool,
        unmeasured: tuple[str, ...],
    ) -> None:
        super().__init__(science, parameters, network, target, inputs, network_inputs, standardise)
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

    def science_trial(self, data: Samples, members: int) -> ScienceTrial | None:
        """f on the inputs, where z = 0."""
        if not is_of(self, HybridEncoder, "predict_science"):
            return None
        z = {name: data.targets.new_zeros(members, len(data)) for name in self.unmeasured}
        return ScienceTrial(data.inputs | z, "the targets", (members, *data.targets.shape[1:]))

    def network_trial(self, data: Samples) -> NetworkTrial | None:
        """g on the inputs that it sees."""
        shape = (1, len(data), len(self.unmeasured))
        return self._network_trial(data, shape) if is_of(self, HybridEncoder, "predict") else None

    def _law(self, theta: Tensor, z: Tensor, data: Samples) -> Tensor:
        inputs = data.inputs | dict(zip(self.unmeasured, z.unbind(-1), strict=True))
        return (self.science(self.parameters.named(theta), inputs) - data.mean) / data.scale
