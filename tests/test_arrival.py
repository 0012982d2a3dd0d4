"""Whether theta arrived: what is recorded of its way, and what is said of it."""

import logging
import re

import numpy as np
import pytest
import torch

import hybridsam
from hybridsam.analysis.arrival import remarks, ways
from hybridsam.models.parameters import Parameter
from hybridsam.models.solver import Solver
from hybridsam.training.loop import initial_state
from hybridsam.training.movement import movement


def moved(model, training, way, **changes):
    """What is recorded of a member whose theta goes that way, a function of the part of all learning that is done."""
    how = training(**{"iterations": 1000, "record_every": 10} | changes)
    state = initial_state(model, [0], how)
    rates = np.cumsum([0.0, *map(how.rate, range(how.iterations))])
    for row, step in enumerate(how.recorded_steps):
        state.history["theta"][row] = way(rates[step] / rates[-1])
    found = movement(state, how, state.history["theta"][-1].double())
    return {name: values.item() for name, values in found.items()}


def test_a_theta_that_goes_on_evenly_would_go_as_far_again(model, training):
    found = moved(model, training, lambda done: 3 - 2 * done)
    assert found["theta_moved"] == pytest.approx(-2)
    assert found["theta_moved_late"] == pytest.approx(-0.2, rel=0.1)
    assert found["theta_drift"] == pytest.approx(-2, rel=1e-3)


def test_a_theta_that_comes_to_rest_drifts_no_more(model, training):
    found = moved(model, training, lambda done: 1 + min(done, 0.5))
    assert found["theta_moved"] == pytest.approx(0.5)
    assert found["theta_moved_late"] == found["theta_drift"] == 0


def test_the_last_tenth_counts_learning_rates_and_not_steps(model, training):
    """Annealing ends at nearly nothing: the last tenth of the steps would be at rest however far theta has to go."""
    late = moved(model, training, lambda done: done, learning_rate=1e-2, learning_rate_final=0.0)["theta_moved_late"]
    even = moved(model, training, lambda done: done, learning_rate=1e-2, learning_rate_final=1e-2)["theta_moved_late"]
    assert late == pytest.approx(0.1, rel=0.1) and even == pytest.approx(0.1, rel=0.1)


def test_of_records_at_start_and_end_alone_no_drift_is_known(model, training):
    found = moved(model, training, lambda done: done, record_every=1000)
    assert found["theta_moved"] == 1 and np.isnan(found["theta_drift"])


# What is said


def cooling(unit, truth=120.0, start=60.0, **parameter):
    """dT/dt = -U (T - 20) / 4000 and 2 % more that the science leaves out, with U in W/K times the unit."""

    def rates(t, x):
        return -truth / 4000 * (x - 20) * 1.02

    sizes = {"train": 4, "validation": 2, "test": 2, "steps": 8, "dt": 2.0, "subsample": 2, "noise": 0.0, "seed": 0}
    dataset = hybridsam.simulate_ode(rates, np.array([[40, 80]]), {"T": "degC"}, sizes, truth={"U": truth * unit})

    def science(theta, x):
        (temperature,) = x.unbind(-1)
        return torch.stack([-theta["U"] / (4000 * unit) * (temperature - 20)], -1)

    theta = hybridsam.Parameters([Parameter("U", "W K-1", start=start * unit, **parameter)])
    return hybridsam.HybridODE(science, theta, hybridsam.MLP((1, 8, 1)), hybridsam.Solver(step=2.0)), dataset


HOW = {"iterations": 60, "learning_rate": 1e-2, "record_every": 5, "dtype": "float64"}


def trained(*cooled, seeds=2, **changes):
    methods = changes.pop("methods", {"erm": [0], "fsam": [0.05]})
    return hybridsam.fit(*cooled, methods, seeds, "cpu", progress=False, **HOW | changes)


@pytest.fixture(scope="module")
def in_three_units():
    return {unit: trained(*cooling(unit)) for unit in (1e-3, 1.0, 1e3)}


@pytest.mark.slow
def test_the_same_runs_in_three_units_of_theta_agree(in_three_units):
    expected = in_three_units[1.0]
    assert abs(expected["theta_moved"]).min() > 1  # of 60
    for unit, runs in in_three_units.items():
        for name in ("theta", "theta_history", "theta_moved", "theta_drift", "theta_error"):
            np.testing.assert_allclose(runs[name] / unit, expected[name], rtol=1e-6)
        np.testing.assert_allclose(runs["y_error"], expected["y_error"], rtol=1e-6)
        np.testing.assert_allclose(runs["phi"], expected["phi"], rtol=1e-6, atol=1e-9)


@pytest.mark.slow
def test_what_is_said_of_them_is_the_same_but_for_the_unit(in_three_units):
    tables = {unit: ways(runs) for unit, runs in in_three_units.items()}
    for unit, table in tables.items():
        found = ["method", "rho", "seed", "not_arrived", "hardly_left", "feeble"]
        assert table[found].equals(tables[1.0][found])
        np.testing.assert_allclose(table["influence"], tables[1.0]["influence"], rtol=1e-6)
        np.testing.assert_allclose(table["size"], 60 * unit)
        np.testing.assert_allclose(table["moved"] / unit, tables[1.0]["moved"], rtol=1e-6)


def test_a_theta_too_far_from_its_start_for_its_scale_is_named_with_the_numbers(caplog):
    """Trained as if its size were one, in mW/K, it stays where it began, and no spread of the seeds says so."""
    with caplog.at_level(logging.WARNING):
        runs = trained(*cooling(1e3, scale=1.0))
    assert float(runs["theta"].std("seed").max()) < 1
    [line] = [line for line in caplog.messages if "hardly left" in line]
    assert line.startswith("theta.U has hardly left its start: erm in 2 of 2 runs (600")
    assert line.count("W K-1 from 60000 W K-1)") == 2 and "fsam at rho = 0.05 in 2 of 2 runs" in line


def test_a_theta_that_is_still_on_its_way_is_named_with_what_is_left(caplog):
    with caplog.at_level(logging.WARNING):
        runs = trained(*cooling(1.0), learning_rate=2e-3)
    assert runs["theta"].max() < 119
    [line] = [line for line in caplog.messages if "has not arrived" in line]
    assert line.startswith("theta.U has not arrived, and as much training again would add what is named, ")
    assert re.search(r": erm in 2 of 2 runs \([\d.]+ W K-1, [+-][\d.e+]+ W K-1\); fsam at rho = 0.05 in ", line)


@pytest.mark.slow
def test_nothing_is_said_of_a_theta_that_arrived():
    runs = trained(*cooling(1.0), iterations=800, methods={"freg": [10.0]})  # the network does next to nothing
    table = ways(runs)
    assert len(table) == 2 and remarks(table) == []
    assert float(abs(runs["theta"] - 1.02 * 120).max()) < 2


def test_diverged_and_missing_runs_say_nothing():
    runs = trained(*cooling(1.0))
    runs["status"][0, 0, 0] = "diverged"
    assert len(ways(runs)) == 3
    runs["status"][:] = "diverged"
    assert len(ways(runs)) == 0 and remarks(ways(runs)) == []


@pytest.mark.parametrize(("moved", "expected"), [(2.99, 1), (3.01, 0), (-2.99, 1), (-60.0, 0)])
def test_hardly_is_less_than_a_twentieth_of_the_size(in_three_units, moved, expected):
    runs = in_three_units[1.0].isel(seed=[0], training_method=[0], rho=[0]).copy(deep=True)
    runs["theta_moved"][:] = moved
    assert ways(runs)["hardly_left"].tolist() == [bool(expected)]


def test_what_is_said_is_of_the_runs_of_which_it_is_said(in_three_units):
    """And not of those beside them, which moved."""
    runs = in_three_units[1.0].isel(training_method=[0], rho=[0]).copy(deep=True)
    runs["theta_moved"][0, 0, :, 0], runs["theta"][0, 0, :, 0], runs["theta_drift"][:] = [1, 60], [61, 120], 0
    assert remarks(ways(runs)) == ["theta.U has hardly left its start: erm in 1 of 2 runs (61 W K-1 from 60 W K-1)"]


@pytest.mark.parametrize(("start", "is_felt"), [pytest.param(60.0, True, marks=pytest.mark.slow), (6e-6, False)])
def test_a_theta_that_starts_so_small_that_its_steps_change_nothing_is_not_called_arrived(caplog, start, is_felt):
    """It may double, and is seven orders of magnitude from where it has to be."""
    with caplog.at_level(logging.WARNING):
        runs = trained(*cooling(1.0, start=start), seeds=1)
    lines = [line for line in caplog.messages if line.startswith("theta.U changes nothing in steps of the size")]
    assert len(lines) == (not is_felt) and (runs["theta_influence"].sel(training_method="erm", rho=0) > 1e-3) == is_felt
    assert is_felt or "changes predictions by " in lines[0]


@pytest.mark.slow
@pytest.mark.parametrize("bounds", [{"upper": 100.0}, {"lower": 40.0, "upper": 100.0}, {}])
def test_a_theta_that_its_bound_holds_is_named_with_the_bound(caplog, bounds):
    """The data would have it at 122."""
    transform = {0: "none", 1: "softplus", 2: "sigmoid"}[len(bounds)]
    with caplog.at_level(logging.WARNING):
        trained(*cooling(1.0, transform=transform, **bounds), seeds=1, iterations=2000, methods={"freg": [10.0]})
    lines = [line for line in caplog.messages if "pressed against its bound" in line]
    assert len(lines) == bool(bounds)
    assert not bounds or re.search(r"freg at rho = 10 in 1 of 1 runs \(99\.[0-9]+ W K-1, bound 100 W K-1\)$", lines[0])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("solver", "is_coarse", "start"),
    [
        (Solver(step=0.25), False, 0.9),
        (Solver(step=2.0), True, 0.9),
        (Solver("dopri5"), False, 1.0),  # it takes long to get there
    ],
)
def test_steps_so_long_that_theta_makes_up_for_their_errors_are_named(caplog, solver, is_coarse, start):
    def oscillation(t, x):
        return np.array([x[1], -x[0]])

    def science(theta, x):
        q, p = x.unbind(-1)
        return torch.stack([p, -theta["k"] * q], -1)

    sizes = {"train": 4, "validation": 2, "test": 2, "steps": 4, "dt": 2.0, "subsample": 1, "noise": 0.0, "seed": 0}
    quantities = {"q": "m", "p": "m s-1"}
    dataset = hybridsam.simulate_ode(oscillation, np.array([[1, 2], [1, 2]]), quantities, sizes, truth={"k": 1.0})
    theta = hybridsam.Parameters([Parameter("k", "s-2", start)])
    with caplog.at_level(logging.WARNING):
        model = hybridsam.HybridODE(science, theta, hybridsam.MLP((2, 8, 2)), solver)
        runs = trained(model, dataset, seeds=1, methods={"freg": [1.0]}, iterations=300 if start < 1 else 30)
    lines = [line for line in caplog.messages if line.startswith("the solver takes too long steps")]
    assert len(lines) == is_coarse and (abs(float(runs["theta"].item()) - 1) > 0.02) == is_coarse
    assert not is_coarse or re.search(
        r"freg at rho = 1 in 1 of 1 runs \(half as long, they change predictions by 0\.", lines[0]
    )
