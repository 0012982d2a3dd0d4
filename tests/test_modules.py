"""Networks made of a user's own nn.Module: members, gradients, initial parameters, what is refused."""

import pytest
import torch
from torch import nn

from hybridsam.core.errors import UserError
from hybridsam.models.networks import MLP, Networks
from hybridsam.models.ode import HybridODE
from hybridsam.models.parameters import Parameter, Parameters
from hybridsam.models.solver import Solver
from hybridsam.models.torch_module import TorchModule
from hybridsam.tasks import pendulum
from hybridsam.training.loop import generator

RHOS = {"erm": 0.0, "l2reg": 1e-3, "freg": 0.1, "sam": 0.05, "asam": 0.05, "fsam": 0.05}
HISTORIES = ("theta", "train_loss", "validation_loss", "grad_norm_theta", "grad_norm_phi")
every_method = pytest.mark.parametrize("method", RHOS)
by_pytorch = pytest.mark.parametrize("loss_of", ["PyTorch"], indirect=True)


class Own(nn.Module):
    """With a tensor of its own, a normalisation, constants in buffers and a layer that stays as it is."""

    def __init__(self):
        super().__init__()
        self.first, self.last, self.frozen = nn.Linear(2, 6), nn.Linear(6, 2, bias=False), nn.Linear(2, 2)
        self.norm, self.scale = nn.LayerNorm(6), nn.Parameter(torch.tensor(0.5))
        self.frozen.requires_grad_(False)
        self.register_buffer("turn", torch.tensor([[0.0, 1.0], [-1.0, 0.0]]))
        self.register_buffer("order", torch.tensor([1, 0]))

    def forward(self, x):
        learned = self.scale * self.last(torch.tanh(self.norm(self.first(x))))
        return learned + self.frozen(x[..., self.order]) @ self.turn


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(2, 2), nn.Linear(2, 2)
        self.b.weight = self.a.weight

    def forward(self, x):
        return self.b(torch.tanh(self.a(x)))


def plain(activation=nn.Tanh, width=8):
    return nn.Sequential(nn.Linear(2, width), activation(), nn.Linear(width, width), activation(), nn.Linear(width, 2))


def model_with(network):
    return HybridODE(
        pendulum.science, Parameters([Parameter("omega", "rad s-1", 0.5)]), network, Solver(step=0.25), 1.0
    )


def members(network, n):
    return torch.stack([network.initial(torch.Generator().manual_seed(i)) for i in range(n)]).double()


def as_module(network, phi):
    """The module that a member stands for; what is frozen in it is that of the network."""
    module = network._made(0).double()
    nn.utils.vector_to_parameters(phi, [p for p in module.parameters() if p.requires_grad])
    return module


@pytest.mark.parametrize("make", [Own, plain, Tied])
def test_each_member_equals_the_module_with_its_weights(make):
    network = TorchModule(make)
    phi, x = members(network, 3), torch.randn(3, 10, 2, dtype=torch.float64)
    y = network(network.unflatten(phi), x)
    for i in range(3):
        torch.testing.assert_close(y[i], as_module(network, phi[i])(x[i]), rtol=1e-12, atol=1e-12)


def test_members_under_vmap_are_those_one_after_the_other(monkeypatch):
    """As on a GPU."""
    network = TorchModule(Own)
    phi, x = members(network, 3), torch.randn(3, 10, 2, dtype=torch.float64)
    expected = network(network.unflatten(phi), x)
    monkeypatch.setattr("hybridsam.models.torch_module.each_member", lambda one, layers, x: torch.vmap(one)(layers, x))
    torch.testing.assert_close(network(network.unflatten(phi), x), expected, rtol=1e-12, atol=1e-12)


def test_gradient_of_a_member_is_that_of_the_module_and_zero_elsewhere():
    network = TorchModule(Own)
    phi, x = members(network, 2).requires_grad_(), torch.randn(2, 10, 2, dtype=torch.float64)
    [g] = torch.autograd.grad(network(network.unflatten(phi), x)[0].square().sum(), phi)
    module = as_module(network, phi[0].detach())
    module(x[0]).square().sum().backward()
    theirs = torch.cat([p.grad.flatten() for p in module.parameters() if p.requires_grad])
    torch.testing.assert_close(g[0], theirs, rtol=1e-10, atol=1e-12)
    assert g[1].eq(0).all() and g[0].ne(0).any()


@pytest.mark.slow
@by_pytorch
@every_method
def test_training_through_a_module_equals_that_of_the_built_in_network(fit, method, monkeypatch):
    built_in, own = MLP((2, 8, 8, 2)), TorchModule(lambda: plain(nn.ReLU))
    monkeypatch.setattr(own, "initial", built_in.initial)
    run = {"rho": [RHOS[method]] * 2, "seeds": [3, 5], "iterations": 10}
    expected, found = (fit(method, model=model_with(network), **run) for network in (built_in, own))
    torch.testing.assert_close(found.w, expected.w, rtol=1e-8, atol=1e-10)
    for name in HISTORIES:
        torch.testing.assert_close(found.history[name], expected.history[name], rtol=1e-7, atol=1e-10, equal_nan=True)


@pytest.mark.slow
@by_pytorch
@every_method
def test_a_member_equals_the_same_run_alone(fit, method):
    model, rhos = model_with(TorchModule(Own)), [RHOS[method] * factor for factor in (1, 2, 1)]
    together = fit(method, rhos, [0, 1, 2], model=model, iterations=6)
    for i, rho in enumerate(rhos):
        alone = fit(method, [rho], [i], model=model_with(TorchModule(Own)), iterations=6)
        torch.testing.assert_close(together.w[i], alone.w[0], rtol=1e-12, atol=1e-12)
    assert not torch.allclose(together.w[0], together.w[2], atol=1e-3)


def test_members_begin_as_new_modules_do():
    network = TorchModule(lambda: plain(width=50))
    phi, again, other = (network.initial(generator(seed, "initialisation")) for seed in (0, 0, 1))
    assert torch.equal(phi, again) and not torch.isclose(phi, other).all()
    weight, bound = network.unflatten(phi[None])["2.weight"], 50**-0.5
    assert weight.abs().max() <= bound
    assert weight.std().item() == pytest.approx(bound / 3**0.5, rel=0.05)
    own = TorchModule(Own)
    layers = own.unflatten(own.initial(torch.Generator().manual_seed(0))[None])
    assert layers["norm.weight"].eq(1).all() and layers["scale"].item() == 0.5


def test_random_numbers_of_others_are_left_as_they_were():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    TorchModule(Own).initial(torch.Generator().manual_seed(0))
    assert torch.equal(torch.rand(3), expected)


def test_what_needs_no_gradient_is_the_same_in_every_process():
    one = TorchModule(Own)
    torch.manual_seed(1)
    other = TorchModule(Own)
    assert set(one.constants) == {"frozen.weight", "frozen.bias", "turn", "order"}
    assert all(torch.equal(one.constants[name], other.constants[name]) for name in one.constants)
    assert not any(name.startswith("frozen") for name in one.shapes)


def test_biases_are_no_weights_and_all_else_is():
    network = TorchModule(Own)
    kinds = {name: set(v.flatten().tolist()) for name, v in network.unflatten(network.is_weight()[None]).items()}
    weights = {"first.weight": {True}, "last.weight": {True}, "norm.weight": {True}, "scale": {True}}
    assert kinds == weights | {"first.bias": {False}, "norm.bias": {False}}


def test_tied_parameters_are_one():
    assert len(TorchModule(Tied)) == 2 * 2 + 2 + 2


def test_a_module_and_a_built_in_network_make_one():
    parts = {"own": TorchModule(Own), "mlp": MLP((2, 3, 1))}
    both = Networks(**parts)
    generators = [torch.Generator().manual_seed(0) for _ in range(2)]
    phi = both.initial(generators[0])
    each = {name: network.initial(generators[1]) for name, network in parts.items()}
    assert torch.equal(phi, torch.cat(list(each.values()))) and len(both) == len(phi)
    assert torch.equal(both.is_weight(), torch.cat([network.is_weight() for network in parts.values()]))
    layers, x = both.unflatten(phi[None]), torch.randn(1, 4, 2)
    for name, network in parts.items():
        alone = network(network.unflatten(each[name][None]), x)
        assert torch.equal(network(both.layers_of(name, layers), x), alone)


shared = plain()


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (plain(), "takes a function that makes a module"),
        (lambda: nn.Tanh(), "Tanh has no parameters that can be trained"),
        (lambda: nn.LazyLinear(2), "the parameter weight has no size yet"),
        (lambda: nn.Linear(2, 2, dtype=torch.complex64), "the parameter weight is torch.complex64"),
        (lambda: shared, "must make a new module at every call"),
        (lambda: nn.Sequential(nn.Linear(2, 4), nn.BatchNorm1d(4)), "changes the buffer 1.*track_running_stats=False"),
    ],
)
def test_what_cannot_be_trained_is_refused(make, words):
    with pytest.raises(UserError, match=words):
        network = TorchModule(make)
        network(network.unflatten(members(network, 2).float()), torch.randn(2, 5, 2))


@pytest.mark.parametrize(
    "norm", [lambda: nn.BatchNorm1d(4, track_running_stats=False), lambda: nn.BatchNorm1d(4).eval()]
)
def test_batch_norm_without_memory_may_be_used(norm):
    network = TorchModule(lambda: nn.Sequential(nn.Linear(2, 4), norm(), nn.Linear(4, 2)))
    phi, x = members(network, 2), torch.randn(2, 5, 2, dtype=torch.float64)
    y = network(network.unflatten(phi), x)
    torch.testing.assert_close(y[1], as_module(network, phi[1])(x[1]), rtol=1e-10, atol=1e-10)
