"""Units of a user's data against those of the YAML file: the same, converted, refused, or said not to be known."""

import json
import subprocess
import sys

import numpy as np
import pytest
import xarray as xr
from helpers.fields import TABLE, sea
from helpers.refusals import refused
from helpers.tables import LAW, ONE_SERIES, changed, hares, law
from hypothesis import given
from hypothesis import strategies as st

from hybridsam.core.errors import UserError
from hybridsam.data.table import dataset_of, read_dataset
from hybridsam.data.units import Conversion, known

GAUGE = {
    "file": "gauge.nc",
    "time": {"column": "time", "unit": "d"},
    "state": {"depth": "m", "air": "degC"},
    "window": 3,
    "split": {"by": "time", "train": 3, "validation": 3, "test": 3},
}


def gauge(time="d", depth="m", air="degC"):
    """A depth that falls by 0.1 in each step of one time; None for a unit: the file states none."""
    n = np.arange(9.0)
    data = xr.Dataset({"depth": ("time", 5 - 0.1 * n), "air": ("time", n)}, {"time": n})
    for name, unit in {"time": time, "depth": depth, "air": air}.items():
        data[name].attrs = {} if unit is None else {"units": unit}
    return data


def refusal(data, table):
    return refused(dataset_of, data, table)


SAME = [
    ("time", "days"),
    ("time", "days since 2001-01-01 00:00:00"),
    ("time", "24 h"),
    ("time", None),
    ("depth", "meter"),
    ("depth", "metres"),
    ("depth", " m "),
    ("depth", "1e-3 km"),
    ("depth", b"m"),
    ("air", "Celsius"),
    ("air", "°C"),
    ("air", "degrees_Celsius"),
    ("air", "deg C"),
    ("air", "degree_C"),
]


@pytest.mark.parametrize(("name", "unit"), SAME)
@pytest.mark.parametrize("convert", [False, True])
def test_what_means_the_same_passes_without_a_word(name, unit, convert, caplog):
    found = dataset_of(gauge(**{name: unit}), GAUGE | {"convert": convert})
    assert found.identical(dataset_of(gauge(None, None, None), GAUGE)) and not caplog.records


@pytest.mark.parametrize(
    ("yaml", "file"), [("m s-1", "m/s"), ("kg m-3", "kg/m^3"), ("W m-2", "J s**-1 m-2"), ("1", "")]
)
def test_products_are_read_as_in_netcdf_files(yaml, file, caplog):
    grid = gauge(depth=file)
    assert dataset_of(grid, changed(GAUGE, state={"depth": yaml, "air": "degC"})) and not caplog.records


def test_another_unit_of_a_file_is_refused_with_both_and_the_way_out(tmp_path):
    gauge("hours since 2001-01-01", "cm").to_netcdf(tmp_path / "gauge.nc")
    table = GAUGE | {"file": str(tmp_path / "gauge.nc")}
    with pytest.raises(UserError) as caught:
        read_dataset(table)
    assert str(caught.value) == (
        f"{table['file']}: the variable time is in 'hours since 2001-01-01', table.time.unit says 'd'; "
        "write 'hours' there, or table.convert: true"
    )
    in_hours = changed(table, time={"column": "time", "unit": "h"})
    with pytest.raises(UserError, match=r"depth is in 'cm', table\.state\.depth says 'm'; write 'cm' there, or table"):
        read_dataset(in_hours)
    assert read_dataset(changed(in_hours, state={"depth": "cm", "air": "degC"}))["state"].values.max() == 8


def test_converted_values_have_the_rate_of_the_same_process(caplog):
    """0.1 cm in an hour is 0.024 m in a day."""
    caplog.set_level("INFO")
    found = dataset_of(gauge("hours since 2001-01-01", "cm", "K"), GAUGE | {"convert": True})
    depth = found["state"].sel(component="depth")
    np.testing.assert_allclose(depth.diff("time") / found["time"].diff("time"), -0.024)
    np.testing.assert_allclose(found["start"], [0, 3 / 24, 6 / 24])
    np.testing.assert_allclose(found["state"].sel(component="air").values.ravel(), np.arange(9) - 273.15)
    assert found["time"].attrs["units"] == "d" and found["component_units"].values.tolist() == ["m", "degC"]
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 3 and said[1] == (
        "gauge.nc: the variable depth is in 'cm', table.state.depth says 'm'; it is converted"
    )


@pytest.mark.parametrize("convert", [False, True])
@pytest.mark.parametrize(("name", "unit"), [("depth", "s"), ("time", "m"), ("air", "m s-1"), ("depth", "1")])
def test_what_cannot_be_converted_is_refused(name, unit, convert):
    message = refusal(gauge(**{name: unit}), GAUGE | {"convert": convert})
    assert f"the variable {name} is in {unit!r}, table." in message
    assert message.endswith(", which cannot be converted; correct what is wrong")


@pytest.mark.parametrize("convert", [False, True])
def test_cycles_and_angles_are_not_the_same(convert):
    """They differ by 2 pi; to pint, and to UDUNITS, both are one in a second."""
    table = changed(GAUGE, state={"depth": "rad s-1", "air": "degC"}, convert=convert)
    assert "depth is in 'Hz', table.state.depth says 'rad s-1', which cannot" in refusal(gauge(depth="Hz"), table)
    assert dataset_of(gauge(depth="s-1"), table) and dataset_of(gauge(depth="rad/s"), table)


def test_values_that_have_no_counterpart_are_refused():
    data = gauge(depth="mW")
    table = changed(GAUGE, state={"depth": "dBm", "air": "degC"}, convert=True)
    assert dataset_of(data, table)["state"].values[0, 0, 0] == pytest.approx(10 * np.log10(5))
    data["depth"][3] = 0.0
    assert refusal(data, table) == "gauge.nc: the variable depth has values without a counterpart in the other unit"


@pytest.mark.slow
@given(st.text(max_size=12), st.text(max_size=12))
def test_no_text_breaks_the_comparison(yaml, file):
    if not yaml.strip():
        return
    for convert in (False, True):
        try:
            dataset_of(gauge(depth=file), changed(GAUGE, state={"depth": yaml, "air": "degC"}, convert=convert))
        except UserError as error:
            assert "the variable depth is in" in str(error)


def test_values_that_mean_no_value_are_found_before_they_are_converted():
    data = gauge(depth="cm")
    data["depth"][4] = -9999
    assert "row 5, column depth: -9999 stands apart" in refusal(data, GAUGE | {"convert": True})
    assert "(1 of 9 rows have none)" in refusal(data, GAUGE | {"convert": True, "missing": [-9999]})


def test_inputs_and_targets_of_a_law_are_compared():
    data = xr.Dataset({name: ("row", values) for name, values in law().items()})
    data["pressure"].attrs["units"] = "hPa"
    data["blue"].attrs["units"] = "mW"
    assert "pressure is in 'hPa', table.inputs.pressure says 'Pa'; write 'hPa' there" in refusal(data, LAW)
    del data["pressure"].attrs["units"]
    assert "blue is in 'mW', table.inputs.light.blue says 'W'; write 'mW' there" in refusal(data, LAW)
    found = dataset_of(data, LAW | {"convert": True})
    np.testing.assert_allclose(found["light"], law()[["red", "blue"]] * [1, 1e-3])
    data["vis"].attrs["units"] = "mV"
    assert "vis is in 'mV', table.target.vis says 'V'" in refusal(data, LAW)


def test_fields_and_their_axes_are_compared_and_converted():
    data = sea()
    data["sst"].attrs["units"], data["day"].attrs["units"] = "kelvin", "hours since 1970-01-01"
    data = data.assign_coords(lon=("lon", np.arange(5.0), {"units": "km"}))
    axes = {"lat": "degrees", "lon": "m"}
    assert "the variable day is in 'hours since 1970-01-01', table.time.unit says 'd'" in refusal(data, TABLE)
    days = TABLE | {"time": {"column": "day", "unit": "h"}}
    assert "sst is in 'kelvin', table.state.sst says 'degC'; write 'kelvin' there" in refusal(data, days)
    kelvin = days | {"state": {"sst": "K", "ice": "1"}}
    assert "lon is in 'km', table.axes.lon says 'm'; write 'km' there" in refusal(data, kelvin | {"axes": axes})
    found = dataset_of(data, TABLE | {"axes": axes, "convert": True})
    np.testing.assert_allclose(found["time"], np.arange(3) / 24)
    np.testing.assert_allclose(found["x"], 1000 * np.arange(5))
    np.testing.assert_allclose(found["state"][..., 0], dataset_of(sea(), TABLE)["state"][..., 0] - 273.15)
    assert found["y"].attrs["units"] == "degrees" and found["x"].attrs["units"] == "m"
    assert found["y"].values.tolist() == [50, 55, 60]


@given(st.floats(-1e6, 1e6))
def test_offset_units_convert_there_and_back(value):
    there, back = Conversion(known("degC"), known("K")), Conversion(known("K"), known("degC"))
    assert there(np.array([value]))[0] == pytest.approx(value + 273.15)
    assert back(there(np.array([value])))[0] == pytest.approx(value, abs=1e-6)
    assert Conversion(known("degF"), known("degC"))(np.array([212.0]))[0] == pytest.approx(100)
    assert there.factor == pytest.approx(1)


def test_a_column_has_one_unit():
    table = changed(LAW, inputs={"pressure": "Pa", "vis": "mV"})
    assert refusal(law(), table) == "table.inputs.vis: 'mV', but table.target.vis: 'V'; a column has one unit"


# What is not known


def test_what_is_not_known_is_said_once_and_used_as_text(caplog):
    data = gauge("zorks", "meeter", "degC")
    state = {"depth": "m", "air": "warmth"}
    found = dataset_of(data, changed(GAUGE, state=state))
    assert [record.getMessage() for record in caplog.records] == [
        "gauge.nc: the variable time is in 'zorks', table.time.unit says 'd'; the former is not known to pint, so they "
        "are not compared",
        "gauge.nc: the variable depth is in 'meeter', table.state.depth says 'm'; the former is not known to pint, so "
        "they are not compared",
        "gauge.nc: the variable air is in 'degC', table.state.air says 'warmth'; the latter is not known to pint, so "
        "they are not compared",
        "table.state.air: unit 'warmth' is not known to pint; it is used as text",
    ]
    assert found["component_units"].values.tolist() == ["m", "warmth"]


def test_a_text_that_stands_in_both_places_is_the_same_unit(caplog):
    table = changed(GAUGE, state={"depth": "1e4 pelts", "air": "degC"})
    assert dataset_of(gauge(depth="1e4 pelts"), table)
    [record] = caplog.records
    assert record.getMessage() == "table.state.depth: unit '1e4 pelts' is not known to pint; it is used as text"


def test_a_unit_of_a_table_that_is_not_known_is_said_in_one_line(caplog):
    dataset_of(hares(), changed(ONE_SERIES, state={"hare": "meeter", "lynx": "meeter"}))
    [record] = caplog.records
    assert record.getMessage() == (
        "table.state.hare, table.state.lynx: unit 'meeter' is not known to pint; it is used as text"
    )


@pytest.mark.slow
def test_diagnose_says_which_units_of_theta_are_not_known(tmp_path):
    from helpers import small

    module, dataset = small.ROOT / "tests/helpers/predator_prey.py", tmp_path / "dataset.nc"
    task = {
        "module": str(module),
        "table": ONE_SERIES | {"file": str(tmp_path / "hare.csv")},
        "model": {
            "theta": {
                "a": {"unit": "meeter", "start": 0.1, "transform": "softplus", "lower": 0.0},
                "c": {"unit": "year-1", "start": 0.1, "transform": "softplus", "lower": 0.0},
            },
            "hidden": [4],
            "solver": {"step": 0.5},
        },
    }
    hares().to_csv(tmp_path / "hare.csv", index=False)
    (tmp_path / "task.json").write_text(json.dumps(task))
    run = [sys.executable, "-m", "hybridsam"]
    about = ["--settings", str(tmp_path / "task.json"), "--output"]
    subprocess.run([*run, "tabulate", *about, str(dataset)], check=True, capture_output=True)
    done = subprocess.run(
        [*run, "diagnose", str(dataset), *about, str(tmp_path / "i.csv")], check=True, capture_output=True, text=True
    )
    assert [line[9:] for line in done.stderr.splitlines() if "unit" in line] == [
        "theta.a: unit 'meeter' is not known to pint; it is used as text"
    ]


@pytest.mark.slow
def test_training_does_not_import_what_compares_units():
    code = "import sys, hybridsam.training.block, hybridsam.data.table; sys.exit('pint' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
