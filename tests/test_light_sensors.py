"""The light sensors: their law against its published implementation, tables from files, what can be identified."""

import json

import numpy as np
import pytest
import torch
import xarray as xr
from helpers import small

from hybridsam.analysis.identifiability import identify
from hybridsam.core import settings
from hybridsam.core.errors import UserError
from hybridsam.tasks import light_sensors
from hybridsam.tasks.light_sensors import AUXILIARY, COLOURS, POLARISERS, SENSORS, THETA, sensor_readings

DISTANCES = [0.1, 0.17, 0.25]
double = {"dtype": torch.float64}


def shipped():
    """The settings of the shipped task file."""
    return settings.load(str(small.ROOT / "config/tasks/light_sensors.yaml"))


TRUTH = {name: shipped()["data"][name]["value"] for name in THETA}


@pytest.fixture
def constants():
    return {name: entry["value"] for name, entry in small.settings_of("light_sensors")["data"].items()}


def converted(folder, constants, **changes):
    table = small.sensor_rows(folder, constants | changes)
    return light_sensors.convert(folder, constants | changes), table


def deterministic(chamber, theta, distances=DISTANCES):
    """The sensor model of causalchamber with theta (15,) in our order; what it has besides is of no matter."""
    near, middle, far = distances
    s_ir, s_vis, t_s, t_p, t_c = np.reshape(theta, (5, 3))
    light = {"S": np.array([s_ir, s_vis]), "Ts": t_s, "Tp": t_p, "Tc": t_c, "d1": near, "d2": middle, "d3": far}
    return chamber[1].Deterministic(**light, Q=np.zeros(3), C0=0.0, A=0.0, a1=0.0, a2=0.0)


def by_causalchamber(chamber, theta, table, distances=DISTANCES):
    """Readings (row, 6) in our order of sensors."""
    model = deterministic(chamber, theta, distances)
    results = model.simulate_from_inputs(table.assign(v_c=5.0, v_angle_1=5.0, v_angle_2=5.0))
    named = dict(zip(model.outputs_names, results, strict=True))
    return np.stack([named[sensor] for sensor in SENSORS], -1)


# Law


def test_science_is_the_deterministic_model(chamber, tmp_path, constants):
    """Random inputs and parameters, and the reference parameters."""
    dataset, table = converted(tmp_path, constants, rows=60, train=40, validation=10, test=10)
    model = light_sensors.build(shipped()["model"])
    theta = np.random.default_rng(1).uniform(0.01, 5, (3, 15))
    theta[2] = list(TRUTH.values())
    named = model.parameters.named(torch.tensor(theta, **double))
    for split in ("train", "validation", "test"):
        data = model.data(dataset, split, torch.float64)
        found = model.science(named, data.inputs)
        chosen = dataset["pol_1"].values[dataset["split"].values == split]
        rows = table.set_index("pol_1", drop=False).loc[chosen]
        for member in range(3):
            expected = by_causalchamber(chamber, theta[member], rows)
            assert expected.shape == (len(chosen), 6) and expected.min() > 0
            np.testing.assert_allclose(found[member], expected, rtol=1e-9, atol=1e-9)


def test_only_the_ratios_of_the_distances_count(tmp_path, constants):
    dataset, _ = converted(tmp_path, constants)
    model = small.build("light_sensors")
    inputs = model.data(dataset, "train", torch.float64).inputs
    theta = model.parameters.named(torch.rand(2, 15, generator=torch.Generator().manual_seed(0), **double))
    one, scaled = (sensor_readings(theta, inputs, [factor * d for d in DISTANCES]) for factor in (1, 1000))
    torch.testing.assert_close(one, scaled, rtol=1e-12, atol=0)
    assert not torch.allclose(one, sensor_readings(theta, inputs, [0.1, 0.2, 0.3]))


def test_parameters_and_reference_have_one_order():
    """That of the sensors' model: response of the two kinds, and three transmissions, each for red, green, blue."""
    assert small.build("light_sensors").parameters.names == list(THETA)
    kinds = [name.rsplit("_", 1)[0] for name in THETA[::3]]
    assert kinds == ["s_ir", "s_vis", "t_s", "t_p", "t_c"] and len(THETA) == 15
    assert SENSORS == ("ir_1", "vis_1", "ir_2", "vis_2", "ir_3", "vis_3")


# Table


def test_samples_are_rows_of_the_table(tmp_path, constants):
    dataset, table = converted(tmp_path, constants)
    rows = table.set_index("pol_1", drop=False).loc[dataset["pol_1"].values]
    assert len(set(rows.index)) == dataset.sizes["sample"] == 14
    for name, columns in (("reading", SENSORS), ("brightness", COLOURS), ("auxiliary", AUXILIARY)):
        np.testing.assert_array_equal(dataset[name], rows[list(columns)])
    np.testing.assert_array_equal(dataset["pol_2"], rows["pol_2"])
    for i, sensor in enumerate(SENSORS):
        steps = rows[f"diode_{sensor}"] + rows[f"t_{sensor}"]
        np.testing.assert_array_equal(dataset["gain"][:, i], 2.0**steps)
    assert dataset["gain"].max() > 4


def test_units_target_and_reference_are_in_the_dataset(tmp_path, constants):
    dataset, _ = converted(tmp_path, constants)
    assert dataset["split"].values.tolist() == ["train"] * 6 + ["validation"] * 4 + ["test"] * 4
    units = {name: dataset[name].attrs["units"] for name in dataset.data_vars}
    unitless = dict.fromkeys(("brightness", "auxiliary", "gain"), "1")
    assert units == {"reading": "counts"} | unitless | dict.fromkeys(POLARISERS, "degree")
    assert all(dataset[name].attrs["long_name"] for name in dataset.data_vars)
    assert dataset["component"].values.tolist() == list(SENSORS)
    assert set(dataset["component_units"].values) == {"counts"}
    assert dataset.attrs["target"] == "reading" and json.loads(dataset.attrs["truth"]) == TRUTH


def test_splits_are_a_function_of_the_seed(tmp_path, constants):
    one, again, other = (converted(tmp_path, constants, seed=seed)[0] for seed in (0, 0, 1))
    assert one.identical(again) and not one.identical(other)


def test_the_shipped_constants_fit_a_table_of_ten_thousand_rows(tmp_path):
    constants = settings.values_of(shipped()["data"])
    dataset, _ = converted(tmp_path, constants)
    counts = dataset["split"].to_series().value_counts()
    assert counts.to_dict() == {"train": 6000, "validation": 1000, "test": 2500}


def test_a_table_that_does_not_fit_is_refused(tmp_path, constants):
    _, table = converted(tmp_path, constants)
    with pytest.raises(UserError, match=r"uniform_reference\.csv: expected 21 rows, found 20$"):
        light_sensors.convert(tmp_path, constants | {"rows": 21})
    with pytest.raises(UserError, match=r"^data\.test: 40 samples are asked for and 10 are left$"):
        light_sensors.convert(tmp_path, constants | {"test": 40})
    table.drop(columns=["l_21", "vis_3"]).to_csv(tmp_path / "uniform_reference.csv", index=False)
    with pytest.raises(UserError, match=r"uniform_reference\.csv: no column l_21, vis_3; there are timestamp, red"):
        light_sensors.convert(tmp_path, constants)


# Model


def test_the_network_sees_science_colours_and_lamps_in_standard_units(tmp_path, constants, monkeypatch):
    dataset, _ = converted(tmp_path, constants)
    model, seen = small.build("light_sensors"), []
    data = model.data(dataset, "test", torch.float64)
    theta = torch.tensor([list(TRUTH.values())] * 2, **double)
    monkeypatch.setattr(type(model.network), "__call__", lambda self, layers, x: seen.append(x) or x[..., :6])
    model.predict(theta, torch.zeros(2, len(model.network), **double), data)
    known = dataset["reading"].values[dataset["split"].values == "train"]
    science = model.science(model.parameters.named(theta), data.inputs)[1].numpy()
    test = dataset.isel(sample=dataset["split"].values == "test")
    expected = [(science - known.mean(0)) / known.std(0), test["brightness"] / 255, test["auxiliary"] / 255]
    np.testing.assert_allclose(seen[0][1], np.concatenate(expected, -1), rtol=1e-11, atol=1e-12)


def test_all_fifteen_parameters_can_be_identified_and_are_found(tmp_path, constants):
    """Readings that the law itself makes at the reference; the fit starts from the task file's start."""
    dataset, _ = converted(tmp_path, constants, rows=120, train=100, validation=10, test=10)
    model = light_sensors.build(shipped()["model"])
    theta = torch.tensor([list(TRUTH.values())], **double)
    inputs = (model.data(dataset, split, torch.float64).inputs for split in ("train", "validation", "test"))
    exact = [model.science(model.parameters.named(theta), of_split)[0] for of_split in inputs]
    dataset["reading"] = (dataset["reading"].dims, torch.cat(exact).numpy())  # splits are in this order
    found = identify(model, dataset)
    assert found.rank == 15
    assert found.told_by_science.tolist() == [True] * 15
    assert np.isfinite(found.condition)
    np.testing.assert_allclose(found.science_only, list(TRUTH.values()), rtol=1e-5)
    np.testing.assert_array_equal(found.least_norm, found.science_only)


def test_without_turning_polarisers_fewer_can_be_identified(tmp_path, constants):
    """Where the polarisers stand crossed, nothing depends on the transmission of parallel ones."""
    dataset, _ = converted(tmp_path, constants, rows=60, train=40, validation=10, test=10)
    dataset["pol_2"] = dataset["pol_1"] + xr.full_like(dataset["pol_1"], 90.0)
    found = identify(light_sensors.build(shipped()["model"]), dataset)
    assert found.rank == 12
    expected = [not name.startswith("t_p_") for name in THETA]
    assert found.told_by_science.tolist() == expected
