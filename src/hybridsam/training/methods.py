"""The training methods: erm, l2reg, freg, and sharpness-aware minimization as sam, asam, fsam.

Algorithm 1 of Takeishi (2026) is :func:`hybrid_gradient`. All arrays lead with the member axis: w and g are
(member, parameter), rho is (member,), and norms run over a row, so members never mix.
"""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from hybridsam.core.methods import Method
from hybridsam.training.loss import Objective

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


def relative_fsam(w: Tensor, g: Tensor, rho: Tensor, is_weight: Tensor, eta: float) -> Tensor:
    """As :func:`fsam` with F = 1 + eta g^2 / mean(g^2), so that damping does not depend on the size of gradients.

    Those of a mean squared error become so small that 1 + g^2 is 1, and fsam is sam.
    """
    size = g.norm(dim=1, keepdim=True) / g.shape[1] ** 0.5
    unit = torch.where(size > 0, g / size, torch.zeros_like(g))
    natural = g / (1 + eta * unit * unit)
    return _rescale(natural, rho, (g * natural).sum(1).sqrt())


def _rescale(direction: Tensor, rho: Tensor, norm: Tensor) -> Tensor:
    return torch.where(norm > 0, rho / norm, torch.zeros_like(norm)).unsqueeze(1) * direction


PERTURBATIONS: dict[str | None, Perturbation | None] = {None: None, "sam": sam, "asam": asam, "fsam": fsam}


def perturbation_of(method: Method, eta: float) -> Perturbation | None:
    """How a method perturbs, None for one that does not; eta: ``training.eta``."""
    return (
        partial(relative_fsam, eta=eta) if method.perturbation == "fsam" and eta else PERTURBATIONS[method.perturbation]
    )


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
