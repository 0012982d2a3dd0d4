"""How sharp a loss is around phi: its largest value within a radius, and trace and top eigenvalue of its Hessian.

Second derivatives are differences of gradients, so that they need no more of a loss than training does. Take float64.
"""

from collections.abc import Callable

import torch
from torch import Tensor

Gradients = Callable[[Tensor], tuple[Tensor, Tensor]]  # phi (k, n) -> losses (k,), gradients (k, n), of one theta

DIRECTIONS = 8  # in which the search begins, or which the trace is estimated from
STEPS = 20  # of the search for the largest loss, and for the top eigenvalue
STEP = 1e-4  # of a difference of gradients, over the norm of phi


def directions(phi: Tensor, number: int = DIRECTIONS) -> Tensor:
    """(number, n) entries of -1 and 1, the same ones each time."""
    signs = torch.randint(0, 2, (number, len(phi)), generator=torch.Generator().manual_seed(0))
    return (2 * signs - 1).to(phi)


def largest_loss(gradients: Gradients, phi: Tensor, rho: float) -> float:
    """The largest loss found within a distance of rho from phi (n,).

    epsilon moves to rho g / ||g||, with g at phi + epsilon, as often as STEPS, from some random directions: each move
    goes to the farthest point of the ball along the gradient (Frank & Wolfe 1956). At a minimum this is the power
    iteration, and its first move that of SAM.
    """
    epsilon, highest = _of_length(directions(phi), rho), -torch.inf
    for _ in range(STEPS + 1):
        losses, slopes = gradients(phi + epsilon)
        highest = max(highest, losses.max().item())
        epsilon = _of_length(slopes, rho)
    return highest


def trace(gradients: Gradients, phi: Tensor) -> tuple[float, float]:
    """The trace of the Hessian by phi (n,), and its standard error: the mean of v' H v over random signs v.

    Hutchinson 1990, A stochastic estimator of the trace of the influence matrix.
    """
    v = directions(phi)
    found = (v * _hessian_times(gradients, phi, v)).sum(1)
    return found.mean().item(), found.std().item() / len(v) ** 0.5


def top_eigenvalue(gradients: Gradients, phi: Tensor) -> float:
    """The eigenvalue of the Hessian by phi (n,) of largest size, by the power iteration."""
    v = _of_length(directions(phi, 1), 1.0)
    found = 0.0
    for _ in range(STEPS):
        product = _hessian_times(gradients, phi, v)
        found = (v * product).sum().item()
        v = _of_length(product, 1.0)
    return found


def _hessian_times(gradients: Gradients, phi: Tensor, v: Tensor) -> Tensor:
    """(k, n) products with v (k, n)."""
    size = STEP * max(phi.norm().item(), 1.0)
    step = _of_length(v, size)
    (_, ahead), (_, behind) = gradients(phi + step), gradients(phi - step)
    return (ahead - behind) / (2 * size) * v.norm(dim=1, keepdim=True)


def _of_length(v: Tensor, length: float) -> Tensor:
    """Vectors (k, n) of that length; zero where they are."""
    norm = v.norm(dim=1, keepdim=True)
    return torch.where(norm > 0, length * v / norm, torch.zeros_like(v))
