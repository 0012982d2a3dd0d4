"""Components of unequal size: errors, penalties, networks and solvers work in units of the data, not of anybody."""

import numpy as np
import pandas as pd
import pytest
import torch
import xarray as xr

import hybridsam
from hybridsam import MLP, HybridMap, HybridODE, Parameter, Parameters, Solver, UserError, simulate_ode
from hybridsam.analysis.cube import add_errors
from hybridsam.core.scales import standard_units
from hybridsam.training.compiled import CompiledODE
from hybridsam.training.loss import Loss

SIZES = {"train": 6, "validation": 3, "test": 3, "steps": 6, "dt": 0.25, "subsample": 4, "noise": 0.0, "seed": 0}
NAMES = ("cells", "glucose")


def growth(cells=1.0, glucose=1.0, second=1.0, zero=0.0):
    """Cells in 1e6/ml that eat glucose in g/l over hours; of which the units, and the zero of glucose, are changed.

    The science knows growth and consumption by Monod, and not that cells die.
    """
    unit, offset = np.array([cells, glucose]), np.array([0.0, zero])

    def rates(t, state):
        n, s = (state - offset) / unit
        grown = 0.4 * s / (0.5 + s) * n
        return np.array([grown - 0.05 * n, -0.3 * grown]) * unit / second

    bounds = np.array([[1.0, 2.0], [3.0, 5.0]]) * unit[:, None] + offset[:, None]
    constants = SIZES | {"dt": SIZES["dt"] * second}
    dataset = simulate_ode(rates, bounds, dict(zip(NAMES, ("1e6 ml-1", "g l-1"), strict=True)), constants, {"mu": 0.4})

    def science(theta, x):
        n, s = x.unbind(-1)
        n, s = n / cells, (s - zero) / glucose
        grown = theta["mu"] * s / (0.5 + s) * n
        return torch.stack([grown * cells, -0.3 * grown * glucose], -1)

    theta = Parameters([Parameter("mu", "h-1", start=0.2 / second, transform="log")])
    return science, theta, dataset


def model_of(science, theta, solver="rk4", second=1.0, **more):
    return HybridODE(science, theta, MLP((2, 8, 8, 2)), Solver(solver, step=0.5 * second), **more)


def trained(science, theta, dataset, methods, second=1.0, solver="rk4", **changes):
    how = {"iterations": 30, "learning_rate": 1e-2, "record_every": 5, "dtype": "float64"} | changes
    model = model_of(science, theta, solver, second)
    return model, hybridsam.fit(model, dataset, methods, 2, "cpu", progress=False, **how)


METHODS = {"erm": [0], "l2reg": [1e-3], "freg": [0.1], "fsam": [0.05]}
OTHERS = {
    "cells as single ones": {"cells": 1e6},
    "glucose in ug/l": {"glucose": 1e6},
    "glucose from another zero": {"zero": 273.0},
    "seconds": {"second": 3600.0},
    "all": {"cells": 1e-9, "glucose": 1e4, "second": 1 / 24, "zero": -3e4},
}


@pytest.fixture(scope="module")
def expected():
    return trained(*growth(), METHODS)


@pytest.mark.slow
@pytest.mark.parametrize("name", OTHERS)
def test_runs_do_not_depend_on_the_units_of_state_and_time(expected, name):
    units = {"cells": 1.0, "glucose": 1.0, "second": 1.0, "zero": 0.0} | OTHERS[name]
    science, theta, dataset = growth(**units)
    model, runs = trained(science, theta, dataset, METHODS, units["second"])
    for error in ("y_error", "train_loss", "validation_loss", "phi"):
        np.testing.assert_allclose(runs[error], expected[1][error], rtol=1e-5, atol=1e-9, err_msg=error)
    np.testing.assert_allclose(runs["theta_history"] * units["second"], expected[1]["theta_history"], rtol=1e-6)
    ours = hybridsam.predict(expected[0], expected[1], growth()[2])["prediction"]
    theirs = hybridsam.predict(model, runs, dataset)["prediction"]
    unit, offset = [units["cells"], units["glucose"]], [0, units["zero"]]
    np.testing.assert_allclose((theirs - offset) / unit, ours, rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("solver", ["rk4", "dopri5"])
def test_every_solver_works_in_standard_units(solver):
    """An absolute tolerance of the solver's own would mean something else in every unit."""
    few = {"iterations": 3, "record_every": 1, "solver": solver}
    _, ours = trained(*growth(), {"erm": [0]}, **few)
    _, theirs = trained(*growth(cells=1e-12, glucose=1e9), {"erm": [0]}, **few)
    np.testing.assert_allclose(theirs["train_loss"], ours["train_loss"], rtol=1e-7)
    np.testing.assert_allclose(theirs["theta_history"], ours["theta_history"], rtol=1e-7)


def test_compiled_code_and_pytorch_agree_in_standard_units():
    science, theta, dataset = growth(cells=1e6, zero=273.0)
    model = model_of(science, theta)
    data = model.data(dataset, "train", torch.float64)
    phi = torch.stack([model.initial(torch.Generator().manual_seed(i)) for i in (0, 1)]).double().requires_grad_()
    theta = torch.tensor([[0.2], [0.3]], dtype=torch.float64, requires_grad=True)
    rho = torch.tensor([0.1, 0.2], dtype=torch.float64)
    slow, fast = (loss(theta, phi, data, rho=rho) for loss in (Loss(model), CompiledODE(model, data)))
    torch.testing.assert_close(fast, slow, rtol=1e-10, atol=0)
    both = (torch.autograd.grad(value.sum(), (theta, phi)) for value in (slow, fast))
    for one, other in zip(*both, strict=True):
        torch.testing.assert_close(other, one, rtol=1e-8, atol=1e-10)


@pytest.mark.slow
def test_of_unequal_components_each_counts_as_much(expected):
    """Cells in single ones are a million times larger than glucose, of which no error would be seen beside theirs."""
    _, runs = expected
    model, others = trained(*growth(cells=1e6), {"erm": [0]}, iterations=300)
    dataset = growth(cells=1e6)[2]
    predicted = hybridsam.predict(model, others, dataset)["prediction"]
    left = predicted - dataset["state"].isel(sample=predicted["sample"], time=slice(1, None))
    relative = (left**2).mean(["sample", "time", "seed"]) ** 0.5 / dataset["target_scale"]
    assert relative.max() < 0.2
    differences = runs["phi"].sel(training_method=["l2reg", "freg", "fsam"], seed=0).max("rho") - runs["phi"].sel(
        training_method="erm", rho=0.0, seed=0
    )
    assert (abs(differences).max("weight") > 1e-4).all()  # no method is erm in disguise


# Where the scales come from, and where they go


def test_scales_are_those_of_the_training_samples_alone():
    dataset = growth(cells=1e6)[2]
    train = dataset["state"].values[dataset["split"].values == "train"]
    np.testing.assert_allclose(dataset["target_mean"], train.mean((0, 1)))
    np.testing.assert_allclose(dataset["target_scale"], train.std((0, 1)))
    rates = np.diff(train, axis=1) / np.diff(dataset["time"].values)[:, None]
    np.testing.assert_allclose(dataset["target_rate"], np.sqrt((rates**2).mean((0, 1))))
    other = dataset.copy(deep=True)
    other["state"][np.flatnonzero(dataset["split"] != "train")] = 1e9
    for name, values in standard_units(other, "state").items():
        np.testing.assert_array_equal(values, dataset[name])


@pytest.mark.parametrize("value", [0.0, 3.2, -1e6])
def test_a_component_that_never_changes_is_refused_by_name(value):
    dataset = growth()[2].drop_vars(["target_mean", "target_scale", "target_rate"])
    dataset["state"][..., 1] = value
    with pytest.raises(UserError, match="glucose: the same value in all training samples"):
        standard_units(dataset, "state")


def test_new_data_are_predicted_in_the_units_of_training(expected):
    """What another dataset says of itself is not what the network has learnt by."""
    model, runs = expected
    dataset = growth()[2]
    other = dataset.isel(sample=[0, 9]).assign_coords(split=("sample", ["train", "test"]))
    other = other.assign(standard_units(other, "state"))
    assert abs(other["target_scale"] / dataset["target_scale"] - 1).max() > 0.1
    ours, theirs = (hybridsam.predict(model, runs, of)["prediction"] for of in (dataset, other))
    np.testing.assert_allclose(theirs.isel(sample=0), ours.sel(sample=9), rtol=1e-6)


def test_a_module_to_take_away_works_in_the_units_of_the_data(expected):
    model, runs = expected
    dataset = growth()[2]
    run = runs.sel(training_method="erm", rho=0.0, seed=1)
    module = hybridsam.to_module(model, run, dataset)
    states = torch.as_tensor(dataset["state"].values[dataset["split"].values == "test"])
    predicted = module(states=states[:, :1], times=dataset["time"].values)
    ours = hybridsam.predict(model, run, dataset)["prediction"]
    np.testing.assert_allclose(predicted.detach(), ours, rtol=1e-9)
    # g by what the network itself says in standard units, and by the field that the rollout follows.
    x = states[:, 0]
    mean, scale, rate = (torch.as_tensor(dataset[f"target_{name}"].values) for name in ("mean", "scale", "rate"))
    torch.testing.assert_close(module.g(x), rate * module.network((x - mean) / scale))
    first = module(states=states[:, :1], times=[0, 1e-5])[:, 0]
    science = growth()[0]({"mu": module.theta["mu"]}, x)
    torch.testing.assert_close((first - x) / 1e-5, science + module.g(x), rtol=1e-4, atol=1e-4)


def test_a_run_file_states_its_units(expected):
    dataset, (_, runs) = growth()[2], expected
    for name in ("target_mean", "target_scale", "target_rate"):
        np.testing.assert_allclose(runs[name], dataset[name], rtol=1e-12)
        assert runs[name].dims == ("component",)
    assert runs["y_error"].attrs["units"] == "1"


def test_errors_over_noise_are_in_units_of_the_noise():
    """Of the true model, whose predictions are off by no more than the noise of the data."""
    dataset = xr.Dataset(
        {"state": (("sample", "time", "component"), np.zeros((1, 1, 2))), "split": ("sample", ["train"])},
        attrs={"noise": 0.3},
    )
    scale = np.array([2.0, 50.0])
    y_error = ((0.3 / scale) ** 2).mean()
    cube = xr.Dataset(
        {
            "y_error": ("split", [y_error]),
            "target_scale": ("component", scale),
            "theta": ("parameter", [1.0]),
            "parameter": ["a"],
        }
    )
    assert add_errors(cube, dataset)["y_error_over_noise"].item() == pytest.approx(1)


# What the network adds at the start


def test_an_untrained_network_adds_little_of_the_usual_rates():
    science, theta, dataset = growth(cells=1e6, second=3600.0)
    model = model_of(science, theta, second=3600.0)
    data = model.data(dataset, "train", torch.float64)
    states = data.inputs["states"].flatten(1, 2)
    phi = torch.stack([model.initial(torch.Generator().manual_seed(i)) for i in range(20)]).double()
    g = model.supplied(model.network.unflatten(phi), states.expand(20, -1, -1), data)
    share = (g**2).mean((0, 1)).sqrt() / torch.as_tensor(dataset["target_rate"].values)
    assert (share < 0.1).all() and (share > 0.001).all()


@pytest.mark.parametrize("scale", [1, 2.5, [3.0, 0.2]])
def test_the_scale_of_the_network_can_be_stated(scale):
    science, theta, dataset = growth(cells=1e6)
    model = model_of(science, theta, network_scale=scale)
    data = model.data(dataset, "train", torch.float64)
    generator, again = (torch.Generator().manual_seed(3) for _ in range(2))
    phi = model.initial(generator)
    assert torch.equal(phi, model.network.initial(again))  # its last layer as well
    x, layers = data.inputs["states"][:, :, 0], model.network.unflatten(phi.double()[None])
    expected = model.network(layers, data.in_standard_units(x)) * torch.tensor(scale, dtype=torch.float64)
    torch.testing.assert_close(model.supplied(layers, x, data), expected)
    rho = torch.tensor([0.1], dtype=torch.float64)
    slow, fast = (
        loss(torch.tensor([[0.2]]).double(), phi.double()[None], data, rho=rho)
        for loss in (Loss(model), CompiledODE(model, data))
    )
    torch.testing.assert_close(fast, slow, rtol=1e-9, atol=0)


class Braking(torch.nn.Module):
    """What the sign of a state decides."""

    def __init__(self):
        super().__init__()
        self.strength = torch.nn.Linear(1, 1)

    def forward(self, x):
        return -x * torch.nn.functional.softplus(self.strength(x[..., :1].abs()))


@pytest.mark.parametrize("unit", [1.0, 1e6])
def test_a_module_of_ones_own_sees_signs_as_they_are(unit):
    """In the middle of its data a state is not zero, and a brake must not push there."""
    science, theta, dataset = growth(cells=unit)
    model = HybridODE(science, theta, hybridsam.TorchModule(Braking), Solver(step=0.5))
    data = model.data(dataset, "train", torch.float64)
    x = data.inputs["states"][:, :, 0] * torch.tensor([1.0, -1.0])
    layers = model.network.unflatten(model.initial(torch.Generator().manual_seed(0)).double()[None])
    g = model.supplied(layers, x, data)
    assert (g * x < 0).all()
    scale, rate = (torch.as_tensor(dataset[f"target_{name}"].values) for name in ("scale", "rate"))
    torch.testing.assert_close(g, rate * model.network(layers, x / scale))


class Faster(HybridODE):
    """Growth times exp(g), of one g that has no unit."""

    def field(self, theta, x, g):
        return self.science(theta, x) * torch.exp(g[..., :1])


@pytest.mark.slow
@pytest.mark.parametrize("units", [{"cells": 1e6}, {"second": 3600.0, "zero": -40.0}])
def test_a_network_that_is_no_rate_has_no_unit_of_one(units):
    def runs(**units):
        science, theta, dataset = growth(**units)
        solver = Solver(step=0.5 * units.get("second", 1.0))
        model = Faster(science, theta, MLP((2, 6, 1)), solver)
        data = model.data(dataset, "train", torch.float64)
        assert model.scale_of_network(data) == 1.0
        phi = model.initial(torch.Generator().manual_seed(0)).double()[None]
        supplied = model.supplied(model.network.unflatten(phi), data.inputs["states"][:, :, 0], data)
        assert supplied.shape[-1] == 1 and supplied.abs().max() < 0.2  # it starts small
        how = {"iterations": 20, "learning_rate": 1e-2, "record_every": 5, "dtype": "float64"}
        return hybridsam.fit(model, dataset, METHODS, 2, "cpu", progress=False, **how)

    ours, theirs = runs(), runs(**units)
    for name in ("train_loss", "y_error", "phi"):
        np.testing.assert_allclose(theirs[name], ours[name], rtol=1e-5, atol=1e-9)


# Laws


@pytest.mark.slow
def test_runs_of_a_law_do_not_depend_on_the_units_of_its_target():
    def law(unit, zero):
        rng = np.random.default_rng(0)
        u = rng.uniform(1, 2, 12)
        y = np.stack([3 * u + 0.2 * u**2, 1 / u], -1) * unit + zero
        frame = {"u": u, "a": y[:, 0], "b": y[:, 1]}
        split = {"by": "sample", "train": 6, "validation": 3, "test": 3}
        table = {"inputs": {"u": "m"}, "target": {"a": "N", "b": "m-1"}, "split": split}

        def science(theta, u):
            k = theta["k"] * u["u"]
            return torch.stack([k * unit[0] + zero[0], unit[1] / u["u"].expand_as(k) + zero[1]], -1)

        dataset = hybridsam.dataset_of(pd.DataFrame(frame), table)
        theta = Parameters([Parameter("k", "N m-1", 1.0)])
        model = HybridMap(science, theta, MLP((3, 6, 2)), "target", ("u",), {"u": 1.0}, True)
        how = {"iterations": 20, "learning_rate": 1e-2, "record_every": 5, "dtype": "float64"}
        return hybridsam.fit(model, dataset, METHODS, 2, "cpu", progress=False, **how)

    ours, theirs = law(np.ones(2), np.zeros(2)), law(np.array([1e6, 1e-3]), np.array([5e6, 0.0]))
    for name in ("theta_history", "train_loss", "y_error", "phi"):
        np.testing.assert_allclose(theirs[name], ours[name], rtol=1e-6, atol=1e-10)


def test_the_network_can_move_a_component_that_rests_in_the_data():
    """One that differs from series to series and never in time, as the concentration of a catalyst."""
    _, _, dataset = growth()
    levels = np.linspace(1, 2, dataset.sizes["sample"])[:, None] * np.ones(dataset.sizes["time"])
    rests = dataset["state"].copy(data=np.stack([dataset["state"].values[..., 0], levels], -1))
    scales = standard_units(dataset.assign(state=rests), "state")
    duration = dataset["time"].values[-1] - dataset["time"].values[0]
    assert scales["target_rate"].values[1] == pytest.approx(scales["target_scale"].values[1] / duration)
    assert scales["target_rate"].values[0] == standard_units(dataset, "state")["target_rate"].values[0]
