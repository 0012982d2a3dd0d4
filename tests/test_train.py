"""Training a block of members: the optimizer, independence of members, divergence, checkpoints."""

import logging
from itertools import pairwise
from math import ceil

import pytest
import torch
from helpers.killed import Killed, KilledAt
from helpers.marks import slow_but_for
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.utils import clip_grads_with_norm_
from torch.optim.lr_scheduler import CosineAnnealingLR

from hybridsam.core.errors import UserError
from hybridsam.core.methods import METHODS
from hybridsam.models.ode import HybridODE
from hybridsam.training.loop import Checkpoint, State, adam_step, generator, initial_state
from hybridsam.training.loss import mean_squared_error

RHOS = (0.0, 0.02, 0.1)
SEEDS = (3, 1, 2)
TENSORS = ("w", "m", "v", "updates", "skipped")
every_method = pytest.mark.parametrize("name", METHODS)


def assert_same(a, b, members=slice(None)):
    """The same bits in these members, whatever the time taken."""
    assert a.step == b.step and a.history.keys() == b.history.keys()
    pairs = [(getattr(a, name)[members], getattr(b, name)[members]) for name in TENSORS]
    pairs += [(a.history[name][:, members], b.history[name][:, members]) for name in a.history]
    for one, other in pairs:
        torch.testing.assert_close(one, other, rtol=0, atol=0, equal_nan=True)


# The optimizer


@pytest.mark.slow
@pytest.mark.parametrize("clip_norm", [1e6, 1.0])
def test_adam_clipping_and_cosine_equal_those_of_torch(fit, loss, model, trajectories, training, clip_norm):
    changes = {"iterations": 50, "record_every": 1, "clip_norm": clip_norm, "learning_rate": 3e-3}
    ours, how, data = fit("erm", [0.0], [0], **changes), training(**changes), trajectories()

    start = initial_state(model, [0], how).w
    theta, phi = start[:, :1].clone().requires_grad_(), start[:, 1:].clone().requires_grad_()
    adams, cosines, norms = [], [], []
    for values, factor in ((theta, how.theta_rate_factor), (phi, 1.0)):
        adams.append(torch.optim.Adam([values], lr=factor * how.learning_rate))
        cosines.append(CosineAnnealingLR(adams[-1], how.iterations, factor * how.learning_rate_final))
    for _ in range(how.iterations):
        mean_squared_error(loss, model.parameters.constrain(theta), phi, data).backward()
        norms.append(torch.cat([theta.grad, phi.grad], 1).norm())
        clip_grads_with_norm_([theta, phi], clip_norm, norms[-1] - 1e-6)  # which adds 1e-6 to the norm
        for part in adams + cosines:
            part.step()
        theta.grad = phi.grad = None

    torch.testing.assert_close(ours.w, torch.cat([theta, phi], 1).detach(), rtol=1e-12, atol=1e-12)
    recorded = ours.history["grad_norm_theta"].square() + ours.history["grad_norm_phi"].square()
    torch.testing.assert_close(recorded[:-1, 0].sqrt(), torch.stack(norms), rtol=1e-12, atol=1e-12)
    if clip_norm == 1.0:
        assert min(norms) < clip_norm < max(norms)


def beginning(w):
    """The state before any update, with w for the moments too."""
    n = len(w)
    counts = torch.zeros(n).double(), torch.zeros(n, dtype=torch.int64)
    return State(w.clone(), w.clone(), w.clone(), *counts, torch.empty(n, 0))


def test_each_member_is_clipped_by_its_own_norm(training):
    w = torch.zeros(2, 3, dtype=torch.float64)
    g = torch.tensor([[3.0, 0.0, 4.0], [300.0, 0.0, 400.0]], dtype=torch.float64)
    state = beginning(w)
    adam_step(state, torch.ones(2), g, training(clip_norm=10.0), torch.ones(3))
    expected = torch.tensor([[3.0, 0.0, 4.0], [6.0, 0.0, 8.0]], dtype=torch.float64)
    torch.testing.assert_close(state.m, 0.1 * expected)


def test_training_lowers_the_loss_and_records_what_it_reached(fit, loss, model, trajectories):
    final = fit("erm", [0.0, 0.0], [0, 1], iterations=60, record_every=20, learning_rate=1e-2)
    theta, phi = model.parameters.constrain(final.w[:, :1]), final.w[:, 1:]
    history = final.history
    assert (history["train_loss"][-1] < 0.5 * history["train_loss"][0]).all()
    assert torch.equal(history["theta"][-1], theta)
    assert torch.equal(history["theta"][0], torch.full((2, 1), 0.5, dtype=torch.float64))
    for name, split in (("train_loss", "train"), ("validation_loss", "validation")):
        assert torch.equal(history[name][-1], mean_squared_error(loss, theta, phi, trajectories(split)))
    assert final.step == 60 and final.updates.tolist() == [60, 60] and final.skipped.tolist() == [0, 0]


@given(iterations=st.integers(1, 500), every=st.integers(1, 700))
def test_recorded_steps_run_from_the_start_to_the_end_without_large_gaps(training, iterations, every):
    steps = training(iterations=iterations, record_every=every).recorded_steps
    assert steps[0] == 0 and steps[-1] == iterations
    assert all(0 < after - before <= every for before, after in pairwise(steps))
    assert all(step % every == 0 for step in steps[:-1])
    assert len(steps) == ceil(iterations / every) + 1


@given(iterations=st.integers(2, 10**5), rate=st.floats(1e-6, 1), share=st.floats(0, 1))
def test_learning_rate_falls_from_its_start_to_its_end(training, iterations, rate, share):
    how = training(iterations=iterations, learning_rate=rate, learning_rate_final=share * rate)
    assert how.rate(0) == pytest.approx(rate)
    assert how.rate(iterations) == pytest.approx(share * rate)
    assert how.rate(iterations / 2) == pytest.approx((1 + share) * rate / 2)
    assert how.rate(0) >= how.rate(1) >= how.rate(iterations - 1) >= how.rate(iterations)


# Members


@pytest.mark.parametrize("name", slow_but_for(["erm", "asam", "freg"], METHODS))
@pytest.mark.parametrize(
    ("dtype", "tolerance"), [("float64", 1e-12), pytest.param("float32", 1e-5, marks=pytest.mark.slow)]
)
def test_a_member_of_a_block_equals_the_same_run_alone(fit, name, dtype, tolerance):
    block = fit(name, RHOS, SEEDS, dtype=dtype)
    for i, (rho, seed) in enumerate(zip(RHOS, SEEDS, strict=True)):
        alone = fit(name, [rho], [seed], dtype=dtype)
        torch.testing.assert_close(block.w[[i]], alone.w, rtol=tolerance, atol=tolerance)
        for key, values in alone.history.items():
            torch.testing.assert_close(block.history[key][:, [i]], values, rtol=tolerance, atol=tolerance)


@pytest.mark.slow
@every_method
def test_order_and_company_of_members_do_not_matter(fit, name):
    order = [2, 0]
    block = fit(name, RHOS, SEEDS)
    other = fit(name, [RHOS[i] for i in order], [SEEDS[i] for i in order])
    torch.testing.assert_close(other.w, block.w[order], rtol=1e-12, atol=1e-12)
    assert not torch.equal(block.w[0], block.w[2])


def test_initial_phi_depends_on_the_members_seed_alone(model, training):
    block, alone = (initial_state(model, seeds, training()).w for seeds in ([5, 3, 5], [3]))
    assert torch.equal(block[1], alone[0])
    assert torch.equal(block[0], block[2])
    assert not torch.equal(block[0], block[1])
    single = initial_state(model, [3], training(dtype="float32")).w
    assert torch.equal(single[:, 1:].double(), alone[:, 1:])


def test_all_methods_and_strengths_start_from_the_same_point(fit):
    starts = {
        (name, rho): fit(name, [rho, rho], [4, 7], iterations=1).history["train_loss"][0]
        for name in METHODS
        for rho in (0.0, 0.5)
    }
    expected = starts["erm", 0.0]
    assert all(torch.equal(start, expected) for start in starts.values())
    assert expected[0] != expected[1]


def test_initialisation_and_batch_order_draw_different_numbers():
    one, other = (torch.rand(4, generator=generator(0, purpose)) for purpose in ("initialisation", "batch order"))
    assert not torch.equal(one, other)


# Divergence


@pytest.mark.slow
@pytest.mark.parametrize("name", ["l2reg", "freg", "sam", "asam", "fsam"])
def test_a_member_that_is_not_finite_is_skipped_and_disturbs_no_other(fit, name):
    healthy = fit(name, [0.02, 0.05, 0.1], SEEDS)
    damaged = fit(name, [0.02, torch.nan, 0.1], SEEDS)
    assert_same(damaged, healthy, members=[0, 2])
    assert damaged.skipped.tolist() == [0, 3, 0]
    assert damaged.updates.tolist() == [20, 0, 20]


def test_a_member_that_breaks_while_training_keeps_its_last_finite_weights(fit, model):
    healthy = fit("erm", [0.0] * 3, SEEDS, record_every=1, learning_rate=1e-2)
    omega = healthy.history["theta"][..., 0]
    farthest = omega.max(0).values
    breaking, limit = int(farthest.argmax()), farthest.topk(2).values.mean()

    def science(theta, x):
        return model.science(theta, x) + torch.where(theta["omega"] > limit, torch.nan, 0.0)[..., None]

    fragile = HybridODE(science, model.parameters, model.network, model.solver, network_scale=1.0)
    final = fit("erm", [0.0] * 3, SEEDS, model=fragile, record_every=1, learning_rate=1e-2)
    broke_at = int((omega[:, breaking] > limit).nonzero()[0])
    others = [i for i in range(3) if i != breaking]

    assert 0 < broke_at < 20 - 3
    assert_same(final, healthy, members=others)
    assert final.skipped[breaking] == 3 and final.updates[breaking] == broke_at
    assert final.w.isfinite().all() and final.m.isfinite().all() and final.v.isfinite().all()
    assert torch.equal(final.history["theta"][broke_at:, breaking, 0], omega[broke_at, breaking].expand(21 - broke_at))


def test_a_diverged_member_stays_as_it_is_even_if_its_loss_is_finite_again(training):
    g, how = torch.ones(2, 3, dtype=torch.float64), training(diverged_after=2)
    zeros = torch.zeros(2, 3, dtype=torch.float64)
    state = beginning(zeros)
    for loss in (1.0, torch.inf, torch.nan, 1.0, torch.nan):
        adam_step(state, torch.tensor([1.0, loss]), g, how, torch.ones(3))
    assert state.skipped.tolist() == [0, 2] and state.updates.tolist() == [5, 1]


def test_a_gradient_that_is_not_finite_is_skipped_although_the_loss_is_finite(training):
    g = torch.tensor([[1.0, 1.0], [1.0, torch.nan], [torch.inf, 1.0]], dtype=torch.float64)
    zeros = torch.zeros(3, 2, dtype=torch.float64)
    state = beginning(zeros)
    adam_step(state, torch.ones(3), g, training(), torch.ones(2))
    assert state.skipped.tolist() == [0, 1, 1]
    assert state.w[0].ne(0).all() and state.w[1:].eq(0).all()


def test_training_ends_when_every_member_has_diverged(fit):
    final = fit("sam", [torch.nan, torch.inf], [0, 1], diverged_after=4, record_every=5)
    assert final.step == 5  # seen when it is recorded
    assert final.skipped.tolist() == [4, 4]
    assert final.w.isfinite().all()


# Checkpoints


@pytest.mark.parametrize("step", slow_but_for([5], [1, 5, 12, 20]))
@pytest.mark.parametrize("name", ["erm", "asam"])
def test_a_killed_training_resumes_to_the_same_bits(fit, tmp_path, caplog, name, step):
    path = tmp_path / "block.safetensors"
    rhos = [0.02, torch.nan if name == "asam" else 0.0, 0.1]
    with pytest.raises(Killed):
        fit(name, rhos, SEEDS, checkpoint=KilledAt(path, step))
    with caplog.at_level(logging.INFO):
        resumed = fit(name, rhos, SEEDS, checkpoint=Checkpoint(path))
    assert f"resuming at step {step} from {path}" in caplog.text
    assert_same(resumed, fit(name, rhos, SEEDS))


def test_a_loaded_checkpoint_is_the_state_that_was_saved(fit, tmp_path):
    state, checkpoint = fit("sam", [0.05], [0], dtype="float32"), Checkpoint(tmp_path / "block.safetensors")
    checkpoint.save(state)
    loaded = checkpoint.load("cpu")
    assert_same(loaded, state)
    assert loaded.seconds == state.seconds > 0
    assert {name: getattr(loaded, name).dtype for name in TENSORS} == {
        name: getattr(state, name).dtype for name in TENSORS
    }


def test_checkpoints_are_written_when_due_and_leave_no_other_file(fit, tmp_path):
    often, seldom = Checkpoint(tmp_path / "often", 0.0), Checkpoint(tmp_path / "seldom", 1e9)
    for checkpoint in (often, seldom):
        fit("erm", [0.0], [0], checkpoint=checkpoint)
        assert checkpoint.load("cpu").step == 20  # the last one in any case
    assert {path.name for path in tmp_path.iterdir()} == {"often", "seldom"}
    with pytest.raises(Killed):
        fit("erm", [0.0], [0], checkpoint=KilledAt(tmp_path / "killed", 12))
    assert Checkpoint(tmp_path / "killed").load("cpu").step == 12


@pytest.mark.slow
@pytest.mark.parametrize("damage", ["empty", "half", "last byte", "text"])
def test_a_damaged_checkpoint_is_reported_and_training_starts_anew(fit, tmp_path, caplog, damage):
    path = tmp_path / "block.safetensors"
    with pytest.raises(Killed):
        fit("erm", [0.0], [0], checkpoint=KilledAt(path, 12))
    whole = path.read_bytes()
    damages = {"empty": b"", "half": whole[: len(whole) // 2], "last byte": whole[:-1], "text": b"step: 12\n" * 100}
    path.write_bytes(damages[damage])
    state = fit("erm", [0.0], [0], checkpoint=Checkpoint(path))
    assert f"{path}: damaged checkpoint" in caplog.text
    assert_same(state, fit("erm", [0.0], [0]))


# Settings


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("iterations", 0),
        ("iterations", -5),
        ("learning_rate", 0.0),
        ("learning_rate", float("nan")),
        ("learning_rate_final", -1e-5),
        ("learning_rate_final", 2e-3),
        ("learning_rate_final", float("nan")),
        ("theta_rate_factor", 0.0),
        ("clip_norm", -1.0),
        ("clip_norm", float("nan")),
        ("record_every", 0),
        ("diverged_after", 0),
        ("perturb", "theta"),
        ("dtype", "float16"),
    ],
)
def test_bad_settings_are_refused_with_key_and_value(training, key, value):
    with pytest.raises(UserError) as refused:
        training(**{key: value})
    assert f"training.{key}" in str(refused.value) and str(value) in str(refused.value)


def test_settings_are_accepted_at_the_edge_of_what_is_allowed(training):
    assert training(learning_rate_final=0.0).rate(20) == 0
    assert training(learning_rate_final=1e-3).rate(7) == 1e-3
    assert training(clip_norm=float("inf"), iterations=1, record_every=10).recorded_steps == [0, 1]
