"""The profile: theta is held where it is put, refitting begins at the nearest run, and which values the data allow."""

import json

import numpy as np
import pytest
import torch
import xarray as xr

import hybridsam
from hybridsam.analysis.ensemble import ensemble_in
from hybridsam.analysis.profiles import Grid, _variance, allowed, as_table, compatible, in_words, nearest, of_members
from hybridsam.core.errors import UserError
from hybridsam.core.methods import get_method
from hybridsam.training.checkpoint import Checkpoint
from hybridsam.training.loop import constrained, train
from hybridsam.training.warm import WarmStart

GRID = Grid(values=5, iterations=12)
THETA = {"omega": {"unit": "rad s-1", "start": [0.5, 2.0], "transform": "softplus", "lower": 0.0}}


@pytest.fixture(scope="module")
def spread(build):
    """The small pendulum whose omega starts between 0.5 and 2."""
    return build(theta=THETA)


@pytest.fixture(scope="module")
def runs(spread, dataset):
    """Four runs of it that fit, as far as a profile asks."""
    how = {"iterations": 40, "dtype": "float64", "record_every": 10}
    runs = hybridsam.fit(spread, dataset, {"erm": [0]}, seeds=4, progress=False, device="cpu", **how)
    return runs.assign(data_variance=runs["data_variance"] * 0 + np.inf)


@pytest.fixture(scope="module")
def fitted(runs, dataset):
    return ensemble_in(runs, dataset)


@pytest.fixture(scope="module")
def found(spread, fitted, dataset, training):
    return of_members(spread, training(), fitted, dataset, GRID, "cpu")


def test_theta_stays_where_it_is_held_to_the_bit_and_phi_is_refitted(spread, loss_of, trajectories, training, model):
    theta = torch.tensor([[0.7], [1.9]], dtype=torch.float64)
    for held in (True, False):
        warm = WarmStart(spread.parameters, theta, torch.full((2, 1), held))
        splits = trajectories("train"), trajectories("validation")
        state = train(loss_of(spread), get_method("erm"), [0, 0], [0, 1], *splits, training(), warm=warm)
        ended, _ = constrained(spread, state)
        assert torch.allclose(ended, theta, rtol=1e-12, atol=0) == held
        assert torch.equal(state.history["theta"][0], state.history["theta"][-1]) == held
        assert (state.history["train_loss"][-1] < state.history["train_loss"][0]).all()
        assert bool((state.history["grad_norm_theta"] == 0).all()) == held


def test_a_warm_start_from_the_seeds_own_values_is_the_same_training(spread, loss_of, trajectories, training):
    seeds, splits = [3, 5], (trajectories("train"), trajectories("validation"))
    start = spread.parameters.constrain(spread.parameters.drawn(seeds, torch.float64))
    warm = WarmStart(spread.parameters, start, torch.zeros(2, 1, dtype=torch.bool))
    one, other = (
        train(loss_of(spread), get_method("erm"), [0, 0], seeds, *splits, training(), warm=given).w
        for given in (None, warm)
    )
    torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12)


def test_a_value_outside_the_bounds_is_refused(spread):
    with pytest.raises(UserError, match=r"theta.omega: -1 is not between 0 and inf"):
        WarmStart(spread.parameters, torch.tensor([[-1.0]]), torch.tensor([[True]]))


def test_every_value_begins_at_the_run_that_is_nearest(spread, fitted):
    values = torch.tensor([[0.01, fitted.theta.median().item(), 50.0]], dtype=torch.float64)
    warm = nearest(spread, fitted, values)
    order = fitted.theta[:, 0].argsort()
    assert torch.equal(warm.theta, values.T)
    assert torch.equal(warm.phi[0], fitted.phi[order[0]]) and torch.equal(warm.phi[2], fitted.phi[order[-1]])
    assert warm.held.all()


def test_values_lie_evenly_between_the_ends_of_the_start(found, spread, fitted):
    assert found["held"].values[0, [0, -1]] == pytest.approx([0.5, 2.0])
    raw = spread.parameters.rows[0].unconstrain(torch.as_tensor(found["held"].values[0]))
    np.testing.assert_allclose(np.diff(raw, 2), 0, atol=1e-9)
    np.testing.assert_allclose(found["theta"].values[..., 0], found["held"].values, rtol=1e-9)


def test_it_says_all_of_every_value_and_again_the_same(found, spread, fitted, dataset, training, tmp_path):
    table = as_table(found)
    assert len(table) == GRID.values
    assert np.isfinite(table.select_dtypes("number").to_numpy()).all()
    assert (found["loss_within"] >= found["train_loss"] * (1 - 1e-6)).all()
    np.testing.assert_allclose(found["validation_errors"].mean("validation_sample"), found["validation_loss"])
    assert table["true"].unique() == [json.loads(dataset.attrs["truth"])["omega"]]
    assert in_words(found)[0].startswith("theta.omega: the data allow ")
    again = of_members(spread, training(), fitted, dataset, GRID, "cpu", Checkpoint(tmp_path / "checkpoint"))
    for name in ("train_loss", "validation_errors", "trace", "top_eigenvalue"):
        np.testing.assert_allclose(again[name], found[name], rtol=1e-6)
    resumed = of_members(spread, training(), fitted, dataset, GRID, "cpu", Checkpoint(tmp_path / "checkpoint"))
    np.testing.assert_array_equal(resumed["validation_errors"], again["validation_errors"])


def test_in_python_it_takes_the_training_of_the_runs(spread, runs, fitted, dataset, training):
    how = training(iterations=40, record_every=10, learning_rate=1e-3)
    ours = of_members(spread, how, fitted, dataset, Grid(values=3), "cpu")
    theirs = hybridsam.profile(spread, runs, dataset, values=3, device="cpu")
    np.testing.assert_array_equal(theirs["validation_errors"], ours["validation_errors"])
    with pytest.raises(UserError, match="no variable phi"):
        hybridsam.profile(spread, runs.drop_vars("phi"), dataset)


def test_a_value_that_is_worse_in_every_sample_is_rejected_however_large_a_few_errors_are():
    rng = np.random.default_rng(0)
    best = np.exp(rng.normal(size=25))
    same = best * np.exp(0.1 * np.linspace(-1, 1, 25))
    worse = best * np.exp(0.3 + 0.1 * rng.normal(size=25))
    worse[0] *= 1e6  # by which a test of means would see nothing
    alike = best * np.array([[0.99], [1], [1.01]])
    allowed, p = compatible(np.stack([worse, best * 0.99, same, worse * 1e9, np.full(25, np.nan)]), alike)
    assert allowed.tolist() == [False, True, True, False, False]
    assert p[1] == 1 and np.isnan(p[4])
    scaled, _ = compatible(1e-12 * np.stack([worse, best * 0.99, same]), 1e-12 * alike)
    assert scaled.tolist() == [False, True, True]


def test_a_refitting_that_predicts_worse_than_the_mean_allows_nothing():
    """As a failed run, though it is one sample in 25 that runs away, of which no test of ranks takes notice."""
    best = 1e-4 * np.exp(np.random.default_rng(0).normal(size=25))
    away = best.copy()
    away[3] = 1200.0
    alike = best * np.array([[0.99], [1], [1.01]])
    assert compatible(np.stack([best, away]), alike)[0].tolist() == [True, True]
    assert compatible(np.stack([best, away]), alike, variance=0.7)[0].tolist() == [True, False]


@pytest.mark.parametrize("shape", [(1, 6), (1, 6, 2), (1, 6, 4, 3, 2)])
def test_the_variance_of_targets_is_about_the_mean_of_each_component(shape):
    values = np.random.default_rng(0).normal(size=shape) * 3 + 1e3 * np.arange(shape[-1]) * (len(shape) > 2)
    over = tuple(range(len(shape) - 1)) if len(shape) > 2 else None
    assert _variance(torch.tensor(values)) == pytest.approx(np.var(values, axis=over).mean())


def test_refittings_that_differ_by_no_more_than_runs_do_are_allowed():
    """A run that happens to predict all samples 30 % better says nothing of the value it was refitted at."""
    best = np.exp(np.random.default_rng(0).normal(size=25))
    errors = np.stack([best, 1.3 * best, 5 * best])
    assert compatible(errors, best * np.array([[1], [1.001], [0.999]]))[0].tolist() == [True, False, False]
    assert compatible(errors, best * np.array([[1], [1.3], [1.6]]))[0].tolist() == [True, True, False]


def test_values_that_are_alike_are_allowed_as_often_as_the_test_says():
    rng = np.random.default_rng(1)
    alike = np.ones((3, 30))
    kept = [compatible(np.exp(rng.normal(size=(3, 30))), alike)[0].all() for _ in range(300)]
    assert np.mean(kept) > 0.85  # 5 % for the best by chance, which is picked, and so rather more


def test_one_validation_sample_rejects_nothing():
    assert compatible(np.array([[1.0], [2.0], [3.0]]), np.ones((3, 1)))[0].all()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"values": 2}, "profile.values: 2 is not"),
        ({"iterations": -1}, "profile.iterations: -1 is not"),
        ({"rho": 0.0}, "profile.rho: 0.0 is not"),
    ],
)
def test_a_grid_without_sense_is_refused(changes, words):
    with pytest.raises(UserError, match=words):
        Grid(**changes)


def test_a_start_that_is_no_interval_and_too_few_runs_are_refused(model, spread, fitted, dataset, training):
    with pytest.raises(UserError, match=r"theta.omega.start: 0.5 is no interval"):
        of_members(model, training(), fitted, dataset, GRID, "cpu")
    few = type(fitted)(fitted.seeds[:2], fitted.theta[:2], fitted.start[:2], fitted.phi[:2], fitted.running[:2], 4)
    with pytest.raises(UserError, match="runs: 2 of 4 runs of erm fit"):
        of_members(spread, training(), few, dataset, GRID, "cpu")


@pytest.mark.parametrize(
    ("compatible", "expected"),
    [
        ([False, True, True, False], (0.5, 4.0)),
        ([True, True, False, False], (-np.inf, 2.0)),
        ([False, True, False, True], (0.5, np.inf)),
        ([True] * 4, (-np.inf, np.inf)),
        ([False] * 4, (np.nan, np.nan)),
    ],
)
def test_the_data_allow_what_lies_between_the_values_that_they_exclude(compatible, expected):
    held = ("parameter", "value"), [[0.5, 1.0, 2.0, 4.0]]
    found = xr.Dataset({"held": held, "compatible": (held[0], [compatible])}, {"parameter": ["k"]})
    np.testing.assert_array_equal(allowed(found)[:, 0], expected)
