"""The ensemble from which theta is identified: where it starts, which runs count, what every kind of model says."""

import json

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from helpers import small
from helpers.project import rules
from PIL import Image

import hybridsam
from hybridsam.core import modules, records
from hybridsam.core.errors import UserError
from hybridsam.core.settings import Settings
from hybridsam.models.parameters import Parameter
from hybridsam.training.ensemble import with_starts_apart

WITHOUT_WORDS = ["pendulum_images"]
THAT_ADD = ["pendulum", "duffing", "reaction_diffusion"]


def apart(theta, **ensemble):
    """The starts of an ensemble, for a table of theta and a section ``ensemble``."""
    settings = Settings({"model": {"theta": theta}, "ensemble": ensemble}, "settings")
    return {name: row["start"] for name, row in with_starts_apart(settings)["model"]["theta"].items()}


@pytest.mark.parametrize(
    ("row", "interval"),
    [
        ({"start": 3.0}, (0, 6)),
        ({"start": -3.0}, (-6, 0)),
        ({"start": 0.0, "scale": 2.0}, (-2, 2)),
        ({"start": 5.0, "transform": "log"}, (5 / np.e, 5 * np.e)),
        ({"start": 5.0, "transform": "sigmoid", "lower": 0.0, "upper": 10.0}, (10 / (1 + np.e), 10 / (1 + 1 / np.e))),
        ({"start": (1.0, 2.0)}, (1, 2)),
    ],
)
def test_around_a_start_lies_what_one_step_of_one_reaches(row, interval):
    assert Parameter("x", "1", **row).spread == pytest.approx(interval, abs=1e-12)


def test_starts_are_those_of_the_ensemble_then_those_of_the_parameter():
    theta = {name: {"unit": "1", "start": start} for name, start in {"a": 1.0, "b": [3.0, 4.0], "c": 1.0}.items()}
    assert apart(theta, starts={"a": [0.5, 2.0]}) == {"a": [0.5, 2.0], "b": [3.0, 4.0], "c": [0.0, 2.0]}
    with pytest.raises(UserError, match=r"ensemble\.starts\.d: not a parameter; there are a, b, c"):
        apart(theta, starts={"d": [0.5, 2.0]})
    with pytest.raises(UserError, match=r"ensemble\.starts"):
        apart(theta, starts=[0.5, 2.0])


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return small.dataset_of("pendulum", tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def model():
    theta = {"omega": small.settings_of("pendulum")["model"]["theta"]["omega"] | {"start": [0.5, 2.0]}}
    return small.build("pendulum", {"theta": theta})


@pytest.fixture(scope="module")
def runs(model, dataset):
    how = {"iterations": 60, "learning_rate": 1e-2, "record_every": 30}
    return hybridsam.fit(model, dataset, {"erm": [0], "sam": [0.05]}, seeds=5, device="cpu", progress=False, **how)


def test_runs_of_erm_that_fit_are_the_ensemble(model, dataset, runs):
    variance = runs["data_variance"].sel(split="validation").item()
    broken = runs.copy(deep=True)
    broken["y_error"].loc[{"training_method": "erm", "seed": 1, "split": "validation"}] = 2 * variance
    broken["status"].loc[{"training_method": "erm", "seed": 3}] = "diverged"
    whole, part = (hybridsam.identify(model, chosen, dataset, ["small"]) for chosen in (runs, broken))
    assert whole["member"].values.tolist() == [0, 1, 2, 3, 4]
    assert part["member"].values.tolist() == [0, 2, 4]
    erm = runs.sel(training_method="erm", rho=0)
    np.testing.assert_array_equal(whole["trained"], erm["theta"].astype("float32"))
    np.testing.assert_array_equal(whole["theta_start"], erm["theta_start"])
    broken["status"].loc[{"training_method": "erm", "seed": 0}] = "diverged"
    few = hybridsam.identify(model, broken, dataset)
    assert few.sizes["assumption"] == 0 and few["verdict"].item() == "undecided"
    reason = "2 of 5 runs of erm fit the validation data better than their mean would"
    assert few["sentence"].item().startswith(f"omega is not known: {reason}")


def test_one_method_alone_may_be_given_and_it_must_be_erm(model, dataset, runs):
    alone = hybridsam.identify(model, runs.sel(training_method="erm", rho=0), dataset, ["small"])
    xr.testing.assert_equal(alone, hybridsam.identify(model, runs, dataset, ["small"]))
    with pytest.raises(UserError, match="none of erm, from which theta is identified; there are sam"):
        hybridsam.identify(model, runs.sel(training_method="sam", rho=0.05), dataset)


@pytest.mark.parametrize(
    "task",
    [
        task if task in ("pendulum", *WITHOUT_WORDS) else pytest.param(task, marks=pytest.mark.slow)
        for task in small.TASKS
    ],
)
def test_every_shipped_model_says_what_can_be_asked_of_it(task, tmp_path):
    """By default a network that is added is asked more than one that sees the science; units go with theta."""
    dataset, model = small.dataset_of(task, tmp_path), small.build(task)
    how = small.settings_of(task)["training"]
    runs = hybridsam.fit(model, dataset, {"erm": [0]}, seeds=3, device="cpu", progress=False, **how)
    runs["data_variance"] = runs["data_variance"] * np.inf  # after three steps no run fits
    found = hybridsam.identify(model, runs, dataset)
    asked = found["assumption"].values.tolist()
    assert asked[:2] == (["small", "straight"] if task in THAT_ADD else [] if task in WITHOUT_WORDS else ["small"])
    assert found["parameter_units"].values.tolist() == model.parameters.units
    assert found["theta"].shape == (len(asked), len(model.parameters))
    assert found["trained"].shape == (3, len(model.parameters))
    known = ~np.isnan(found["theta"].values)
    assert (found["low"].values[known] <= found["theta"].values[known] + 1e-9).all()
    assert (found["theta"].values[known] <= found["high"].values[known] + 1e-9).all()


@pytest.mark.slow
def test_the_workflow_asks_what_the_task_says_and_asks_again_without_training(project):
    """One command from the dataset to the table; another assumption asks again, another start trains again."""
    result = project.snakemake("--cores", "2", "identification")
    assert result.returncode == 0, result.stdout
    task = project.results / "pendulum"
    table = pd.read_csv(task / "identification.csv")
    assert table["assumption"].unique().tolist() == [
        "small", "straight", "depends on angular velocity", "depends on angle",
    ]  # fmt: skip
    model, runs = hybridsam.load_runs(task / "ensemble.nc")
    start = runs["theta_start"].values.ravel()
    assert len(np.unique(start)) == 6
    ours = hybridsam.identify(model, runs, records.read(task / "dataset.nc", "dataset"))
    theirs = records.read(task / "identification.nc", "identification")
    ours = ours.sel(assumption=theirs["assumption"])
    np.testing.assert_array_equal(theirs["theta"], ours["theta"])
    np.testing.assert_allclose(table["theta"], ours["theta"].values.ravel(), rtol=1e-12)
    assert not (task / "checkpoints_of_ensemble").exists()
    profile = project.snakemake(
        "--cores", "2", "results/test/pendulum/profile.csv", "results/test/pendulum/profile.png"
    )
    assert profile.returncode == 0, profile.stdout
    assert len(pd.read_csv(task / "profile.csv")) == 9
    assert not (task / "checkpoints_of_profile").exists()
    with Image.open(task / "profile.png") as image:
        assert np.asarray(image.convert("L")).std() > 5
    assert project.plan("identification") == []

    project.edit("config/tasks/pendulum.yaml", "assume: [small, straight, ", "assume: [small, ")
    assert rules(project.plan("identification")) == {"identify"}
    assert rules(project.plan("all")) == {"identify", "figure", "page", "index"}
    project.edit("config/tasks/pendulum.yaml", "starts: {omega: [0.5, 2.0]}", "starts: {omega: [0.4, 2.0]}")
    assert {job.rule for job in project.plan("identification") if job.task == "pendulum"} == {"ensemble", "identify"}


def test_a_run_file_says_where_each_run_started(dataset, tmp_path):
    """By the command line, as the workflow calls it."""
    from hybridsam.cli.main import main

    chosen = small.settings_of("pendulum") | {"ensemble": {"starts": {"omega": [0.5, 2.0]}}}
    (tmp_path / "settings.json").write_text(json.dumps(chosen))
    records.write(dataset, tmp_path / "dataset.nc", "dataset", "Pendulum")
    arguments = ["train", str(tmp_path / "dataset.nc"), "--settings", str(tmp_path / "settings.json"), "--ensemble"]
    main([*arguments, "--method", "erm", "--rho", "0", "--seeds", "0-3", "--output", str(tmp_path / "ensemble.nc")])
    start = records.read(tmp_path / "ensemble.nc", "runs")["theta_start"].values.ravel()
    parameters = modules.build(with_starts_apart(Settings(chosen, "settings"))).parameters
    np.testing.assert_allclose(start, parameters.constrain(parameters.drawn(range(4))).numpy().ravel(), rtol=1e-6)
    assert start.min() > 0.5
    assert start.max() < 2.0
