"""A vector field that is known in part: a science and a network, rolled out together."""

from collections.abc import Callable

import torch
import xarray as xr
from torch import Tensor

from hybridsam.models.hybrid import HybridModel, NetworkTrial, ScienceTrial, Theta, is_of
from hybridsam.models.networks import Network, RunningStatistics
from hybridsam.models.parameters import Parameters
from hybridsam.models.samples import Samples, trajectories
from hybridsam.models.solver import Solver, VectorField


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
