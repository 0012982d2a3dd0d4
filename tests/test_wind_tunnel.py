"""The wind tunnel: laws A1 and C2 against their published implementation, windows from files, identifiability."""

import json
import zipfile

import numpy as np
import pandas as pd
import pytest
import torch
from helpers import small
from hypothesis import given
from hypothesis import strategies as st

from hybridsam.analysis.identifiability import identify
from hybridsam.core import settings
from hybridsam.core.errors import UserError
from hybridsam.tasks import wind_tunnel
from hybridsam.tasks.wind_tunnel import fan_speed, pressure_over_ambient

S_MAX, Q_MAX, OMEGA_MAX = 74.8247395, 186.7 / 3600, 314.16
double = {"dtype": torch.float64}


def column(values):
    return torch.as_tensor(values, **double)


def shipped():
    """The settings of the shipped task file."""
    return settings.load(str(small.ROOT / "config/tasks/wind_tunnel.yaml"))


# Laws


@given(st.lists(st.floats(0, 1), min_size=2, max_size=20), st.floats(0.001, 0.5), st.floats(0.1, 5000))
def test_speed_is_model_a1(chamber, loads, least, omega_max):
    loads = np.array([0.0, *loads])
    expected = chamber[0].model_a1(loads, least, omega_max)
    np.testing.assert_allclose(fan_speed(column(loads), least, omega_max), expected, rtol=1e-12, atol=1e-9)


@given(st.integers(0, 2**31), st.floats(0.05, 0.99), st.floats(1, 200), st.floats(10, 1000))
def test_pressure_is_model_c2(chamber, seed, r, s_max, omega_max):
    speeds = np.random.default_rng(seed).uniform(0.01, 1.2, (2, 30)) * omega_max
    expected = chamber[0].model_c2(*speeds, 0.0, s_max, omega_max, Q_MAX, r)
    found = pressure_over_ambient(*column(speeds), column(r), s_max, omega_max)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-9)


def test_science_is_the_simulator_a1_c2(chamber):
    """The model of the task file, in Pa and float64, on random loads of which some are zero."""
    rng = np.random.default_rng(0)
    loads = rng.uniform(0, 1, (2, 7, 200)) * (rng.uniform(size=(2, 7, 200)) > 0.1)
    model, r = wind_tunnel.build(shipped()["model"]), [0.2, 0.75, 0.9]
    inputs = {"still": model.in_still_air(*(column(values)[None] for values in loads))}
    found = model.science(model.parameters.named(column(r)[:, None]), inputs)
    assert found.shape == (3, 7, 200)
    table = pd.DataFrame({"load_in": loads[0].ravel(), "load_out": loads[1].ravel(), "pressure_ambient": 0.0})
    for member, value in enumerate(r):
        simulator = chamber[0].SimA1C2(0.1, 3000.0, S_MAX, Q_MAX, value, 0.0, 0.0)  # a barometer without faults
        pressure = simulator.simulate_from_inputs(table)[0]
        np.testing.assert_allclose(found[member].ravel(), pressure, rtol=0, atol=1e-9)


def published(omega, r):
    """Static pressure of one fan as published: where the impedance curve and the fan's characteristic meet."""
    z = S_MAX / Q_MAX**2 * (1 - r) / r**2
    b, c = omega / OMEGA_MAX * S_MAX / Q_MAX, -((omega / OMEGA_MAX) ** 2) * S_MAX
    q = (-b + torch.sqrt(b**2 - 4 * z * c)) / 2 / z
    return z * q**2


def slopes(law, omega, r):
    """Value, and derivatives with respect to speed and r."""
    omega, r = (column(v).requires_grad_() for v in (omega, r))
    value = law(omega, r)
    return [value.item(), *(g.item() for g in torch.autograd.grad(value, (omega, r)))]


def ours(omega, r):
    return pressure_over_ambient(omega, torch.zeros_like(omega), r, S_MAX, OMEGA_MAX)


def test_the_published_form_written_here_is_that_of_the_package(chamber):
    rng = np.random.default_rng(0)
    omega, r = rng.uniform(0.1, OMEGA_MAX, 50), rng.uniform(0.1, 0.95, 50)
    theirs = chamber[0]._S_r(omega, r, Q_MAX, S_MAX, OMEGA_MAX)
    np.testing.assert_allclose(published(column(omega), column(r)), theirs, rtol=1e-13)


@pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning")
def test_without_airflow_resistance_the_pressure_is_zero_where_the_published_form_is_not_a_number(chamber):
    assert np.isnan(chamber[0]._S_r(np.float64(200.0), np.float64(1.0), Q_MAX, S_MAX, OMEGA_MAX))
    assert np.isnan(slopes(published, 200.0, 1.0)).all()
    expected = [0.0, 0.0, -S_MAX * (200 / OMEGA_MAX) ** 2]
    assert slopes(ours, 200.0, 1.0) == pytest.approx(expected, rel=1e-12, abs=0)
    for r in (1 - 1e-3, 1 - 1e-5):
        assert slopes(ours, 200.0, r) == pytest.approx(slopes(published, 200.0, r), rel=1e-5)
        assert slopes(ours, 200.0, r) == pytest.approx(expected, rel=2 * (1 - r), abs=1000 * (1 - r))


def test_where_a_fan_stands_the_slope_is_zero_where_that_of_the_published_form_is_not_a_number():
    value, by_speed, by_r = slopes(published, 0.0, 0.75)
    assert value == 0 and np.isnan(by_speed) and np.isnan(by_r)
    assert slopes(ours, 0.0, 0.75) == [0, 0, 0]
    for omega in (1e-2, 1e-6):
        assert slopes(ours, omega, 0.75) == pytest.approx(slopes(published, omega, 0.75), rel=1e-9)


@given(st.floats(0, 1), st.lists(st.floats(0, 1), min_size=2, max_size=2))
def test_pressure_and_slopes_are_finite_everywhere(r, loads):
    r, load = column(r).requires_grad_(), column(loads).requires_grad_()
    pressure = pressure_over_ambient(*fan_speed(load, 0.1, 1.0), r, S_MAX, 1.0)
    values = [pressure, *torch.autograd.grad(pressure, (r, load))]
    assert all(value.isfinite().all() for value in values)
    assert pressure.abs() <= S_MAX


def test_equal_fans_make_no_pressure_and_exchanged_ones_the_opposite():
    loads, r = column(np.linspace(0, 1, 11)), column(0.75)
    one, other = fan_speed(loads, 0.1, 1.0), fan_speed(loads.flip(0), 0.1, 1.0)
    assert pressure_over_ambient(one, one, r, S_MAX, 1.0).eq(0).all()
    assert torch.equal(
        pressure_over_ambient(one, other, r, S_MAX, 1.0), -pressure_over_ambient(other, one, r, S_MAX, 1)
    )


# Windows


@pytest.fixture
def constants():
    return {name: entry["value"] for name, entry in small.settings_of("wind_tunnel")["data"].items()}


def test_windows_are_pieces_of_their_run_at_the_stride(tmp_path, constants):
    tables = small.wind_runs(tmp_path, constants)
    dataset = wind_tunnel.convert(tmp_path, constants)
    assert dict(dataset.sizes) == {"sample": 14, "time": 12}
    places = []
    for i, run in enumerate(dataset["run"].values):
        table = tables[run - 1]
        start = int(np.flatnonzero(table["load_in"] == dataset["load_in"].values[i, 0])[0])
        rows = table.iloc[start : start + 12]
        for name in ("load_in", "load_out", "hatch"):
            np.testing.assert_array_equal(dataset[name].values[i], rows[name])
        np.testing.assert_allclose(
            dataset["pressure"].values[i], rows["pressure_downwind"] - rows["pressure_ambient"], atol=1e-9
        )
        assert start % 6 == 0
        places.append((run, start))
    assert len(set(places)) == 14
    assert dataset["split"].values.tolist() == ["train"] * 6 + ["validation"] * 4 + ["test"] * 4


def test_the_shipped_constants_give_the_windows_of_the_paper(tmp_path):
    constants = settings.values_of(shipped()["data"])
    small.wind_runs(tmp_path, constants)
    dataset = wind_tunnel.convert(tmp_path, constants)
    assert dataset.sizes["sample"] == 985 == 5 * 197 and dataset.sizes["time"] == 200
    assert np.bincount(dataset["run"]).tolist() == [0] + [197] * 5
    counts = dataset["split"].to_series().value_counts()
    assert counts.to_dict() == {"train": 600, "validation": 150, "test": 235}
    model = wind_tunnel.build(shipped()["model"])
    data = model.data(dataset, "test", torch.float32)
    assert data.targets.shape == (1, 235, 200)
    phi = model.network.initial(torch.Generator().manual_seed(0))[None]
    assert model.predict(torch.tensor([[0.75]]), phi, data).shape == (1, 235, 200)


def test_units_target_and_reference_are_in_the_dataset(tmp_path, constants):
    small.wind_runs(tmp_path, constants)
    dataset = wind_tunnel.convert(tmp_path, constants)
    units = {name: dataset[name].attrs["units"] for name in ("load_in", "load_out", "hatch", "pressure", "time", "run")}
    assert units == {"load_in": "1", "load_out": "1", "hatch": "degree", "pressure": "Pa", "time": "1", "run": "1"}
    assert all(dataset[name].attrs["long_name"] for name in units)
    assert dataset.attrs["target"] == "pressure"
    assert json.loads(dataset.attrs["truth"]) == {"r": 0.75}


def test_windows_are_the_same_from_a_zip_file(tmp_path, constants):
    small.wind_runs(tmp_path / "wt_walks_v1", constants)
    with zipfile.ZipFile(tmp_path / "wt_walks_v1.zip", "w") as file:
        for path in (tmp_path / "wt_walks_v1").iterdir():
            file.write(path, f"wt_walks_v1/{path.name}")
    folder = wind_tunnel.convert(tmp_path / "wt_walks_v1", constants)
    packed = wind_tunnel.convert(zipfile.Path(tmp_path / "wt_walks_v1.zip") / "wt_walks_v1", constants)
    assert packed.identical(folder)


def test_a_split_by_run_has_no_run_in_two_splits(tmp_path, constants):
    by_run = constants | {"split_by": "run", "runs": 5, "run_splits": [[2, 5], [4], [1]]}
    small.wind_runs(tmp_path, by_run)
    dataset = wind_tunnel.convert(tmp_path, by_run)
    runs = {split: set(dataset["run"].values[dataset["split"].values == split]) for split in small.SIZES}
    assert runs == {"train": {2, 5}, "validation": {4}, "test": {1}}
    by_window = wind_tunnel.convert(tmp_path, by_run | {"split_by": "window"})
    runs = [set(by_window["run"].values[by_window["split"].values == split]) for split in small.SIZES]
    assert runs[0] & runs[1] and runs[0] & runs[2]


def test_splits_are_a_function_of_the_seed(tmp_path, constants):
    small.wind_runs(tmp_path, constants)
    one, again, other = (wind_tunnel.convert(tmp_path, constants | {"seed": seed}) for seed in (0, 0, 1))
    assert one.identical(again) and not one.identical(other)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"split_by": "hour"}, r"^data\.split_by: 'hour' is not one of window, run$"),
        ({"rows": 81}, r"loads_hatch_mix_fast_run_1\.csv: expected 81 rows, found 80$"),
        ({"runs": 3}, r"loads_hatch_mix_fast_run_3\.csv: no such file"),
        ({"train": 20}, r"^data\.test: 4 samples are asked for and 0 are left$"),
        ({"split_by": "run", "run_splits": [[1], [1], [2]], "train": 10}, r"^data\.validation: 4 samples are asked"),
        ({"window": 81}, r"^data\.window: 81 .*80"),
        ({"window": 0}, r"^data\.window: 0 "),
        ({"stride": 0}, r"^data\.stride: 0 "),
        ({"split_by": "run", "run_splits": [[1], [2]]}, r"^data\.run_splits: "),
    ],
    ids=str,
)
def test_constants_that_do_not_fit_the_files_are_refused(tmp_path, constants, changes, message):
    small.wind_runs(tmp_path, constants)
    with pytest.raises(UserError, match=message):
        wind_tunnel.convert(tmp_path, constants | changes)


# Model


@pytest.fixture
def dataset(tmp_path):
    return small.dataset_of("wind_tunnel", tmp_path)


def squares(data):
    """What (1 - r) S_max multiplies, (sample, time)."""
    loads = (data.inputs[name][0] for name in ("load_in", "load_out"))
    inward, outward = (torch.where(load == 0, 0.0, load.clamp(min=0.1)) for load in loads)
    return inward**2 - outward**2


def test_the_network_sees_science_loads_and_hatch_of_the_whole_window(dataset, monkeypatch):
    model, seen = small.build("wind_tunnel"), []
    data = model.data(dataset, "train", torch.float64)
    theta, phi = column([[0.3], [0.6]]), torch.zeros(2, len(model.network), **double)
    monkeypatch.setattr(type(model.network), "__call__", lambda self, layers, x: seen.append(x) or x[..., :12])
    prediction = model.predict(theta, phi, data)
    known = dataset["pressure"].values[dataset["split"].values == "train"]
    for member, r in enumerate((0.3, 0.6)):
        science = ((1 - r) * S_MAX * squares(data) - known.mean()) / known.std()
        beside = [data.inputs["load_in"][0], data.inputs["load_out"][0], data.inputs["hatch"][0] / 45]
        torch.testing.assert_close(seen[0][member], torch.cat([science, *beside], -1), rtol=1e-11, atol=1e-12)
        torch.testing.assert_close(data.in_units(prediction)[member], (1 - r) * S_MAX * squares(data))


def test_the_only_parameter_can_be_identified_and_is_a_linear_regression(dataset):
    model = small.build("wind_tunnel")
    data = model.data(dataset, "train", torch.float64)
    q = squares(data).numpy()
    noise = np.random.default_rng(0).normal(0, 5, q.shape)
    is_train = dataset["split"].values == "train"
    dataset["pressure"][is_train] = 0.4 * S_MAX * q + noise
    found = identify(model, dataset)
    assert found.rank == 1 and found.told_by_science.tolist() == [True]
    slope = ((0.4 * S_MAX * q + noise) * q).sum() / (q**2).sum()
    assert found.science_only[0] == pytest.approx(1 - slope / S_MAX, rel=1e-6)
    assert found.least_norm[0] == found.science_only[0]
    scale = dataset["pressure"].values[is_train].std()
    assert found.singular_values[0] == pytest.approx(
        model.parameters.rows[0].size * S_MAX / scale * np.linalg.norm(q), rel=1e-9
    )
