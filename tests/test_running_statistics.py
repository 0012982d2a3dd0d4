"""Running statistics of BatchNorm in training, on the small model of images: what moves them, what uses them."""

import pytest
import torch
from helpers import small
from helpers.killed import Killed, KilledAt
from helpers.marks import slow_but_for
from torch import nn

from hybridsam.core.methods import get_method
from hybridsam.models.networks import RunningStatistics
from hybridsam.training.checkpoint import Checkpoint
from hybridsam.training.loop import BatchOrder, constrained, initial_state, train
from hybridsam.training.loss import Loss, mean_squared_error

SEEDS = (3, 1, 2)
RHOS = {"erm": 0.0, "freg": 0.1, "sam": 0.05}
TENSORS = ("w", "m", "v", "updates", "skipped", "running")
IMAGES = {"pixels": 6, "steps": 3, "train": 9, "validation": 3, "test": 3}
IMAGE_MODEL = {"seen": 2, "encoder": [4], "latent": 1, "hidden": [4], "decoder": [3]}
every_method = pytest.mark.parametrize("name", RHOS)


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    return small.dataset_of("pendulum_images", tmp_path_factory.mktemp("images"), **IMAGES)


@pytest.fixture
def image_model():
    return small.build("pendulum_images", IMAGE_MODEL)


@pytest.fixture
def fit_images(image_model, images, training):
    def run(name, rhos, seeds, checkpoint=None, **changes):
        how = training(**({"iterations": 8, "batch_size": 4, "record_every": 100} | changes))
        data = [image_model.data(images, split, getattr(torch, how.dtype), "cpu") for split in ("train", "validation")]
        return train(Loss(image_model), get_method(name), rhos, seeds, *data, how, checkpoint)

    return run


def decoded(model, monkeypatch):
    """What the decoder is given in training, in the order of the passes: layers and input."""
    calls, decode = [], model.decoder.decode

    def remember(layers, x):
        if "0.norm.mean" not in layers:
            calls.append(({name: values.detach().clone() for name, values in layers.items()}, x.detach()))
        return decode(layers, x)

    monkeypatch.setattr(model.decoder, "decode", remember)
    return calls


def torch_statistics(calls, member):
    """Running statistics of torch's own BatchNorm after these passes, (n,)."""
    norm = nn.BatchNorm2d(3).double()
    for layers, x in calls:
        maps = nn.functional.linear(x[member], layers["0.weight"][member], layers["0.bias"][member])
        norm(maps.unflatten(1, (3, 3, 3)))
    return torch.cat([norm.running_mean, norm.running_var])


@every_method
def test_running_statistics_move_once_a_step_by_the_first_pass(fit_images, image_model, monkeypatch, name):
    calls = decoded(image_model, monkeypatch)
    final = fit_images(name, [RHOS[name]] * 2, [4, 7])
    passes = 2 if name == "sam" else 1
    del calls[0]  # in which the memory that a member needs is measured
    assert len(calls) == passes * (8 + 1)  # the last step is recorded and takes no update
    first = calls[: passes * 8 : passes]
    for member in range(2):
        expected = torch_statistics(first, member)
        torch.testing.assert_close(final.running[member], expected, rtol=1e-11, atol=1e-12)
        if passes == 2:
            assert not torch.allclose(torch_statistics(calls[: 2 * 8], member), expected, atol=1e-3)
            assert not torch.allclose(torch_statistics(calls[1 : 2 * 8 : 2], member), expected, atol=1e-5)


def test_a_member_whose_update_is_skipped_keeps_its_statistics(fit_images, image_model):
    healthy, damaged = (fit_images("sam", [0.02, rho, 0.1], SEEDS, diverged_after=20) for rho in (0.05, torch.nan))
    assert damaged.skipped.tolist() == [0, 8, 0]
    assert torch.equal(damaged.running[1], image_model.network.initial_running().double())
    for key in TENSORS[:3] + TENSORS[5:]:
        assert torch.equal(getattr(damaged, key)[[0, 2]], getattr(healthy, key)[[0, 2]])


def test_a_member_that_breaks_keeps_the_statistics_that_it_had(fit_images, image_model, monkeypatch):
    """From its third step on, one of two members is given weights that are not numbers, for one step."""
    predict, seen = image_model.predict, []

    def fragile(theta, phi, data, running=None):
        if running and running.training:
            seen.append(running.values.clone())
            if len(seen) == 3:
                phi = phi * torch.tensor([[1.0], [torch.nan]])
        return predict(theta, phi, data, running)

    healthy = fit_images("erm", [0.0, 0.0], [4, 7])
    monkeypatch.setattr(image_model, "predict", fragile)
    final = fit_images("erm", [0.0, 0.0], [4, 7])
    assert final.skipped.tolist() == [0, 1]
    assert torch.equal(seen[3][1], seen[2][1]) and not torch.equal(seen[4][1], seen[3][1])
    assert torch.equal(final.running[0], healthy.running[0])
    assert final.running.isfinite().all()


def test_running_statistics_start_as_those_of_torch(image_model, training):
    state = initial_state(image_model, [0, 1], training(dtype="float32"))
    expected = torch.cat([nn.BatchNorm2d(3).running_mean, nn.BatchNorm2d(3).running_var])
    assert torch.equal(state.running, expected.repeat(2, 1))


def test_in_evaluation_a_prediction_depends_on_its_own_sample_alone(fit_images, image_model, images):
    final = fit_images("erm", [0.0, 0.0], [4, 7])
    theta, phi = constrained(image_model, final)
    data = image_model.data(images, "train", torch.float64, "cpu")
    for predict in (image_model.predict, image_model.predict_science):
        whole = predict(theta, phi, data, RunningStatistics(final.running))
        alone = torch.cat([predict(theta, phi, one, RunningStatistics(final.running)) for one in data.chunks(1)], 1)
        torch.testing.assert_close(alone, whole, rtol=1e-11, atol=1e-12)
        by_batch = torch.cat([predict(theta, phi, one) for one in data.chunks(1)], 1)
        assert not torch.allclose(by_batch, predict(theta, phi, data), atol=1e-3)


def test_losses_that_are_recorded_are_those_in_evaluation(fit_images, image_model, images):
    final = fit_images("sam", [0.05, 0.05], [4, 7])
    theta, phi = constrained(image_model, final)
    running, loss = RunningStatistics(final.running), Loss(image_model)
    train_data, validation = (image_model.data(images, s, torch.float64, "cpu") for s in ("train", "validation"))
    batch = train_data.batch(BatchOrder([4, 7], 9, 4).at(8))
    for name, data in (("train_loss", batch), ("validation_loss", validation)):
        expected = mean_squared_error(loss, theta, phi, data, running)
        torch.testing.assert_close(final.history[name][-1], expected, rtol=1e-12, atol=0)
        assert not torch.allclose(expected, mean_squared_error(loss, theta, phi, data), rtol=1e-3)


def test_evaluation_moves_no_statistics(fit_images):
    often, seldom = (fit_images("sam", [0.05], [4], record_every=every) for every in (1, 100))
    assert torch.equal(often.running, seldom.running)
    assert torch.equal(often.w, seldom.w)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("step", slow_but_for([3], [1, 3, 4, 8]))
@pytest.mark.parametrize("name", ["erm", "sam"])
def test_a_killed_training_resumes_to_the_same_bits(fit_images, tmp_path, name, step, dtype):
    """Two batches an epoch: killed in the middle of an epoch, between two, and after the last step."""
    path, rhos = tmp_path / "block.safetensors", [0.05, torch.nan if name == "sam" else 0.0, 0.1]
    with pytest.raises(Killed):
        fit_images(name, rhos, SEEDS, KilledAt(path, step), dtype=dtype)
    resumed = fit_images(name, rhos, SEEDS, Checkpoint(path), dtype=dtype)
    whole = fit_images(name, rhos, SEEDS, dtype=dtype)
    assert resumed.step == whole.step == 8
    for key in TENSORS:
        torch.testing.assert_close(getattr(resumed, key), getattr(whole, key), rtol=0, atol=0, equal_nan=True)
    assert whole.running[0].ne(torch.cat([torch.zeros(3), torch.ones(3)])).all()
    for key, values in whole.history.items():
        torch.testing.assert_close(resumed.history[key], values, rtol=0, atol=0, equal_nan=True)


def test_a_checkpoint_holds_the_running_statistics(fit_images, tmp_path):
    state, checkpoint = fit_images("erm", [0.0], [0]), Checkpoint(tmp_path / "block.safetensors")
    checkpoint.save(state)
    assert torch.equal(checkpoint.load("cpu").running, state.running)
    assert state.running.shape == (1, 6)


@every_method
def test_a_member_of_a_block_with_batch_norm_equals_the_same_run_alone(fit_images, name):
    rhos = [RHOS[name]] * 3
    block = fit_images(name, rhos, SEEDS)
    for i, seed in enumerate(SEEDS):
        alone = fit_images(name, rhos[:1], [seed])
        torch.testing.assert_close(block.running[[i]], alone.running, rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(block.history["theta"][-1, [i]], alone.history["theta"][-1], rtol=1e-9, atol=1e-9)
        loss, of_alone = (state.history["validation_loss"][-1] for state in (block, alone))
        torch.testing.assert_close(loss[[i]], of_alone, rtol=1e-9, atol=0)
