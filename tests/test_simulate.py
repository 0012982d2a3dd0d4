"""Simulated data against closed forms, conserved quantities and other solvers."""

import json
import re

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp

from hybridsam.core.errors import UserError
from hybridsam.data.simulate import simulate_ode, simulated
from hybridsam.data.splits import SPLITS
from hybridsam.models.samples import trajectories
from hybridsam.tasks import duffing, pendulum

SIZES = {"train": 3, "validation": 2, "test": 2}
COMMON = {"dt": 0.05, "subsample": 4, "steps": 10, "noise": 0.01, "seed": 0} | SIZES
PENDULUM = COMMON | {"omega": 1.0472, "xi": 0.2, "initial_angle": [-1.5, 1.5], "initial_velocity": [-1.5, 1.5]}
DUFFING = COMMON | {"alpha": 1.0, "beta": 1.0, "initial_position": [-1, 1], "initial_velocity": [-1, 1]}


def decay(**changes):
    """dx/dt = -x and dy/dt = -2 y, starting between 1 and 2 and between 3 and 4."""
    field, bounds = lambda t, x: -np.array([1, 2]) * x, np.array([[1.0, 2.0], [3.0, 4.0]])
    return simulate_ode(field, bounds, {"x": "m", "y": "kg"}, COMMON | changes, {"rate": 1.0})


def split_states(dataset, split):
    return dataset["state"].values[dataset["split"].values == split]


def test_linear_decay_has_its_closed_form():
    dataset = decay()
    states, time = dataset["state_true"].values, dataset["time"].values
    exact = states[:, :1] * np.exp(-time[:, None] * [1, 2])
    np.testing.assert_allclose(states, exact, rtol=0, atol=1e-8)
    np.testing.assert_allclose(dataset["rate_true"], -states * [1, 2], rtol=1e-14)


@pytest.mark.parametrize("unit", [1e-18, 1e-6, 1e12])
def test_no_unit_is_too_small_for_the_solver(unit):
    """Its absolute tolerance would be larger than the state."""
    bounds = np.array([[1.0, 2.0], [3.0, 4.0]]) * [[unit], [1]]
    field = lambda t, x: -np.array([1, 2]) * x  # noqa: E731
    dataset = simulate_ode(field, bounds, {"x": "mol", "y": "kg"}, COMMON | {"noise": 0.0}, {"rate": 1.0})
    states, time = dataset["state_true"].values, dataset["time"].values
    np.testing.assert_allclose(states, states[:, :1] * np.exp(-time[:, None] * [1, 2]), rtol=1e-7)


def test_duffing_conserves_energy():
    for alpha, beta in ((1.0, 1.0), (0.5, 2.0)):
        states = duffing.simulate(DUFFING | {"alpha": alpha, "beta": beta})["state_true"].values
        x, v = states[..., 0], states[..., 1]
        energy = v**2 / 2 + alpha * x**2 / 2 + beta * x**4 / 4
        np.testing.assert_allclose(energy, energy[:, :1].repeat(11, 1), rtol=0, atol=1e-7)
        assert np.ptp(v**2 / 2, axis=1).min() > 1e-3


def test_pendulum_agrees_with_another_solver():
    def field(t, x):
        return [x[1], -(1.0472**2) * np.sin(x[0]) - 0.2 * x[1]]

    dataset = pendulum.simulate(PENDULUM)
    time = dataset["time"].values
    for states in dataset["state_true"].values:
        solution = solve_ivp(field, (0, time[-1]), states[0], method="DOP853", t_eval=time, rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(states, solution.y.T, rtol=0, atol=1e-7)


MODEL = {"hidden": [4], "solver": {"method": "rk4", "step": 0.01}}
OMEGA = {"omega": {"unit": "rad s-1", "start": 1.0}}
STIFFNESS = {"alpha": {"unit": "s-2", "start": 1.0}, "beta": {"unit": "m-2 s-2", "start": 1.0}}


@pytest.mark.parametrize(
    ("task", "constants", "model", "truth"),
    [
        (pendulum, PENDULUM | {"xi": 0.0}, {"theta": OMEGA}, 1.0472),
        (duffing, DUFFING | {"alpha": 1.7, "beta": 0.0}, {"theta": STIFFNESS, "known_term": "linear"}, 1.7),
        (duffing, DUFFING | {"alpha": 0.0, "beta": 1.7}, {"theta": STIFFNESS, "known_term": "cubic"}, 1.7),
    ],
    ids=["pendulum", "duffing linear", "duffing cubic"],
)
def test_science_at_the_truth_gives_the_data_when_nothing_is_missing(task, constants, model, truth):
    dataset = task.simulate(constants | {"noise": 0.0})
    data = trajectories(dataset, "train", torch.float64)
    prediction = task.build(MODEL | model).predict_science(
        torch.tensor([[truth]], dtype=torch.float64), torch.empty(1, 0), data
    )
    torch.testing.assert_close(prediction, data.targets, rtol=0, atol=1e-7)


def test_unknown_term_of_duffing_is_refused():
    with pytest.raises(UserError, match=r"model\.known_term: 'quartic' is not one of linear, cubic"):
        duffing.build(MODEL | {"theta": STIFFNESS, "known_term": "quartic"})


def test_times_are_every_subsampled_step():
    np.testing.assert_allclose(decay(dt=0.05, subsample=10, steps=4)["time"], [0, 0.5, 1.0, 1.5, 2.0], rtol=1e-14)


def test_a_finer_step_gives_the_same_states_at_the_same_times():
    coarse, fine = decay(dt=0.1, subsample=2, steps=5), decay(dt=0.05, subsample=4, steps=5)
    np.testing.assert_allclose(fine["time"], coarse["time"], rtol=1e-14)
    np.testing.assert_allclose(fine["state_true"], coarse["state_true"], rtol=0, atol=1e-8)


def test_initial_states_fill_their_bounds():
    initial = decay(train=300, steps=1)["state_true"].values[:, 0]
    assert (initial >= [1, 3]).all() and (initial <= [2, 4]).all()
    np.testing.assert_allclose(initial.min(0), [1, 3], atol=0.05)
    np.testing.assert_allclose(initial.max(0), [2, 4], atol=0.05)


@pytest.mark.parametrize("noise", [0.01, 0.5])
def test_noise_has_its_standard_deviation_at_every_time_and_component(noise):
    dataset = decay(train=200, steps=2, noise=noise)
    error = (dataset["state"] - dataset["state_true"]).values
    np.testing.assert_allclose(error.std(0), noise, rtol=0.2)
    np.testing.assert_allclose(error.mean(0), 0, atol=0.2 * noise)
    assert dataset.attrs["noise"] == noise


def test_without_noise_the_observed_state_is_the_true_one():
    dataset = decay(noise=0.0)
    np.testing.assert_array_equal(dataset["state"], dataset["state_true"])


def test_the_same_seed_gives_the_same_data_and_another_seed_other_data():
    first, again, other = (decay(seed=seed) for seed in (1, 1, 2))
    assert again.identical(first)
    for name in ("state", "state_true"):
        assert not np.isin(other[name].values[:, 0], first[name].values[:, 0]).any()


@pytest.mark.parametrize("changed", SPLITS)
def test_the_size_of_a_split_changes_no_other(changed):
    before, after = decay(), decay(**{changed: 6})
    for split in SPLITS:
        if split == changed:
            assert split_states(after, split).shape == (6, 11, 2)
        else:
            np.testing.assert_array_equal(split_states(after, split), split_states(before, split))


def test_splits_differ_from_each_other():
    dataset = decay(train=2, validation=2, test=2)
    train, validation, test = (split_states(dataset, split) for split in SPLITS)
    assert not np.isin(train, validation).any() and not np.isin(validation, test).any()


@pytest.mark.parametrize(
    ("dataset", "components", "units", "truth"),
    [
        (lambda: pendulum.simulate(PENDULUM), ["angle", "angular velocity"], ["rad", "rad s-1"], {"omega": 1.0472}),
        (lambda: duffing.simulate(DUFFING), ["position", "velocity"], ["m", "m s-1"], {"alpha": 1.0, "beta": 1.0}),
    ],
    ids=["pendulum", "duffing"],
)
def test_data_say_what_they_are(dataset, components, units, truth):
    data = dataset()
    assert data["state"].dims == ("sample", "time", "component")
    assert data["component"].values.tolist() == components
    assert data["component_units"].values.tolist() == units
    assert data["time"].attrs["units"] == "s"
    assert json.loads(data.attrs["truth"]) == truth
    assert data.attrs["synthetic"] == "yes"


def of_one(field, bounds=(1.0, 2.0), **changes):
    return simulate_ode(field, np.array([bounds]), {"x": "m"}, COMMON | {"steps": 50} | changes, {})


FAILURES = {
    "blows up": (lambda t, x: x**2, r"train sample 0: the solver stopped at t = 0\.\d+ of 10, .*step size"),
    "negative root": (lambda t, x: -np.sqrt(x), r"train sample 0: the solver stopped at t = [23]\.\d+ of 10"),
    "from the start": (
        lambda t, x: np.log(-x),
        r"train sample 0: dx/dt is not finite at t = 0, from .* \[1\.\d+\]$",
    ),
    "infinite": (lambda t, x: np.full(1, np.inf), "train sample 0: dx/dt is not finite at t = 0"),
}


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("name", FAILURES)
def test_what_cannot_be_solved_is_refused_with_sample_time_and_reason(name):
    field, message = FAILURES[name]
    with pytest.raises(UserError, match=f"^simulate: {message}") as caught:
        of_one(field)
    assert "\n" not in str(caught.value)


def test_the_sample_that_fails_is_named():
    """Only some of them are beyond the point of no return."""
    with pytest.raises(UserError) as caught:
        of_one(lambda t, x: x**2 - 1.05 * x, (0.5, 1.1), train=10)
    found = re.match(r"simulate: (\w+) sample (\d+): .* from the initial state \[(.*)\]: ", str(caught.value))
    assert int(found[2]) > 0 and float(found[3]) > 1.05


OWN = """
import numpy as np
import xarray as xr


def simulate(constants):
    x = np.ones((2, 3))
    x[1, 2] = constants["x"]
    return {result}
"""


@pytest.mark.parametrize(
    ("result", "x", "message"),
    [
        (
            "xr.Dataset({'y': (('sample', 'time'), x)})",
            np.inf,
            "^simulate: y is inf at sample 1, time 2, counted",
        ),
        ("xr.Dataset({'y': (('sample', 'time'), x)})", np.nan, "^simulate: y is nan at sample 1, time 2"),
        ("None", 1.0, "returns NoneType, not an xarray Dataset"),
        ("x / constants['z']", 1.0, r"own.py, line 9: KeyError: 'z'$"),
    ],
)
def test_a_simulation_of_ones_own_that_gives_no_data_is_refused(tmp_path, result, x, message):
    (tmp_path / "own.py").write_text(OWN.format(result=result))
    with pytest.raises(UserError, match=message):
        simulated({"module": str(tmp_path / "own.py"), "data": {"x": {"value": x}}})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dt": 0}, "data.dt: 0 is not a finite number above 0"),
        ({"dt": float("inf")}, "data.dt: inf is not a finite number"),
        ({"steps": 0}, "data.steps: 0 is not a whole number from 1 on"),
        ({"steps": 2.5}, "data.steps: 2.5 is not a whole number"),
        ({"subsample": True}, "data.subsample: True is not a whole number"),
        ({"noise": "0.02"}, "data.noise: '0.02' is not a finite number from 0 on"),
        ({"noise": -0.02}, "data.noise: -0.02 is not"),
    ],
)
def test_constants_that_make_no_sense_are_named(changes, message):
    with pytest.raises(UserError, match=f"^{re.escape(message)}"):
        decay(**changes)


def test_initial_states_and_rates_that_make_no_sense_are_named():
    bounds = np.array([[1.0, 2.0], [4.0, 3.0]])
    with pytest.raises(UserError, match="initial states of y from 4 to 3 are no interval"):
        simulate_ode(lambda t, x: -x, bounds, {"x": "m", "y": "kg"}, COMMON, {})
    with pytest.raises(UserError, match=r"bounds of shape \(2, 2\) for 1 components \(x\)"):
        simulate_ode(lambda t, x: -x, bounds, {"x": "m"}, COMMON, {})
    with pytest.raises(UserError, match=r"the true dx/dt has shape \(1,\), the state \(2,\)"):
        simulate_ode(lambda t, x: -x[:1], np.sort(bounds), {"x": "m", "y": "kg"}, COMMON, {})
