"""A vector field that is known in part: a science and a network, rolled out together."""

from collections.abc import Callable, Sequence
from copy import copy

import torch
import xarray as xr
from torch import Tensor

from hybridsam.core.errors import UserError
from hybridsam.models.hybrid import Comparison, HybridModel, Inputs, NetworkTrial, ScienceTrial, Theta, is_of
from hybridsam.models.networks import Layers, Network, RunningStatistics
from hybridsam.models.parameters import Parameters
from hybridsam.models.samples import Samples, trajectories
from hybridsam.models.solver import Solver, VectorField

SMALL = 0.1  # factor of the network's last layer at the start


def _scale(given: float | Sequence[float] | None) -> float | list[float] | None:
    """The scale of a network as a model keeps it; raises UserError unless it is made of finite numbers above 0."""
    if given is None:
        return None
    if isinstance(given, Sequence) and not isinstance(given, str):
        return [_scale_of_one(number, given) for number in given]
    return _scale_of_one(given, given)


def _scale_of_one(number: object, given: object) -> float:
    if isinstance(number, bool) or not isinstance(number, int | float) or not 0 < number < float("inf"):
        raise UserError(f"network_scale: {given!r} is not allowed; allowed are finite numbers above 0")
    return float(number)


class HybridODE(HybridModel):
    """A vector field that is the sum of a known and a learned part (Eq. 6 of [1]_).

        dx/dt = f(x; theta) + g(x; phi),   y = x(t_1), ..., x(t_T)

    Rollouts start from the observed initial state. Of a dataset that says how large the components of its state are
    (:func:`dataset_of`, :func:`simulate_ode`) errors are in units of that, and the network works in such units too, so
    that no result depends on anybody's choice of units.

    Parameters
    ----------
    science : callable
        f, called as f(theta, x) with theta a mapping from name to (member, 1) and x (member, sample, component), or
        (member, sample, y, x, component) for fields on a grid; it is plain PyTorch on ``x.unbind(-1)`` or ``x[..., i]``
        and returns the shape of x.
    parameters : Parameters
    network : Network
        g, from x to the shape of x. It sees the state in standard units; a :class:`TorchModule` sees it from its own
        zero, in units of its scale, so that a sign means what it means.
    solver : Solver
    network_scale : float or sequence of float, optional
        What an output of the network of one stands for, in units of the state per unit of time, one number or one for
        each component. Left out, it is the usual rate of change in the training data, or, of a class that makes
        something else of the network by a ``field`` of its own, 1. The network's last layer then starts small, as a
        part of the science that is missing is smaller than all of it.

    Raises
    ------
    UserError
        For a scale of the network that is not made of finite numbers above 0.

    References
    ----------
    .. [1] N. Takeishi, Learning Deep Hybrid Models with Sharpness-Aware Minimization, 2026, arXiv:2602.06837.
    """

    target = "state"

    def __init__(
        self,
        science: Callable[[Theta, Tensor], Tensor],
        parameters: Parameters,
        network: Network,
        solver: Solver,
        network_scale: float | Sequence[float] | None = None,
    ) -> None:
        self.science = science
        self.parameters = parameters
        self.network = network
        self.solver = solver
        self.network_scale = _scale(network_scale)

    @property
    def variables(self) -> tuple[str, ...]:
        """The state and its times."""
        return (self.target, "time")

    def initial(self, generator: torch.Generator) -> Tensor:
        """phi of one member, (n,), with a small last layer unless the scale of the network is stated."""
        phi = self.network.initial(generator)
        return phi if self.network_scale is not None else torch.where(self.network.of_last_layer(), SMALL * phi, phi)

    def field(self, theta: Theta, x: Tensor, g: Tensor) -> Tensor:
        """dx/dt from the state and what the network makes of it.

        Parameters
        ----------
        theta : dict of str to Tensor
            name -> (member, 1), in natural units.
        x : Tensor of shape (member, sample, ..., component)
        g : Tensor
            What the network makes of ``x``, in the units of the state per unit of time.

        Returns
        -------
        Tensor of shape (member, sample, ..., component)
        """
        return self.science(theta, x) + g

    def data(self, dataset: xr.Dataset, split: str, dtype: torch.dtype = torch.float32, device: str = "cpu") -> Samples:
        """Trajectories; targets are the states after the initial one, (1, sample, time - 1, ..., component).

        In standard units where the dataset says how large its components are.
        """
        return trajectories(dataset, split, dtype, device)

    def predict(self, theta: Tensor, phi: Tensor, data: Samples, running: RunningStatistics | None = None) -> Tensor:
        """The whole model, (member, sample, time - 1, ..., component)."""

        def of(own: slice) -> VectorField:
            named, layers = self.parameters.named(theta[own]), self.network.unflatten(phi[own])
            return lambda t, x: self.field(named, x, self.supplied(layers, x, data))

        return self.rollouts(of, len(theta), data)

    def supplied(self, layers: Layers, x: Tensor, data: Samples) -> Tensor:
        """What the network adds to the science, g.

        Parameters
        ----------
        layers : dict of str to Tensor
            Of the network.
        x : Tensor of shape (member, sample, ..., component)
        data : Samples
            Of whose standard units the network's input and output are.

        Returns
        -------
        Tensor of shape (member, sample, ..., component)
            In the units of the state per unit of time.
        """
        g, scale = self.network(layers, self.seen(x, data)), self.scale_of_network(data)
        return g if isinstance(scale, float) and scale == 1 else g * scale

    def seen(self, x: Tensor, data: Samples) -> Tensor:
        """What the network sees of states.

        Parameters
        ----------
        x : Tensor of shape (member, sample, ..., component)
        data : Samples

        Returns
        -------
        Tensor of shape (member, sample, ..., component)
        """
        return data.in_standard_units(x) if self.network.centred or not data.standard else x / data.scale

    def scale_of_network(self, data: Samples) -> Tensor | float:
        """What an output of the network of one stands for, in units of the state per unit of time.

        Parameters
        ----------
        data : Samples

        Returns
        -------
        float or Tensor of shape (component,)
        """
        if self.network_scale is None:
            return data.rate * data.scale if is_of(self, HybridODE, "field") else 1.0
        return (
            self.network_scale if isinstance(self.network_scale, float) else data.targets.new_tensor(self.network_scale)
        )

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

        g is the network's own output, in units of the scale of the network.

        References
        ----------
        .. [1] Y. Yin et al., Augmenting Physical Models with Deep Networks for Complex Dynamics Forecasting, ICLR 2021,
               arXiv:2010.04456.
        """
        states = self.seen(data.inputs["states"], data).flatten(1, 2)
        states = states.expand(len(phi), *states.shape[1:])
        return self.network(self.network.unflatten(phi), states).square().sum(-1).flatten(1).mean(1)

    def finer(self, data: Samples) -> "HybridODE":
        """The same model with steps half as long."""
        model = copy(self)
        model.solver = self.solver.finer(data.times)
        return model

    def science_trial(self, data: Samples, members: int) -> ScienceTrial | None:
        """f on the initial states."""
        if not is_of(self, HybridODE, "predict_science"):
            return None
        x = data.inputs["states"][:, :, 0]
        x = x.expand(members, *x.shape[1:])
        return ScienceTrial(x, "the state", tuple(x.shape), lacks=("time",))

    def comparison(self, data: Samples) -> Comparison | None:
        """dx/dt and f at the observed states.

        A network that normalises what it sees sees all of them together: as a function of the state, whatever the time.
        """
        if not is_of(self, HybridODE, "predict", "predict_science"):
            return None
        scale = self.scale_of_network(data)

        def whole(theta: Tensor, phi: Tensor, points: Inputs) -> Tensor:
            named, layers = self.parameters.named(theta), self.network.unflatten(phi)
            x = states(points, len(theta))
            return self.field(named, x, self.supplied(layers, x, data)).unflatten(1, series_and_times(points)) / scale

        def science(theta: Tensor, points: Inputs) -> Tensor:
            x = states(points, len(theta))
            return self.science(self.parameters.named(theta), x).unflatten(1, series_and_times(points)) / scale

        def states(points: Inputs, members: int) -> Tensor:
            flat = points[self.target].flatten(1, 2)
            return flat.expand(members, *flat.shape[1:])

        def series_and_times(points: Inputs) -> torch.Size:
            return points[self.target].shape[1:3]

        return Comparison({self.target: data.inputs["states"]}, whole, science)

    def network_trial(self, data: Samples) -> NetworkTrial | None:
        """g on the initial states, where it is added to f."""
        if not is_of(self, HybridODE, "predict", "field"):
            return None
        x = self.seen(data.inputs["states"][:1, :, 0], data)
        sees = f"a state of shape {tuple(x.shape[2:])}"
        return NetworkTrial(lambda phi: self.network(self.network.unflatten(phi), x), tuple(x.shape), sees)

    def rollouts(self, field_of: Callable[[slice], VectorField], members: int, data: Samples) -> Tensor:
        """Rollouts from the observed initial states.

        Parameters
        ----------
        field_of : callable
            As of :meth:`Solver.rollouts`: some members, a slice -> their vector field, in the units of the state.
        members : int
        data : Samples

        Returns
        -------
        Tensor of shape (member, sample, time - 1, ..., component)
            In standard units, in which the solver works as well.
        """
        initial = data.in_standard_units(data.inputs["states"][:, :, 0])
        initial = initial.expand(members, *initial.shape[1:])
        if not data.standard:
            return self.solver.rollouts(field_of, initial, data.times)

        def standard(own: slice) -> VectorField:
            field = field_of(own)
            return lambda t, x: field(t, data.in_units(x)) / data.scale

        return self.solver.rollouts(standard, initial, data.times)
