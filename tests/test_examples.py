"""The examples: what each must do, at sizes at which it takes a moment, and what README.md says of them."""

import re

import jsonschema
import numpy as np
import pytest
import torch
import yaml
from helpers.marks import slow_but_for
from helpers.small import ROOT, SIZES

import hybridsam
from hybridsam.analysis.identifiability import identify
from hybridsam.core import modules, records, settings
from hybridsam.core.blocks import Block
from hybridsam.core.provenance import fingerprint
from hybridsam.training.block import train_task

FOLDER = ROOT / "examples"
FEW = {"iterations": 10, "record_every": 5, "dtype": "float64", "learning_rate": 3e-3}
SMALL = {  # example -> changes of its data constants, its model
    "chemostat": ({"steps": 4}, {"hidden": [8]}),
    "gas": ({}, {"hidden": [8]}),
    "lotka_volterra": ({"steps": 4}, {"hidden": [8]}),
    "patients": ({"times": 5}, {"hidden": [8]}),
    "photometer": ({}, {"hidden": [8]}),
    "robot_joint": ({"steps": 4}, {"width": 4}),
    "stream": ({"steps": 3, "points": 6}, {"channels": [4]}),
}
METHODS = {"erm": 0.0, "freg": 0.1, "sam": 0.02}
every_example = pytest.mark.parametrize("name", SMALL)


@pytest.fixture(autouse=True)
def in_the_folder_of_the_repository(monkeypatch):
    monkeypatch.chdir(ROOT)  # from which the task files name their modules


@pytest.fixture(scope="module")
def example():
    """(settings, dataset) of an example made small, made once."""
    made = {}

    def get(name):
        if name not in made:
            constants, model = SMALL[name]
            changes = {key: {"value": value} for key, value in (SIZES | constants).items()}
            shipped = settings.load(f"examples/{name}.yaml")
            task = settings.merge(shipped, {"data": changes, "model": model, "training": FEW})
            made[name] = task, modules.load(task["module"]).simulate(settings.values_of(task["data"]))
        return made[name]

    return get


def test_every_example_is_tested_and_in_the_table():
    files = {path.stem for path in FOLDER.glob("*.py")}
    assert files == {path.stem for path in FOLDER.glob("*.yaml")} == set(SMALL)
    assert set(re.findall(r"\[(\w+)\.py\]\(\1\.py\)", (FOLDER / "README.md").read_text())) == files


@every_example
def test_task_files_pass_the_schema_and_examples_are_short(name):
    schema = yaml.safe_load((ROOT / "workflow/schemas/task.schema.yaml").read_text())
    jsonschema.validate(settings.numbers(yaml.safe_load((FOLDER / f"{name}.yaml").read_text())), schema)
    code = (FOLDER / f"{name}.py").read_text()
    assert len(code.splitlines()) < 60
    assert all(f"\n{word}" in code for word in ("Truth: ", "Science: ", "Taken away: "))


@pytest.mark.slow
@every_example
@pytest.mark.parametrize("method", METHODS)
def test_training_decreases_the_loss_and_moves_every_parameter(name, method, example, caplog):
    task, dataset = example(name)
    block, weights = train_task(task, dataset, Block(method, METHODS[method], (0, 1)), "cpu")
    assert (block["status"] == "completed").all()
    losses = block["train_loss"].values[0, 0]
    assert (losses[:, -1] < 0.99 * losses[:, 0]).all()
    path = block["theta_history"].values[0, 0]
    assert (np.abs(path[:, -1] - path[:, 0]) > 1e-3).all()
    assert all(values.isfinite().all() for values in weights.values())
    assert not [line for line in caplog.messages if "no prediction" in line or "not finite" in line]


@every_example
def test_the_truth_is_that_of_theta_and_the_data_are_whole(name, example, tmp_path):
    task, dataset = example(name)
    assert set(yaml.safe_load(dataset.attrs["truth"])) == set(task["model"]["theta"])
    target = dataset.attrs["target"]
    assert dataset[target].isnull().sum() == 0
    noise = (dataset[target] - dataset[f"{target}_true"]).values
    assert 0 < noise.std() < 0.1 * dataset[target].values.std()
    records.write(dataset, tmp_path / "dataset.nc", "dataset", "example")
    same = records.read(tmp_path / "dataset.nc", "dataset")
    assert fingerprint(same) == fingerprint(dataset)


@every_example
def test_what_was_taken_away_is_all_that_the_science_lacks(name, example):
    """The truth without it, simulated, is what the science predicts at the true theta."""
    absent = {"chemostat": {"i": 1e9}, "gas": {"a": 0.0, "b": 0.0}, "lotka_volterra": {"h": 0.0}, "stream": {"r": 0.0}}
    absent["photometer"] = {"saturation": 1e3, "drift": 0.0}
    absent["robot_joint"] = {"c": 0.0, "s": 0.0, "b": 0.0}
    absent["patients"] = {"weight": [70, 70], "age": [50, 50]}
    task, _ = example(name)
    module = modules.load(task["module"])
    dataset = module.simulate(settings.values_of(task["data"]) | absent[name] | {"noise": 0.0})
    solver = {"solver": {"method": "rk4", "step": 0.01}} if "solver" in task["model"] else {}
    model = module.build(settings.merge(task["model"], solver))
    data = model.data(dataset, "train", torch.float64, "cpu")
    truth = yaml.safe_load(dataset.attrs["truth"])
    theta = torch.tensor([[truth[parameter] for parameter in model.parameters.names]], dtype=torch.float64)
    torch.testing.assert_close(model.predict_science(theta, None, data), data.targets, rtol=1e-5, atol=1e-5)


@pytest.mark.slow
@every_example
def test_theta_is_identifiable_without_a_network(name, example):
    task, dataset = example(name)
    found = identify(modules.load(task["module"]).build(task["model"]), dataset)
    assert found.told_by_science.all() and np.isfinite(found.condition)


@pytest.mark.parametrize("name", slow_but_for(["lotka_volterra", "stream"], SMALL))
def test_a_trained_model_can_be_taken_away_whatever_its_shape(name, example):
    task, dataset = example(name)
    model = modules.load(task["module"]).build(task["model"])
    how = task["training"] | {"iterations": 2, "record_every": 1}
    run = hybridsam.fit(model, dataset, {"sam": [0.02]}, 1, "cpu", progress=False, **how).squeeze(records.RUN)
    module = hybridsam.to_module(model, run, dataset)
    data = model.data(dataset, "test", torch.float64, "cpu")
    predicted = module(times=data.times, **{key: values[0] for key, values in data.inputs.items()})
    assert np.allclose(predicted.detach(), hybridsam.predict(model, run, dataset)["prediction"], rtol=1e-9)
    assert all(values.requires_grad for values in module.parameters())
