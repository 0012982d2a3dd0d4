"""Images of a pendulum: what is drawn, and encoders, motion and decoder against plain PyTorch and SciPy."""

import numpy as np
import pytest
import torch
from helpers import small
from scipy.integrate import solve_ivp
from torch import nn

from hybridsam.analysis.identifiability import identify
from hybridsam.core.errors import UserError
from hybridsam.models.networks import RunningStatistics
from hybridsam.models.samples import Samples
from hybridsam.tasks import pendulum
from hybridsam.tasks.pendulum_images import render

PIXELS, ARM, OMEGA = 12, 0.7, [0.6, 1.3]
double = {"dtype": torch.float64}
PAPER = {"field_sees_latent": False, "decoder_sees_velocity": False}
LATENT, VELOCITY = {"field_sees_latent": True}, {"decoder_sees_velocity": True}
FORMS = [PAPER, PAPER | LATENT, PAPER | VELOCITY, LATENT | VELOCITY]
every_form = pytest.mark.parametrize("form", FORMS, ids=["paper", "latent", "velocity", "latent and velocity"])
two_forms = pytest.mark.parametrize("form", [FORMS[0], FORMS[-1]], ids=["paper", "latent and velocity"])


@pytest.fixture(scope="module")
def dataset():
    return small.dataset_of("pendulum_images", None)


@pytest.fixture
def model():
    return model_of(PAPER)


def model_of(form):
    return small.build("pendulum_images", {"solver": {"method": "rk4", "step": 0.01}} | form)


@pytest.fixture
def data(model, dataset):
    return model.data(dataset, "train", torch.float64, "cpu")


@pytest.fixture
def theta():
    return torch.tensor(OMEGA, **double)[:, None]


@pytest.fixture
def phi(model):
    return phi_of(model)


def phi_of(model):
    drawn = [model.network.initial(torch.Generator().manual_seed(seed)) for seed in (3, 4)]
    return torch.stack(drawn).double()


def part(model, phi, name):
    """The layers of one part, (member, ...)."""
    return model.network.layers_of(name, model.network.unflatten(phi))


def changed(model, phi, name, factor):
    """phi with the parameters of one part multiplied."""
    phi = phi.clone()
    for values in part(model, phi, name).values():
        values.mul_(factor)
    return phi


def plain_mlp(model, phi, name, member):
    """A part as a plain function in NumPy, x (..., in)."""
    layers = {key: values[member].numpy() for key, values in part(model, phi, name).items()}
    last = len(layers) // 2 - 1

    def apply(x):
        for i in range(last + 1):
            x = x @ layers[f"{i}.weight"].T + layers[f"{i}.bias"]
            x = np.maximum(x, 0) if i < last else x
        return x

    return apply


def plain_decoder(model, phi, member):
    """The decoder as a plain network with the statistics of the batch, (n, in) -> (n, y, x)."""
    before, after = model.decoder.channels
    n_in = model.decoder.shapes["0.weight"][1]
    up, relu = nn.Upsample(scale_factor=2, mode="nearest"), nn.ReLU()
    layers = [nn.Linear(n_in, before * 9), nn.Unflatten(1, (before, 3, 3))]
    layers += [nn.BatchNorm2d(before, track_running_stats=False), relu, up, nn.Conv2d(before, after, 3, padding=1)]
    layers += [nn.BatchNorm2d(after, track_running_stats=False), relu, up, nn.Conv2d(after, 1, 3, padding=1)]
    net = nn.Sequential(*layers).double()
    own = torch.cat([values[member].flatten() for values in part(model, phi, "decoder").values()])
    nn.utils.vector_to_parameters(own, net.parameters())
    return lambda x: net(torch.as_tensor(x))[:, 0].detach().numpy()


# Frames


def test_the_bob_hangs_below_the_pivot_at_angle_zero_and_turns_to_the_right():
    """Row 0 is the lowest: y points up."""
    centres = (2 * np.arange(24) + 1) / 24 - 1
    for angle, x, y in ((0.0, 0, -ARM), (np.pi / 2, ARM, 0), (np.pi, 0, ARM), (-np.pi / 6, -ARM / 2, -ARM * 0.75**0.5)):
        frame = render(np.array(angle), centres, ARM, 1 / 12)
        assert frame.shape == (24, 24)
        np.testing.assert_allclose(frame.sum(0) @ centres / frame.sum(), x, atol=1e-3)
        np.testing.assert_allclose(frame.sum(1) @ centres / frame.sum(), y, atol=1e-3)


def test_every_pixel_is_a_gaussian_of_its_distance_from_the_bob(dataset):
    frames, angle = dataset["image"].values[..., 0], dataset["state_true"].values[..., 0]
    assert frames.shape == (14, 5, PIXELS, PIXELS)
    centres = dataset["x"].values
    np.testing.assert_array_equal(centres, dataset["y"].values)
    np.testing.assert_allclose(centres, np.linspace(-1 + 1 / PIXELS, 1 - 1 / PIXELS, PIXELS))
    rng = np.random.default_rng(0)
    for sample, time, row, column in rng.integers(0, [14, 5, PIXELS, PIXELS], (200, 4)):
        q = angle[sample, time]
        distance = np.hypot(centres[column] - ARM * np.sin(q), centres[row] + ARM * np.cos(q))
        in_pixels = distance * PIXELS / 2
        assert frames[sample, time, row, column] == pytest.approx(np.exp(-(in_pixels**2) / 2), abs=1e-6)


def test_frames_show_the_pendulum_of_the_other_task(dataset):
    constants = {name: entry["value"] for name, entry in small.settings_of("pendulum_images")["data"].items()}
    states = pendulum.simulate(constants)
    for name in ("state", "state_true", "rate_true", "time"):
        np.testing.assert_array_equal(dataset[name], states[name])
    assert dataset.attrs["truth"] == states.attrs["truth"] and dataset.attrs["target"] == "image"
    np.testing.assert_allclose(np.diff(dataset["time"]), 0.1)


def test_learning_sees_the_first_frames_and_is_compared_with_all(model, dataset, data):
    frames = dataset["image"].values[dataset["split"].values == "train"]
    np.testing.assert_array_equal(data.inputs["frames"][0], frames[:, :2])
    np.testing.assert_array_equal(data.targets[0], frames)
    assert data.times == tuple(dataset["time"].values)
    assert not data.standard


# Model


def by_hand(model, form, omega, phi, member, data, with_field):
    """States (sample, time, 2) and frames (sample, time, y, x) in NumPy, SciPy and torch.nn."""
    frames = data.inputs["frames"][0].flatten(1).numpy()
    motion, latent, field = (plain_mlp(model, phi, name, member) for name in ("motion", "latent", "field"))
    initial, code = motion(frames), latent(frames)

    def rate(t, flat):
        x = flat.reshape(initial.shape)
        known = np.stack([x[:, 1], -(omega**2) * np.sin(x[:, 0])], -1)
        seen = np.concatenate([x, code], -1) if form["field_sees_latent"] else x
        return (known + with_field * field(seen)).ravel()

    solution = solve_ivp(rate, (0, data.times[-1]), initial.ravel(), t_eval=data.times, rtol=1e-10, atol=1e-10)
    states = solution.y.T.reshape(-1, *initial.shape).swapaxes(0, 1)
    shown = states if form["decoder_sees_velocity"] else states[..., :1]
    seen = np.concatenate([shown, code[:, None].repeat(states.shape[1], 1)], -1)
    images = plain_decoder(model, phi, member)(seen.reshape(-1, seen.shape[-1]))
    return states, images.reshape(*states.shape[:2], PIXELS, PIXELS)


@every_form
@pytest.mark.parametrize("with_field", [True, False], ids=["whole model", "science"])
def test_prediction_is_encoded_moved_and_decoded(data, theta, form, with_field):
    model = model_of(form)
    phi, predict = phi_of(model), model.predict if with_field else model.predict_science
    prediction = predict(theta, phi, data)
    assert prediction.shape == (2, 6, 5, PIXELS, PIXELS, 1)
    for member, omega in enumerate(OMEGA):
        _, images = by_hand(model, form, omega, phi, member, data, with_field)
        np.testing.assert_allclose(prediction[member, ..., 0], images, rtol=0, atol=1e-5)
    assert prediction.std() > 0.05


def test_prediction_and_science_differ_by_the_field_alone(model, data, theta, phi):
    still = changed(model, phi, "field", 0.0)
    assert torch.equal(model.predict(theta, still, data), model.predict_science(theta, still, data))
    assert torch.equal(model.predict_science(theta, still, data), model.predict_science(theta, phi, data))
    difference = model.predict(theta, phi, data) - model.predict_science(theta, phi, data)
    assert difference.abs().max() > 1e-3
    running = RunningStatistics(model.network.initial_running().double().repeat(2, 1))
    first = [predict(theta, phi, data, running)[:, :, 0] for predict in (model.predict, model.predict_science)]
    torch.testing.assert_close(*first)  # before anything has moved


@pytest.mark.parametrize("name", ["motion", "latent", "field", "decoder"])
def test_every_part_takes_part_in_the_prediction_and_the_reduction_does_not(model, data, theta, phi, name):
    prediction = model.predict(theta, phi, data)
    assert not torch.allclose(model.predict(theta, changed(model, phi, name, 1.5), data), prediction, atol=1e-4)
    assert torch.equal(model.predict(theta, changed(model, phi, "reduction", 1.5), data), prediction)


def test_later_frames_are_not_seen(model, data, theta, phi):
    other = Samples(data.inputs, data.targets + 1, data.times)
    assert torch.equal(model.predict(theta, phi, other), model.predict(theta, phi, data))
    earlier = Samples({"frames": data.inputs["frames"] + 1}, data.targets, data.times)
    assert not torch.allclose(model.predict(theta, phi, earlier), model.predict(theta, phi, data), atol=1e-3)


def test_the_sign_of_omega_does_not_matter(model, data, theta, phi):
    states = torch.randn(2, 5, 2, generator=torch.Generator().manual_seed(0), **double)
    plus, minus = (pendulum.science({"omega": sign * theta}, states) for sign in (1, -1))
    assert torch.equal(plus, minus)
    for predict in (model.predict, model.predict_science):
        assert torch.equal(predict(theta, phi, data), predict(-theta, phi, data))
        assert not torch.allclose(predict(theta, phi, data), predict(2 * theta, phi, data), atol=1e-5)


def test_penalty_is_the_distance_from_the_affine_image_of_the_science(model, data, theta, phi):
    prediction = model.predict(theta, phi, data)
    penalty = model.penalty(theta, phi, data, prediction)
    for member, omega in enumerate(OMEGA):
        states, _ = by_hand(model, PAPER, omega, phi, member, data, with_field=False)
        reduction = part(model, phi, "reduction")
        weight, bias = (reduction[f"0.{name}"][member].numpy() for name in ("weight", "bias"))
        assert weight.shape == (PIXELS**2, 1) and bias.shape == (PIXELS**2,)
        images = (states[..., :1] @ weight.T + bias).reshape(6, 5, PIXELS, PIXELS)
        expected = np.mean((prediction[member, ..., 0].numpy() - images) ** 2)
        assert penalty[member].item() == pytest.approx(expected, rel=1e-6)


def test_penalty_teaches_the_affine_map_and_all_other_parts(model, data, theta, phi):
    phi = phi.requires_grad_()
    (g,) = torch.autograd.grad(model.penalty(theta, phi, data, model.predict(theta, phi, data)).sum(), phi)
    (g_error,) = torch.autograd.grad(model.predict(theta, phi, data).square().sum(), phi)
    for name in ("motion", "latent", "field", "decoder", "reduction"):
        assert all(values.abs().max() > 0 for values in part(model, g, name).values() if values.dim() == 3)
    assert all(values.eq(0).all() for values in part(model, g_error, "reduction").values())


@two_forms
@pytest.mark.parametrize("method", ["rk4", "dopri5"])
def test_members_share_nothing(data, theta, form, method):
    model = small.build("pendulum_images", {"solver": {"method": method}} | form)
    phi = phi_of(model)
    healthy = [model.predict(theta, phi, data), model.predict_science(theta, phi, data)]
    phi[0] = torch.nan
    damaged = [model.predict(theta, phi, data), model.predict_science(theta, phi, data)]
    for one, other in zip(healthy, damaged, strict=True):
        assert other[0].isnan().all() and torch.equal(one[1], other[1])


@two_forms
@pytest.mark.parametrize("method", ["rk4", "dopri5"])
def test_a_member_predicts_as_it_does_alone(data, theta, form, method):
    model = small.build("pendulum_images", {"solver": {"method": method}} | form)
    phi = phi_of(model)
    for predict in (model.predict, model.predict_science):
        block = predict(theta, phi, data)
        alone = torch.cat([predict(theta[[i]], phi[[i]], data) for i in range(2)])
        torch.testing.assert_close(block, alone, rtol=1e-12, atol=1e-12)


@two_forms
@pytest.mark.parametrize("method", ["rk4", "dopri5"])
def test_members_of_mini_batches_see_their_own_frames(data, theta, form, method):
    model = small.build("pendulum_images", {"solver": {"method": method}} | form)
    phi = phi_of(model)
    index = torch.tensor([[0, 3, 1], [4, 4, 2]])
    for predict in (model.predict, model.predict_science):
        block = predict(theta, phi, data.batch(index))
        alone = torch.cat([predict(theta[[i]], phi[[i]], data.batch(index[[i]])) for i in range(2)])
        torch.testing.assert_close(block, alone, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(block[1, 0], block[1, 1])
    assert not torch.allclose(block[0, 0], block[0, 1], atol=1e-3)


@two_forms
def test_gradients_are_those_of_finite_differences(form):
    constants = {"pixels": 6, "steps": 2, "train": 2, "validation": 1, "test": 1}
    tiny = {"seen": 1, "encoder": [2], "latent": 1, "hidden": [2], "decoder": [2], "solver": {"step": 0.1}}
    model = small.build("pendulum_images", tiny | form)
    data = model.data(small.dataset_of("pendulum_images", None, **constants), "train", torch.float64, "cpu")
    theta = torch.tensor([[0.7]], **double, requires_grad=True)
    phi = model.network.initial(torch.Generator().manual_seed(1)).double()[None].requires_grad_()
    assert torch.autograd.gradcheck(lambda theta, phi: model.predict(theta, phi, data), (theta, phi), fast_mode=True)

    def penalty(theta, phi):
        return model.penalty(theta, phi, data, torch.zeros_like(data.targets))

    assert torch.autograd.gradcheck(penalty, (theta, phi), fast_mode=True)


def test_a_motion_that_does_not_see_the_latent_vector_is_the_same_for_all_samples(model, data, theta, phi):
    """Two samples that begin alike go on alike, whatever their latent vectors are; images may differ."""
    layers = model.network.unflatten(phi)
    codes = [torch.full((2, 6, 2), value, **double) for value in (0.0, 9.0)]
    one, other = (model._states(theta, layers, data, code) for code in codes)
    assert torch.equal(one, other)


@pytest.mark.parametrize("key", PAPER)
@pytest.mark.parametrize("value", ["no", 0, 1.0, None])
def test_a_switch_that_is_neither_true_nor_false_is_refused(key, value):
    with pytest.raises(UserError, match=rf"^model\.{key}: {value!r} is not allowed; allowed are true, false$"):
        small.build("pendulum_images", {key: value})


def test_diagnosis_looks_at_the_hidden_motion(dataset):
    found = identify(small.build("pendulum_images"), dataset)
    assert found.rank == 1 and found.told_by_science.tolist() == [True]
    angle = dataset["state_true"].values[dataset["split"].values == "train", :, 0].ravel()
    rates = dataset["rate_true"].values[dataset["split"].values == "train", :, 1].ravel()
    regression = -(rates @ np.sin(angle)) / (np.sin(angle) @ np.sin(angle))
    assert found.least_norm[0] == pytest.approx(np.sqrt(regression), rel=1e-6)
