"""Numbers that stand for "no value": those that the user lists, and those that are refused until the user says."""

import numpy as np
import pytest
import xarray as xr
from helpers.fields import TABLE, sea
from helpers.refusals import refused
from helpers.tables import LAW, ONE_SERIES, SITES, changed, hares, law, sites
from hypothesis import given
from hypothesis import strategies as st

from hybridsam.core.errors import UserError
from hybridsam.data.missing import means_nothing, suspects
from hybridsam.data.table import dataset_of, read_dataset

FILL = 9.969209968386869e36  # of NetCDF, where a file names none


def with_values(frame, column, value, rows):
    frame = frame.astype({column: object})
    frame.loc[[row - 1 for row in rows], column] = value
    return frame


def refusal(data, table):
    return refused(dataset_of, data, table)


PRINTED = {-9999: "-9999", "-9999.0": "-9999", " -9.999e3 ": "-9999", -999.9: "-999.9", -99: "-99", 1e20: "1e+20"}
PRINTED |= {FILL: "9.96921e+36", "9.97e36": "9.97e+36"}


@pytest.mark.parametrize(("value", "shown"), PRINTED.items())
def test_a_value_that_stands_apart_is_refused_with_what_to_write(value, shown):
    assert refusal(with_values(hares(), "hare", value, [3, 8]), ONE_SERIES) == (
        f"hare.csv: row 3, column hare: {shown} stands apart from the other values, 0.5 to 20.5 (2 of 21 are like "
        f"that); write table.missing: [{shown}] if it means no value, table.missing: [] if all is data"
    )
    assert "no value" in refusal(with_values(hares(), "hare", value, [3, 8]), ONE_SERIES | {"missing": [float(shown)]})


@pytest.mark.parametrize("given", [-9999, "-9999", "-9999.00", -9999.0])
@pytest.mark.parametrize("found", [-9999, "-9999.0", "-09999", -9.999e3])
def test_a_listed_value_is_a_missing_one_however_it_is_printed(given, found):
    table = ONE_SERIES | {"missing": [given]}
    assert refusal(with_values(hares(), "lynx", found, [2, 7, 9]), table) == (
        f"hare.csv: row 2, column lynx: no value, {str(found)!r} (3 of 21 rows have none); remove the rows or fill them"
    )


@pytest.mark.parametrize("text", ["n.d.", "N.D.", " n.d. "])
def test_a_listed_text_is_a_missing_value_of_numbers_and_of_labels(text):
    table = SITES | {"missing": ["n.d."]}
    place = "sites.csv: row 5, column {}: no value"
    assert refusal(with_values(sites(), "hare", text, [5]), table).startswith(place.format("hare"))
    assert refusal(with_values(sites(), "site", text, [5]), table).startswith(place.format("site"))
    assert "'n.d.' is not a finite number" in refusal(with_values(sites(), "hare", "n.d.", [5]), SITES)


def test_listed_and_other_missing_values_are_counted_together():
    frame = with_values(with_values(hares(), "hare", -9999, [4]), "hare", "", [2])
    assert "row 2, column hare: no value (2 of 21 rows" in refusal(frame, ONE_SERIES | {"missing": [-9999]})


@pytest.mark.parametrize("missing", [[], [-999]])
def test_a_list_turns_the_suspicion_off(missing):
    dataset = dataset_of(with_values(hares(), "hare", -9999, [3]), ONE_SERIES | {"missing": missing})
    assert dataset["state"].values.min() == -9999


def test_all_that_is_suspicious_goes_into_one_list():
    """As a list turns the suspicion off, also of what it does not name."""
    frame = law().assign(red=[0.1, -99, 0.2, -999, 0.3, 0.4, 0.5, 0.6], vis=9999.0)
    message = refusal(frame, LAW)
    assert message.startswith("law.csv: row 1, column vis: 8 of 8 values are 9999, which often means that there is")
    assert "; red has -99; write table.missing: [9999, -99, -999] if they mean no value" in message


HONEST = {
    "temperatures that reach it": [-120, -99, -60, 10],
    "between its neighbours": [-101, -99, -98, -97],
    "close to the rest": [-95, -99, -40, 20],
    "pressures": [999, 1000, 1001, 1002],
    "a count that goes on": [9997, 9998, 9999, 10000],
    "the last of a count": [9996, 9997, 9998, 9999],
    "orders of magnitude": [1e14, 1e16, 1e19, 1e20],
    "large numbers of both signs": [-1.1e20, 0.5e20, 0.9e20, 1e20],
}


@pytest.mark.parametrize("values", HONEST.values(), ids=HONEST)
def test_what_does_not_stand_apart_is_data(values):
    assert suspects(np.array(values, float)) == []


STRANGE = {
    "temperatures": ([-40, 12, 40, -99], -99),
    "wide positive numbers": ([0, 3, 20000, -999], -999),
    "directions": ([0, 180, 360, 999], 999),
    "equal numbers": ([7, 7, 7, -9999], -9999),
    "nothing else": ([-9999, -9999], -9999),
    "nothing but one": ([9999], 9999),
    "32 bits": ([1, 2, 3, -2147483647], -2147483647),
}


@pytest.mark.parametrize(("values", "value"), STRANGE.values(), ids=STRANGE)
def test_what_stands_apart_is_suspicious(values, value):
    [found] = suspects(np.array(values, float))
    assert found.first == values.index(value) and found.count == values.count(value)
    assert means_nothing(np.array(values, float), [f"{found.value:.10g}"]).tolist() == [v == value for v in values]


UNUSUAL = {  # beside what measurements may be, values that nobody measured
    "CDF": ([-1e31, 3.5, 4.5], -1e31),
    "overload of a meter": ([1.5, 2.5, 9.9e37], 9.9e37),
    "eights": ([20.5, 30.1, -888], -888),
    "more eights": ([20.5, 30.1, 25.0, 22.0, -8888], -8888),
    "16 bits": ([17, 120, 310, 4095, 2200, 32767], 32767),
    "16 bits without sign": ([17, 120, 310, 4095, 2200, 65535, 65535], 65535),
    "two nines, twice": ([3, 8, 15, 31, 40, 99, 99], 99),
    "eight nines": ([3, 8, 15, 99999999], 99999999),
    "a power of ten": ([101325, 101300, 101280.5, 101400, 99800, 1e10], 1e10),
    "a negative one": ([-40.5, -12, 0.001, 17, 31, -1e12], -1e12),
    "nothing known": ([20.1, 20.5, 21.7, 22.0, 19.8, 4711e5], 4711e5),
    "nothing known beside growth": ([1.5e3, 1e5, 2e7, 3e9, 1e11, 7.7e25], 7.7e25),
}


@pytest.mark.parametrize(("values", "value"), UNUSUAL.values(), ids=UNUSUAL)
@pytest.mark.parametrize("order", [1, -1])
def test_what_is_unusual_for_a_measurement_is_suspicious(values, value, order):
    [found] = suspects(np.array(values[::order], float))
    assert found.value == value and found.count == values.count(value)
    assert means_nothing(np.array([value, 12345.0]), [found.text]).tolist() == [True, False]


def test_several_are_found_one_beside_the_other():
    values = np.array([1.5, 2, 3, 4, 5, 6, 99, 99, -8888, 1e31, 4711e5])
    assert [found.value for found in suspects(values)] == [99, -8888, 1e31, 4711e5]


def test_whole_numbers_are_those_that_are_meant():
    assert means_nothing(np.array([99999999, 1e8, 1e8 + 1]), [99999999]).tolist() == [True, False, False]
    single = np.array([-999.9, 1e30, 9.969209968386869e36], np.float32).astype(float)
    assert means_nothing(single, [-999.9, 1e30, 9.96921e36]).all()


RNG = np.random.default_rng(0)
HEAVY = {
    "growth over 12 decades": np.geomspace(1e-3, 1e9, 9),
    "powers of ten": 10.0 ** np.arange(13),
    "powers of ten to 1e10": 10.0 ** np.arange(7, 11),
    "what grows by its square": 2.0**2.0 ** np.arange(7),
    "decay to nothing": np.exp(-7.0 * np.arange(60)) * 1e7,
    "spikes": np.where(np.arange(60) % 20 == 7, 1.0, 0.0),
    "a spike in noise": np.append(RNG.normal(0, 1e-4, 50), 10.0),
    "a pulse of 1e5 counts": [0, 1, 3, 2, 5, 7, 4, 100000],
    "mostly zeros and counts": [*np.zeros(200), 3, 17, 500],
    "a dose": [0] * 10 + [100] * 10,
    "a large dose": [0] * 10 + [1e10],
    "doses": [0, 1e4, 1e6, 1e10],
    "0 and 99": [0, 0, 99, 99],
    "a step": [5.0] * 9 + [7.0],
    "a step of six decades": [1e-6] * 9 + [7.0],
    "one of 99": [3, 8, 15, 31, 40, 99],
    "per cent": [12, 55, 71, 86, 93, 99, 99, 99],
    "a detector near its limit": [40000, 51000, 20000, 17, 65535, 65535],
    "a switch of 16 bits": [0, 65535, 0, 65535],
    "densities in a plasma": [1e18, 3e18, 1e19, 2e19, 1e20],
    "virus in blood": [20, 35, 41, 50, 64, 2e6],
    "resistances at a transition": [1.1, 1.2, 1.5, 2e8, 2.1e8, 2.5e8],
    "counts to 1e8": [1, 10, 100, 1000, 1e4, 1e5, 1e6, 1e7, 1e8],
    "zeros": [0.0, 0, 0],
    "none": [],
}


@pytest.mark.parametrize("values", HEAVY.values(), ids=HEAVY)
def test_heavy_tails_spikes_and_steps_are_data(values):
    assert suspects(np.array(values, float)) == []
    assert suspects(-np.array(values, float)[::-1]) == [] or 99 in values or 65535 in values


@given(st.integers(0, 10**6), st.integers(6, 300), st.sampled_from([1e-6, 1.0, 1e6]))
def test_random_heavy_tails_are_data(seed, count, scale):
    rng = np.random.default_rng(seed)
    growth = np.exp(np.sort(rng.uniform(0, 12 * np.log(10), 5 * count)))
    for values in (rng.lognormal(0, 2, count), rng.pareto(1, count), rng.standard_cauchy(count), growth):
        assert suspects(scale * values) == []
    assert suspects(rng.poisson(0.05, count) * rng.integers(1, 501, count).astype(float)) == []


@given(st.lists(st.floats(-50, 50), min_size=2), st.floats(1e-3, 1e3), st.integers(0, 5))
def test_suspicion_finds_every_sentinel_and_no_other_value(values, scale, count):
    rest = np.array(values) * min(scale, 10.0)
    found = suspects(np.append(rest, [-9999.0] * count))
    known = [suspect for suspect in found if suspect.value == -9999]
    assert [suspect.count for suspect in known] == [count] * bool(count)
    assert {suspect.value for suspect in found} <= {*rest, -9999.0}


def test_a_constant_column_is_suspicious_until_it_is_said_to_be_data():
    frame = law().assign(pressure=-9999)
    assert "8 of 8 values are -9999, which often means that there is none; write" in refusal(frame, LAW)
    assert (dataset_of(frame, LAW | {"missing": []})["pressure"] == -9999).all()


# NetCDF


def test_the_default_fill_value_of_a_netcdf_file_is_found(tmp_path):
    grid = hares().set_index("year").drop(columns="weather").to_xarray().astype("float32")
    grid["lynx"][4] = FILL
    grid.to_netcdf(tmp_path / "hare.nc", encoding={"lynx": {"_FillValue": None}})
    table = ONE_SERIES | {"file": str(tmp_path / "hare.nc")}
    with pytest.raises(UserError, match=r"row 5, column lynx: 9\.96921e\+36 stands apart .* \[9\.96921e\+36\] if it"):
        read_dataset(table)
    with pytest.raises(UserError, match=r"row 5, column lynx: no value, .* \(1 of 21 rows have none\)"):
        read_dataset(table | {"missing": [9.96921e36]})


def filled(value, dtype=float):
    data = sea().astype(dtype)
    data["ice"][{"lon": 1, "day": 2, "basin": 3, "lat": 0}] = value
    return data


def test_a_field_with_a_value_that_stands_apart_is_refused():
    message = refusal(filled(-99999, "float32"), TABLE)
    assert message == (
        "sea.nc: the variable ice, basin d, day 2.0, lat 50.0, lon 1: -99999 stands apart from the other values, "
        "-3224 to -0 (1 of 180 are like that); write table.missing: [-99999] if it means no value, table.missing: [] "
        "if all is data"
    )
    assert dataset_of(filled(-99999), TABLE | {"missing": []})["state"].values.min() == -99999


def test_a_listed_value_of_a_field_is_a_missing_one():
    assert "the variable ice has no value at basin d, day 2.0, lat 50.0, lon 1 (1 of 180 have none)" in refusal(
        filled(1e30, "float32"), TABLE | {"missing": [1e30]}
    )


# The list itself


@pytest.mark.parametrize(
    ("missing", "message"),
    [
        (-9999, "table.missing: -9999 is not a list, such as [-9999]"),
        ("n.d.", "table.missing: 'n.d.' is not a list"),
        ([False], "table.missing: False is no number and no text; write a text in quotes"),
        ([None], "table.missing: None is no number and no text"),
        ([[1]], "table.missing: [1] is no number"),
    ],
)
def test_a_list_that_is_none_is_refused(missing, message):
    assert refusal(hares(), changed(ONE_SERIES) | {"missing": missing}).startswith(message)


def test_a_dataset_that_was_masked_before_is_not_suspicious():
    grid = hares().set_index("year").drop(columns="weather").to_xarray()
    assert isinstance(grid, xr.Dataset) and dataset_of(grid, ONE_SERIES)["state"].notnull().all()


# Limits of valid values


def limited(**attributes):
    grid = hares().set_index("year").drop(columns="weather").to_xarray()
    grid["hare"].attrs.update(attributes)
    return grid


LIMITS = {  # of 0.5, 1.5, …, 20.5
    "a range": {"valid_range": np.array([2.5, 15.5])},
    "a list": {"valid_range": [2.5, 15.5]},
    "both ends": {"valid_min": 2.5, "valid_max": np.float32(15.5)},
    "whole numbers": {"valid_range": np.array([2, 16], "int16")},
}


@pytest.mark.parametrize("limits", LIMITS.values(), ids=LIMITS)
def test_values_beyond_the_valid_range_are_missing(limits, caplog):
    assert refusal(limited(**limits), ONE_SERIES | {"missing": []}).startswith(
        "hare.csv: row 1, column hare: no value (7 of 21 rows have none); remove the rows or fill them"
    )
    assert "hare.csv: the variable hare has 7 of 21 values below 2" in caplog.text
    assert f"which count as missing, as its {' and '.join(limits)} says so" in caplog.text


@pytest.mark.parametrize(
    "limits", [{"valid_range": [0.5, 20.5]}, {"valid_min": 0}, {"valid_max": 20.5}, {"actual_range": [9, 9]}]
)
def test_valid_values_stay(limits, caplog):
    assert dataset_of(limited(**limits), ONE_SERIES).equals(dataset_of(hares(), ONE_SERIES))
    assert "count as missing" not in caplog.text


@pytest.mark.parametrize("scale", [0.1, -0.1])
@pytest.mark.parametrize("masked", [True, False])
def test_limits_of_packed_numbers_are_packed(scale, masked, tmp_path):
    ends = np.sort(np.round((np.array([3.5, 17.5]) - 7) / scale)).astype("int16")
    packing = {"dtype": "int16", "scale_factor": scale, "add_offset": 7.0, "_FillValue": -9999}
    limited(valid_range=ends).to_netcdf(tmp_path / "hare.nc", encoding={"hare": packing})
    with xr.open_dataset(tmp_path / "hare.nc", mask_and_scale=masked) as found:
        data = found.load()
    assert "row 1, column hare: no value (6 of 21 rows have none)" in refusal(data, ONE_SERIES)
    inside = data.isel(year=slice(3, 18))
    table = changed(ONE_SERIES, split={"train": 5, "validation": 5, "test": 5})
    np.testing.assert_allclose(dataset_of(inside, table)["state"].values[0, :, 0], 3.5 + np.arange(5), atol=1e-6)


def test_limits_are_in_the_precision_of_the_values():
    grid = limited(valid_max=20.7)
    grid["hare"] = (grid["hare"] + 0.2).astype("float32").assign_attrs(valid_max=20.7, valid_min=0.7)
    assert dataset_of(grid, ONE_SERIES)


def test_limits_of_fields_and_coordinates(caplog):
    data = sea()
    data["ice"].attrs["valid_min"] = -3000.0
    assert "the variable ice has no value at basin d, day 0.0, lat 50.0, lon 1 (" in refusal(data, TABLE)
    data = sea().assign_coords(lat=("lat", [50.0, 55, 60], {"valid_range": [0.0, 59.0]}))
    assert "the variable lat has no value" in refusal(data, TABLE)


@pytest.mark.parametrize(
    ("limit", "allowed"), [({"valid_range": [1.0]}, "two numbers"), ({"valid_min": "low"}, "a number")]
)
def test_limits_that_are_none_are_refused(limit, allowed):
    [(name, value)] = limit.items()
    assert refusal(limited(**limit), ONE_SERIES) == f"hare.csv: the variable hare has {name} {value!r}, not {allowed}"


@pytest.mark.parametrize(
    "value", [-9999.99, 9999.99, -99999.9, -99999.99, 99999.99, -7777, -777, -77777, -6999, -88888.8, -9999999999]
)
def test_what_instruments_write_for_no_value_is_known_in_all_its_forms(value):
    [found] = suspects(np.append(np.linspace(281.4, 319.2, 40), value))
    assert found.value == value and found.count == 1
