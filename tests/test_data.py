"""What models learn from: batches, chunks, members, units, standardisation, files."""

import netCDF4
import numpy as np
import pytest
import torch
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

from hybridsam.core import records
from hybridsam.core.errors import UserError
from hybridsam.models.law import HybridMap
from hybridsam.models.networks import MLP
from hybridsam.models.parameters import Parameter, Parameters
from hybridsam.models.samples import Samples, in_split, times_of
from hybridsam.training.loss import Loss, mean_squared_error

N = 7


def shared(n=N, members=1):
    """Numbered samples of two inputs, with times and standard units."""
    values = torch.arange(float(members * n * 6)).view(members, n, 3, 2).double()
    inputs = {"u": values[..., 0] + 0.25, "angle": values[..., 0, 0] + 0.5}
    return Samples(inputs, values, times=(0.0, 0.5), mean=torch.tensor([3.0]), scale=torch.tensor([2.0]))


def assert_same(a, b):
    assert a.inputs.keys() == b.inputs.keys()
    for one, other in zip((a.targets, *a.inputs.values()), (b.targets, *b.inputs.values()), strict=True):
        assert torch.equal(one, other)
    assert (a.times, a.mean, a.scale) == (b.times, b.mean, b.scale)


# Parts of the samples


@given(st.lists(st.lists(st.integers(0, N - 1), min_size=3, max_size=3), min_size=1, max_size=4))
def test_a_batch_holds_for_each_member_the_samples_that_it_asks_for(index):
    data = shared()
    batch = data.batch(torch.tensor(index))
    assert len(batch) == 3
    for member, numbers in enumerate(index):
        assert torch.equal(batch.targets[member], data.targets[0, numbers])
        for name, values in data.inputs.items():
            assert torch.equal(batch.inputs[name][member], values[0, numbers])
    assert (batch.times, batch.mean, batch.scale) == (data.times, data.mean, data.scale)


@given(st.integers(1, 12), st.integers(1, 12), st.integers(1, 3))
def test_chunks_are_all_samples_in_order_and_at_most_so_many_at_a_time(n, at_once, members):
    data = shared(n, members)
    parts = list(data.chunks(at_once))
    assert [len(part) for part in parts[:-1]] == [at_once] * (len(parts) - 1)
    assert 1 <= len(parts[-1]) <= at_once
    inputs = {name: torch.cat([part.inputs[name] for part in parts], 1) for name in data.inputs}
    whole = Samples(inputs, torch.cat([p.targets for p in parts], 1), parts[0].times, parts[0].mean, parts[0].scale)
    assert_same(whole, data)


def test_samples_are_counted_whether_they_are_shared_or_a_members_own():
    assert len(shared()) == len(shared(members=3)) == N


def test_samples_of_a_split_are_its_own_and_an_empty_split_is_refused():
    labels = ["test", "train", "test", "train"]
    dataset = xr.Dataset({"y": ("sample", np.arange(4.0))}, coords={"split": ("sample", labels)})
    assert in_split(dataset, "test")["y"].values.tolist() == [0, 2]
    with pytest.raises(UserError, match=r"^dataset: no samples in the split 'validation'$"):
        in_split(dataset, "validation")


@pytest.mark.parametrize("times", [[0.0, 1.0, 1.0], [0.0, 2.0, 1.0], [0.0, np.nan, 1.0]])
def test_times_that_do_not_increase_are_refused(times):
    assert times_of(xr.Dataset({"time": [0.0, 0.5, 2.0]})) == (0.0, 0.5, 2.0)
    with pytest.raises(UserError, match="time does not increase"):
        times_of(xr.Dataset({"time": times}))


# Standard units


def map_of(standardise=True, **beside):
    """y = k u seen through a network; u and y have three values in the last axis."""
    return HybridMap(
        lambda theta, u: theta["k"].unsqueeze(-1) * u["u"],
        Parameters([Parameter("k", "Pa", 1.5)]),
        MLP((3 + 3 * len(beside), 5, 3)),
        target="y",
        inputs=("u",),
        network_inputs=beside,
        standardise=standardise,
    )


def measured(dim, scale=(1.0, 10.0, 100.0), seed=0):
    """Nine samples of three values whose spread differs from one to the next, along an axis of that name."""
    rng = np.random.default_rng(seed)
    u, y = (rng.normal(5, scale, (9, 3)) for _ in range(2))
    labels = ["test", "train", "train", "validation", "train", "test", "train", "validation", "train"]
    variables = {"u": (("sample", dim), u), "y": (("sample", dim), y, {"units": "Pa"})}
    return xr.Dataset(variables, coords={"split": ("sample", labels)}, attrs={"target": "y"})


@pytest.mark.parametrize(("dim", "axes"), [("component", 0), ("time", None)])
def test_targets_are_standardised_by_the_training_split_and_by_component(dim, axes):
    dataset = measured(dim)
    is_train = dataset["split"].values == "train"
    known = dataset["y"].values[is_train]
    for split in ("train", "validation", "test"):
        data = map_of().data(dataset, split, torch.float64)
        raw = dataset["y"].values[dataset["split"].values == split]
        expected = (raw - known.mean(axes)) / known.std(axes)
        np.testing.assert_allclose(data.targets[0], expected, rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(data.in_units(data.targets)[0], raw, rtol=1e-12)
        np.testing.assert_array_equal(data.inputs["u"][0], dataset["u"].values[dataset["split"].values == split])
        assert data.standard
    train = map_of().data(dataset, "train", torch.float64).targets[0]
    np.testing.assert_allclose(train.mean(0) if dim == "component" else train.mean(), 0, atol=1e-12)
    np.testing.assert_allclose(train.std(0, False) if dim == "component" else train.std(correction=0), 1, rtol=1e-12)


def test_what_is_not_training_data_does_not_move_the_standard_units():
    dataset = measured("component")
    other = dataset.copy(deep=True)
    other["y"][dataset["split"].values != "train"] = 1e6
    one, changed = (map_of().data(d, "test", torch.float64) for d in (dataset, other))
    assert torch.equal(one.mean, changed.mean) and torch.equal(one.scale, changed.scale)
    assert not torch.equal(one.targets, changed.targets)
    other["y"][dataset["split"].values == "train"] += 1
    assert not torch.equal(one.mean, map_of().data(other, "test", torch.float64).mean)


def test_without_standardisation_targets_are_in_the_units_of_the_dataset():
    dataset = measured("component")
    data = map_of(standardise=False).data(dataset, "test", torch.float64)
    np.testing.assert_array_equal(data.targets[0], dataset["y"].values[[0, 5]])
    assert not data.standard and torch.equal(data.in_units(data.targets), data.targets)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("stored", ["float32", "float64", "uint8"])
def test_tensors_have_the_precision_asked_for_whatever_is_stored(dtype, stored):
    dataset = measured("component").map(lambda values: abs(values).astype(stored), keep_attrs=True)
    data = map_of().data(dataset, "train", dtype)
    tensors = (data.targets, data.inputs["u"], data.mean, data.scale)
    assert {values.dtype for values in tensors} == {dtype}
    assert data.targets.shape == (1, 5, 3)


# The mean squared error


def drawn(model, members, seed=0):
    generator = torch.Generator().manual_seed(seed)
    phi = torch.stack([model.network.initial(generator) for _ in range(members)]).double()
    return torch.linspace(0.5, 2, members)[:, None].double(), phi


@given(at_once=st.integers(0, 8))
def test_errors_in_chunks_equal_those_at_once(loss, trajectories, at_once):
    data_of_map = map_of().data(measured("component"), "train", torch.double)
    for own, data in ((loss, trajectories()), (Loss(map_of()), data_of_map)):
        weights = drawn(own.model, 3)
        whole = own.model.predict(*weights, data) - data.targets
        by_hand = whole.square().flatten(1).mean(1)
        found = mean_squared_error(own, *weights, data, at_once=at_once)
        torch.testing.assert_close(found, by_hand, rtol=1e-12, atol=0)


def test_errors_of_members_with_samples_of_their_own_are_their_own():
    model = map_of()
    data = model.data(measured("component"), "train", torch.float64)
    theta, phi = drawn(model, 2)
    index = torch.tensor([[0, 1, 2], [4, 3, 0]])
    found = mean_squared_error(Loss(model), theta, phi, data.batch(index), at_once=2)
    for i, numbers in enumerate(index):
        alone = Samples({"u": data.inputs["u"][:, numbers]}, data.targets[:, numbers], mean=data.mean, scale=data.scale)
        expected = mean_squared_error(Loss(model), theta[[i]], phi[[i]], alone)
        torch.testing.assert_close(found[[i]], expected, rtol=1e-12, atol=0)


# A law seen through a network


def by_hand(model, theta, phi, data, beside=()):
    """Prediction and science of each member in NumPy, in standard units."""
    for member, k in enumerate(theta[:, 0].tolist()):
        layers = {name: values[member].numpy() for name, values in model.network.unflatten(phi).items()}
        science = (k * data.inputs["u"][0].numpy() - np.asarray(data.mean)) / np.asarray(data.scale)
        x = np.concatenate([science, *(factor * data.inputs[name][0].numpy() for name, factor in beside)], -1)
        hidden = np.maximum(x @ layers["0.weight"].T + layers["0.bias"], 0)
        yield hidden @ layers["1.weight"].T + layers["1.bias"], science


@pytest.mark.parametrize("standardise", [True, False])
def test_a_map_and_its_penalty_are_those_written_by_hand(standardise):
    model = map_of(standardise)
    data = model.data(measured("component"), "train", torch.float64)
    theta, phi = drawn(model, 3)
    prediction, science = model.predict(theta, phi, data), model.predict_science(theta, phi, data)
    penalty = model.penalty(theta, phi, data, prediction)
    for i, (expected, law) in enumerate(by_hand(model, theta, phi, data)):
        np.testing.assert_allclose(prediction[i], expected, rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(science[i], law, rtol=1e-12, atol=1e-12)
        assert penalty[i].item() == pytest.approx(np.mean((expected - law) ** 2), rel=1e-12)


def test_the_network_sees_what_stands_beside_the_science_in_its_own_scale():
    model = map_of(u=0.1)
    data = model.data(measured("component"), "train", torch.float64)
    theta, phi = drawn(model, 2)
    prediction = model.predict(theta, phi, data)
    for i, (expected, _) in enumerate(by_hand(model, theta, phi, data, beside=[("u", 0.1)])):
        np.testing.assert_allclose(prediction[i], expected, rtol=1e-12, atol=1e-12)


def test_a_network_that_changes_nothing_costs_nothing_and_one_that_adds_costs_its_square():
    model = map_of()
    data = model.data(measured("component"), "train", torch.float64)
    theta, phi = drawn(model, 2)
    science = model.predict_science(theta, phi, data)
    assert model.penalty(theta, phi, data, science).tolist() == [0, 0]
    shift = torch.tensor([0.5, -2.0]).double()[:, None, None]
    torch.testing.assert_close(model.penalty(theta, phi, data, science + shift), shift[:, 0, 0].square())


# Files


def test_datasets_are_written_compressed_and_in_chunks_of_whole_samples(tmp_path):
    image = (("sample", "y", "x", "channel"), np.full((300, 64, 64, 3), 0.5, np.float32))
    dataset = xr.Dataset({"image": image}, coords={"split": ("sample", ["train"] * 300)})
    records.write(dataset, tmp_path / "dataset.nc", "dataset", "images")
    with netCDF4.Dataset(tmp_path / "dataset.nc") as file:
        variable = file["image"]
        assert variable.filters()["zlib"] and variable.filters()["complevel"] > 0
        rows, *rest = variable.chunking()
        assert rest == [64, 64, 3]
        assert 1 < rows < 300
        assert rows * 64 * 64 * 3 * 4 <= 2 << 20
    assert (tmp_path / "dataset.nc").stat().st_size < image[1].nbytes / 50
    xr.testing.assert_equal(records.read(tmp_path / "dataset.nc", "dataset"), dataset)
