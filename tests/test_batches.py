"""Mini-batches: their order, and training on them."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hybridsam.core.errors import UserError
from hybridsam.training.loop import BatchOrder, constrained, initial_state
from hybridsam.training.loss import mean_squared_error

SEEDS = (3, 1, 2)
RHOS = {"erm": 0.0, "freg": 0.1, "sam": 0.05}
every_method = pytest.mark.parametrize("name", RHOS)
members = st.lists(st.integers(0, 2**31), min_size=1, max_size=4)


# Order


@given(members, st.integers(1, 20), st.integers(1, 25), st.lists(st.integers(0, 200), min_size=1, max_size=6))
def test_batches_are_a_function_of_a_members_seed_and_the_step(seeds, samples, size, steps):
    """Whatever the block, and whatever steps went before: so a resumed training sees the same batches."""
    block = BatchOrder(seeds, samples, size)
    found = [block.at(step) for step in steps]
    for step, batch in zip(steps, found, strict=True):
        assert batch.shape == (len(seeds), min(size, samples))
        for i, seed in enumerate(seeds):
            assert torch.equal(BatchOrder([seed], samples, size).at(step)[0], batch[i])


@given(members, st.integers(1, 20), st.integers(1, 25), st.integers(0, 10))
def test_an_epoch_shows_every_sample_at_most_once_and_all_where_batches_divide_them(seeds, samples, size, epoch):
    order = BatchOrder(seeds, samples, size)
    steps = samples // min(size, samples)
    batches = torch.cat([order.at(epoch * steps + step) for step in range(steps)], 1)
    for row in batches.tolist():
        assert len(set(row)) == len(row) > samples - min(size, samples)
        assert set(row) <= set(range(samples))
    if samples % min(size, samples) == 0:
        assert batches.sort(1).values.tolist() == [list(range(samples))] * len(seeds)


def test_epochs_and_seeds_draw_different_orders():
    order = BatchOrder(range(4), 30, 10)
    epochs = [torch.cat([order.at(3 * epoch + step) for step in range(3)], 1) for epoch in range(4)]
    assert len({tuple(row) for epoch in epochs for row in epoch.tolist()}) == 16
    assert [list(range(30))] * 4 not in [epoch.tolist() for epoch in epochs]


def test_every_sample_is_as_likely_in_a_batch_also_where_batches_do_not_divide_them():
    order = BatchOrder([0], 10, 4)
    counts = torch.stack([order.at(step)[0] for step in range(2000)]).flatten().bincount()
    assert (counts - 800).abs().max() < 5 * (2000 * 0.4 * 0.6) ** 0.5


def test_a_batch_larger_than_the_data_holds_all_of_them():
    order = BatchOrder([0, 1], 6, 50)
    assert all(order.at(step).sort(1).values.tolist() == [list(range(6))] * 2 for step in range(5))


# Training on batches


@pytest.mark.slow
@pytest.mark.parametrize("size", [1, 2, 3])
def test_training_takes_each_step_on_its_batch(fit, loss, model, trajectories, training, size):
    """Plain Adam of torch on the batches of the order; four samples, of which three leave one out of each epoch."""
    how, data = training(batch_size=size, clip_norm=1e6, learning_rate_final=1e-3), trajectories()
    ours = fit("erm", [0.0], [5], batch_size=size, clip_norm=1e6, learning_rate_final=1e-3)
    start = initial_state(model, [5], how).w
    theta, phi = start[:, :1].clone().requires_grad_(), start[:, 1:].clone().requires_grad_()
    adam = torch.optim.Adam([{"params": [theta], "lr": how.theta_rate_factor * 1e-3}, {"params": [phi], "lr": 1e-3}])
    order, losses = BatchOrder([5], 4, size), []
    for step in range(how.iterations + 1):
        batch = data.batch(order.at(step))
        losses.append(mean_squared_error(loss, model.parameters.constrain(theta), phi, batch))
        if step < how.iterations:
            adam.zero_grad()
            losses[-1].backward()
            adam.step()
    torch.testing.assert_close(ours.w, torch.cat([theta, phi], 1).detach(), rtol=1e-11, atol=1e-11)
    recorded = torch.stack([losses[step] for step in how.recorded_steps]).detach()
    torch.testing.assert_close(ours.history["train_loss"], recorded, rtol=1e-11, atol=1e-12)


@pytest.mark.slow
def test_a_batch_of_all_samples_trains_as_no_batch_does(fit):
    every, none = (fit("sam", [0.05], [0], batch_size=size) for size in (50, 0))
    torch.testing.assert_close(every.w, none.w, rtol=1e-9, atol=1e-9)
    assert not torch.allclose(fit("sam", [0.05], [0], batch_size=2).w, none.w, atol=1e-4)


def test_validation_data_are_not_cut_into_batches(fit, loss, model, trajectories):
    final = fit("erm", [0.0, 0.0], [0, 1], batch_size=2)
    theta, phi = constrained(model, final)
    whole = mean_squared_error(loss, theta, phi, trajectories("validation"))
    torch.testing.assert_close(final.history["validation_loss"][-1], whole, rtol=1e-12, atol=0)


@pytest.mark.slow
@every_method
def test_a_member_trained_on_batches_equals_the_same_run_alone(fit, name):
    rhos = [RHOS[name]] * 3
    block = fit(name, rhos, SEEDS, batch_size=2)
    for i, seed in enumerate(SEEDS):
        alone = fit(name, rhos[:1], [seed], batch_size=2)
        torch.testing.assert_close(block.w[[i]], alone.w, rtol=1e-12, atol=1e-12)


def test_a_negative_batch_size_is_refused(training):
    with pytest.raises(UserError, match=r"^training\.batch_size: -1 is not a number of samples"):
        training(batch_size=-1)
