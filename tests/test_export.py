"""A trained run taken away: the module without members predicts the same, and the parameter table is PEtab's."""

import json
import sys

import numpy as np
import pandas as pd
import petab.v1 as petab
import pytest
import torch
import xarray as xr
from helpers import small
from helpers.marks import slow_but_for
from safetensors.torch import load_file, save_file
from torch import nn

import hybridsam
from hybridsam import export
from hybridsam.core import modules, records
from hybridsam.core.errors import UserError
from hybridsam.tasks import pendulum as pendulum_task

EVERY = list(small.TASKS)


def fitted(task, folder, seeds=2, method="sam"):
    """Settings, model, dataset and runs of a small task."""
    settings = small.settings_of(task)
    model = modules.load(settings["module"]).build(settings["model"])
    dataset = small.dataset_of(task, folder)
    runs = hybridsam.fit(model, dataset, {method: [0.05]}, seeds, "cpu", progress=False, **settings["training"])
    return model, dataset, runs.sel(training_method=method, rho=0.05)


@pytest.fixture(scope="module")
def pendulum(tmp_path_factory):
    return fitted("pendulum", tmp_path_factory.mktemp("pendulum"))


@pytest.mark.parametrize("task", slow_but_for(["pendulum", "wind_tunnel"], EVERY))
def test_a_module_predicts_what_the_run_does(task, tmp_path):
    model, dataset, runs = fitted(task, tmp_path)
    run = runs.isel(seed=1)
    module = hybridsam.to_module(model, run, dataset)
    data = model.data(dataset, "test", torch.float32, "cpu")
    inputs = {name: values[0] for name, values in data.inputs.items()}
    expected = hybridsam.predict(model, run, dataset)
    for found, name in ((module, "prediction"), (module.science, "prediction_science")):
        predicted = found(times=data.times, **inputs)
        assert np.allclose(predicted.detach(), expected[name], rtol=1e-4, atol=1e-4), name
        assert predicted.shape == expected[name].shape


def test_a_vector_field_needs_its_initial_state_alone_and_can_be_written_out(pendulum):
    model, dataset, runs = pendulum
    module = hybridsam.to_module(model, runs.isel(seed=0), dataset)
    initial, times = torch.tensor([[1.0, 0.0], [0.3, -0.5]]), torch.linspace(0, 1, 5).tolist()
    states = module(states=initial.unsqueeze(1), times=times)
    x, h = initial, times[1]  # one step of rk4 by the parts of the module, none of which has a member axis
    f = lambda x: model.science(module.theta, x) + module.network(x)  # noqa: E731
    k1 = f(x)
    k2 = f(x + h / 2 * k1)
    k3 = f(x + h / 2 * k2)
    x = x + h / 6 * (k1 + 2 * k2 + 2 * k3 + f(x + h * k3))
    assert torch.allclose(states[:, 0], x, atol=1e-6)


def test_the_weights_are_those_of_layers_of_pytorch(pendulum):
    model, dataset, runs = pendulum
    module = hybridsam.to_module(model, runs.isel(seed=0), dataset)
    n_in, width, *_ = model.network.sizes
    plain = nn.Sequential(nn.Linear(n_in, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, n_in))
    plain.load_state_dict(dict(zip(plain.state_dict(), module.network.state_dict().values(), strict=True)))
    x = torch.randn(5, n_in)
    assert torch.allclose(plain(x), module.network(x), atol=1e-6)


def test_a_module_is_an_ordinary_one(pendulum, tmp_path):
    model, dataset, runs = pendulum
    module = hybridsam.to_module(model, runs.isel(seed=0), dataset)
    save_file(module.state_dict(), tmp_path / "weights.safetensors")
    again = hybridsam.HybridModule(model, load_file(tmp_path / "weights.safetensors"))
    assert all(
        torch.equal(a, b) for a, b in zip(module.state_dict().values(), again.state_dict().values(), strict=True)
    )
    assert [name for name, _ in module.named_parameters()][:2] == ["theta.omega", "network.0.weight"]
    # It can be trained further, all of it, and moved to another type of numbers.
    module.double()(states=torch.ones(1, 1, 2).double(), times=[0, 0.5]).sum().backward()
    assert all(values.grad is not None for values in module.parameters())
    assert module.theta["omega"].grad.dtype == torch.float64


def test_only_one_run_that_was_completed_becomes_a_module(pendulum):
    model, dataset, runs = pendulum
    with pytest.raises(UserError, match=r"run: has several of seed \[0, 1\]; select one of each"):
        hybridsam.to_module(model, runs, dataset)
    gone = runs.isel(seed=0).assign(status=((), "diverged"))
    with pytest.raises(UserError, match=r"run: training_method sam, rho 0.05, seed 0: diverged; only a completed run"):
        hybridsam.to_module(model, gone, dataset)
    with pytest.raises(UserError, match="no variable phi"):
        hybridsam.to_module(model, runs.isel(seed=0).drop_vars("phi"), dataset)


def test_an_input_that_is_missing_is_named(pendulum):
    model, dataset, runs = pendulum
    module = hybridsam.to_module(model, runs.isel(seed=0), dataset)
    with pytest.raises(UserError, match="inputs: 'states' is missing; given are x"):
        module(x=torch.ones(1, 1, 2), times=[0, 1])
    with pytest.raises(UserError, match="inputs: 'states' is missing; given are none"):
        module(times=[0, 1])


# The parameter table


@pytest.mark.parametrize("best", [0, 1])
def test_theta_of_the_best_run_and_its_spread_are_a_parameter_table_of_petab(pendulum, best):
    model, _, runs = pendulum
    runs = runs.copy(deep=True)
    runs["y_error"].loc[{"split": "validation"}] = [0.2, 0.2 - 0.1 * best + 0.1 * (1 - best)]
    [row] = hybridsam.parameter_table(model, runs).to_dict("records")
    theta = runs["theta"].values[:, 0]
    assert (row["parameterId"], row["parameterScale"], row["estimate"], row["completedRuns"]) == ("omega", "lin", 1, 2)
    assert (row["lowerBound"], row["upperBound"], row["unit"]) == (0, np.inf, "rad s-1")
    assert (row["nominalValue"], row["seed"]) == (theta[best], runs["seed"].values[best])
    assert row["meanOverSeeds"] == pytest.approx(theta.mean())
    assert row["spreadOverSeeds"] == pytest.approx(theta.std(ddof=1))
    assert "standardDeviation" not in row
    [of_one] = hybridsam.parameter_table(model, runs.isel(seed=0)).to_dict("records")
    assert of_one["nominalValue"] == theta[0] and of_one["completedRuns"] == 1


def test_the_library_of_petab_reads_the_table_and_finds_no_fault(pendulum, tmp_path):
    model, _, runs = pendulum
    hybridsam.parameter_table(model, runs.isel(seed=[0])).to_csv(tmp_path / "parameters.tsv", sep="\t", index=False)
    read = petab.get_parameter_df(tmp_path / "parameters.tsv")
    petab.check_parameter_df(read)
    assert read.loc["omega", "nominalValue"] == pytest.approx(runs["theta"].values[0, 0])


def test_diverged_runs_are_not_in_the_table(pendulum):
    model, _, runs = pendulum
    runs = runs.copy(deep=True)
    runs["status"][0] = "diverged"
    [row] = hybridsam.parameter_table(model, runs).to_dict("records")
    assert row["nominalValue"] == runs["theta"].values[1, 0] and row["completedRuns"] == 1
    assert np.isnan(row["spreadOverSeeds"])
    runs["status"][:] = "diverged"
    with pytest.raises(UserError, match=r"none of method sam, rho 0.05 completed"):
        hybridsam.parameter_table(model, runs)
    with pytest.raises(UserError, match=r"have several of rho \[0.05\]"):
        hybridsam.parameter_table(model, runs.expand_dims("rho"))


# What the workflow exports


def test_the_best_of_the_selected_runs_is_chosen():
    error = [[[0.1, 0.3], [0.1, 0.2], [0.1, 0.1]]]  # rho, seed, split
    cube = xr.Dataset(
        {"y_error": (("rho", "seed", "split"), error), "status": (("rho", "seed"), [["completed"] * 2 + ["diverged"]])},
        coords={"training_method": "sam", "rho": [0.1], "seed": [3, 4, 5], "split": ["test", "validation"]},
    ).expand_dims(["training_method", "data"])
    selection = pd.DataFrame({"method": ["sam"], "rule": ["validation"], "rho": [0.1]})
    runs = export.selected(cube, selection, "sam", "validation")
    assert export.best_run(runs)["seed"] == 4  # seed 5 has a lower error, but diverged
    with pytest.raises(
        UserError, match="method sam, rule oracle: not selected; there are methods sam, rules validation"
    ):
        export.selected(cube, selection, "sam", "oracle")
    runs["status"][:] = "diverged"
    with pytest.raises(UserError, match=r"none of method sam, rho 0.1 completed"):
        export.best_run(runs)


LOAD = """
import sys, torch, hybridsam
module = hybridsam.load_module(sys.argv[1])
states = module(states=torch.tensor([[[1.0, 0.0]]]), times=[0, 0.5, 1])
print(module.theta["omega"].item(), *states.flatten().tolist())
"""


@pytest.mark.slow
def test_the_workflow_exports_models_that_load_in_two_lines(project):
    folder = project.results / "pendulum/models/sam"
    exported = project.snakemake("--cores", "1", str((folder / "model.safetensors").relative_to(project.root)))
    assert exported.returncode == 0, exported.stdout
    table = pd.read_csv(folder / "parameters.tsv", sep="\t")
    cube = records.read(project.results / "pendulum/cube.nc", "cube")
    selection = pd.read_csv(project.results / "pendulum/selection.csv")
    runs = export.selected(cube, selection, "sam", "validation")
    assert table["meanOverSeeds"].item() == pytest.approx(runs["theta"].mean().item())
    shown = project.run(sys.executable, "-c", LOAD, str(folder / "model.safetensors"), stderr=None).stdout
    omega, *states = map(float, shown.split())
    best = export.best_run(runs)
    assert omega == pytest.approx(best["theta"].item()) == table["nominalValue"].item()
    # The same by the run file that the cube leads to.
    model, block = hybridsam.load_runs(project.results / "pendulum" / best["file"].item())
    one = xr.Dataset(
        {"state": (("sample", "time", "component"), np.array([[[1.0, 0.0]] * 3]))},
        coords={
            "time": ("time", [0, 0.5, 1], {"units": "s"}),
            "split": ("sample", ["test"]),
            "component": list(pendulum_task.COMPONENTS),
            "component_units": ("component", list(pendulum_task.COMPONENTS.values())),
        },
    )
    run = block.sel(seed=best["seed"].item()).squeeze(["training_method", "rho"])
    expected = hybridsam.predict(model, run, one)["prediction"]
    assert np.allclose(states, expected.values.ravel(), atol=1e-5)


def test_a_file_that_is_no_exported_model_is_named(tmp_path):
    foreign = tmp_path / "foreign.safetensors"
    save_file({"x": torch.zeros(1)}, foreign)
    (tmp_path / "text.safetensors").write_text("text")
    for name in ("foreign", "text", "absent"):
        with pytest.raises(UserError, match=rf"{name}.safetensors: no model that hybridsam exported"):
            hybridsam.load_module(tmp_path / f"{name}.safetensors")
    save_file({"x": torch.zeros(1)}, foreign, {"hybridsam": json.dumps({})})
    with pytest.raises(UserError, match="no model that hybridsam exported"):
        hybridsam.load_module(foreign)
