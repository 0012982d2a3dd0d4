"""Every shipped task, made small: training, what is in the run file, and runs that do not depend on their company."""

import numpy as np
import pytest
import torch
import xarray as xr
from helpers import small
from helpers.marks import slow_but_for

from hybridsam.analysis.runs import load_runs
from hybridsam.api import predict
from hybridsam.core import modules, records, settings
from hybridsam.core.blocks import Block
from hybridsam.core.errors import UserError
from hybridsam.core.provenance import fingerprint
from hybridsam.models.samples import Samples
from hybridsam.training.block import train_task, write_runs
from hybridsam.training.describe import squared_units

METHODS = {"erm": 0.0, "freg": 0.1, "sam": 0.05}
UNITS = {  # task -> unit of the target, unit of its mean squared error
    "pendulum": ("rad; rad s-1", "rad2, (rad s-1)2"),
    "duffing": ("m; m s-1", "m2, (m s-1)2"),
    "reaction_diffusion": ("1; 1", "1"),
    "pendulum_images": ("1", "1"),
    "wind_tunnel": ("Pa", "1"),
    "light_tunnel": ("1", "1"),
    "light_sensors": ("counts", "1"),
}
TARGETS = {  # task -> dimensions of a prediction with their sizes
    "pendulum": {"time": 3, "component": 2},
    "duffing": {"time": 3, "component": 2},
    "reaction_diffusion": {"time": 2, "y": 6, "x": 6, "component": 2},
    "pendulum_images": {"time": 5, "y": 12, "x": 12, "channel": 1},
    "wind_tunnel": {"time": 12},
    "light_tunnel": {"y": 8, "x": 8, "channel": 3},
    "light_sensors": {"component": 6},
}
RUN = {"training_method": 1, "rho": 1, "seed": 2}
every_task = pytest.mark.parametrize("task", small.TASKS)
every_method = pytest.mark.parametrize("method", METHODS)


@pytest.fixture(scope="module")
def datasets(tmp_path_factory):
    """task -> its small dataset, made when first asked for."""
    made = {}

    def get(task):
        if task not in made:
            made[task] = small.dataset_of(task, tmp_path_factory.mktemp(task))
        return made[task]

    return get


@pytest.fixture(scope="module")
def blocks(datasets):
    """Two small runs of a task by a method: block and weights."""
    made = {}

    def get(task, method):
        if (task, method) not in made:
            settings_ = small.settings_of(task)
            made[task, method] = train_task(settings_, datasets(task), Block(method, METHODS[method], (4, 7)), "cpu")
        return made[task, method]

    return get


def test_every_shipped_task_is_tested():
    files = {path.stem for path in (small.ROOT / "config/tasks").glob("*.yaml")}
    assert files == set(small.TASKS) == set(UNITS) == set(TARGETS)


@every_task
def test_shipped_settings_build_a_model_whose_theta_is_in_the_truth(task, datasets):
    """At full size: names of theta, and that phi can be drawn."""
    shipped = settings.load(str(small.ROOT / f"config/tasks/{task}.yaml"))
    model = modules.load(shipped["module"]).build(shipped["model"])
    truth = datasets(task).attrs["truth"]
    assert all(f'"{name}": ' in truth for name in model.parameters.names)
    phi = model.network.initial(torch.Generator().manual_seed(0))
    assert phi.shape == (len(model.network),) and phi.isfinite().all()
    assert model.target == datasets(task).attrs["target"]


@every_task
@every_method
def test_run_files_hold_everything_on_its_axes(task, method, blocks):
    block, weights = blocks(task, method)
    assert (block["status"] == "completed").all() and (block["skipped_updates"] == 0).all()
    parameters, steps = len(block["parameter"]), block["step"].values.tolist()
    assert steps == [0, 2, 3]
    expected = {
        "theta": {"parameter": parameters},
        "y_error": {"split": 3},
        "validation_errors": {"validation_sample": small.SIZES["validation"]},
        "theta_history": {"step": 3, "parameter": parameters},
        "prediction": {"example": 3} | TARGETS[task],
        "prediction_science": {"example": 3} | TARGETS[task],
    } | {name: {"step": 3} for name in ("train_loss", "validation_loss", "grad_norm_theta", "grad_norm_phi")}
    for name, sizes in expected.items():
        assert dict(block[name].sizes) == RUN | sizes, name
        assert np.isfinite(block[name].values).all(), name
    assert block["split"].values.tolist() == ["train", "validation", "test"]
    assert (block["y_error"] > 0).all()
    assert (block["grad_norm_phi"] > 0).all()
    assert all(values.isfinite().all() and len(values) == 2 for values in weights.values())


@every_task
def test_run_files_say_in_which_unit_everything_is(task, blocks, datasets):
    block, _ = blocks(task, "sam")
    of_target, of_error = UNITS[task]
    for name in ("prediction", "prediction_science"):
        assert block[name].attrs["units"] == datasets(task)[datasets(task).attrs["target"]].attrs["units"] == of_target
    for name in ("y_error", "validation_errors", "train_loss", "validation_loss"):
        assert block[name].attrs["units"] == of_error
    for name in block.data_vars:
        assert block[name].attrs["long_name"], name
    shipped = small.settings_of(task)["model"]["theta"]
    units = dict(zip(block["parameter"].values, block["parameter_units"].values, strict=True))
    assert units == {name: shipped[name]["unit"] for name in units}


@every_task
def test_coordinates_of_predictions_are_those_of_the_data(task, blocks, datasets):
    block, dataset = blocks(task, "erm")[0], datasets(task)
    examples = block["sample"].values
    assert (dataset["split"].values[examples] == "test").all() and len(set(examples)) == 3
    for name in TARGETS[task]:
        if name in dataset.coords:
            last = dataset[name].values[-block.sizes[name] :]
            np.testing.assert_array_equal(block[name], last)
            assert block[name].attrs == dataset[name].attrs


@pytest.mark.parametrize("task", sorted(set(small.TASKS) - {"pendulum_images"}))  # whose science needs its decoder
def test_predictions_are_in_the_units_of_the_data(task, blocks, datasets):
    """The science part, at the trained theta and in double precision, in the dataset's units."""
    block, dataset = blocks(task, "freg")[0], datasets(task)
    model = small.build(task)
    data = model.data(dataset, "test", torch.float64, "cpu")
    theta = torch.tensor(block["theta"].values[0, 0], dtype=torch.float64)
    expected = data.in_units(model.predict_science(theta, None, data))[:, :3]
    np.testing.assert_allclose(block["prediction_science"].values[0, 0], expected, rtol=1e-4, atol=1e-4)


@every_task
@pytest.mark.parametrize("method", slow_but_for(["sam"], METHODS))
def test_another_member_does_not_change_a_run(task, method, blocks, datasets):
    """Single precision, after three steps."""
    two, weights = blocks(task, method)
    three, more = train_task(small.settings_of(task), datasets(task), Block(method, METHODS[method], (7, 9, 4)), "cpu")
    for name in ("theta", "y_error", "theta_history", "train_loss", "validation_loss", "prediction"):
        same = three[name].sel(seed=[4, 7]).values
        np.testing.assert_allclose(same, two[name].values, rtol=1e-5, atol=1e-5, err_msg=name)
    for name, values in weights.items():
        torch.testing.assert_close(more[name][[2, 0]], values, rtol=1e-5, atol=1e-5)
    assert not np.allclose(three["y_error"].sel(seed=9), three["y_error"].sel(seed=4), rtol=1e-4)


@every_task
def test_errors_are_those_of_the_predictions(task, blocks, datasets):
    """Of the test split, of which the file holds three of four predictions: so a dataset of three is fitted here."""
    dataset = datasets(task)
    few = dataset.isel(sample=slice(0, dataset.sizes["sample"] - 1))
    block, _ = train_task(small.settings_of(task), few, Block("sam", 0.05, (4,)), "cpu")
    target = few[few.attrs["target"]].isel(sample=block["sample"].values)
    data = small.build(task).data(few, "test", torch.float64, "cpu")
    if "time" in target.dims:
        target = target.isel(time=slice(-block.sizes["time"], None))
    difference = (block["prediction"].values[0, 0, 0] - target.values) / np.asarray(data.scale)
    assert block["y_error"].sel(split="test").item() == pytest.approx(np.mean(difference**2), rel=1e-4)


@every_task
def test_errors_of_validation_samples_are_those_of_their_predictions_and_average_to_the_y_error(
    task, blocks, datasets, tmp_path
):
    dataset, errors = datasets(task), blocks(task, "sam")[0]["validation_errors"]
    whole = blocks(task, "sam")[0]["y_error"].sel(split="validation")
    np.testing.assert_allclose(errors.mean("validation_sample"), whole, rtol=1e-6)
    assert (dataset["split"].values[errors["validation_sample"]] == "validation").all()

    write_runs(*blocks(task, "sam"), tmp_path / "runs.nc")
    model, runs = load_runs(tmp_path / "runs.nc")
    scale = np.asarray(model.data(dataset, "train", torch.float64, "cpu").scale)
    predicted = predict(model, runs, dataset, "validation")["prediction"].isel(training_method=0, rho=0)
    target = dataset[model.target].isel(sample=errors["validation_sample"].values)
    if "time" in target.dims:
        target = target.isel(time=slice(-predicted.sizes["time"], None))
    squares = ((predicted.values - target.values) / scale) ** 2
    np.testing.assert_allclose(errors[0, 0], squares.reshape(*errors.shape[2:], -1).mean(-1), rtol=1e-4)


@every_task
def test_datasets_and_runs_go_through_files(task, blocks, datasets, tmp_path):
    block, dataset = blocks(task, "sam")[0], datasets(task)
    records.write(dataset, tmp_path / "dataset.nc", "dataset", "small")
    records.write(block, tmp_path / "runs.nc", "runs", "small")
    assert fingerprint(records.read(tmp_path / "dataset.nc", "dataset")) == fingerprint(dataset)
    assert fingerprint(records.read(tmp_path / "runs.nc", "runs")) == fingerprint(block)


@pytest.mark.parametrize(
    ("task", "model", "message"),
    [
        (
            "wind_tunnel",
            {"window": 10},
            r"model: the network takes \d+ numbers, it is given \d+ \(f and .*MLP\(\(\d+, ..., 12",
        ),
        ("light_tunnel", {"image_size": 16}, r"model: the science f .* the targets \(y, x, channel\) = \(8, 8, 3\)"),
        ("light_tunnel", {"image_size": 6}, r"model: .*targets .*\(8, 8, 3\)"),
        ("pendulum_images", {"decoder": [6]}, r"model: .*targets .*\(5, 12, 12, 1\)"),
        ("pendulum_images", {"seen": 9}, r"model: cannot predict targets of shape \(5, 12, 12, 1\)"),
        ("reaction_diffusion", {"side": 3.0}, r"model.side: 3.0 m, but the grid of the data has a side of 2.0 m"),
    ],
)
def test_a_model_of_other_sizes_than_the_data_is_refused(datasets, task, model, message):
    with pytest.raises(UserError, match=message):
        train_task(small.settings_of(task, model=model), datasets(task), Block("erm", 0.0, (0,)), "cpu")


def test_a_dataset_without_the_target_is_refused(datasets):
    with pytest.raises(UserError, match="dataset: no variable pressure, which the model predicts"):
        train_task(
            small.settings_of("wind_tunnel"),
            datasets("wind_tunnel").drop_vars("pressure"),
            Block("erm", 0.0, (0,)),
            "cpu",
        )


def test_a_run_whose_error_is_not_finite_has_diverged_however_short_it_was(datasets):
    broken = datasets("light_sensors").copy(deep=True)
    broken["reading"][0, 0] = np.nan
    block, _ = train_task(small.settings_of("light_sensors"), broken, Block("erm", 0.0, (0, 1)), "cpu")
    assert block["status"].values.ravel().tolist() == ["diverged", "diverged"]


@pytest.mark.parametrize(
    ("unit", "squared"),
    [("rad", "rad2"), ("1", "1"), ("rad s-1", "(rad s-1)2"), ("m2", "(m2)2"), ("s-1", "(s-1)2"), ("m0.5", "(m0.5)2")],
)
def test_the_unit_of_a_squared_error_is_the_square_of_a_unit(unit, squared):
    target = xr.DataArray(
        np.zeros((1, 1)), dims=("sample", "component"), coords={"component_units": ("component", [unit])}
    )
    assert squared_units(xr.Dataset({"y": target}), "y", Samples({}, torch.zeros(1, 1, 1))) == squared
