"""Why a run diverged: what is said of the first operation that is not finite, and where."""

import logging
import re

import numpy as np
import pandas as pd
import pytest
import torch
import xarray as xr

import hybridsam
from hybridsam import MLP, HybridODE, HybridSum, Parameter, Parameters, Solver, simulate_ode
from hybridsam.core.methods import get_method
from hybridsam.training.divergence import reason
from hybridsam.training.loop import initial_state

SIZES = {"train": 4, "validation": 2, "test": 2, "steps": 6, "dt": 1.0, "subsample": 1, "noise": 0.0, "seed": 0}
NAMES = {"upper": "m", "lower": "m"}


def tanks(science, start=0.1, bounds=((0.5, 1.0), (0.5, 1.0)), network_scale=1e-6):
    """Two tanks, of which one runs into the other: dataset and a model of the levels."""

    def rates(t, x):
        return np.array([-0.02, 0.01]) * np.sqrt(x)

    dataset = simulate_ode(rates, np.array(bounds), NAMES, SIZES, truth={"k": 0.1})
    theta = Parameters([Parameter("k", "m.5 s-1", start)])
    return dataset, HybridODE(science, theta, MLP((2, 4, 2)), Solver(step=1.0), network_scale)


def why(dataset, model, training, method="erm", rho=0.0, updates=0, dtype="float64"):
    how = training(dtype=dtype)
    state = initial_state(model, [0], how)
    state.updates[0] = updates
    data = model.data(dataset, "train", getattr(torch, dtype), "cpu")
    return reason(model, get_method(method), rho, data, dataset, state, 0, how)


def line_of(function, offset):
    return f"(test_divergence.py, line {function.__code__.co_firstlineno + offset})"


def sunken(theta, x):
    upper, lower = x.unbind(-1)
    sunk = torch.sqrt(lower - 0.4 - theta["k"])
    return torch.stack([-0.02 * upper, -0.1 - 0.01 * sunk], -1)


def test_the_operation_its_line_time_sample_and_state_are_named(training):
    dataset, model = tanks(sunken, bounds=((0.5, 1.0), (0.6, 0.7)))
    said = why(dataset, model, training)
    match = re.match(
        r"sqrt\(-([\d.e-]+)\) (\(.*\)) at t = ([\d.]+) s of training sample (\d), "
        r"where upper = ([\d.]+) m, lower = ([\d.]+) m, with the network as it starts$",
        said,
    )
    assert match, said
    assert match[2] == line_of(sunken, 2)
    assert float(match[6]) - 0.5 == pytest.approx(-float(match[1]), rel=1e-2)
    states = dataset["state"].values[np.flatnonzero(dataset["split"] == "train")[int(match[4])]]
    assert float(match[5]) < states[0, 0] and float(match[3]) > 0


def logarithm(theta, x):
    return torch.log(theta["k"][..., None] - x)


def division(theta, x):
    ones = torch.ones_like(x)
    return ones / (theta["k"] - theta["k"]) * x


def power(theta, x):
    return (theta["k"] - x) ** 0.5


def masked(theta, x):
    safe = torch.where(x > 0, torch.sqrt(x - 100), torch.zeros_like(x))
    return torch.where(x > 0, -0.1 * x, safe) + torch.log(theta["k"] - 1)


@pytest.mark.parametrize(
    ("science", "start", "begins", "offset"),
    [
        (logarithm, 0.1, "log(-", 1),
        (division, 0.1, "division(1, 0)", 2),
        (power, 0.1, "pow(-", 1),
    ],
)
def test_kinds_of_operations_are_named(training, science, start, begins, offset):
    said = why(*tanks(science, start), training)
    assert said.startswith(begins) and line_of(science, offset) in said
    assert " at t = 0 s of training sample 0, where upper = " in said


def test_what_is_masked_is_not_blamed(training):
    """An unused branch may be NaN; what reaches the rate of change is the logarithm of a negative number."""
    said = why(*tanks(masked, 0.5), training)
    assert said.startswith("log(-0.5)") or said.startswith("sqrt(")
    assert "at t = 0 s" in said


def growing(theta, x):
    return torch.exp(theta["k"] * 1e3 * x.abs()) * x


def test_a_state_that_runs_away_is_said_to(training):
    said = why(*tanks(growing, 1.0), training, dtype="float32")
    assert "exp(" in said or "runs away" in said
    assert "at t = " in said


def rooted(theta, x):
    return -torch.sqrt((theta["k"] * (x - x)).abs())


def test_a_gradient_that_is_not_finite_is_named_though_the_loss_is(training):
    """The square root of 0 is 0, and its slope infinite."""
    said = why(*tanks(rooted), training)
    assert said.startswith(f"the slope of sqrt(0) {line_of(rooted, 1)} at t = ")
    assert said.endswith("with the network as it starts")


def test_the_second_pass_of_a_perturbed_network_counts_as_well(training):
    def flowing(theta, x):
        upper, lower = x.unbind(-1)
        return torch.stack([-0.02 * theta["k"] * upper, 0.01 * torch.sqrt(lower)], -1)

    dataset, model = tanks(flowing, network_scale=0.01)
    assert why(dataset, model, training).startswith("the loss or its gradient was not finite, and is where training")
    assert why(dataset, model, training, "sam", rho=100.0).startswith("sqrt(-")


def test_it_is_said_how_far_training_had_come(training):
    assert why(*tanks(logarithm), training, updates=17).endswith("with the network as it is after 17 updates")


def test_of_a_law_the_sample_is_named(training):
    table = {
        "inputs": {"u": "m"},
        "target": {"y": "s"},
        "split": {"by": "sample", "train": 4, "validation": 2, "test": 2},
    }
    u = np.array([1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0])
    dataset = hybridsam.dataset_of(pd.DataFrame({"u": u, "y": u**2}), table)
    low = int(np.argmin(dataset["u"].values[dataset["split"].values == "train"]))
    smallest = float(dataset["u"].values[dataset["split"].values == "train"].min())

    def science(theta, u):
        return torch.log(u["u"] - theta["k"])[..., None]

    theta = Parameters([Parameter("k", "m", smallest + 0.5)])
    model = HybridSum(science, theta, MLP((1, 4, 1)), "target", ("u",), {"u": 1.0}, True)
    assert why(dataset, model, training).startswith(
        f"log(-0.5) {line_of(science, 1)} at training sample {low}, with the network as it starts"
    )


@pytest.mark.slow
def test_reasons_are_in_the_log_and_in_the_runs(caplog):
    dataset, model = tanks(sunken, bounds=((0.5, 1.0), (0.6, 0.7)))
    with caplog.at_level(logging.WARNING):
        runs = hybridsam.fit(model, dataset, {"erm": [0], "sam": [0.1]}, 2, "cpu", progress=False, iterations=25)
    assert (runs["status"] != "completed").all()
    diverged = runs["status"] == "diverged"
    assert all(why.startswith("sqrt(-") for why in runs["reason"].values[diverged.values])
    assert set(runs["reason"].values[~diverged.values]) == {""}
    lines = [line for line in caplog.messages if "diverged: sqrt(-" in line]
    assert len(lines) == 2 and lines[0].startswith("erm, rho = 0, seeds [0, 1]: diverged: sqrt(-")


def test_a_run_that_runs_away_on_test_data_alone_says_so(caplog):
    """It is in order where it was trained, and its numbers are not to be averaged."""

    def science(theta, x):
        return -theta["k"].unsqueeze(-1) * x + x**3

    start = np.array([0.2, 0.3, 0.4, 0.3, 9.0])
    times = np.linspace(0, 2, 9)
    dataset = xr.Dataset(
        {"state": (("sample", "time", "component"), start[:, None, None] * np.exp(-times)[None, :, None])},
        coords={"time": times, "component": ["x"], "split": ("sample", [*["train"] * 3, "validation", "test"])},
        attrs={"target": "state"},
    )
    model = HybridODE(science, Parameters([Parameter("k", "s-1", 1.0)]), MLP((1, 4, 1)), Solver(step=0.05))
    runs = hybridsam.fit(model, dataset, {"erm": [0]}, 2, "cpu", False, iterations=5)
    assert set(runs["status"].values.ravel()) == {"completed"} and runs["y_error"].sel(split="test").isnull().all()
    why = "predictions of test data are not finite"
    assert set(runs["reason"].values.ravel()) == {why} and f"completed: {why}" in caplog.text
