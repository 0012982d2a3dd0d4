"""Hybrid models in Python, without Snakemake: the results of the workflow, predictions, and what `help` says."""

import json
import pydoc
import subprocess
import sys

import numpy as np
import pytest
import torch
import xarray as xr
from helpers import small
from IPython.core.interactiveshell import InteractiveShell
from safetensors.torch import save_file

import hybridsam
from hybridsam.core import modules, records
from hybridsam.core.blocks import Block
from hybridsam.core.errors import UserError
from hybridsam.training.block import train_task

METHODS = {"erm": [0], "sam": [0.05, 0.1]}
TRAINING = {"iterations": 12, "record_every": 4}


@pytest.fixture(scope="module")
def settings():
    return small.settings_of("pendulum", training=TRAINING)


@pytest.fixture(scope="module")
def model(settings):
    return modules.load(settings["module"]).build(settings["model"])


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return small.dataset_of("pendulum", tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def runs(model, dataset, settings):
    return hybridsam.fit(model, dataset, METHODS, seeds=2, device="cpu", progress=False, **settings["training"])


@pytest.fixture(scope="module")
def run_file(settings, dataset, tmp_path_factory):
    """A run file of the workflow, with its weights beside it."""
    path = tmp_path_factory.mktemp("runs") / "seeds=0-1.nc"
    block, weights = train_task(settings, dataset, Block("sam", 0.05, (0, 1)), "cpu")
    save_file(weights, path.with_suffix(".safetensors"))
    records.write(block, path, "runs", "Runs")
    return path


def test_results_are_those_of_the_workflow_to_the_bit(runs, run_file):
    ours = runs.sel(training_method="sam", rho=0.05)
    with xr.open_dataset(run_file) as theirs:
        for name in ("theta", "theta_history", "y_error", "train_loss", "validation_loss", "skipped_updates"):
            assert np.array_equal(ours[name], theirs[name][0, 0]), name


def test_all_runs_are_on_labelled_axes(runs):
    assert runs["theta"].dims == ("training_method", "rho", "seed", "parameter")
    assert runs["training_method"].values.tolist() == ["erm", "sam"]
    assert runs["rho"].values.tolist() == [0, 0.05, 0.1]
    status = runs["status"].sel(training_method="erm").transpose("rho", "seed").values
    assert status.tolist() == [["completed"] * 2, ["missing"] * 2, ["missing"] * 2]
    assert {"theta_error", "y_error", "phi"} <= set(runs)
    assert runs["step"].values.tolist() == [0, 4, 8, 12]


def test_every_seed_starts_in_the_interval_and_says_where(settings, dataset):
    """Alone it starts where it starts with others, and of two starts training makes two ways."""
    theta = {"omega": settings["model"]["theta"]["omega"] | {"start": [0.5, 2.0]}}
    model = modules.build(settings | {"model": settings["model"] | {"theta": theta}})
    how = settings["training"] | {"iterations": 4, "record_every": 2, "dtype": "float64"}
    runs = hybridsam.fit(model, dataset, {"erm": [0]}, seeds=3, device="cpu", progress=False, **how)
    alone = hybridsam.fit(model, dataset, {"erm": [0]}, seeds=[2], device="cpu", progress=False, **how)
    starts = runs["theta_start"].values.ravel()
    expected = model.parameters.constrain(model.parameters.drawn(range(3), torch.float64))
    np.testing.assert_allclose(starts, expected.ravel(), rtol=1e-12)
    assert np.ptp(starts) > 0.5
    np.testing.assert_array_equal(runs["theta_history"].isel(step=0).values.ravel(), starts)
    np.testing.assert_allclose(alone["theta"].values.ravel(), runs["theta"].values.ravel()[2:], rtol=1e-12)


def test_predictions_are_those_of_the_run_file(model, dataset, runs, run_file):
    loaded = hybridsam.load_runs(run_file)
    found = hybridsam.predict(*loaded, dataset)
    with xr.open_dataset(run_file) as theirs:
        examples = theirs.sizes["example"]
        for name in ("prediction", "prediction_science"):
            assert np.allclose(found[name][..., :examples, :, :], theirs[name], rtol=1e-5, atol=1e-6), name
            assert found[name].attrs == theirs[name].attrs
            assert found[name].dims == ("training_method", "rho", "seed", "sample", "time", "component")
    one = hybridsam.predict(model, runs.sel(training_method="sam", rho=0.05, seed=1), dataset)
    assert one["prediction"].dims == ("sample", "time", "component")
    assert np.allclose(one["prediction"], found["prediction"][0, 0, 1], rtol=1e-5, atol=1e-6)


def test_predictions_go_beyond_the_times_of_training(model, dataset, runs):
    times = dataset["time"].values
    longer = np.concatenate([times, times[-1] + times[1:]])
    chosen = runs.sel(training_method="sam", rho=0.1)
    short, long = (hybridsam.predict(model, chosen, dataset, times=t)["prediction"] for t in (times, longer))
    assert long["time"].values.tolist() == longer[1:].tolist()
    assert np.allclose(long.sel(time=times[1:]), short, atol=1e-6)
    # From where the first stretch ends, the model goes on as from an initial state: it does not depend on time.
    end = dataset.copy(deep=True)
    test = np.flatnonzero(dataset["split"].values == "test")
    end["state"][{"sample": test, "time": 0}] = short.isel(seed=0, time=-1).values
    again = hybridsam.predict(model, chosen.isel(seed=0), end)["prediction"]
    assert np.allclose(again, long.isel(seed=0, time=slice(len(times) - 1, None)), atol=1e-4)


def test_runs_with_an_axis_that_sel_does_not_select_by_are_refused(model, dataset, runs):
    with pytest.raises(UserError, match="the axis method is called training_method now"):
        hybridsam.predict(model, runs.rename(training_method="method"), dataset)


def test_a_missing_run_predicts_nothing(model, dataset, runs):
    found = hybridsam.predict(model, runs, dataset)["prediction"]
    assert found.sel(training_method="erm", rho=0.1).isnull().all()
    assert found.sel(training_method="erm", rho=0.0).notnull().all()


@pytest.mark.slow
def test_runs_that_were_written_predict_in_a_new_process(model, dataset, runs, settings, tmp_path):
    runs.to_netcdf(tmp_path / "runs.nc")
    dataset.to_netcdf(tmp_path / "dataset.nc")
    (tmp_path / "settings.json").write_text(json.dumps(settings))
    code = """
import json, hybridsam, xarray as xr
from hybridsam.core import modules
settings = json.load(open("settings.json"))
model = modules.load(settings["module"]).build(settings["model"])
runs, dataset = xr.load_dataset("runs.nc"), xr.load_dataset("dataset.nc")
hybridsam.predict(model, runs, dataset).to_netcdf("predictions.nc")
"""
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)
    with xr.open_dataset(tmp_path / "predictions.nc") as found:
        assert np.allclose(found["prediction"], hybridsam.predict(model, runs, dataset)["prediction"], equal_nan=True)


@pytest.mark.parametrize("task", ["light_tunnel", "wind_tunnel", "reaction_diffusion"])
def test_networks_with_running_statistics_and_standard_units_predict_the_same(task, tmp_path):
    settings = small.settings_of(task)
    dataset = small.dataset_of(task, tmp_path)
    block, weights = train_task(settings, dataset, Block("fsam", 0.05, (3,)), "cpu")
    save_file(weights, tmp_path / "run.safetensors")
    records.write(block, tmp_path / "run.nc", "runs", "Runs")
    # A network that normalises over the samples, as that of reaction-diffusion, has to see the same ones.
    shown = dataset.isel(sample=np.r_[np.flatnonzero(dataset["split"] == "train"), block["sample"].values])
    found = hybridsam.predict(*hybridsam.load_runs(tmp_path / "run.nc"), shown)
    assert np.allclose(found["prediction"], block["prediction"], rtol=1e-4, atol=1e-4)


def test_a_bar_shows_how_far_it_is(model, dataset, capsys):
    hybridsam.fit(model, dataset, {"fsam": [0.05]}, seeds=[4], device="cpu", **TRAINING)
    shown = capsys.readouterr().err
    assert "fsam, rho = 0.05" in shown and "12/12" in shown
    hybridsam.fit(model, dataset, {"fsam": [0.05]}, seeds=[4], device="cpu", progress=False, **TRAINING)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"iteration": 5}, "training.iteration: unknown key; allowed are iterations"),
        ({"methods": {"adam": [0.1]}}, "'adam' is not one of"),
        ({"methods": {"sam": [-1]}}, "rho: -1"),
        ({"methods": {}}, "methods: {} has no rho; allowed is a mapping such as {'erm': [0], 'sam': [0.05]}"),
        ({"methods": ["erm"]}, "methods: ['erm'] is not a mapping such as"),
        ({"methods": {"sam": 0.1}}, "methods: {'sam': 0.1} is not a mapping such as"),
        ({"methods": {"erm": [0.5]}}, "rho: 0.5 is not allowed for erm"),
        ({"seeds": "3"}, "seeds: '3' is not how many, or a list of numbers"),
        ({"seeds": 1.5}, "seeds: 1.5 is not how many, or a list of numbers"),
        ({"learning_rate": float("inf")}, "training.learning_rate: inf is not finite"),
        ({"seeds": [1, 1]}, "must be different numbers"),
        ({"device": "abacus"}, "device: 'abacus' is not one of auto, cpu"),
    ],
)
def test_a_mistake_is_one_line(model, dataset, changes, message):
    with pytest.raises(UserError) as error:
        hybridsam.fit(model, dataset, **({"methods": METHODS, "progress": False} | TRAINING | changes))
    assert message in str(error.value)
    assert len(str(error.value).splitlines()) == 1


def test_what_cannot_be_predicted_is_said(model, dataset, runs, run_file, tmp_path):
    with pytest.raises(UserError, match="no variable phi; allowed are results of"):
        hybridsam.predict(model, runs.drop_vars("phi"), dataset)
    alone = tmp_path / "run.nc"
    alone.write_bytes(run_file.read_bytes())
    with pytest.raises(UserError, match=r"run.safetensors: no such file; the trained weights"):
        hybridsam.load_runs(alone)
    for times in ([0], [0, 2, 1], "ab", [[0, 1]]):
        with pytest.raises(UserError, match=r"^times: .* not (two or more numbers that increase|numbers)$"):
            hybridsam.predict(model, runs, dataset, times=times)
    wind, data = small.build("wind_tunnel"), small.dataset_of("wind_tunnel", tmp_path)
    of_wind = hybridsam.fit(wind, data, {"erm": [0]}, seeds=1, device="cpu", progress=False, iterations=1)
    with pytest.raises(UserError, match="times: only a model of time series"):
        hybridsam.predict(wind, of_wind, data, times=[0, 1])


def test_runs_of_another_model_or_of_other_data_predict_nothing(model, dataset, runs, settings):
    with pytest.raises(UserError, match=r"^runs: HybridODE is no xarray Dataset"):
        hybridsam.predict(runs, model, dataset)
    wider = modules.load(settings["module"]).build(settings["model"] | {"hidden": [9]})
    with pytest.raises(UserError, match=r"^model: its network has \d+ parameters; that of the runs has \d+$"):
        hybridsam.predict(wider, runs, dataset)
    with pytest.raises(UserError, match=r"^model: theta is r; the runs have omega$"):
        hybridsam.predict(small.build("wind_tunnel"), runs, dataset.rename(state="pressure"))
    degrees = dataset.assign_coords(component_units=("component", ["degree", "rad s-1"]))
    with pytest.raises(UserError, match=r"^dataset: state angle is in 'degree'; the runs were trained with 'rad'$"):
        hybridsam.predict(model, runs, degrees)
    with pytest.raises(
        UserError, match=r"^dataset: state has angular velocity, angle; the runs were trained with angle, angular"
    ):
        hybridsam.predict(model, runs, dataset.isel(component=[1, 0]))
    minutes = dataset.assign_coords(time=dataset["time"].assign_attrs(units="min"))
    with pytest.raises(UserError, match=r"^dataset: time is in 'min'; the runs were trained with 's'$"):
        hybridsam.predict(model, runs, minutes)


def test_other_words_for_the_same_units_predict_the_same(model, dataset, runs):
    words = dataset.assign_coords(component_units=("component", ["radian", "rad/s"]))
    words = words.assign_coords(time=dataset["time"].assign_attrs(units="seconds"))
    found, expected = (hybridsam.predict(model, runs, data)["prediction"].values for data in (words, dataset))
    np.testing.assert_array_equal(found, expected)


def test_a_run_that_diverged_has_no_theta_no_error_and_no_prediction(model, dataset):
    how = {"seeds": 2, "device": "cpu", "progress": False, "iterations": 12, "learning_rate": 1e4, "diverged_after": 1}
    runs = hybridsam.fit(model, dataset, {"erm": [0]}, **how)
    assert set(runs["status"].values.ravel()) == {"diverged"}
    assert np.isfinite(runs["theta_history"].isel(step=0)).all()
    assert runs[["theta", "y_error", "theta_error"]].isnull().all().to_array().all()
    assert hybridsam.predict(model, runs, dataset).isnull().all().to_array().all()


def test_help_names_what_there_is_and_importing_costs_little():
    text = pydoc.plain(pydoc.render_doc(hybridsam))
    for name in hybridsam.__all__:
        assert getattr(hybridsam, name).__doc__, name
        assert name in text
    code = "import sys, hybridsam; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    with pytest.raises(AttributeError, match="no attribute 'fitt'"):
        hybridsam.fitt  # noqa: B018


def test_a_notebook_shows_a_mistake_as_one_line(capsys):
    shell = InteractiveShell()
    shell.run_cell("import hybridsam; hybridsam.load_module('absent.safetensors')")
    shown = capsys.readouterr()
    assert "hybridsam: absent.safetensors: no model that hybridsam exported" in shown.out + shown.err
    assert "Traceback" not in shown.out + shown.err
