"""Algorithm 1, the problems that its perturbations solve, and the penalties."""

from functools import partial

import numpy as np
import pytest
import torch
from helpers.marks import slow_but_for
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pytorch_optimizer import SAM
from torch.nn.utils import parameters_to_vector

from hybridsam.core.errors import UserError
from hybridsam.core.methods import get_method
from hybridsam.models.networks import MLP
from hybridsam.training.loss import mean_squared_error, objective
from hybridsam.training.methods import asam, fsam, hybrid_gradient, relative_fsam, sam

PERTURBATIONS = {"sam": sam, "asam": asam, "fsam": fsam}
every_perturbation = pytest.mark.parametrize("name", PERTURBATIONS)
IS_WEIGHT = torch.tensor([True, True, False, True, False])
RHO = torch.tensor([0.1, 0.3, 0.05], dtype=torch.float64)

numbers = st.floats(-100, 100).map(lambda x: round(x, 4))
matrices = arrays(np.float64, (3, 5), elements=numbers).map(torch.from_numpy)
nonzero_matrices = matrices.filter(lambda g: bool(g.any(dim=1).all()))
radii = arrays(np.float64, 3, elements=st.floats(1e-3, 2)).map(torch.from_numpy)


def close(actual, expected, tolerance=1e-12):
    torch.testing.assert_close(actual, expected, rtol=tolerance, atol=tolerance)


def random(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def asam_scale(w, eta=0.01):
    return torch.where(IS_WEIGHT, w.abs() + eta, 1.0)


# The constraint of each problem is size(epsilon) <= rho.
SIZES = {
    "sam": lambda epsilon, w, g: epsilon.norm(dim=-1),
    "asam": lambda epsilon, w, g: (epsilon / asam_scale(w)).norm(dim=-1),
    "fsam": lambda epsilon, w, g: (epsilon**2 * (1 + g**2)).sum(-1).sqrt(),
}


class Spy:
    """An objective that remembers where it was evaluated and can be told what to do at the second evaluation."""

    def __init__(self, loss, second=None):
        self.loss, self.second, self.points = loss, second, []

    def __call__(self, theta, phi):
        self.points.append((theta.detach().clone(), phi.detach().clone()))
        values = self.loss(theta, phi)
        return self.second(values) if self.second and len(self.points) == 2 else values


def coupled(theta, phi):
    """A loss with curvature in which theta and phi act on each other."""
    return (torch.sin(theta).sum(1) * phi.square().sum(1) + (phi[:, :2] * theta).sum(1)) + phi.exp().sum(1)


@every_perturbation
def test_applied_gradient_of_a_quadratic_is_the_closed_form(name):
    root, b, w = random(3, 7, 7, seed=1), random(3, 7, seed=2), random(3, 7, seed=3)
    hessian = root @ root.mT

    def loss(theta, phi):
        x = torch.cat([theta, phi], 1)
        return (x * (hessian @ x[..., None])[..., 0] / 2 - b * x).sum(1)

    theta, phi = w[:, :2], w[:, 2:]
    values, g_theta, g_phi = hybrid_gradient(loss, theta, phi, PERTURBATIONS[name], RHO, IS_WEIGHT)

    for i, rho in enumerate(RHO.tolist()):
        g = (hessian[i] @ w[i] - b[i])[2:]
        scale = torch.where(IS_WEIGHT, phi[i].abs() + 0.01, 1.0)
        epsilon = {
            "sam": rho * g / g.norm(),
            "asam": rho * scale**2 * g / (scale * g).norm(),
            "fsam": rho * g / (1 + g**2) / (g**2 / (1 + g**2)).sum().sqrt(),
        }[name]
        there = w[i] + torch.cat([torch.zeros(2), epsilon])
        close(torch.cat([g_theta[i], g_phi[i]]), hessian[i] @ there - b[i])
        close(values[i], w[i] @ hessian[i] @ w[i] / 2 - b[i] @ w[i])


@pytest.mark.parametrize("name", slow_but_for(["sam", "freg"], ["sam", "asam", "fsam", "l2reg", "freg"]))
@pytest.mark.parametrize("dtype", slow_but_for(["float64"], ["float32", "float64"]))
def test_zero_rho_is_erm_to_the_bit(fit, name, dtype):
    plain = fit("erm", [0.0, 0.0], [0, 1], dtype=dtype)
    zero, other = (fit(name, [rho, rho], [0, 1], dtype=dtype) for rho in (0.0, 0.1))
    for key in ("w", "m", "v"):
        assert torch.equal(getattr(zero, key), getattr(plain, key))
        assert not torch.equal(getattr(other, key), getattr(plain, key))
    for key, values in plain.history.items():
        assert torch.equal(zero.history[key], values)


def test_theta_stays_and_phi_moves_by_rho_however_large_the_gradient_of_theta():
    spy = Spy(lambda theta, phi: 1e6 * theta.sum(1) + phi.square().sum(1))
    theta, phi = random(3, 2), random(3, 5)
    hybrid_gradient(spy, theta, phi, sam, RHO, IS_WEIGHT)
    (theta1, phi1), (theta2, phi2) = spy.points
    assert torch.equal(theta1, theta) and torch.equal(phi1, phi)
    assert torch.equal(theta2, theta)
    close((phi2 - phi).norm(dim=1), RHO)


def test_perturbing_all_moves_theta_and_phi_by_rho_together():
    spy = Spy(lambda theta, phi: 1e6 * theta.sum(1) + phi.square().sum(1))
    theta, phi = random(3, 2), random(3, 5)
    hybrid_gradient(spy, theta, phi, sam, RHO, IS_WEIGHT, perturb="all")
    there_theta, there_phi = spy.points[1]
    step = torch.cat([there_theta - theta, there_phi - phi], 1)
    close(step.norm(dim=1), RHO)
    close((there_theta - theta).norm(dim=1), RHO, 1e-9)
    assert ((there_phi - phi).norm(dim=1) < 1e-4 * RHO).all()
    assert (there_phi != phi).all()


def test_perturbing_all_scales_theta_as_a_weight_in_asam():
    spy = Spy(coupled)
    theta, phi = random(3, 2), random(3, 5)
    w = torch.cat([theta, phi], 1).requires_grad_()
    (g,) = torch.autograd.grad(coupled(w[:, :2], w[:, 2:]).sum(), w)
    hybrid_gradient(spy, theta, phi, asam, RHO, IS_WEIGHT, perturb="all")
    every = torch.cat([torch.tensor([True, True]), IS_WEIGHT])
    close(torch.cat(spy.points[1], 1), (w + asam(w, g, RHO, every)).detach())


@given(w=nonzero_matrices, g=nonzero_matrices, rho=radii, powers=arrays(np.float64, 5, elements=st.floats(-3, 3)))
def test_asam_without_eta_does_not_see_a_rescaling_of_parameters(w, g, rho, powers):
    assume(bool((w * g).any(dim=1).all()))
    scale, weights = torch.from_numpy(10**powers), torch.ones(5, dtype=torch.bool)
    # The same function in parameters u = w / scale has the gradient scale * g.
    epsilon = scale * asam(w / scale, scale * g, rho, weights, eta=0)
    torch.testing.assert_close(epsilon, asam(w, g, rho, weights, eta=0), rtol=1e-9, atol=1e-12)


def test_asam_with_its_default_eta_sees_a_rescaling_of_parameters():
    w, g, scale, weights = random(3, 5), random(3, 5, seed=1), torch.logspace(-2, 2, 5), torch.ones(5, dtype=torch.bool)
    epsilon = scale * asam(w / scale, scale * g, RHO, weights)
    assert (epsilon - asam(w, g, RHO, weights)).norm() > 1e-3 * epsilon.norm()


@given(w=matrices, g=nonzero_matrices, rho=radii)
def test_fsam_lies_on_the_ellipsoid_of_the_damped_fisher_matrix(w, g, rho):
    epsilon = fsam(w, g, rho, IS_WEIGHT)
    torch.testing.assert_close((epsilon * (1 + g * g) * epsilon).sum(1), rho**2, rtol=1e-12, atol=0)


@pytest.mark.parametrize("scale", [1.0, 1e-12, 1e12])
@given(w=matrices, g=nonzero_matrices, rho=radii)
def test_relative_damping_does_not_depend_on_the_size_of_the_gradient(scale, w, g, rho):
    unit = g / g.square().mean(1, keepdim=True).sqrt()
    close(relative_fsam(w, scale * g, rho, IS_WEIGHT, eta=3.0), fsam(w, unit, rho, IS_WEIGHT, eta=3.0), 1e-9)


def test_relative_damping_moves_nothing_where_there_is_no_gradient():
    assert not relative_fsam(random(3, 5), torch.zeros(3, 5), RHO, IS_WEIGHT, eta=1.0).any()


def test_gradients_so_small_that_fsam_is_sam_are_damped_relative_to_each_other():
    w, g = random(3, 5), 1e-6 * random(3, 5, seed=1)
    expected = sam(w, g, RHO, IS_WEIGHT)
    close(fsam(w, g, RHO, IS_WEIGHT), expected, 1e-9)
    assert ((relative_fsam(w, g, RHO, IS_WEIGHT, eta=1.0) - expected).norm(dim=1) > 0.05 * expected.norm(dim=1)).all()


@pytest.mark.parametrize("name", ["erm", "sam", "fsam"])
def test_eta_changes_fsam_alone(fit, name):
    with_eta, without = fit(name, [0.1], [0], eta=1.0), fit(name, [0.1], [0])
    assert torch.equal(with_eta.w, without.w) == (name != "fsam")


@given(w=matrices, g=nonzero_matrices, rho=radii)
def test_fsam_tends_to_sam_as_eta_vanishes(w, g, rho):
    close(fsam(w, g, rho, IS_WEIGHT, eta=1e-16), sam(w, g, rho, IS_WEIGHT), 1e-9)


@every_perturbation
@given(w=matrices, g=nonzero_matrices, rho=radii, seed=st.integers(0, 2**32))
def test_no_feasible_perturbation_gains_more(name, w, g, rho, seed):
    size, best = SIZES[name], PERTURBATIONS[name](w, g, rho, IS_WEIGHT)
    close(size(best, w, g), rho)
    directions = random(200, 3, 5, seed=seed)
    directions[100:] = best * (1 + 0.1 * directions[100:])
    feasible = directions * (rho / size(directions, w, g))[..., None]
    gains = (g * feasible).sum(-1)
    assert (gains <= (g * best).sum(-1) * (1 + 1e-12)).all()


@every_perturbation
@given(w=matrices, g=matrices, rho=radii)
def test_members_never_mix_in_a_perturbation(name, w, g, rho):
    together = PERTURBATIONS[name](w, g, rho, IS_WEIGHT)
    alone = [PERTURBATIONS[name](w[[i]], g[[i]], rho[[i]], IS_WEIGHT) for i in range(3)]
    torch.testing.assert_close(together, torch.cat(alone), rtol=1e-13, atol=0)


@every_perturbation
def test_phi_is_unchanged_after_both_passes(name):
    theta, phi = random(3, 2), random(3, 5)
    kept = theta.clone(), phi.clone()
    hybrid_gradient(coupled, theta, phi, PERTURBATIONS[name], RHO, IS_WEIGHT)
    assert torch.equal(theta, kept[0]) and torch.equal(phi, kept[1])


@every_perturbation
@pytest.mark.parametrize("perturb", ["network", "all"])
def test_phi_is_unchanged_when_the_second_pass_raises(name, perturb):
    def fail(values):
        raise RuntimeError("second pass")

    theta, phi = random(3, 2), random(3, 5)
    kept = theta.clone(), phi.clone()
    with pytest.raises(RuntimeError, match="second pass"):
        hybrid_gradient(Spy(coupled, fail), theta, phi, PERTURBATIONS[name], RHO, IS_WEIGHT, perturb)
    assert torch.equal(theta, kept[0]) and torch.equal(phi, kept[1])


@every_perturbation
def test_zero_gradient_gives_zero_perturbation(name):
    w, g = random(3, 5), random(3, 5, seed=1)
    g[1] = 0
    epsilon = PERTURBATIONS[name](w, g, RHO, IS_WEIGHT)
    assert torch.equal(epsilon[1], torch.zeros(5, dtype=torch.float64))
    assert epsilon[[0, 2]].ne(0).all()


@every_perturbation
def test_nan_loss_of_one_member_leaves_the_others_unchanged_to_the_bit(name):
    broken = torch.tensor([1.0, torch.nan, 1.0], dtype=torch.float64)
    theta, phi = random(3, 2), random(3, 5)
    healthy, damaged = (
        hybrid_gradient(loss, theta, phi, PERTURBATIONS[name], RHO, IS_WEIGHT)
        for loss in (coupled, lambda theta, phi: broken * coupled(theta, phi))
    )
    for good, bad in zip(healthy, damaged, strict=True):
        assert torch.equal(bad[[0, 2]], good[[0, 2]])
        assert bad[1].isnan().all()


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_loss_that_breaks_in_the_second_pass_alone_is_returned(bad):
    factor = torch.tensor([1.0, bad, 1.0], dtype=torch.float64)
    theta, phi = random(3, 2), random(3, 5)
    values, _, _ = hybrid_gradient(Spy(coupled, lambda values: factor * values), theta, phi, sam, RHO, IS_WEIGHT)
    assert values.isfinite().tolist() == [True, False, True]
    assert torch.equal(values[[0, 2]], coupled(theta, phi)[[0, 2]])


def central_differences(function, x, h=1e-6):
    steps = h * torch.eye(x.shape[1], dtype=x.dtype)
    return torch.stack([(function(x + step) - function(x - step)) / (2 * h) for step in steps], 1)


@every_perturbation
def test_gradients_are_those_at_the_perturbed_point_with_epsilon_held_constant(name):
    theta, phi, spy = random(3, 2), random(3, 5), Spy(coupled)
    _, g_theta, g_phi = hybrid_gradient(spy, theta, phi, PERTURBATIONS[name], RHO, IS_WEIGHT)
    there = spy.points[1][1]
    close(g_theta, central_differences(lambda x: coupled(x, there), theta), 1e-7)
    close(g_phi, central_differences(lambda x: coupled(theta, x), there), 1e-7)

    def following(x):  # epsilon recomputed for every theta: the second-order term that must be absent
        moved = Spy(coupled)
        hybrid_gradient(moved, x, phi, PERTURBATIONS[name], RHO, IS_WEIGHT)
        return coupled(x, moved.points[1][1])

    assert (g_theta - central_differences(following, theta)).norm() > 1e-3 * g_theta.norm()


@pytest.mark.parametrize("adaptive", [False, True])
def test_perturbed_gradient_equals_that_of_pytorch_optimizer(adaptive):
    generator = torch.Generator().manual_seed(0)
    mlp = MLP((2, 8, 8, 1))
    phi = mlp.initial(generator).double()[None]
    net = torch.nn.Sequential(
        *(torch.nn.Linear(2, 8), torch.nn.ReLU(), torch.nn.Linear(8, 8), torch.nn.ReLU(), torch.nn.Linear(8, 1))
    ).double()
    torch.nn.utils.vector_to_parameters(phi[0], net.parameters())
    theta, x, y = random(1, 1), random(1, 30, 2, seed=1), random(1, 30, 1, seed=2)

    def ours(theta, phi):
        return (theta * x[..., :1] + mlp(mlp.unflatten(phi), x) - y).square().mean((1, 2))

    weights = torch.ones(len(mlp), dtype=torch.bool)
    perturbation = partial(asam, eta=0) if adaptive else sam
    rho = torch.tensor([0.5], dtype=torch.float64)
    _, _, g_phi = hybrid_gradient(ours, theta, phi, perturbation, rho, weights)

    optimizer = SAM(net.parameters(), torch.optim.SGD, rho=0.5, adaptive=adaptive, lr=0.1)
    for pass_after in (optimizer.first_step, None):
        (theta[0] * x[0, :, :1] + net(x[0]) - y[0]).square().mean().backward()
        if pass_after:
            plain = parameters_to_vector([p.grad for p in net.parameters()])
            pass_after(zero_grad=True)
    theirs = parameters_to_vector([p.grad for p in net.parameters()])
    torch.testing.assert_close(g_phi[0], theirs, rtol=1e-6, atol=1e-8)
    assert (theirs - plain).norm() > 1e-2 * plain.norm()


@pytest.mark.parametrize("name", ["erm", "sam", "asam", "fsam"])
def test_methods_without_a_penalty_minimize_the_mean_squared_error(loss, model, trajectories, name):
    data, raw, phi = trajectories(), model.parameters.initial(3, torch.float64), random(3, len(model.network))
    error = mean_squared_error(loss, model.parameters.constrain(raw), phi, data)
    assert torch.equal(objective(loss, get_method(name), RHO, data)(raw, phi), error)


@pytest.mark.parametrize("name", ["l2reg", "freg"])
def test_penalties_are_added_in_proportion_to_each_members_rho(loss, model, trajectories, name):
    data, raw, phi = trajectories(), model.parameters.initial(3, torch.float64), random(3, len(model.network))
    penalty = (phi**2).sum(1) if name == "l2reg" else model.penalty(None, phi, data, None)
    error = mean_squared_error(loss, model.parameters.constrain(raw), phi, data)
    close(objective(loss, get_method(name), RHO, data)(raw, phi), error + RHO * penalty)


def test_mean_squared_error_averages_over_samples_times_and_components(loss, model, trajectories):
    data, phi = trajectories(), random(2, len(model.network)) / 10
    theta = torch.tensor([[0.5], [1.0]], dtype=torch.float64)
    prediction, states = model.predict(theta, phi, data).numpy(), data.inputs["states"][0].numpy()
    by_hand = [np.mean((prediction[i] - states[:, 1:]) ** 2) for i in range(2)]
    np.testing.assert_allclose(mean_squared_error(loss, theta, phi, data), by_hand, rtol=1e-12)


def test_unknown_method_is_refused_with_the_names_that_exist():
    with pytest.raises(UserError, match=r"method: 'adam'.*erm, l2reg, freg, sam, asam, fsam"):
        get_method("adam")
