"""Hybrid models: a scientific model with parameters theta, joined to a neural network with parameters phi."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
import xarray as xr
from torch import Tensor

from hybridsam.models.networks import Network, RunningStatistics
from hybridsam.models.parameters import Parameters
from hybridsam.models.samples import Samples, in_split, tensor, trajectories
from hybridsam.models.solver import Solver, VectorField

Theta = dict[str, Tensor]
Inputs = dict[str, Tensor]


class ScienceTrial(NamedTuple):
    """What f takes beside theta, for the members of a trial, and what it must return.

    returns: in words. shape: (member, sample, ...). lacks: axes of the target that f does not have.
    """

    given: Tensor | Inputs
    returns: str
    shape: tuple[int, ...]
    lacks: tuple[str, ...] = ()


class NetworkTrial(NamedTuple):
    """g as a function of phi (1, n), the shape that it must return, and in words what it sees."""

    g: Callable[[Tensor], Tensor]
    shape: tuple[int, ...]
    sees: str


class HybridModel:
    """What training, evaluation and diagnosis need of a model; a class of one's own extends this one or one below.

    theta (member, parameter) is in natural units, phi (member, n). Predictions are (member, sample, ...), in the
    standard units of the data's targets.

    Attributes
    ----------
    parameters : Parameters
        The table of theta.
    network : Network
        g.
    target : str
        The variable of the dataset that is predicted.
    science : callable
        f, where a model has one that can be called alone.
    """

    parameters: Parameters
    network: Network
    target: str
    science: Callable[..., Tensor]

    def data(self, dataset: xr.Dataset, split: str, dtype: torch.dtype, device: str) -> Samples:
        """The samples of one split.

        Parameters
        ----------
        dataset : xarray.Dataset
        split : str
            ``train``, ``validation`` or ``test``.
        dtype : torch.dtype
        device : str

        Returns
        -------
        Samples
        """
        raise NotImplementedError

    def predict(self, theta: Tensor, phi: Tensor, data: Samples, running: RunningStatistics | None = None) -> Tensor:
        """The whole model.

        Parameters
        ----------
        theta : Tensor of shape (member, parameter)
            In natural units.
        phi : Tensor of shape (member, n)
        data : Samples
        running : RunningStatistics, optional
            Of a network that has them.

        Returns
        -------
        Tensor of shape (member, sample, ...)
            In the standard units of the data's targets.
        """
        raise NotImplementedError

    def predict_science(
        self, theta: Tensor, phi: Tensor, data: Samples, running: RunningStatistics | None = None
    ) -> Tensor:
        """The science part alone, as far as it can be seen in the units of the prediction.

        Parameters
        ----------
        theta : Tensor of shape (member, parameter)
            In natural units.
        phi : Tensor of shape (member, n)
        data : Samples
        running : RunningStatistics, optional

        Returns
        -------
        Tensor of shape (member, sample, ...)
            In the standard units of the data's targets.
        """
        raise NotImplementedError

    def penalty(self, theta: Tensor, phi: Tensor, data: Samples, prediction: Tensor) -> Tensor:
        """R of functional regularisation: how much the network does.

        Parameters
        ----------
        theta : Tensor of shape (member, parameter)
            In natural units.
        phi : Tensor of shape (member, n)
        data : Samples
        prediction : Tensor of shape (member, sample, ...)
            That of the model.

        Returns
        -------
        Tensor of shape (member,)
        """
        raise NotImplementedError

    def science_trial(self, data: Samples, members: int) -> ScienceTrial | None:
        """How f can be tried alone, before training.

        Parameters
        ----------
        data : Samples
        members : int
            How many take part in the trial.

        Returns
        -------
        ScienceTrial or None
            None for a model that can be tried as a whole only.
        """
        return None

    def network_trial(self, data: Samples) -> NetworkTrial | None:
        """How g can be tried alone, where a wrong shape of it might fit by accident.

        Parameters
        ----------
        data : Samples

        Returns
        -------
        NetworkTrial or None
            None where it cannot be tried.
        """
        return None


def is_of(model: HybridModel, kind: type[HybridModel], *methods: str) -> bool:
    """Whether a model is of that kind, and its class has no way of its own to do what these methods do."""
    return isinstance(model, kind) and all(getattr(type(model), name) is getattr(kind, name) for name in methods)


class HybridODE(HybridModel):
    """A vector field that is the sum of a known and a learned part (Eq. 6 of [1]_).

        dx/dt = f(x; theta) + g(x; phi),   y = x(t_1), ..., x(t_T)

    Rollouts start from the observed initial state.

    Parameters
    ----------
    science : callable
        f, called as f(theta, x) with theta a mapping from name to (member, 1) and x (member, sample, component), or
        (member, sample, y, x, component) for fields on a grid; it is plain PyTorch on ``x.unbind(-1)`` or ``x[..., i]``
        and returns the shape of x.
    parameters : Parameters
    network : Network
        g, from x to the shape of x.
    solver : Solver

    References
    ----------
    .. [1] N. Takeishi, Learning Deep Hybrid Models with Sharpness-Aware Minimization, 2026, arXiv:2602.06837.
    """

    target = "state"

    def __init__(
        self, science: Callable[[Theta, Tensor], Tensor], parameters: Parameters, network: Network, solver: Solver
    ) -> None:
        self.science = science
        self.parameters = parameters
        self.network = network
        self.solver = solver

    def field(self, theta: Theta, x: Tensor, g: Tensor) -> Tensor:
        """dx/dt from the state and what the network makes of it.

        Parameters
        ----------
        theta : dict of str to Tensor
            name -> (member, 1), in natural units.
        x : Tensor of shape (member, sample, ..., component)
        g : Tensor
            What the network makes of ``x``.

        Returns
        -------
        Tensor of shape (member, sample, ..., component)
        """
        return self.science(theta, x) + g

    def data(self, dataset: xr.Dataset, split: str, dtype: torch.dtype = torch.float32, device: str = "cpu") -> Samples:
        """Trajectories; targets are the states after the initial one, (1, sample, time - 1, ..., component)."""
        return trajectories(dataset, split, dtype, device)

    def predict(self, theta: Tensor, phi: Tensor, data: Samples, running: RunningStatistics | None = None) -> Tensor:
        """The whole model, (member, sample, time - 1, ..., component)."""

        def of(own: slice) -> VectorField:
            named, layers = self.parameters.named(theta[own]), self.network.unflatten(phi[own])
            return lambda t, x: self.field(named, x, self.network(layers, x))

        return self.rollouts(of, len(theta), data)

    def predict_science(
        self, theta: Tensor, phi: Tensor | None, data: Samples, running: RunningStatistics | None = None
    ) -> Tensor:
        """The rollout of f alone; shapes as in :meth:`predict`."""

        def of(own: slice) -> VectorField:
            named = self.parameters.named(theta[own])
            return lambda t, x: self.science(named, x)

        return self.rollouts(of, len(theta), data)

    def penalty(self, theta: Tensor, phi: Tensor, data: Samples, prediction: Tensor | None = None) -> Tensor:
        """Mean over all observed states of ||g(x)||^2, as in [1]_; over the pixels too where x is a field.

        References
        ----------
        .. [1] Y. Yin et al., Augmenting Physical Models with Deep Networks for Complex Dynamics Forecasting, ICLR 2021,
               arXiv:2010.04456.
        """
        states = data.inputs["states"].flatten(1, 2)
        states = states.expand(len(phi), *states.shape[1:])
        return self.network(self.network.unflatten(phi), states).square().sum(-1).flatten(1).mean(1)

    def science_trial(self, data: Samples, members: int) -> ScienceTrial | None:
        """f on the initial states."""
        if not is_of(self, HybridODE, "predict_science"):
            return None
        x = data.inputs["states"][:, :, 0]
        x = x.expand(members, *x.shape[1:])
        return ScienceTrial(x, "the state", tuple(x.shape), lacks=("time",))

    def network_trial(self, data: Samples) -> NetworkTrial | None:
        """g on the initial states, where it is added to f."""
        if not is_of(self, HybridODE, "predict", "field"):
            return None
        x = data.inputs["states"][:1, :, 0]
        sees = f"a state of shape {tuple(x.shape[2:])}"
        return NetworkTrial(lambda phi: self.network(self.network.unflatten(phi), x), tuple(x.shape), sees)

    def rollouts(self, field_of: Callable[[slice], VectorField], members: int, data: Samples) -> Tensor:
        """Rollouts from the observed initial states.

        Parameters
        ----------
        field_of : callable
            As of :meth:`Solver.rollouts`.
        members : int
        data : Samples

        Returns
        -------
        Tensor of shape (member, sample, time - 1, ..., component)
        """
        initial = data.inputs["states"][:, :, 0]
        initial = initial.expand(members, *initial.shape[1:])
        return self.solver.rollouts(field_of, initial, data.times)


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
