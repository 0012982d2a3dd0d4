"""The loss of a model, its mean squared error, and what a method makes of it."""

from collections.abc import Callable

import torch
from torch import Tensor

from hybridsam.core.methods import Method
from hybridsam.models.hybrid import HybridModel
from hybridsam.models.networks import RunningStatistics
from hybridsam.models.samples import Samples

Objective = Callable[[Tensor, Tensor], Tensor]
Terms = tuple[Tensor, Callable[[], Tensor]]


class Loss:
    """Mean squared error of a model on some samples, plus rho times its penalty R where rho is given, (member,).

    By PyTorch alone; hybridsam.training.compiled has faster ways to the same numbers.
    """

    def __init__(self, model: HybridModel) -> None:
        self.model = model

    def __call__(
        self,
        theta: Tensor,
        phi: Tensor,
        data: Samples,
        running: RunningStatistics | None = None,
        rho: Tensor | None = None,
    ) -> Tensor:
        """theta (member, parameter) in natural units, phi (member, n), rho (member,)."""
        error, penalty = self.terms(theta, phi, data, running)
        return error if rho is None else error + rho * penalty()

    def terms(self, theta: Tensor, phi: Tensor, data: Samples, running: RunningStatistics | None) -> Terms:
        """The mean squared error, (member,), and a function that computes R, (member,)."""
        prediction = self.model.predict(theta, phi, data, running)
        error = (prediction - data.targets).square().flatten(1).mean(1)
        return error, lambda: self.model.penalty(theta, phi, data, prediction)

    def of_samples(self, theta: Tensor, phi: Tensor, data: Samples, running: RunningStatistics | None = None) -> Tensor:
        """The mean squared error of each sample, (member, sample)."""
        errors = (self.model.predict(theta, phi, data, running) - data.targets).square()
        return errors.flatten(1).unflatten(1, (len(data), -1)).mean(2)


def objective(
    loss: Loss, method: Method, rho: Tensor, data: Samples, running: RunningStatistics | None = None
) -> Objective:
    """What a method minimizes, (theta unconstrained, phi) -> (member,): mean squared error plus its penalty."""

    def values(raw: Tensor, phi: Tensor) -> Tensor:
        theta = loss.model.parameters.constrain(raw)
        value = loss(theta, phi, data, running, rho if method.penalty == "network" else None)
        return value + rho * phi.square().sum(1) if method.penalty == "phi" else value

    return values


def mean_squared_error(
    loss: Loss,
    theta: Tensor,
    phi: Tensor,
    data: Samples,
    running: RunningStatistics | None = None,
    at_once: int = 0,
) -> Tensor:
    """(member,) mean over samples, times and components; theta in natural units.

    at_once: how many samples are predicted together, to bound memory; 0: all.
    """
    parts = list(data.chunks(at_once or len(data)))
    return torch.stack([loss(theta, phi, part, running) * len(part) for part in parts]).sum(0) / len(data)


def errors_of_samples(
    loss: Loss,
    theta: Tensor,
    phi: Tensor,
    data: Samples,
    running: RunningStatistics | None = None,
    at_once: int = 0,
) -> Tensor:
    """(member, sample) mean over times and components; their mean over samples is :func:`mean_squared_error`."""
    return torch.cat([loss.of_samples(theta, phi, part, running) for part in data.chunks(at_once or len(data))], 1)
