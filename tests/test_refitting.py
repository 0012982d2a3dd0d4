"""Methods without a rho: theta held where an assumption or the user puts it, the science alone, the network alone."""

import json
from copy import copy

import numpy as np
import pandas as pd
import pytest
import torch
import xarray as xr
from helpers import small
from helpers.project import names

import hybridsam
from hybridsam.analysis.assumptions import parsed
from hybridsam.analysis.cube import not_run
from hybridsam.analysis.refitting import FAILED, by_assumption, of_kind, parsed_theta
from hybridsam.analysis.selection import select
from hybridsam.cli.main import main
from hybridsam.core import modules, records
from hybridsam.core.blocks import Block
from hybridsam.core.errors import UserError
from hybridsam.core.methods import METHODS, get_method
from hybridsam.core.records import with_data
from hybridsam.models.parts import part_of
from hybridsam.report.table_one import notes, table_one
from hybridsam.training.block import train_block, train_task, write_runs
from hybridsam.training.warm import Held

STEPS = 12
TRAINING = {"iterations": STEPS, "record_every": 4}
METHODS_OF_TEST = ["erm", "l2reg", "freg", "sam", "asam", "fsam"]  # in config/test.yaml
BESIDE = ("erm_small", "erm_straight", "science", "black_box")


@pytest.fixture(scope="module")
def task():
    """Model, dataset and training of a small task, made once."""
    made = {}

    def of(name, tmp_path_factory=None):
        if name not in made:
            settings = small.settings_of(name, training=TRAINING)
            folder = tmp_path_factory and tmp_path_factory.mktemp(name)
            made[name] = modules.build(settings), small.dataset_of(name, folder), settings["training"]
        return made[name]

    return of


@pytest.fixture(scope="module")
def fitted(task):
    """Runs of the small pendulum by plain erm, a method that perturbs, and methods that have no rho."""
    model, dataset, training = task("pendulum")
    methods = {"erm": [0], "sam": [0.05]} | {name: [0] for name in BESIDE}
    return hybridsam.fit(model, dataset, methods, seeds=3, device="cpu", progress=False, **training)


def of(runs, method, rho=0.0):
    return runs.sel(training_method=method, rho=rho)


def test_small_holds_the_theta_of_least_squares_on_each_runs_own_field(fitted, task):
    """omega^2 = -sum F sin q / sum sin^2 q over the training states, F the acceleration of the fitted whole."""
    model, dataset, _ = task("pendulum")
    data = model.data(dataset, "train", torch.float32)
    states = data.inputs["states"].flatten(1, 2)
    phi, omega = (torch.as_tensor(of(fitted, "erm")[name].values).float() for name in ("phi", "theta"))
    with torch.no_grad():
        g = model.network(model.network.unflatten(phi), states.expand(3, -1, -1))[..., 1]
    sine = torch.sin(states[..., 0])
    F = -(omega**2) * sine + g
    expected = (-(F * sine).sum(1) / (sine**2).sum(1)).sqrt()
    np.testing.assert_allclose(of(fitted, "erm_small")["theta"].values[:, 0], expected, rtol=1e-4)


def test_theta_stays_where_it_is_held_and_phi_is_trained(fitted):
    for method in ("erm_small", "erm_straight"):
        own = of(fitted, method)
        history = own["theta_history"].values
        np.testing.assert_allclose(history, np.broadcast_to(history[:, :1], history.shape), rtol=1e-6)
        assert (own["train_loss"][:, -1] < own["train_loss"][:, 0]).all()
    assert len(np.unique(of(fitted, "erm_small")["theta"])) == 3  # from the run of erm of the same seed


def test_gradients_are_counted_with_those_of_the_run_that_theta_comes_from(fitted):
    found = {name: of(fitted, name)["gradients"].values.tolist() for name in ("erm", *BESIDE)}
    assert found == {name: [STEPS * (2 if name.startswith("erm_") else 1)] * 3 for name in ("erm", *BESIDE)}
    assert of(fitted, "sam", 0.05)["gradients"].values.tolist() == [2 * STEPS] * 3


@pytest.mark.parametrize("method", ["erm", *BESIDE])
def test_each_run_predicts_by_the_part_that_it_has_trained(method, fitted, task):
    """Predictions have the error that training has recorded, and a module that is taken away predicts the same."""
    model, dataset, _ = task("pendulum")
    predicted = hybridsam.predict(model, fitted, dataset)["prediction"].sel(training_method=method, rho=0)
    truth = dataset["state"][(dataset["split"] == "test").values][:, 1:]
    errors = ((predicted - truth.values) ** 2).mean(["sample", "time", "component"])
    np.testing.assert_allclose(errors, of(fitted, method)["y_error"].sel(split="test"), rtol=1e-4)
    module = hybridsam.to_module(model, of(fitted, method).sel(seed=1), dataset)
    states = torch.as_tensor(dataset["state"].values[(dataset["split"] == "test").values][:, :1], dtype=torch.float32)
    own = module(times=dataset["time"].values.tolist(), states=states).detach()
    np.testing.assert_allclose(own, predicted.sel(seed=1), rtol=1e-4, atol=1e-5)


def test_the_science_alone_is_fitted_to_where_least_squares_find_it(task):
    model, dataset, training = task("pendulum")
    long = training | {"iterations": 400, "learning_rate": 0.02}
    runs = hybridsam.fit(model, dataset, {"science": [0]}, seeds=2, device="cpu", progress=False, **long)
    expected = hybridsam.analysis.identifiability.identify(model, dataset).science_only
    np.testing.assert_allclose(runs["theta"].values.ravel(), np.repeat(expected, 2), rtol=1e-3)


def test_without_the_science_there_is_neither_theta_nor_a_science_part_and_no_remark_on_them(fitted, task):
    own = of(fitted, "black_box")
    assert own["theta"].isnull().all() and own["y_error"].notnull().all()
    predicted = hybridsam.predict(task("pendulum")[0], own, task("pendulum")[1], "test")
    assert predicted["prediction_science"].isnull().all() and predicted["prediction"].notnull().all()
    assert (own["train_loss"][:, -1] < own["train_loss"][:, 0]).all()
    ways = hybridsam.analysis.arrival.ways(fitted)
    assert set(ways["method"]) == {"erm", "sam", "science"}


@pytest.mark.parametrize("name", [*small.SIMULATED, *small.MEASURED])
def test_parts_of_every_shipped_model(name, task, tmp_path_factory):
    """The network alone has no slope by theta; where it does not see all that the science sees, there is none."""
    model, dataset, _ = task(name, tmp_path_factory)
    data = model.data(dataset, "train", torch.float32, "cpu")
    few = next(data.chunks(2))
    theta = model.parameters.constrain(model.parameters.initial(1).to(few.targets)).detach().requires_grad_()
    phi = model.initial(torch.Generator().manual_seed(0)).to(theta).unsqueeze(0).requires_grad_()
    science = part_of(model, get_method("science"))
    expected = model.predict_science(theta, phi, few)
    torch.testing.assert_close(science.predict(theta, phi, few), expected)
    assert science.penalty(theta, phi, few, expected).tolist() == [0]
    alone = part_of(model, get_method("black_box"))
    assert (alone is None) == (name in ("pendulum_images", "light_tunnel", "light_sensors"))
    if alone:
        prediction = alone.predict(theta, phi, few)
        by_theta, by_phi = torch.autograd.grad(prediction.square().sum(), (theta, phi), materialize_grads=True)
        assert prediction.shape == expected.shape and not by_theta.any() and by_phi.any()
    assert part_of(model, get_method("fsam")) is model


def test_where_there_is_no_network_alone_nothing_is_trained_and_the_table_says_why(task, tmp_path_factory):
    model, dataset, training = task("light_sensors", tmp_path_factory)
    runs = hybridsam.fit(model, dataset, {"erm": [0], "black_box": [0]}, 2, "cpu", False, **training)
    assert runs["training_method"].values.tolist() == ["erm"]
    [why] = not_run(runs).values()
    assert "does not see all that the science sees" in why
    assert f"Not run for sensors: black_box ({why})." in notes(table_one({"sensors": select(with_data(runs, 0))}))


def test_where_an_assumption_says_nothing_the_run_is_left_out(task):
    """On Duffing with the linear term known, an affine function can be all that theta does."""
    model, dataset, training = task("duffing")
    methods = {"erm": [0], "erm_straight": [0], "erm_small": [0], "erm_depends_on": [0]}
    runs = hybridsam.fit(model, dataset, methods, 2, "cpu", False, **training)
    assert runs["training_method"].values.tolist() == ["erm", "erm_small"]
    assert not_run(runs) == {
        "erm_straight": "straight says nothing of alpha",
        "erm_depends_on": "assume names nothing that the missing part depends on",
    }


def test_a_run_that_begins_from_a_failed_one_has_failed(fitted, task):
    model, dataset, _ = task("pendulum")
    erm = fitted.sel(training_method=["erm"], rho=[0])
    lost = xr.DataArray([False, True, False], dims="seed")
    erm["status"] = erm["status"].where(~lost, "diverged")
    erm["y_error"] = erm["y_error"].where(~lost)
    held = by_assumption(model, erm, dataset, of_kind("small"))
    assert held.failed == ["", FAILED, ""] and held.theta[1].isnan().all()
    runs = hybridsam.refit(model, erm, dataset, assume="small", device="cpu")
    assert runs["status"].values.ravel().tolist() == ["completed", "diverged", "completed"]
    assert runs["reason"].values.ravel().tolist() == ["", FAILED, ""] and runs["theta"][..., 1, :].isnull().all()


def test_a_refitted_run_keeps_the_theta_that_it_is_given(fitted, task):
    model, dataset, _ = task("pendulum")
    sam = fitted.sel(training_method="sam", rho=0.05)
    own = hybridsam.refit(model, sam, dataset, device="cpu")
    np.testing.assert_allclose(own["theta"].squeeze(), sam["theta"].squeeze(), rtol=1e-6)
    assert own["training_method"].values.tolist() == ["refit"]
    assert own["gradients"].values.ravel().tolist() == [3 * STEPS] * 3
    given = hybridsam.refit(model, sam, dataset, {"omega": 1.0}, device="cpu")
    np.testing.assert_allclose(given["theta"].values.ravel(), 1.0, rtol=1e-6)
    small_ = hybridsam.refit(model, of(fitted, "erm"), dataset, assume="small", device="cpu")
    for name in ("theta", "phi", "y_error"):
        np.testing.assert_array_equal(small_[name].squeeze(), of(fitted, "erm_small")[name].squeeze())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"theta": {"xi": 1.0}}, "theta.xi: not a parameter; there are omega"),
        ({"theta": {"omega": -1.0}}, "theta.omega: -1 is not between 0 and inf"),
        ({"theta": {"omega": "fast"}}, "theta.omega"),
        ({"theta": {"omega": 1.0}, "assume": "small"}, "theta: given beside assume"),
        ({"assume": "large"}, "assume: 'large' is no assumption"),
    ],
)
def test_what_makes_no_sense_is_refused(arguments, words, fitted, task):
    model, dataset, _ = task("pendulum")
    with pytest.raises(UserError, match=words.replace(".", r"\.")):
        hybridsam.refit(model, of(fitted, "erm"), dataset, device="cpu", **arguments)


def test_a_value_of_the_other_sign_is_refused_where_theta_keeps_its_own(task):
    """Of the transform log, whose bounds are not written down."""
    model, dataset, training = task("duffing")
    model = copy(model)
    model.parameters = hybridsam.Parameters([hybridsam.Parameter("alpha", "s-2", start=0.5, transform="log")])
    runs = hybridsam.fit(model, dataset, {"erm": [0]}, 2, "cpu", False, **training).isel(training_method=0, rho=0)
    with pytest.raises(UserError, match=r"theta.alpha: -1 is not between 0 and inf"):
        hybridsam.refit(model, runs, dataset, {"alpha": -1.0}, device="cpu")
    held = hybridsam.refit(model, runs, dataset, {"alpha": 2.0}, device="cpu")
    np.testing.assert_allclose(held["theta"].values.ravel(), 2.0, rtol=1e-6)


def test_refusals_of_several_methods_and_of_an_order_that_cannot_be(fitted, task):
    model, dataset, training = task("pendulum")
    with pytest.raises(UserError, match="several of training_method"):
        hybridsam.refit(model, fitted, dataset, device="cpu")
    with pytest.raises(UserError, match="those of black_box have no theta"):
        hybridsam.refit(model, of(fitted, "black_box"), dataset, device="cpu")
    with pytest.raises(UserError, match="erm_small: erm, whose runs erm_small begins from, comes before it"):
        hybridsam.fit(model, dataset, {"erm_small": [0]}, 2, "cpu", False, **training)
    with pytest.raises(UserError, match=r"refit: see hybridsam\.refit"):
        hybridsam.fit(model, dataset, {"erm": [0], "refit": [0]}, 2, "cpu", False, **training)
    with pytest.raises(UserError, match="not allowed for science, which has none"):
        Block("science", 0.1, (0,))
    with pytest.raises(UserError, match="'omega' is not a parameter and its value"):
        parsed_theta(["omega"])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--method", "erm_small", "--theta", "omega=1"], "theta: given beside method erm_small"),
        (["--method", "erm_small"], "runs of sam; erm_small begins from those of erm"),
        (["--method", "fsam"], "'fsam' is not one of erm_small, erm_straight, erm_depends_on, refit"),
    ],
)
def test_the_command_refuses_what_it_would_pass_over(options, words, tmp_path, capsys):
    settings, dataset = small.settings_of("pendulum", training=TRAINING), small.dataset_of("pendulum", tmp_path)
    write_runs(*train_task(settings, dataset, Block("sam", 0.05, (0,)), "cpu"), tmp_path / "sam.nc")
    records.write(dataset, tmp_path / "dataset.nc", "dataset", "Pendulum")
    (tmp_path / "settings.json").write_text(json.dumps(settings))
    files = [tmp_path / "sam.nc", "--dataset", tmp_path / "dataset.nc", "--settings", tmp_path / "settings.json"]
    assert main(["refit", *map(str, files), *options, "--output", str(tmp_path / "refit.nc")]) == 2
    assert words in capsys.readouterr().err and not (tmp_path / "refit.nc").exists()


def test_a_theta_at_its_bound_is_held_just_inside(task):
    """Unconstrained, a bound is infinite."""
    model, *_ = task("pendulum")
    runs = xr.Dataset({"theta": (("training_method", "rho", "seed", "parameter"), np.zeros((1, 1, 2, 1)))})
    held = hybridsam.analysis.refitting._inside(model, runs["theta"].values[0, 0])
    raw = Held(held, np.zeros(2), [""] * 2, [""] * 2).start(model.parameters, (0, 1)).raw
    assert raw.isfinite().all() and 0 < held.max() < 1e-5


def test_of_two_parameters_the_one_that_is_held_stays_and_the_other_moves(task):
    model, dataset, training = task("reaction_diffusion")
    how = hybridsam.core.settings.typed(hybridsam.training.loop.Training, training, "training")
    start = torch.tensor([[2e-3, np.nan]])
    runs, _ = train_block(
        model, how, dataset, Block("refit", 0, (3,)), "cpu", held=Held(start, np.zeros(1), [""], [""])
    )
    history = runs["theta_history"].squeeze(["training_method", "rho", "seed"]).values
    np.testing.assert_allclose(history[:, 0], 2e-3, rtol=1e-5)
    assert len(np.unique(history[:, 1])) > 2


def test_what_an_assumption_says_nothing_of_stays_free(task):
    """A drag is a function of the velocity, and the pull of gravity is not."""
    _, dataset, training = task("pendulum")

    def science(theta, x):
        angle, velocity = x.unbind(-1)
        return torch.stack([velocity, -theta["k"] * torch.sin(angle) - theta["drag"] * velocity], -1)

    rows = [hybridsam.Parameter("k", "s-2", start=1.0), hybridsam.Parameter("drag", "s-1", start=0.1)]
    model = hybridsam.HybridODE(
        science, hybridsam.Parameters(rows), hybridsam.MLP((2, 8, 2)), hybridsam.Solver(step=0.25)
    )
    runs = hybridsam.fit(model, dataset, {"erm": [0]}, 2, "cpu", False, **training)
    by_velocity = parsed({"depends_on": ["angular velocity"]})
    held = by_assumption(model, runs.sel(training_method=["erm"], rho=[0]), dataset, by_velocity)
    assert held.theta.isnan().tolist() == [[False, True]] * 2 and held.left_out == ["", ""]
    refitted = hybridsam.refit(
        model, runs.sel(training_method="erm", rho=0), dataset, assume={"depends_on": "angular velocity"}
    )
    moved = refitted["theta_moved"].squeeze(["training_method", "rho"]).values
    assert (moved[:, 0] == 0).all() and (moved[:, 1] != 0).all()


def test_every_method_says_what_it_does():
    assert all(method.title for method in METHODS.values())
    assert [name for name, method in METHODS.items() if not method.has_rho] == [
        *("erm", "erm_small", "erm_straight", "erm_depends_on", "refit", "science", "black_box")
    ]


@pytest.mark.slow
def test_the_workflow_puts_them_beside_the_others(project):
    """In Table 1 and among the models to take away; what makes no sense for a task is said there, and stops nothing."""
    own = ["erm_small", "erm_straight", "erm_depends_on", "black_box"]
    changed = project.configure({"tasks": ["duffing"], "methods": [*METHODS_OF_TEST, *own]})
    jobs = project.plan("table", configuration=changed)
    assert names(jobs, "refit") == {f"refit duffing {name} 0-1" for name in own[:3]}
    assert names(jobs, "train") == {"train duffing black_box 0 0-1"}
    result = project.snakemake("--cores", "2", "table", "models", configuration=changed)
    assert result.returncode == 0, result.stdout
    table = (project.results / "table.md").read_text()
    rows = {line.split("|")[2].strip() for line in table.splitlines() if line.startswith("|")}
    assert {*METHODS_OF_TEST, "erm_small", "black_box"} <= rows and not {"erm_straight", "erm_depends_on"} & rows
    assert "Not run for duffing: erm_straight (straight says nothing of alpha), erm_depends_on (assume names" in table
    with xr.open_dataset(project.results / "duffing/runs/black_box/rho=0/seeds=0-1.nc") as runs:
        assert runs["prediction_science"].isnull().all() and runs["prediction"].notnull().all()
    models = project.results / "duffing/models"
    assert hybridsam.load_module(models / "erm_small/model.safetensors").theta["alpha"].item() > 0
    with pytest.raises(UserError, match="there is no model: straight says nothing of alpha"):
        hybridsam.load_module(models / "erm_straight/model.safetensors")
    assert len(pd.read_table(models / "erm_straight/parameters.tsv")) == 0
    assert project.plan("table", "models", configuration=changed) == []


@pytest.mark.slow
def test_another_assumption_refits_what_it_is_asked_for_and_trains_nothing_else(project):
    methods = {"tasks": ["pendulum"], "methods": [*METHODS_OF_TEST, "erm_depends_on"]}
    other = {"overrides.pendulum.assume": [{"depends_on": ["angle"]}]}
    assert project.snakemake("--cores", "2", "table", configuration=project.configure(methods)).returncode == 0
    jobs = project.plan("table", configuration=project.configure(methods | other))
    assert names(jobs, "refit") == {"refit pendulum erm_depends_on 0-1"} and not names(jobs, "train")
