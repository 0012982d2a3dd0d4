"""The training methods: erm, l2reg, freg, and sharpness-aware minimization as sam, asam, fsam.

Algorithm 1 of Takeishi (2026) is :func:`hybrid_gradient`. All arrays lead with the member axis: w and g are
(member, parameter), rho is (member,), and norms run over a row, so members never mix.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from hybridsam.core.methods import Method
from hybridsam.models.hybrid import HybridModel
from hybridsam.models.networks import RunningStatistics
from hybridsam.models.samples import Samples

Objective = Callable[[Tensor, Tensor], Tensor]
Perturbation = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]

ETA_ASAM = 0.01  # Kwon et al. 2021, Sec. 4: keeps weights near zero perturbable
ETA_FSAM = 1.0  # Kim et al. 2022, Eq. 9: damping; without it a dead ReLU divides by zero
PERTURBED = ("network", "all")


def sam(w: Tensor, g: Tensor, rho: Tensor, is_weight: Tensor) -> Tensor:
    """Solve max over epsilon of <g, epsilon> subject to ||epsilon|| <= rho (Foret et al. 2021, Eq. 2).

    epsilon = rho g / ||g||, and 0 where g = 0.
    """
    return _rescale(g, rho, g.norm(dim=1))


def asam(w: Tensor, g: Tensor, rho: Tensor, is_weight: Tensor, eta: float = ETA_ASAM) -> Tensor:
    """Solve max over epsilon of <g, epsilon> subject to ||epsilon / T|| <= rho (Kwon et al. 2021, Eq. 5).

    epsilon = rho T^2 g / ||T g|| with T = |w| + eta for weights and 1 for biases.
    """
    scale = torch.where(is_weight, w.abs() + eta, torch.ones_like(w))
    return _rescale(scale * scale * g, rho, (scale * g).norm(dim=1))


def fsam(w: Tensor, g: Tensor, rho: Tensor, is_weight: Tensor, eta: float = ETA_FSAM) -> Tensor:
    """Solve max over epsilon of <g, epsilon> subject to epsilon' F epsilon <= rho^2 (Kim et al. 2022, Eq. 7).

    epsilon = rho F^-1 g / sqrt(g' F^-1 g) with the damped diagonal Fisher matrix F = 1 + eta g^2.
    """
    natural = g / (1 + eta * g * g)
    return _rescale(natural, rho, (g * natural).sum(1).sqrt())


def _rescale(direction: Tensor, rho: Tensor, norm: Tensor) -> Tensor:
    return torch.where(norm > 0, rho / norm, torch.zeros_like(norm)).unsqueeze(1) * direction


PERTURBATIONS: dict[str | None, Perturbation | None] = {None: None, "sam": sam, "asam": asam, "fsam": fsam}


def gradient(objective: Objective, theta: Tensor, phi: Tensor, of_theta: bool = True) -> tuple[Tensor, ...]:
    """Values (member,) and gradients for theta, unless it is left out, and phi of every member's own objective."""
    theta, phi = theta.detach().requires_grad_(of_theta), phi.detach().requires_grad_()
    values = objective(theta, phi)
    # Members share nothing, so one backward pass of the sum gives each its own gradient.
    wanted = (theta, phi) if of_theta else (phi,)
    return values.detach(), *torch.autograd.grad(values.sum(), wanted, materialize_grads=True)


def hybrid_gradient(
    objective: Objective,
    theta: Tensor,
    phi: Tensor,
    perturbation: Perturbation | None,
    rho: Tensor,
    is_weight: Tensor,
    perturb: str = "network",
) -> tuple[Tensor, ...]:
    """Algorithm 1 (Takeishi 2026): the gradient that one step of hybrid sharpness-aware minimization applies.

    objective: (theta, phi) -> (member,) losses. theta: (member, parameter), unconstrained. phi: (member, n).
    is_weight: (n,) True for weights. perturb: ``network`` perturbs phi alone, as the paper does; ``all`` perturbs theta
    as well, for ablation.

    Returns the losses at (theta, phi), then the gradients for theta and phi taken at (theta, phi + epsilon). Losses of
    a member whose first or second pass is not finite are returned as NaN or infinity.
    """
    if perturbation is None:
        return gradient(objective, theta, phi)

    if perturb == "network":
        values, g_phi = gradient(objective, theta, phi, of_theta=False)
        perturbed_theta, perturbed_phi = theta, phi + perturbation(phi, g_phi, rho, is_weight)
    else:
        values, g_theta, g_phi = gradient(objective, theta, phi)
        n = theta.shape[1]
        w, g = torch.cat([theta, phi], 1), torch.cat([g_theta, g_phi], 1)
        every = torch.cat([torch.ones_like(theta[0], dtype=torch.bool), is_weight])
        w = w + perturbation(w, g, rho, every)
        perturbed_theta, perturbed_phi = w[:, :n], w[:, n:]

    perturbed_values, g_theta, g_phi = gradient(objective, perturbed_theta, perturbed_phi)
    return torch.where(perturbed_values.isfinite(), values, perturbed_values), g_theta, g_phi


def objective(
    model: HybridModel, method: Method, rho: Tensor, data: Samples, running: RunningStatistics | None = None
) -> Objective:
    """What a method minimizes, (theta unconstrained, phi) -> (member,): mean squared error plus its penalty."""

    def values(raw: Tensor, phi: Tensor) -> Tensor:
        theta = model.parameters.constrain(raw)
        value = loss(model, theta, phi, data, running, rho if method.penalty == "network" else None)
        return value + rho * phi.square().sum(1) if method.penalty == "phi" else value

    return values


def loss(
    model: HybridModel,
    theta: Tensor,
    phi: Tensor,
    data: Samples,
    running: RunningStatistics | None = None,
    weight: Tensor | None = None,
) -> Tensor:
    """(member,) mean squared error, plus weight times the model's penalty R where a weight is given."""
    if model.fast:
        return model.fast(theta, phi, data, weight)
    prediction = model.predict(theta, phi, data, running)
    error = (prediction - data.targets).square().flatten(1).mean(1)
    return error if weight is None else error + weight * model.penalty(theta, phi, data, prediction)


def mean_squared_error(
    model: HybridModel,
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
    return torch.stack([loss(model, theta, phi, part, running) * len(part) for part in parts]).sum(0) / len(data)
