"""The y-error of the true model from noisy initial states, which no model avoids: closed forms; where there is none."""

import logging

import numpy as np
import pytest
import xarray as xr
from helpers import small
from helpers.blocks import block

from hybridsam.analysis.cube import METRICS, combine, runs_table
from hybridsam.data.simulate import simulate_ode

COMMON = {"dt": 0.1, "subsample": 2, "steps": 6, "noise": 0.05, "seed": 3, "train": 4, "validation": 3, "test": 5}
RATES = np.array([0.7, 2.0])


def decay(standardise=False, **changes):
    """dx/dt = -0.7 x and dy/dt = -2 y."""
    bounds = np.array([[1.0, 2.0], [30.0, 40.0]])
    constants = COMMON | changes
    return simulate_ode(lambda t, x: -RATES * x, bounds, {"x": "m", "y": "s"}, constants, {"a": 0.7}, None, standardise)


def cube_of(dataset):
    """A run whose y-errors are 1, 2 and 3."""
    run = block("erm", 0.0, [0], [[1.0, 2.0]], [[1.0, 2.0, 3.0]])
    scales = {
        name: dataset[name].variable for name in ("target_mean", "target_scale", "target_rate") if name in dataset
    }
    names = {name: dataset[name].variable for name in ("component", "component_units")}
    run = run.assign_coords(scales | names)
    return combine([run], run, dataset)


@pytest.mark.parametrize("standardise", [False, True])
def test_of_linear_decay_it_has_its_closed_form(standardise):
    dataset = decay(standardise)
    states, times = dataset["state"].values, dataset["time"].values
    predicted = states[:, :1] * np.exp(-times[:, None] * RATES)
    np.testing.assert_allclose(dataset["state_of_truth"], predicted, rtol=1e-7)
    scale = dataset["target_scale"].values if standardise else 1.0
    squares = (((predicted - states)[:, 1:] / scale) ** 2).mean((1, 2))
    cube = cube_of(dataset)
    for split, of_run in (("train", 1.0), ("validation", 2.0), ("test", 3.0)):
        expected = squares[dataset["split"].values == split].mean()
        assert cube["y_error_of_truth"].sel(split=split).item() == pytest.approx(expected, rel=1e-6)
        assert cube["y_error_above_truth"].sel(split=split).item() == pytest.approx(of_run - expected)
    assert cube["y_error_of_truth"].dims == ("data", "split")
    [row] = runs_table(cube).to_dict("records")
    assert row["y_error_above_truth"] == cube["y_error_above_truth"].sel(split="test").item()
    assert "y_error_above_truth" in METRICS


@pytest.mark.slow
def test_of_many_samples_it_is_the_noise_and_what_decay_leaves_of_that_of_the_start():
    dataset = decay(test=800, noise=0.3)
    times = dataset["time"].values[1:]
    expected = 0.3**2 * (1 + np.exp(-2 * times[:, None] * RATES).mean())
    assert cube_of(dataset)["y_error_of_truth"].sel(split="test").item() == pytest.approx(expected, rel=0.06)


def test_there_is_none_without_noise_nor_in_data_of_an_older_version():
    assert "state_of_truth" not in decay(noise=0.0)
    for dataset in (decay(noise=0.0), decay().drop_vars("state_of_truth")):
        assert not {"y_error_of_truth", "y_error_above_truth"} & set(cube_of(dataset).variables)


def test_tasks_whose_models_start_from_a_state_have_it_and_images_have_not(tmp_path):
    for task in ("pendulum", "duffing", "reaction_diffusion"):
        dataset = small.dataset_of(task, tmp_path)
        assert dataset["state_of_truth"].dims == dataset["state"].dims
        xr.testing.assert_equal(dataset["state_of_truth"].isel(time=0), dataset["state"].isel(time=0))
    assert "state_of_truth" not in small.dataset_of("pendulum_images", tmp_path, noise=0.1)


def test_noise_that_leads_where_the_true_model_ends_costs_the_error_and_not_the_data(caplog):
    """Below zero the root has no value."""
    bounds, constants = np.array([[0.01, 0.02]]), COMMON | {"noise": 1.0}
    with caplog.at_level(logging.WARNING), np.errstate(invalid="ignore"):
        dataset = simulate_ode(lambda t, x: np.sqrt(x), bounds, {"x": "m"}, constants, {})
    assert "state_of_truth" not in dataset and np.isfinite(dataset["state"]).all()
    [line] = caplog.messages
    assert line.startswith("simulate: sample ") and "how well the true model predicts" in line
