"""Identifiability: closed forms, finite differences, and functional regularisation reaching the least-norm theta."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr
from scipy.stats import linregress, t

from hybridsam.analysis.identifiability import (
    NO_NETWORK,
    as_table,
    fit_science_only,
    identify,
    least_norm_theta,
    science_jacobian,
)
from hybridsam.cli.main import main
from hybridsam.core import records
from hybridsam.core.errors import UserError
from hybridsam.core.methods import METHODS
from hybridsam.core.settings import load, merge, values_of
from hybridsam.data.simulate import simulate_ode
from hybridsam.models.law import HybridSum
from hybridsam.models.networks import MLP
from hybridsam.models.ode import HybridODE
from hybridsam.models.parameters import Parameter, Parameters
from hybridsam.models.samples import trajectories
from hybridsam.models.solver import Solver
from hybridsam.report import fragments, task_page
from hybridsam.tasks import duffing, pendulum
from hybridsam.training.compiled import faster_loss
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


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
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


def line(unit=1.0, n=40, seed=0, noise=0.1):
    """y = a + b u with independent noise, and the science that is all of it; b is in units of that size."""
    rng = np.random.default_rng(seed)
    u = rng.uniform(0, 5, n)
    dataset = xr.Dataset(
        {"y": (("sample", "component"), (2 + 3 * u + noise * rng.normal(size=n))[:, None]), "u": ("sample", u)},
        coords={"split": ("sample", ["train"] * n)},
        attrs={"target": "y"},
    )
    rows = [Parameter("a", "m", 1.0), Parameter("b", "m s-1", unit)]

    def science(theta, u):
        return (theta["a"] + theta["b"] / unit * u["u"]).unsqueeze(-1)

    return HybridSum(science, Parameters(rows), MLP((1, 4, 1)), "y", ("u",), {"u": 1.0}, False), dataset


def test_the_standard_error_of_a_straight_line_is_that_of_regression():
    model, dataset = line()
    found, expected = identify(model, dataset), linregress(dataset["u"], dataset["y"][:, 0])
    np.testing.assert_allclose(found.science_only, [expected.intercept, expected.slope], rtol=1e-8)
    np.testing.assert_allclose(found.standard_error, [expected.intercept_stderr, expected.stderr], rtol=1e-6)


def test_rank_condition_and_relative_standard_error_do_not_depend_on_units():
    one, other = (identify(*line(unit)) for unit in (1.0, 1e9))
    assert one.rank == other.rank == 2 and one.told_by_science.all() and other.told_by_science.all()
    assert other.condition == pytest.approx(one.condition, rel=1e-5) and one.condition < 100
    np.testing.assert_allclose(other.standard_error, one.standard_error * [1, 1e9], rtol=1e-5)


@pytest.mark.slow
def test_the_standard_error_covers_the_truth_as_often_as_it_says():
    """Of noise, where nothing is missing: within the error of 200 trials, of each parameter."""
    of_t = t.ppf(0.975, 38)
    found = [identify(*line(seed=seed)) for seed in range(200)]
    inside = np.mean([abs(one.science_only - [2, 3]) < of_t * one.standard_error for one in found], axis=0)
    assert (abs(inside - 0.95) < 3 * (0.95 * 0.05 / 200) ** 0.5).all(), inside


def test_what_the_science_alone_cannot_tell_has_no_standard_error():
    model, dataset = line()
    model.science = lambda theta, u: ((theta["a"] + theta["b"]) * u["u"] + 2).unsqueeze(-1)
    found = identify(model, dataset)
    assert found.rank == 1 and np.isinf(found.standard_error).all() and found.condition == np.inf
    few = identify(*line(n=2, noise=0.0))
    assert np.isnan(few.standard_error).all()


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


@pytest.mark.slow
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
    loss = faster_loss(model, data) or Loss(model)
    state = train(loss, METHODS["freg"], [0.1] * len(seeds), seeds, data, validation, training)
    trained, expected = state.history["theta"][-1].mean().item(), least_norm_theta(model, dataset)[0]
    truth = 2 * np.pi / 6
    assert abs(trained - expected) < 4e-3 < abs(truth - expected) / 2


# Mistakes, and what a fit has to say


def spring(parameters, science=None, steps=10, solver=0.1, **sizes):
    """A spring of stiffness 12, and a model of it."""
    sizes = {"train": 6, "validation": 2, "test": 2, "dt": 0.1, "subsample": 1, "noise": 0.01, "seed": 0} | sizes
    starts, units = np.array([[0.5, 1.0], [-1.0, 1.0]]), {"position": "m", "velocity": "m s-1"}
    dataset = simulate_ode(
        lambda t, x: np.array([x[1], -12 * x[0]]), starts, units, sizes | {"steps": steps}, {"k": 12.0}
    )

    def known(theta, x):
        return torch.stack([x[..., 1], -theta["k"] * x[..., 0]], -1)

    return HybridODE(science or known, Parameters(parameters), MLP((2, 4, 2)), Solver(step=solver)), dataset


STIFFNESS = Parameter("k", "s-2", 5.0)
MISTAKES = {
    "misspelt": (lambda theta, x: -theta["kk"][..., None] * x, r"asks for 'kk', which is not there: theta has k"),
    "wrong shape": (lambda theta, x: theta["k"] * x[..., 0], r"returns shape \(3, 2\), not \(3, 2, 2\)"),
    "numpy": (lambda theta, x: theta["k"][..., None] * np.sqrt(x + theta["k"][..., None]), r"fails on .*NumPy"),
    "not used": (lambda theta, x: x * 2, r"^theta.k: has no influence on the prediction"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_model_that_could_not_be_trained_is_not_diagnosed(name):
    science, message = MISTAKES[name]
    model, dataset = spring([STIFFNESS], science)
    with pytest.raises(UserError, match=message) as caught:
        identify(model, dataset)
    assert "\n" not in str(caught.value)


def test_a_dataset_of_something_else_is_refused():
    model, dataset = spring([STIFFNESS])
    with pytest.raises(UserError, match=r"^dataset: no variable state, which the model predicts$"):
        identify(model, dataset.rename(state="other"))


def test_the_command_says_the_mistake_in_a_line(tmp_path, capsys):
    (tmp_path / "own.py").write_text(
        "from hybridsam import MLP, HybridODE, Parameters, Solver\n\n\n"
        "def build(model):\n"
        "    theta = Parameters.from_settings(model['theta'])\n"
        "    return HybridODE(lambda theta, x: -theta['kk'] * x, theta, MLP((2, 4, 2)), Solver())\n"
    )
    theta = {"k": {"unit": "1", "start": 1.0}}
    (tmp_path / "task.json").write_text(json.dumps({"module": str(tmp_path / "own.py"), "model": {"theta": theta}}))
    records.write(spring([STIFFNESS])[1], tmp_path / "dataset.nc", "dataset", "a spring")
    at = ["diagnose", str(tmp_path / "dataset.nc"), "--settings", str(tmp_path / "task.json")]
    assert main([*at, "--output", str(tmp_path / "identifiability.csv")]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("hybridsam: model: the science f (own.py, line 6) asks for 'kk'")
    assert not (tmp_path / "identifiability.csv").exists()


def test_fewer_numbers_than_parameters_are_told_and_tell_fewer_directions(caplog):
    def forces(theta, x):
        total = theta["a"] + theta["b"] + theta["c"]
        return torch.stack([x[..., 1], -total * x[..., 0]], -1)

    rows = [Parameter(name, "s-2", start) for name, start in (("a", 2.0), ("b", 3.0), ("c", 4.0))]
    model, dataset = spring(rows, forces, steps=1, train=1, noise=0.0)
    table = as_table(model, dataset)
    assert "2 numbers in the training targets cannot tell 3 parameters" in caplog.text
    assert table["rank"].tolist() == [1] * 3 and not table["told_by_science"].any()
    assert table["condition"].tolist() == [np.inf] * 3
    assert table["science_only"].sum() == pytest.approx(12, rel=1e-3)


BOUNDS = {
    "beyond the upper": (Parameter("k", "s-2", 5.0, "sigmoid", 0.0, 10.0), 10.0),
    "inside both": (Parameter("k", "s-2", 5.0, "sigmoid", 0.0, 20.0), np.nan),
    "below the lower": (Parameter("k", "s-2", 14.0, "softplus", 13.0), 13.0),
    "above the lower": (Parameter("k", "s-2", 5.0, "softplus", 0.0), np.nan),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", BOUNDS)
def test_a_bound_at_which_the_fit_ends_is_reported(name):
    row, bound = BOUNDS[name]
    table = as_table(*spring([row]))
    np.testing.assert_array_equal(table["science_only_at_bound"], [bound])


@pytest.mark.slow
def test_the_page_says_that_a_fit_ended_at_a_bound(tmp_path):
    def page(upper):
        table = as_table(*spring([Parameter("k", "s-2", 5.0, "sigmoid", 0.0, upper)]))
        table.to_csv(tmp_path / "identifiability.csv", index=False)
        return task_page.identified(tmp_path), fragments.identifiability(tmp_path)

    said, table = page(10.0)
    assert "k ended at its bound 10." in said and table["science_only_at_bound"].tolist() == [10.0]
    said, table = page(20.0)
    assert "bound" not in said and "science_only_at_bound" not in table
