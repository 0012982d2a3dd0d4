"""The fully connected network with a member axis."""

from itertools import pairwise
from math import sqrt

import pytest
import torch
from torch import nn

from hybridsam.models.networks import MLP


def torch_network(sizes, phi):
    layers = [nn.Linear(*pair) for pair in pairwise(sizes)]
    net = nn.Sequential(*[part for layer in layers for part in (layer, nn.ReLU())][:-1]).double()
    nn.utils.vector_to_parameters(phi, net.parameters())
    return net


def members(network, n):
    return torch.stack([network.initial(torch.Generator().manual_seed(i)) for i in range(n)]).double()


@pytest.mark.parametrize("sizes", [(2, 3), (2, 16, 1), (2, 8, 8, 2)])
def test_each_member_equals_a_torch_network_with_its_weights(sizes):
    network = MLP(sizes)
    phi, x = members(network, 3), torch.randn(3, 10, 2, dtype=torch.float64)
    y = network(network.unflatten(phi), x)
    assert y.shape == (3, 10, sizes[-1])
    for i in range(3):
        torch.testing.assert_close(y[i], torch_network(sizes, phi[i])(x[i]), rtol=1e-12, atol=1e-12)


def test_gradient_of_a_member_is_that_of_a_torch_network_and_zero_elsewhere():
    sizes = (2, 8, 8, 2)
    network = MLP(sizes)
    phi, x = members(network, 2).requires_grad_(), torch.randn(2, 10, 2, dtype=torch.float64)
    (g,) = torch.autograd.grad(network(network.unflatten(phi), x)[0].square().sum(), phi)
    net = torch_network(sizes, phi[0].detach())
    net(x[0]).square().sum().backward()
    theirs = nn.utils.parameters_to_vector([p.grad for p in net.parameters()])
    torch.testing.assert_close(g[0], theirs, rtol=1e-10, atol=1e-12)
    assert g[1].eq(0).all()


def test_length_is_the_number_of_weights_and_biases():
    assert len(MLP((2, 128, 128, 2))) == 2 * 128 + 128 + 128 * 128 + 128 + 128 * 2 + 2


def test_unflatten_gives_views_that_hold_every_parameter_once():
    network = MLP((2, 3, 1))
    phi = torch.arange(2.0 * len(network)).view(2, -1)
    layers = network.unflatten(phi)
    assert {name: tuple(values.shape) for name, values in layers.items()} == {
        "0.weight": (2, 3, 2),
        "0.bias": (2, 3),
        "1.weight": (2, 1, 3),
        "1.bias": (2, 1),
    }
    assert torch.equal(torch.cat([values.flatten(1) for values in layers.values()], 1), phi)
    phi[1, 0] = -1
    assert layers["0.weight"][1, 0, 0] == -1


def test_is_weight_tells_weights_from_biases():
    network = MLP((2, 3, 1))
    layers = network.unflatten(network.is_weight()[None])
    assert network.is_weight().dtype == torch.bool
    assert {name: set(values.flatten().tolist()) for name, values in layers.items()} == {
        "0.weight": {True},
        "0.bias": {False},
        "1.weight": {True},
        "1.bias": {False},
    }


def test_initial_parameters_are_uniform_within_one_over_the_root_of_the_fan_in():
    network = MLP((4, 100, 400))
    layers = network.unflatten(network.initial(torch.Generator().manual_seed(0))[None])
    for name, values in layers.items():
        bound = 1 / sqrt(4 if name.startswith("0") else 100)
        assert 0.9 * bound < values.abs().max() <= bound
        assert values.mean().abs() < 0.2 * bound
        assert values.std() == pytest.approx(bound / sqrt(3), rel=0.15)


def test_initial_parameters_have_the_spread_of_torch_linear():
    torch.manual_seed(0)
    network, layer = MLP((50, 200)), nn.Linear(50, 200)
    ours = network.unflatten(network.initial(torch.Generator().manual_seed(0))[None])
    assert ours["0.weight"].std().item() == pytest.approx(layer.weight.std().item(), rel=0.05)
    assert ours["0.bias"].std().item() == pytest.approx(layer.bias.std().item(), rel=0.2)
