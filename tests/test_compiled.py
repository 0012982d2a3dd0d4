"""The compiled path: its losses and gradients are those of PyTorch, and members, threads and segments change no bit."""

import copy
import logging
import platform
import re
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hybridsam.core.methods import get_method
from hybridsam.models.convolutions import ConvNet
from hybridsam.models.law import HybridMap, HybridSum
from hybridsam.models.networks import MLP
from hybridsam.models.ode import HybridODE
from hybridsam.models.parameters import Parameter, Parameters
from hybridsam.models.samples import Samples
from hybridsam.models.solver import Solver
from hybridsam.tasks import reaction_diffusion
from hybridsam.training import compiled
from hybridsam.training.compiled import faster_loss
from hybridsam.training.loop import Training, adam_step, initial_state
from hybridsam.training.loss import Loss, objective
from hybridsam.training.methods import PERTURBATIONS, gradient, hybrid_gradient

PREY_AND_PREDATORS = Parameters(
    [Parameter("growth", "1", 0.8, "softplus", lower=0.0), Parameter("death", "1", 0.6, "none")]
)


class Predation(HybridODE):
    """A user's model: the network supplies the one rate at which prey is eaten, of three states."""

    def __init__(self, hidden, solver=None):
        super().__init__(self.known, PREY_AND_PREDATORS, MLP((3, *hidden, 1)), solver or Solver(step=0.1))

    def known(self, theta, x):
        prey, predators, resource = x.unbind(-1)
        grown = theta["growth"] * prey * resource / (1 + resource)
        return torch.stack([grown, -theta["death"] * predators, torch.cos(resource) - grown], -1)

    def field(self, theta, x, g):
        eaten = torch.tanh(x[..., 0] * x[..., 1]) * g[..., 0]
        return self.known(theta, x) + torch.stack([-eaten, 0.5 * eaten, torch.zeros_like(eaten)], -1)


def random(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def time_series(samples, times, own=0, components=3):
    """Random states at irregular times; own: of how many members, 0 for shared by all."""
    states = random(own or 1, samples, times, components).abs() / 2
    ends = torch.linspace(0, 1, times, dtype=torch.float64) ** 1.5 + torch.arange(times) / 10
    return Samples({"states": states}, states[:, :, 1:], tuple(ends.tolist()))


def network_behind(n_in, hidden, n_out, kind=HybridMap):
    """A law of n_out components through a network that sees n_in - n_out inputs beside it."""
    parameters = Parameters([Parameter("a", "1", 0.5, "none")])
    return kind(
        lambda theta, u: torch.sin(theta["a"][..., None] * u["u"]),
        *(parameters, MLP((n_in, *hidden, n_out)), "y", ("u", "beside"), {"beside": 0.3}, False),
    )


def of_map(samples, n_in, n_out, own=0):
    inputs = {"u": random(own or 1, samples, n_out), "beside": random(own or 1, samples, n_in - n_out, seed=1)}
    return Samples(inputs, random(own or 1, samples, n_out, seed=2))


def weights(model, members):
    """Unconstrained theta and phi of different members."""
    generator = torch.Generator().manual_seed(0)
    phi = torch.stack([model.network.initial(generator) for _ in range(members)]).double()
    return model.parameters.initial(members, torch.float64) + 0.1 * random(members, len(model.parameters)), phi


def compiled_loss(model, data):
    """Whether it agrees with PyTorch is for the test to find."""
    return compiled._compiled(model, data)


def assert_agree(model, data, members=2, tolerance=1e-10, method="erm"):
    theta, phi = weights(model, members)
    rho = torch.linspace(0.01, 0.3, members, dtype=torch.float64)
    slow, fast = (
        gradient(objective(loss, get_method(method), rho, data), theta, phi)
        for loss in (Loss(model), compiled_loss(model, data))
    )
    for expected, found in zip(slow, fast, strict=True):
        torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance * expected.norm().item())


# The same numbers as PyTorch's


widths = st.lists(st.integers(1, 70), max_size=3)


@pytest.mark.slow
@settings(max_examples=25)
@given(hidden=widths, samples=st.integers(1, 90), times=st.integers(2, 5), members=st.integers(1, 3), own=st.booleans())
def test_rollouts_agree_with_automatic_differentiation(hidden, samples, times, members, own):
    assert_agree(Predation(hidden), time_series(samples, times, members * own), members)


@settings(max_examples=25)
@given(hidden=widths, n_out=st.integers(1, 20), more=st.integers(0, 30), samples=st.integers(1, 400), own=st.booleans())
def test_maps_agree_with_automatic_differentiation(hidden, n_out, more, samples, own):
    model, data = network_behind(n_out + more, hidden, n_out), of_map(samples, n_out + more, n_out, 2 * own)
    assert_agree(model, data)


def on_a_grid(channels, network=ConvNet):
    """Diffusion of two components, and a convolutional network."""
    parameters = Parameters([Parameter("a", "1", 0.1, "none"), Parameter("b", "1", 0.2, "none")])
    return reaction_diffusion.Diffusion(1.0, parameters, network((2, *channels, 2)), Solver(step=0.2))


def fields(samples=3, height=5, width=6):
    states = random(1, samples, 3, height, width, 2)
    return Samples({"states": states}, states[:, :, 1:], (0.0, 0.1, 0.3))


@settings(max_examples=15)
@given(
    channels=st.lists(st.integers(1, 20), max_size=3),
    samples=st.integers(1, 6),
    sides=st.tuples(st.integers(3, 9), st.integers(3, 20)),
    members=st.integers(1, 2),
)
def test_fields_agree_with_automatic_differentiation(channels, samples, sides, members):
    assert_agree(on_a_grid(channels), fields(samples, *sides), members, 1e-9)


@pytest.mark.parametrize("channels", [(16, 16), (5,), (4, 33, 7)])
def test_a_convolutional_network_has_the_derivatives_of_torch(channels):
    network = ConvNet((3, *channels, 2))
    fast = compiled.CompiledConvNet(network, torch.float64).one
    phi = network.initial(torch.Generator().manual_seed(0)).double()
    x, upstream = random(4, 6, 5, 3), random(4, 6, 5, 2, seed=1)
    results = []
    for one in (network.one, fast):
        own_x, own_phi = x.clone().requires_grad_(), phi.clone().requires_grad_()
        layers = {name: values[0] for name, values in network.unflatten(own_phi[None]).items()}
        y = one(layers, own_x)
        results.append((y.detach(), *torch.autograd.grad(y, (own_x, own_phi), upstream)))
    for expected, found in zip(*results, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-11)


@pytest.mark.parametrize("threads", [2, 5])
def test_threads_change_no_bit_of_a_convolutional_network(threads):
    network = ConvNet((2, 6, 2))
    fast = compiled.CompiledConvNet(network, torch.float32).one
    phi, x = network.initial(torch.Generator().manual_seed(0)).requires_grad_(), random(9, 8, 8, 2).float()
    layers = {name: values[0] for name, values in network.unflatten(phi[None]).items()}
    results = []
    try:
        for n in (1, threads):
            torch.set_num_threads(n)
            y = fast(layers, x)
            results.append((y.detach(), *torch.autograd.grad(y, phi, torch.ones_like(y))))
    finally:
        torch.set_num_threads(1)
    assert all(torch.equal(one, other) for one, other in zip(*results, strict=True))


@pytest.mark.skipif(platform.machine() != "x86_64", reason="names x86 processors")
@pytest.mark.parametrize("processor", ["x86-64", "haswell"])
def test_vectors_of_other_processors_give_the_same_numbers(monkeypatch, processor):
    """Without and with AVX; code for AVX-512 is what a newer processor makes of -march=native."""
    if processor == "haswell" and "avx2" not in Path("/proc/cpuinfo").read_text():
        pytest.skip("this processor has no AVX2")
    monkeypatch.setattr(compiled, "target", lambda: (compiled.compiler(), f"-march={processor}", processor))
    assert_agree(Predation([33, 20]), time_series(70, 4))
    assert_agree(network_behind(12, [33, 20], 5), of_map(300, 12, 5))
    assert_agree(on_a_grid([5, 17]), fields(3, 5, 9), 1, 1e-9)


@pytest.mark.parametrize("method", ["freg", "l2reg"])
def test_penalties_agree_with_automatic_differentiation(method):
    assert_agree(Predation([8]), time_series(5, 4), method=method)
    assert_agree(network_behind(7, [9], 4), of_map(12, 7, 4), method=method)


class Distance:
    """A penalty of a user's own, which looks at the prediction."""

    def penalty(self, theta, phi, data, prediction):
        return (prediction - 1).abs().flatten(1).mean(1)


@pytest.mark.parametrize("name", ["rollout", "map"])
def test_a_penalty_of_the_models_own_class_is_the_one_that_is_minimized(name):
    model, data = {
        "rollout": lambda: (type("Own", (Distance, Predation), {})([8]), time_series(5, 4)),
        "map": lambda: (network_behind(7, [9], 4, type("Own", (Distance, HybridMap), {})), of_map(12, 7, 4)),
    }[name]()
    assert_agree(model, data, method="freg")


@pytest.mark.slow
def test_activations_that_are_computed_again_give_the_same_gradient():
    """Of this network some fifty steps are kept at once, with 48 MiB."""
    assert_agree(Predation([1024, 8], Solver(step=0.01)), time_series(28, 3))


def test_gradient_in_single_precision_is_that_in_double_precision(build, dataset):
    model = build(hidden=[128, 128])
    state = initial_state(model, [0, 1], training_in("float32"))
    theta, phi = state.w[:, :1], state.w[:, 1:]
    exact, single = (model.data(dataset, "train", dtype) for dtype in (torch.float64, torch.float32))
    erm, rho = get_method("erm"), torch.zeros(2)
    expected = gradient(objective(Loss(model), erm, rho, exact), theta.double(), phi.double())
    loss = compiled.CompiledODE(model, single)
    for found, values in zip(gradient(objective(loss, erm, rho, single), theta, phi), expected, strict=True):
        assert (found - values).norm() < 1e-5 * values.norm()


def training_in(dtype):
    return Training(10, 1e-3, 1e-5, 10.0, 10.0, "network", 1, 5, dtype)


@pytest.mark.parametrize("name", ["erm", "sam", "asam", "fsam", "freg"])
def test_ten_iterations_follow_those_of_pytorch(build, dataset, name):
    model, how, method = build(hidden=[32, 32]), training_in("float32"), get_method(name)
    data, curves = model.data(dataset, "train", torch.float32), []
    for loss in (Loss(model), compiled.CompiledODE(model, data)):
        state, curve = initial_state(model, [0, 1], how), []
        for _ in range(10):
            rho = torch.tensor([0.02, 0.1])
            minimized = objective(loss, method, rho, data)
            theta, phi = state.w[:, :1], state.w[:, 1:]
            values, *g = hybrid_gradient(
                minimized, theta, phi, PERTURBATIONS[method.perturbation], rho, model.network.is_weight()
            )
            adam_step(state, values, torch.cat(g, 1), how, torch.ones_like(state.w[0]))
            state.step += 1
            curve.append(values)
        curves.append(torch.stack(curve))
    torch.testing.assert_close(*curves, rtol=1e-4, atol=0)
    assert (curves[0][0] != curves[0][-1]).all()


# Not one bit depends on the company


CASES = {
    "rollout": (Predation([33, 20]), time_series(70, 4)),
    "map": (network_behind(12, [33, 20], 5), of_map(500, 12, 5)),
}


def of_members(model, data, theta, phi):
    """Error and gradients, by the compiled code alone."""
    theta, loss = model.parameters.constrain(theta).detach(), compiled_loss(model, data)
    if isinstance(model, HybridODE):
        return loss._error(data, [True] * 2, theta, phi)
    targets = data.targets.expand(len(theta), *data.targets.shape[1:])
    science = model.predict_science(theta, None, data)
    return loss._error(model.seen_by_network(data), [True] * 3, phi.contiguous(), science, targets.contiguous())


@pytest.mark.parametrize("name", CASES)
def test_a_member_is_the_same_to_the_bit_alone_and_in_any_company(name):
    model, data = CASES[name]
    theta, phi = weights(model, 4)
    together = of_members(model, data, theta, phi)
    for i in range(4):
        alone = of_members(model, data, theta[[i]], phi[[i]])
        assert all(torch.equal(all_[[i]], one) for all_, one in zip(together, alone, strict=True))


@pytest.mark.parametrize("name", CASES)
def test_threads_change_no_bit(name):
    model, data = CASES[name]
    theta, phi = weights(model, 3)
    results = []
    try:
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            results.append(of_members(model, data, theta, phi))
    finally:
        torch.set_num_threads(1)
    for other in results[1:]:
        assert all(torch.equal(one, two) for one, two in zip(results[0], other, strict=True))


@pytest.mark.parametrize("name", CASES)
def test_a_member_that_is_not_finite_changes_no_bit_of_the_others_and_is_seen(name):
    model, data = CASES[name]
    theta, phi = weights(model, 3)
    healthy = of_members(model, data, theta, phi)
    for position in (0, len(model.network) // 2, -1):  # weights of the first layer, of a hidden one, the last bias
        broken = phi.clone()
        broken[1, position] = torch.nan
        found = of_members(model, data, theta, broken)
        assert found[0][1].isnan()
        assert all(torch.equal(a[[0, 2]], b[[0, 2]]) for a, b in zip(healthy, found, strict=True))


@pytest.mark.parametrize("name", CASES)
def test_a_loss_without_gradient_is_the_same(name):
    model, data = CASES[name]
    theta, phi = weights(model, 2)
    loss, natural = compiled_loss(model, data), model.parameters.constrain(theta)
    with torch.no_grad():
        plain = loss(natural, phi, data)
    assert torch.equal(plain, loss(natural, phi.requires_grad_(), data).detach())


# Which path is taken


@pytest.fixture
def log(caplog):
    caplog.set_level(logging.INFO, logger="hybridsam.training.compiled")
    return caplog


def test_the_log_says_that_compiled_code_is_used(log):
    assert isinstance(faster_loss(Predation([4]), time_series(3, 4)), compiled.CompiledODE)
    assert [record.message for record in log.records] == ["training with C++ compiled for this CPU"]


class Tanks(Predation):
    """A science of kinks: the flow between two tanks goes where the level is lower."""

    def field(self, theta, x, g):
        d = x[..., 0] - x[..., 1]
        flow = theta["growth"] * torch.sign(d) * torch.sqrt(torch.abs(d))
        return torch.stack([-flow, flow, theta["death"] * torch.clamp(x[..., 2], 0, 1)], -1) + g


def test_a_science_with_kinks_is_compiled(log):
    assert isinstance(faster_loss(Tanks([4]), time_series(3, 4)), compiled.CompiledODE)
    assert [record.message for record in log.records] == ["training with C++ compiled for this CPU"]
    assert_agree(Tanks([4]), time_series(9, 4))


@pytest.fixture
def no_cache(monkeypatch, tmp_path):
    """An empty cache of compiled code and a compiler to be named."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    for function in (compiled.compiler, compiled.target):
        function.cache_clear()
    yield tmp_path
    for function in (compiled.compiler, compiled.target):
        function.cache_clear()


@pytest.mark.parametrize(("compiler", "reason"), [("no-such-compiler", "no C.. compiler"), ("false", "false failed")])
def test_without_a_compiler_pytorch_takes_over_and_the_log_says_so(log, no_cache, monkeypatch, compiler, reason):
    monkeypatch.setenv("CXX", compiler)
    assert faster_loss(Predation([4]), time_series(3, 4)) is None
    (record,) = log.records
    assert record.levelname == "WARNING" and "PyTorch" in record.message
    assert re.search(reason, record.message)
    assert not list(no_cache.glob("**/*.so"))


@pytest.mark.slow
def test_a_cache_that_cannot_be_written_or_is_damaged_is_no_error(log, no_cache, monkeypatch):
    assert faster_loss(Predation([4]), time_series(3, 4))
    (file,) = (no_cache / "hybridsam").glob("*.so")
    (no_cache / "damaged/hybridsam").mkdir(parents=True)
    (no_cache / "damaged/hybridsam" / file.name).write_bytes(file.read_bytes()[:100])
    (no_cache / "a file").write_text("")
    for name in ("damaged", "a file"):
        monkeypatch.setenv("XDG_CACHE_HOME", str(no_cache / name))
        assert faster_loss(Predation([4]), time_series(3, 4)) is None
        assert name in log.records[-1].message and log.records[-1].levelname == "WARNING"


@pytest.mark.slow
def test_compiled_code_is_found_in_the_cache_and_compiled_anew_for_other_code(no_cache):
    assert all(faster_loss(Predation(hidden), time_series(3, 4)) for hidden in ([4], [4], [7, 5]))
    assert len(list((no_cache / "hybridsam").iterdir())) == 1  # sizes of the network are no part of the code
    assert faster_loss(network_behind(5, [3], 2), of_map(4, 5, 2))
    assert len(list((no_cache / "hybridsam").iterdir())) == 2


class Cumulative(Predation):
    def field(self, theta, x, g):
        return x.cumsum(-1) + g


class Deceptive(Predation):
    """Does something else when it is recorded."""

    def field(self, theta, x, g):
        return super().field(theta, x, g) * (1.0 if isinstance(x, torch.Tensor) else 1.1)


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (Cumulative([4]), "cumsum"),
        (Deceptive([4]), "does not agree"),
        (Predation([4], Solver("dopri5")), "chooses its steps"),
    ],
)
def test_what_cannot_be_followed_stays_with_pytorch_and_the_log_says_why(log, model, reason):
    assert faster_loss(model, time_series(3, 4)) is None
    assert reason in log.records[0].message and log.records[0].levelname == "WARNING"


class Shifted:
    """A prediction of a user's own."""

    def predict(self, theta, phi, data, running=None):
        return super().predict(theta, phi, data, running) + 1


class Zero(ConvNet):
    """Begins in its own way."""

    def initial(self, generator):
        return 0 * super().initial(generator)


WITHOUT = {
    "rollout of one's own": (type("Own", (Shifted, Predation), {})([4]), time_series(3, 4)),
    "map of one's own": (network_behind(5, [3], 2, type("Own", (Shifted, HybridMap), {})), of_map(4, 5, 2)),
    "sum": (network_behind(3, [3], 2, HybridSum), of_map(4, 5, 2)),
    "network of one's own": (on_a_grid([5], Zero), fields()),
}


@pytest.mark.parametrize("name", WITHOUT)
def test_models_for_which_there_is_no_compiled_path_are_left_in_silence(log, name):
    model, data = WITHOUT[name]
    assert faster_loss(model, data) is None
    assert not log.records


def test_on_a_gpu_nothing_is_compiled(log):
    states = torch.empty(1, 3, 4, 3, device="meta")  # which has no numbers, but is no CPU
    assert faster_loss(Predation([4]), Samples({"states": states}, states[:, :, 1:], (0.0, 0.1, 0.2, 0.3))) is None
    assert not log.records


@pytest.mark.parametrize("model", [Predation([4]), Cumulative([4])])
def test_nothing_is_said_where_nothing_will_be_trained(log, model):
    assert faster_loss(model, time_series(3, 4), quiet=True) or isinstance(model, Cumulative)
    assert not log.records


@pytest.mark.parametrize("name", ["rollout", "map", "field"])
def test_a_faster_loss_leaves_the_model_and_its_network_as_they_are(name):
    model, data = (CASES | {"field": (on_a_grid([5]), fields())})[name]
    theta, phi = weights(model, 2)
    owners = (model, model.network, type(model), type(model.network))
    copy.copy(model)  # which leaves __slotnames__ in a class
    before, prediction = [dict(vars(owner)) for owner in owners], model.predict(theta, phi, data)
    loss = faster_loss(model, data)
    loss(theta, phi, data)
    assert [dict(vars(owner)) for owner in owners] == before
    assert torch.equal(model.predict(theta, phi, data), prediction)
