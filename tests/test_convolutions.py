"""Convolutional networks with a member axis, against plain torch.nn models with the same weights."""

from itertools import pairwise
from math import prod, sqrt

import pytest
import torch
from torch import nn

from hybridsam.models.convolutions import ConvNet, Decoder, UNet
from hybridsam.models.networks import MLP, Networks, RunningStatistics, each_member

NAMES = ("ConvNet", "UNet", "Decoder")
CLOSE = {"rtol": 1e-11, "atol": 1e-12}


def conv_net(channels):
    """As :class:`ConvNet`; channels first."""
    layers = []
    for pair in pairwise(channels):
        layers += [nn.Conv2d(*pair, 3, padding=1), nn.BatchNorm2d(pair[1], track_running_stats=False), nn.ReLU()]
    return nn.Sequential(*layers[:-2])


class TorchUNet(nn.Module):
    """As :class:`UNet` with three levels; channels first. Its parameters stand in the order of ours."""

    def __init__(self, n_in, channels, n_out):
        super().__init__()
        a, b, c = channels
        relu = nn.ReLU()

        def block(*widths):
            parts = [part for pair in pairwise(widths) for part in (nn.Conv2d(*pair, 3, padding=1), relu)]
            return nn.Sequential(*parts)

        self.down = nn.ModuleList([block(n_in, a, a), block(a, b, b), block(b, c, c)])
        self.up1, self.join1 = block(c, b), block(2 * b, b, b)
        self.up0, self.join0 = block(b, a), block(2 * a, a, a)
        self.out = nn.Conv2d(a, n_out, 1)
        self.halve, self.double_size = nn.MaxPool2d(2), nn.Upsample(scale_factor=2, mode="nearest")

    def forward(self, x):
        first = self.down[0](x)
        second = self.down[1](self.halve(first))
        x = self.down[2](self.halve(second))
        x = self.join1(torch.cat([self.up1(self.double_size(x)), second], 1))
        x = self.join0(torch.cat([self.up0(self.double_size(x)), first], 1))
        return self.out(x)


def decoder(n_in, channels, **norm):
    """As :class:`Decoder`; images channels first."""
    layers = [nn.Linear(n_in, channels[0] * 9), nn.Unflatten(1, (channels[0], 3, 3))]
    for before, after in pairwise((*channels, 1)):
        layers += [nn.BatchNorm2d(before, **norm), nn.ReLU(), nn.Upsample(scale_factor=2, mode="nearest")]
        layers += [nn.Conv2d(before, after, 3, padding=1)]
    return nn.Sequential(*layers)


# name -> our network, the plain one, the shape of a sample
CASES = {
    "ConvNet": (ConvNet((2, 5, 4, 2)), lambda: conv_net((2, 5, 4, 2)), (7, 5, 2)),
    "UNet": (UNet(3, (3, 4, 5), 2), lambda: TorchUNet(3, (3, 4, 5), 2), (8, 12, 3)),
    "Decoder": (Decoder(4, (6, 5, 3)), lambda: decoder(4, (6, 5, 3), track_running_stats=False), (4,)),
}
TINY = {
    "ConvNet": (ConvNet((1, 2, 1)), (3, 2, 1)),
    "UNet": (UNet(1, (1, 2), 1), (4, 4, 1)),
    "Decoder": (Decoder(2, (2,)), (2,)),
}
every_network = pytest.mark.parametrize("name", NAMES)


def drawn(network, members, dtype=torch.float64):
    """phi of some members, of which BatchNorm has left the identity."""
    phi = torch.stack([network.initial(torch.Generator().manual_seed(i)) for i in range(members)]).to(dtype)
    return phi + 0.1 * torch.randn(phi.shape, dtype=dtype, generator=torch.Generator().manual_seed(99))


def samples(shape, members, n=6, dtype=torch.float64):
    return torch.randn(members, n, *shape, dtype=dtype, generator=torch.Generator().manual_seed(7))


def apply(network, phi, x):
    """The output alone, of a decoder too."""
    layers = network.unflatten(phi)
    return network.decode(layers, x)[0] if isinstance(network, Decoder) else network(layers, x)


def plain(make, phi):
    net = make().double()
    assert sum(p.numel() for p in net.parameters()) == len(phi)
    nn.utils.vector_to_parameters(phi, net.parameters())
    return net


def channels_first(x):
    return x.movedim(-1, 1) if x.dim() == 4 else x


# Against torch.nn


@every_network
def test_each_member_equals_a_torch_network_with_its_weights(name):
    network, make, shape = CASES[name]
    phi, x = drawn(network, 3), samples(shape, 3)
    y = apply(network, phi, x)
    for i in range(3):
        expected = plain(make, phi[i])(channels_first(x[i])).movedim(1, -1)
        assert y[i].shape == expected.shape
        torch.testing.assert_close(y[i], expected, **CLOSE)
    assert y.std() > 1e-3


@every_network
def test_gradient_of_a_member_is_that_of_a_torch_network_and_zero_elsewhere(name):
    network, make, shape = CASES[name]
    phi, x = drawn(network, 2).requires_grad_(), samples(shape, 2)
    (g,) = torch.autograd.grad(apply(network, phi, x)[1].square().sum(), phi)
    net = plain(make, phi[1].detach())
    net(channels_first(x[1])).square().sum().backward()
    expected = nn.utils.parameters_to_vector([p.grad for p in net.parameters()])
    torch.testing.assert_close(g[1], expected, rtol=1e-9, atol=1e-11)
    assert g[0].eq(0).all()


@pytest.mark.slow
@every_network
def test_gradients_are_those_of_finite_differences(name):
    network, shape = TINY[name]
    phi, x = drawn(network, 2).requires_grad_(), samples(shape, 2, n=3).requires_grad_()
    assert torch.autograd.gradcheck(lambda phi, x: apply(network, phi, x), (phi, x))


def test_the_decoder_of_the_paper_makes_images_of_24_pixels():
    network = Decoder(6, (128, 64, 32))
    assert network.size == 24
    assert prod(network.shapes["0.weight"]) == 1152 * 6
    phi = drawn(network, 1, torch.float32)
    assert apply(network, phi, samples((6,), 1, n=2, dtype=torch.float32)).shape == (1, 2, 24, 24, 1)


@pytest.mark.parametrize("levels", [1, 2, 4])
def test_a_unet_of_any_depth_keeps_the_size(levels):
    network = UNet(3, tuple(range(2, 2 + levels)), 1)
    x = samples((2**levels, 2 ** (levels + 1), 3), 1, n=2)
    assert apply(network, drawn(network, 1), x).shape == (1, 2, 2**levels, 2 ** (levels + 1), 1)


# Members


@every_network
def test_a_member_of_a_block_equals_the_same_member_alone(name):
    network, _, shape = CASES[name]
    phi, x = drawn(network, 3), samples(shape, 3)
    block = apply(network, phi, x)
    for i in range(3):
        assert torch.equal(apply(network, phi[[i]], x[[i]])[0], block[i])


@every_network
def test_members_can_share_their_samples(name):
    network, _, shape = CASES[name]
    phi, x = drawn(network, 3), samples(shape, 1)
    assert torch.equal(apply(network, phi, x), apply(network, phi, x.repeat(3, *[1] * (x.dim() - 1))))


@every_network
@pytest.mark.parametrize("damage", ["weights", "samples"])
def test_a_member_that_is_not_a_number_leaves_the_others_as_they_are(name, damage):
    network, _, shape = CASES[name]
    phi, x = drawn(network, 3), samples(shape, 3)
    healthy = apply(network, phi, x)
    (phi if damage == "weights" else x)[1] = torch.nan
    damaged = apply(network, phi, x)
    assert damaged[1].isnan().all()
    assert torch.equal(damaged[[0, 2]], healthy[[0, 2]])


@every_network
@pytest.mark.parametrize("evaluation", [False, True])
def test_members_at_once_as_on_a_gpu_equal_members_one_by_one(name, evaluation):
    network, _, shape = CASES[name]
    phi, x = drawn(network, 3), samples(shape, 3)
    layers = network.unflatten(phi)
    if evaluation:
        running = torch.rand(3, len(network.initial_running()), dtype=torch.float64) + 0.5
        layers |= network.unflatten_running(running)
    one_by_one, at_once = each_member(network.one, layers, x), torch.vmap(network.one)(layers, x)
    torch.testing.assert_close(at_once, one_by_one, **CLOSE)


# Parameters


@every_network
def test_initial_parameters_lie_within_one_over_the_root_of_the_fan_in_and_batch_norm_is_the_identity(name):
    wide = {"ConvNet": ConvNet((3, 20, 30, 2)), "UNet": UNet(3, (12, 14), 2), "Decoder": Decoder(9, (20, 16))}[name]
    layers = wide.unflatten(wide.initial(torch.Generator().manual_seed(0))[None])
    for layer in {key.rpartition(".")[0] for key in layers}:
        weight, bias = layers[f"{layer}.weight"][0], layers[f"{layer}.bias"][0]
        if layer.endswith("norm"):
            assert weight.eq(1).all() and bias.eq(0).all()
            continue
        bound = 1 / sqrt(weight[0].numel())
        assert 0.8 * bound < weight.abs().max() <= bound
        assert bias.abs().max() <= bound and bias.unique().numel() == bias.numel()
        assert weight.std().item() == pytest.approx(bound / sqrt(3), rel=0.15)


@every_network
def test_initial_parameters_are_a_function_of_the_seed(name):
    network = CASES[name][0]
    one, again, other = (network.initial(torch.Generator().manual_seed(seed)) for seed in (0, 0, 1))
    assert torch.equal(one, again) and not torch.equal(one, other)
    assert len(one) == len(network) == len(network.is_weight())


@every_network
def test_is_weight_tells_weights_from_biases_also_of_batch_norm(name):
    network = CASES[name][0]
    for key, values in network.unflatten(network.is_weight()[None]).items():
        assert set(values.flatten().tolist()) == {key.endswith("weight")}, key


def test_several_networks_are_one_vector_and_keep_their_own_names():
    parts = {"field": MLP((2, 3, 2)), "decoder": CASES["Decoder"][0], "field2": MLP((4, 1))}
    network = Networks(**parts)
    assert len(network) == sum(len(part) for part in parts.values())
    phi = drawn(network, 2)
    layers = network.unflatten(phi)
    start = 0
    for name, part in parts.items():
        own = part.unflatten(phi[:, start : start + len(part)])
        found = network.layers_of(name, layers)
        assert found.keys() == own.keys()
        assert all(torch.equal(found[key], own[key]) for key in own)
        start += len(part)
    running = network.initial_running()[None]
    assert running.shape == (1, 2 * (6 + 5 + 3))
    names = network.layers_of("decoder", network.unflatten_running(running))
    assert names.keys() == parts["decoder"].running.keys()
    drawn_at_once = network.unflatten(network.initial(torch.Generator().manual_seed(3))[None])
    first = parts["field"].initial(torch.Generator().manual_seed(3))
    assert torch.equal(drawn_at_once["field.0.weight"].flatten(), first[:6])


# Statistics of BatchNorm


def torch_decoder(network, phi, running):
    """A plain decoder with running statistics, (n,) in our order."""
    net = plain(lambda: decoder(4, (6, 5, 3)), phi)
    norms = [layer for layer in net if isinstance(layer, nn.BatchNorm2d)]
    values = network.unflatten_running(running[None])
    for i, norm in enumerate(norms):
        norm.running_mean.copy_(values[f"{i}.norm.mean"][0])
        norm.running_var.copy_(values[f"{i}.norm.variance"][0])
    return net, norms


def statistics_of(norms):
    return torch.cat([values for norm in norms for values in (norm.running_mean, norm.running_var)])


def test_running_statistics_move_as_those_of_torch():
    network = CASES["Decoder"][0]
    phi = drawn(network, 2)
    running = RunningStatistics(network.initial_running().double().repeat(2, 1), training=True)
    plain_ones = [torch_decoder(network, phi[i], running.values[i]) for i in range(2)]
    for step in range(3):
        x = samples((4,), 2, n=5) + step
        running = RunningStatistics(running.values, training=True)
        running.see(network.decode(network.unflatten(phi), x)[1])
        running.see(network.decode(network.unflatten(phi + 1), x)[1])  # a second pass leaves no trace
        running = RunningStatistics(running.moved())
        for i, (net, norms) in enumerate(plain_ones):
            net.train()(x[i])
            torch.testing.assert_close(running.values[i], statistics_of(norms), **CLOSE)
    assert (running.values - network.initial_running()).abs().max() > 0.1


def test_running_statistics_normalise_as_those_of_torch():
    network = CASES["Decoder"][0]
    phi, x = drawn(network, 2), samples((4,), 2)
    running = torch.rand(2, len(network.initial_running()), dtype=torch.float64) + 0.2
    images, _ = network.decode(network.unflatten(phi) | network.unflatten_running(running), x)
    for i in range(2):
        net, _ = torch_decoder(network, phi[i], running[i])
        torch.testing.assert_close(images[i, ..., 0], net.eval()(x[i])[:, 0], **CLOSE)


def test_running_statistics_stay_where_no_batch_was_seen():
    values = torch.rand(2, 4)
    assert RunningStatistics(values, training=True).moved() is values


@pytest.mark.parametrize("name", ["ConvNet", "UNet"])
def test_networks_without_memory_have_no_running_statistics(name):
    network = CASES[name][0]
    assert network.initial_running().shape == (0,)
    assert network.unflatten_running(torch.empty(3, 0)) == {}
