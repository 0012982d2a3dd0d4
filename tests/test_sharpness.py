"""Sharpness of a loss, against the closed forms of quadratic and linear ones."""

import pytest
import torch

from hybridsam.analysis.sharpness import largest_loss, top_eigenvalue, trace

RHO = 0.3


def quadratic(hessian, at):
    """1 + (phi - at)' H (phi - at) / 2 and its gradient."""

    def gradients(phi):
        slopes = (phi - at) @ hessian
        return 1 + ((phi - at) * slopes).sum(1) / 2, slopes

    return gradients


@pytest.fixture(scope="module")
def hessian():
    """Symmetric, with eigenvalues 9, 4, 1 and zeros, none along an axis."""
    vectors, _ = torch.linalg.qr(torch.randn(12, 12, generator=torch.Generator().manual_seed(1), dtype=torch.float64))
    return vectors @ torch.diag(torch.tensor([9.0, 4.0, 1.0] + 9 * [0.0], dtype=torch.float64)) @ vectors.T


@pytest.fixture(scope="module")
def minimum():
    return torch.linspace(-2, 3, 12, dtype=torch.float64)


def test_at_a_minimum_the_largest_loss_lies_along_the_top_eigenvector(hessian, minimum):
    assert largest_loss(quadratic(hessian, minimum), minimum, RHO) == pytest.approx(1 + 9 * RHO**2 / 2, rel=1e-6)


def test_the_top_eigenvalue_is_found(hessian, minimum):
    assert top_eigenvalue(quadratic(hessian, minimum), minimum) == pytest.approx(9, rel=1e-6)
    assert top_eigenvalue(quadratic(-hessian, minimum), minimum) == pytest.approx(-9, rel=1e-6)


def test_the_trace_lies_within_its_error_and_is_exact_without_mixed_terms(hessian, minimum):
    found, error = trace(quadratic(hessian, minimum), minimum)
    assert error > 0
    assert abs(found - 14) < 4 * error
    diagonal = torch.diag(torch.diag(hessian))
    found, error = trace(quadratic(diagonal, minimum), minimum)
    assert found == pytest.approx(14, rel=1e-6)
    assert error < 1e-4


def test_of_a_linear_loss_the_largest_is_the_gradient_times_rho(minimum):
    slope = torch.arange(12, dtype=torch.float64)

    def gradients(phi):
        return phi @ slope, slope.expand_as(phi)

    assert largest_loss(gradients, minimum, RHO) == pytest.approx((minimum @ slope + RHO * slope.norm()).item())
    assert top_eigenvalue(gradients, minimum) == pytest.approx(0, abs=1e-6)


def test_a_larger_rho_finds_no_smaller_loss_and_a_flat_loss_stays(hessian, minimum):
    losses = [largest_loss(quadratic(hessian, minimum), minimum + 0.1, rho) for rho in (0.01, 0.1, 1)]
    assert losses == sorted(losses)
    flat = quadratic(torch.zeros_like(hessian), minimum)
    assert (largest_loss(flat, minimum, RHO), trace(flat, minimum), top_eigenvalue(flat, minimum)) == (1, (0, 0), 0)
