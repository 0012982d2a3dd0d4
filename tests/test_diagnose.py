"""Identifiability: closed forms, finite differences, and functional regularisation reaching the least-norm theta."""

from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr

from hybridsam.analysis.identifiability import (
    NO_NETWORK,
    as_table,
    fit_science_only,
    identify,
    least_norm_theta,
    science_jacobian,
)
from hybridsam.core.errors import UserError
from hybridsam.core.methods import METHODS
from hybridsam.core.settings import load, merge, values_of
from hybridsam.models.networks import MLP
from hybridsam.models.ode import HybridODE
from hybridsam.models.parameters import Parameter, Parameters
from hybridsam.models.samples import trajectories
from hybridsam.models.solver import Solver
from hybridsam.tasks import duffing, pendulum
from hybridsam.training.loop import Training, train
from hybridsam.training.loss import Loss

ROOT = Path(__file__).parents[1]


def shipped(task, **changes):
    """The model and the training data of a shipped task file."""
    only_training = {"data": {"validation": {"value": 1}, "test": {"value": 1}}}
    settings = merge(merge(load(str(ROOT / f"config/tasks/{task}.yaml")), only_training), changes)
    module = {"pendulum": pendulum, "duffing": duffing}[task]
    return module.build(settings["model"]), module.simulate(values_of(settings["data"]))


def training_states(dataset: xr.Dataset) -> np.ndarray:
    """(sample * time, component) without noise."""
    return dataset["state_true"].values[dataset["split"].values == "train"].reshape(-1, 2)


def test_least_norm_theta_of_the_pendulum_is_a_linear_regression_for_omega_squared():
    model, dataset = shipped("pendulum")
    q, p = training_states(dataset).T
    omega = 2 * np.pi / 6
    acceleration = -(omega**2) * np.sin(q) - 0.2 * p
    regression = -(acceleration @ np.sin(q)) / (np.sin(q) @ np.sin(q))
    assert least_norm_theta(model, dataset)[0] == pytest.approx(np.sqrt(regression), rel=1e-6)


VARIANTS = {  # which term is known, its moments, and the sign of alpha
    "linear": (2, {"model": {"known_term": "linear"}}),
    "cubic": (6, {"model": {"known_term": "cubic"}}),
    "double well": (6, {"model": {"known_term": "cubic"}, "data": {"alpha": {"value": -1.0}}}),
}


@pytest.mark.parametrize("name", VARIANTS)
def test_least_norm_theta_of_duffing_has_the_closed_form_that_its_documentation_states(name):
    power, changes = VARIANTS[name]
    model, dataset = shipped("duffing", **changes)
    x = training_states(dataset)[:, 0]
    alpha = changes.get("data", {}).get("alpha", {"value": 1.0})["value"]
    unknown = x**3 if power == 2 else alpha * x
    known = x if power == 2 else x**3
    expected = 1 + (unknown @ known) / (known @ known)
    found = least_norm_theta(model, dataset)[0]
    assert found == pytest.approx(expected, rel=1e-6)
    lines = (ROOT / "docs/duffing.md").read_text().splitlines()
    assert f"| {name} | 1 | {found:.3f} |" in lines


def test_least_norm_theta_needs_the_true_rate_of_change():
    model, dataset = shipped("pendulum")
    with pytest.raises(UserError, match="rate_true"):
        least_norm_theta(model, dataset.drop_vars("rate_true"))
    assert identify(model, dataset.drop_vars("rate_true")).least_norm is None


def test_jacobian_agrees_with_finite_differences():
    model, dataset = shipped("pendulum")
    data = trajectories(dataset.isel(sample=slice(0, 3)), "train", torch.float64)
    omega, h = 1.1, 1e-5
    low, high = (
        model.predict_science(torch.tensor([[v]], dtype=torch.float64), NO_NETWORK, data).flatten()
        for v in (omega - h, omega + h)
    )
    jacobian = science_jacobian(model, np.array([omega]), data)
    np.testing.assert_allclose(jacobian[:, 0], (high - low) / (2 * h), atol=1e-6)


@pytest.mark.slow
def test_science_only_fit_is_not_caught_in_the_local_minimum_beside_its_start():
    model, dataset = shipped("duffing")
    data = trajectories(dataset, "train", torch.float64)
    costs = [
        (model.predict_science(torch.tensor([[alpha]], dtype=torch.float64), NO_NETWORK, data) - data.targets)
        .square()
        .mean()
        for alpha in (fit_science_only(model, data)[0], identify(model, dataset).science_only[0])
    ]
    assert costs[1] < 0.5 * costs[0]


def test_rank_sees_a_product_of_two_parameters():
    rows = [Parameter(name, "1", start=start) for name, start in (("a", 0.7), ("b", 1.3))]
    model = HybridODE(
        lambda theta, x: -theta["a"].unsqueeze(-1) * theta["b"].unsqueeze(-1) * x,
        Parameters(rows),
        MLP((1, 4, 1)),
        Solver(step=0.1),
    )
    times = np.linspace(0, 2, 11)
    decay = np.exp(-times)[None, :, None] * np.array([1.0, 2.0])[:, None, None]
    dataset = xr.Dataset(
        {"state": (("sample", "time", "component"), decay)},
        coords={"time": times, "split": ("sample", ["train", "train"])},
    )
    found = identify(model, dataset)
    assert found.rank == 1
    assert found.science_only.prod() == pytest.approx(1.0, rel=1e-5)


def test_table_names_every_parameter_with_its_truth():
    model, dataset = shipped("duffing")
    table = as_table(model, dataset)
    assert table["parameter"].tolist() == ["alpha"]
    assert table["true"].tolist() == [1.0]
    assert table["rank"].tolist() == [1]


@pytest.mark.slow
@pytest.mark.parametrize("start", [0.8, 1.2])
def test_functional_regularisation_reaches_the_least_norm_theta(start):
    small = {"train": 10, "validation": 2, "test": 2, "noise": 0.0}
    changes = {"data": {name: {"value": value} for name, value in small.items()}}
    changes["model"] = {"hidden": [32, 32], "theta": {"omega": {"start": start}}, "solver": {"step": 0.5}}
    model, dataset = shipped("pendulum", **changes)
    data, validation = (trajectories(dataset, split) for split in ("train", "validation"))
    training = Training(700, 1e-2, 1e-5, 10, 10, "network", 700, 20, "float32")
    seeds = range(4)
    state = train(Loss(model), METHODS["freg"], [0.1] * len(seeds), seeds, data, validation, training)
    trained, expected = state.history["theta"][-1].mean().item(), least_norm_theta(model, dataset)[0]
    truth = 2 * np.pi / 6
    assert abs(trained - expected) < 4e-3 < abs(truth - expected) / 2
