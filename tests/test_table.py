"""Data of the user's own: what a table becomes, and what is refused."""

import re

import numpy as np
import pandas as pd
import pytest
import xarray as xr
import yaml
from helpers import small
from helpers.tables import IRREGULAR, LAW, ONE_SERIES, SITES, STATE, changed, hares, law, sites
from hypothesis import given
from hypothesis import strategies as st

from hybridsam.core import records
from hybridsam.core.errors import UserError
from hybridsam.core.provenance import fingerprint
from hybridsam.data.splits import SPLITS
from hybridsam.data.table import dataset_of, read_dataset


def written(folder, frame, table):
    """The section with the path of the frame as a CSV file."""
    frame.to_csv(folder / table["file"], index=False)
    return table | {"file": str(folder / table["file"])}


# What a table becomes


def test_a_series_split_by_time_becomes_windows_that_cross_no_boundary():
    dataset = dataset_of(hares(), ONE_SERIES)
    assert dataset["state"].dims == ("sample", "time", "component")
    starts = {"train": [1900, 1902, 1904], "validation": [1910], "test": [1915]}
    for name, years in starts.items():
        assert dataset["start"].values[dataset["split"] == name].tolist() == years
    assert dataset["time"].values.tolist() == [0, 1, 2, 3, 4]
    year = dataset["start"] + dataset["time"]
    np.testing.assert_array_equal(dataset["state"].sel(component="hare"), year % 100 + 0.5)
    np.testing.assert_array_equal(dataset["state"].sel(component="lynx"), year % 100 + 1000)


def test_units_target_and_origin_are_stated_and_truth_is_absent():
    dataset = dataset_of(hares(), ONE_SERIES)
    assert dataset["state"].attrs["units"] == "thousands; thousands"
    assert dataset["component_units"].values.tolist() == ["thousands", "thousands"]
    assert dataset["time"].attrs["units"] == dataset["start"].attrs["units"] == "year"
    assert dataset.attrs == {"target": "state", "source": "measured, hare.csv", "synthetic": "no"}
    assert records.origin(dataset) == "measured"


def test_windows_stand_end_to_end_by_default():
    table = changed(ONE_SERIES, stride=None, split={"train": 11, "validation": 5, "test": 5})
    assert dataset_of(hares(), table)["start"].values.tolist() == [1900, 1905, 1911, 1916]


@given(
    times=st.integers(20, 60),
    window=st.integers(2, 5),
    stride=st.integers(1, 5),
    shares=st.lists(st.integers(1, 8), min_size=3, max_size=3),
)
def test_no_measurement_is_in_windows_of_two_splits_and_later_ones_test(times, window, stride, shares):
    fractions = dict(zip(SPLITS, np.array(shares) / sum(shares), strict=True))
    table = changed(ONE_SERIES, window=window, stride=stride, split={k: float(v) for k, v in fractions.items()})
    try:
        dataset = dataset_of(hares(times), table)
    except UserError as error:
        assert "fewer than a sample" in str(error) or "is none" in str(error)
        return
    years = {name: (own["start"] + own["time"]).values for name, own in dataset.groupby("split")}
    assert years["train"].max() < years["validation"].min() <= years["validation"].max() < years["test"].min()
    every = np.diff(dataset["start"].values[dataset["split"] == "train"])
    assert (every == stride).all()


@pytest.mark.parametrize("parts", [(0.6, 0.2, 0.2), (0.7, 0.15, 0.15), (0.5, 0.3, 0.2)])
@pytest.mark.parametrize("n", [20, 40, 91])
def test_fractions_that_add_up_to_one_leave_nothing_out(n, parts):
    table = changed(ONE_SERIES, window=2, stride=1, split=dict(zip(SPLITS, parts, strict=True)))
    dataset = dataset_of(hares(n), table)
    assert dataset.sizes["sample"] == n - 3
    found = [int((dataset["split"] == name).sum()) + 1 for name in SPLITS]
    np.testing.assert_allclose(found, np.array(parts) * n, atol=1)


def test_series_with_the_same_irregular_times_are_samples():
    dataset = dataset_of(sites(), SITES)
    np.testing.assert_array_equal(dataset["time"], IRREGULAR)
    assert dataset["series"].values.tolist() == list("abcd")
    assert sorted(dataset["split"].values.tolist()) == ["test", "train", "train", "validation"]
    np.testing.assert_array_equal(dataset["state"].sel(component="hare"), 100 * np.arange(4)[:, None] + np.arange(6))


def test_series_that_begin_at_other_times_are_compared_from_their_beginnings():
    frame = sites()
    frame["year"] += frame["site"].map({"a": 0, "b": 1850, "c": 1900.5, "d": 7})
    dataset = dataset_of(frame, SITES)
    np.testing.assert_allclose(dataset["time"], IRREGULAR)
    assert dataset["start"].values.tolist() == [0, 1850, 1900.5, 7]


def test_series_are_split_as_listed_and_others_left_out():
    table = changed(SITES, split={"train": ["d"], "validation": ["a"], "test": ["c"]})
    dataset = dataset_of(sites(), table)
    assert dict(zip(dataset["series"].values, dataset["split"].values, strict=True)) == {
        "a": "validation",
        "c": "test",
        "d": "train",
    }


def test_another_seed_draws_other_series():
    many = sites(labels="abcdefghijkl")
    seen = {tuple(dataset_of(many, changed(SITES, split={"seed": s}))["series"].values) for s in range(5)}
    assert len(seen) > 1
    twice = [dataset_of(many, changed(SITES, split={"seed": 3})) for _ in range(2)]
    assert twice[0].identical(twice[1])


def test_windows_of_a_series_are_all_in_its_split():
    table = changed(SITES, window=2, stride=2)
    dataset = dataset_of(sites(range(6)), table)
    assert dataset.sizes["sample"] == 12
    assert all(len(set(own["split"].values)) == 1 for _, own in dataset.groupby("series"))


def test_rows_of_a_law_become_samples():
    dataset = dataset_of(law(), LAW)
    assert {name: variable.dims for name, variable in dataset.data_vars.items()} == {
        "target": ("sample", "component"),
        "pressure": ("sample",),
        "light": ("sample", "light_column"),
        "target_mean": ("component",),
        "target_scale": ("component",),
    }
    assert [int((dataset["split"] == name).sum()) for name in SPLITS] == [4, 2, 2]
    np.testing.assert_array_equal(dataset["target"], law()[["ir", "vis"]])
    np.testing.assert_array_equal(dataset["light"], law()[["red", "blue"]])
    assert dataset["pressure"].attrs["units"] == "Pa" and dataset["component_units"].values.tolist() == ["counts", "V"]


def test_rows_of_a_group_stay_together():
    table = changed(LAW, series="day", split={"by": "series"})
    dataset = dataset_of(law(), table)
    assert all(len(set(own["split"].values)) == 1 for _, own in dataset.groupby("series"))


@pytest.mark.parametrize("table", [ONE_SERIES, SITES, LAW], ids=["one series", "sites", "law"])
def test_csv_netcdf_frame_and_dataset_give_the_same(table, tmp_path):
    frame = {"hare.csv": hares, "sites.csv": sites, "law.csv": law}[table["file"]]()
    index = {"hare.csv": ["year"], "sites.csv": ["site", "year"], "law.csv": None}[table["file"]]
    expected = dataset_of(frame, table)
    grid = frame.set_index(index).to_xarray() if index else frame.to_xarray()
    grid.to_netcdf(tmp_path / "data.nc")
    found = [
        read_dataset(written(tmp_path, frame, table)),
        dataset_of(grid, table),
        dataset_of(frame.to_xarray(), table),  # a row for each point of one dimension
        read_dataset(table | {"file": str(tmp_path / "data.nc")}),
    ]
    assert [fingerprint(dataset) for dataset in found] == [fingerprint(expected)] * 4


def test_a_csv_file_may_have_a_byte_order_mark_empty_lines_and_spaces(tmp_path):
    file = tmp_path / "hare.csv"
    lines = hares().to_csv(index=False).replace("year,", "year , ").replace("\n", "\n\n")
    file.write_text("\ufeff" + lines.replace(",", ", "), encoding="utf-8")
    assert read_dataset(ONE_SERIES | {"file": str(file)}).equals(dataset_of(hares(), ONE_SERIES))


def test_times_of_a_netcdf_file_stay_numbers_in_its_unit(tmp_path):
    grid = hares().set_index("year")[list(STATE)].to_xarray()
    grid["year"].attrs["units"] = "years since 0001-01-01"
    grid.to_netcdf(tmp_path / "hare.nc")
    dataset = read_dataset(ONE_SERIES | {"file": str(tmp_path / "hare.nc")})
    assert dataset["start"].values[0] == 1900


def test_the_documented_example_is_what_it_says():
    [text] = re.findall(r"(?s)```\n(table:\n.*?)```", (small.ROOT / "config/README.md").read_text())
    table = yaml.safe_load(text)["table"]
    dataset = dataset_of(hares(91), table)
    found = {name: int((dataset["split"] == name).sum()) for name in SPLITS}
    assert found == {"train": 7, "validation": 1, "test": 1}


# Refusals


def with_cell(frame, row, column, value):
    frame = frame.astype(object)
    frame.loc[row - 1, column] = value
    return frame


def unequal_sites():
    frame = sites()
    return frame.drop(frame.index[-1])


FAULTS = {
    "a column that is not there": (
        hares().drop(columns="lynx"),
        ONE_SERIES,
        "hare.csv: no column lynx; there are year, hare, weather",
    ),
    "a value that is no number": (
        with_cell(hares(), 7, "lynx", "many"),
        ONE_SERIES,
        "hare.csv: row 7, column lynx: 'many' is not a finite number",
    ),
    "an infinite value": (
        with_cell(hares(), 2, "hare", "inf"),
        ONE_SERIES,
        "hare.csv: row 2, column hare: 'inf' is not a finite number",
    ),
    "a missing value": (
        with_cell(hares(), 3, "hare", ""),
        ONE_SERIES,
        "hare.csv: row 3, column hare: no value (1 of 21 rows have none); remove the rows or fill them",
    ),
    "another missing value": (with_cell(law(), 3, "red", "NA"), LAW, "law.csv: row 3, column red: no value (1 of 8 "),
    "a missing series": (with_cell(sites(), 5, "site", " "), SITES, "sites.csv: row 5, column site: no value"),
    "dates": (
        hares().assign(year="1900-01-02"),
        ONE_SERIES,
        "hare.csv: row 1, column year: '1900-01-02' is not a finite number; turn dates into numbers",
    ),
    "times that do not increase": (
        with_cell(hares(), 9, "year", 1906),
        ONE_SERIES,
        "hare.csv: row 9, column year: 1906 does not come after 1907; sort the rows, or name the column that tells",
    ),
    "a time that stands twice": (
        with_cell(hares(), 9, "year", 1907),
        ONE_SERIES,
        "hare.csv: row 9, column year: time 1907 stands twice, also in row 8; remove one, or name the column that",
    ),
    "series that are not told apart": (
        sites(),
        changed(SITES, series=None, window=2, split={"by": "time"}),
        "sites.csv: row 2, column year: time 0 stands twice, also in row 1; remove one, or name the column that tells",
    ),
    "series of other times": (
        with_cell(sites(), 24, "year", 2.5),
        SITES,
        "sites.csv: the sample that begins at year 0 of series d has a value 2.5 year after its start, the first",
    ),
    "series of other lengths": (
        unequal_sites(),
        SITES,
        "sites.csv: the sample that begins at year 0 of series d has 5 times, the first sample 6; allowed are equal",
    ),
    "windows over irregular times": (
        hares().drop(12),
        changed(ONE_SERIES, split={"train": 9}),
        "hare.csv: the sample that begins at year 1909 has a value 4 year after its start, the first sample 3;",
    ),
    "a series shorter than the window": (
        sites(range(3)),
        changed(SITES, window=5),
        "sites.csv: series a has 3 times in train, fewer than a sample, 5",
    ),
    "a split shorter than the window": (
        hares(),
        changed(ONE_SERIES, split={"validation": 4}),
        "hare.csv: the series has 4 times in validation, fewer than a sample, 5",
    ),
    "too many times": (
        hares(),
        changed(ONE_SERIES, split={"test": 7}),
        "table.split: 10 + 5 + 7 times are asked for, and there are 21",
    ),
    "too many series": (
        sites(),
        changed(SITES, split={"test": 2}),
        "table.split: 2 + 1 + 2 series are asked for, and there are 4",
    ),
    "too many rows": (
        law(),
        changed(LAW, split={"train": 0.8}),
        "table.split: 0.8 + 0.25 + 0.25 rows are asked for, and there are 8",
    ),
    "a split without a sample": (
        sites(),
        changed(SITES, split={"train": 0.8, "validation": 0.1, "test": 0.1}),
        "table.split.validation: 0.1 of 4 series is none",
    ),
    "numbers and fractions": (
        law(),
        changed(LAW, split={"train": 4}),
        "table.split: 4 + 0.25 + 0.25: allowed are three numbers of rows, or three fractions",
    ),
    "an unknown series": (
        sites(),
        changed(SITES, split={"train": ["a"], "validation": ["b"], "test": ["e"]}),
        "table.split.test: no series 'e'; there are a, b, c, d",
    ),
    "a series in two splits": (
        sites(),
        changed(SITES, split={"train": ["a"], "validation": ["b"], "test": ["a"]}),
        "table.split.test: the series 'a' is listed twice",
    ),
    "a unit left out": (
        hares(),
        changed(ONE_SERIES, state={"hare": "thousands", "lynx": None}),
        'table.state.lynx: None is no unit; allowed is text such as "m s-1", and "1" for none',
    ),
    "a unit of an input left out": (
        law(),
        changed(LAW, inputs={"light": {"red": "W", "blue": ""}}),
        "table.inputs.light.blue: '' is no unit;",
    ),
    "no unit of time": (hares(), changed(ONE_SERIES, time={"column": "year"}), "table.time.unit: missing"),
    "no window": (hares(), changed(ONE_SERIES, window=None, stride=None), "table.window: missing; a split by time"),
    "no series": (sites(), changed(SITES, series=None), "table.series: missing; a split by series needs the column"),
    "a split of time series by sample": (
        sites(),
        changed(SITES, split={"by": "sample"}),
        "table.split.by: 'sample': of time series allowed are time, series",
    ),
    "a split of rows by time": (
        law(),
        changed(LAW, split={"by": "time"}),
        "table.split.by: 'time': of rows without table.time allowed are sample, series",
    ),
    "a state without time": (
        hares(),
        changed(ONE_SERIES, time=None, window=None, stride=None),
        "table: has state; allowed are time and state (of time series), or inputs and target",
    ),
    "a series and a law": (
        hares(),
        changed(ONE_SERIES, target={"lynx": "1"}),
        "table: has time, state, target;",
    ),
    "a name that is taken": (law(), changed(LAW, inputs={"split": "1"}), "table.inputs.split: this name is taken"),
    "an unknown key": (hares(), changed(ONE_SERIES, windows=3), "table.windows: unknown key; allowed are split, file,"),
    "a window of one time": (
        hares(),
        changed(ONE_SERIES, window=1),
        "table.window: 1: it is a number of times, at least 2, and needs table.time",
    ),
    "a window without time": (
        law(),
        changed(LAW, window=5),
        "table.window: 5: it is a number of times, at least 2, and",
    ),
    "a stride without a window": (
        sites(),
        changed(SITES, stride=5),
        "table.stride: 5: it is a number of times, at least 1, and needs table.window",
    ),
    "no rows": (hares(0), ONE_SERIES, "hare.csv: no rows below the header"),
}


NAMES = ["NO", "001", "1e3", "on"]


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (False, "table.split.train: False is no text, as YAML reads it; write a label in quotes, such as 'NO'"),
        (1, "table.split.train: 1 is no text, as YAML reads it; write a label in quotes, such as '001'"),
        (1000.0, "table.split.train: 1000.0 is no text, as YAML reads it; write a label in quotes, such as '1e3'"),
        (True, "table.split.train: True is no text, as YAML reads it; write a label in quotes, such as 'on'"),
        (None, "table.split.train: None is no text, as YAML reads it; write a label in quotes, such as 'NO'"),
        ("off", "table.split.train: no series 'off'; there are NO, 001, 1e3, on"),
        (7, "table.split.train: no series '7'; there are NO, 001, 1e3, on"),
    ],
)
def test_a_label_that_yaml_reads_as_something_else_is_refused_with_the_text_that_is_meant(asked, message):
    frame = sites(labels=NAMES)
    table = changed(SITES, split={"train": [asked], "validation": ["001"], "test": ["on"]})
    with pytest.raises(UserError) as caught:
        dataset_of(frame, table)
    assert str(caught.value) == message
    split = {"train": ["NO"], "validation": ["001"], "test": ["1e3", "on"]}
    assert dataset_of(frame, changed(SITES, split=split))["series"].values.tolist() == NAMES


@pytest.mark.parametrize(("frame", "table", "message"), FAULTS.values(), ids=FAULTS)
def test_a_fault_is_named_by_its_place(frame, table, message):
    with pytest.raises(UserError) as caught:
        dataset_of(frame, table)
    assert str(caught.value).startswith(message), str(caught.value)
    assert "\n" not in str(caught.value)


TEXTS = {
    "a decimal comma": ("year,hare,lynx\n1,2,5,3\n", "row 1 has 4 values, the header has 3"),
    "an empty file": ("", "empty; expected a CSV file with a header"),
    "an open quote": ('year,hare,lynx\n1,"2,3\n', "not a CSV file: "),
    "a column twice": ("year,hare,lynx,hare\n1,2,3,4\n", "several columns are called hare"),
}


@pytest.mark.parametrize(("text", "message"), TEXTS.values(), ids=TEXTS)
def test_a_file_that_is_no_table_is_refused(text, message, tmp_path):
    file = tmp_path / "hare.csv"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(UserError) as caught:
        read_dataset(ONE_SERIES | {"file": str(file)})
    assert str(caught.value).startswith(f"{file}: {message}")


def test_a_missing_file_and_a_foreign_one_are_named(tmp_path):
    with pytest.raises(UserError, match=r"nowhere/hare\.csv: no such file"):
        read_dataset(ONE_SERIES | {"file": "nowhere/hare.csv"})
    (tmp_path / "hare.nc").write_bytes(b"year,hare")
    with pytest.raises(UserError, match=r"hare\.nc: not a readable NetCDF file"):
        read_dataset(ONE_SERIES | {"file": str(tmp_path / "hare.nc")})
    (tmp_path / "hare.csv").write_bytes(b"\x89HDF\r\n\x1a\n\xff")
    with pytest.raises(UserError, match=r"hare\.csv: not a CSV file: .*; a NetCDF file ends in \.nc"):
        read_dataset(ONE_SERIES | {"file": str(tmp_path / "hare.csv")})


def test_a_dimension_that_is_no_column_is_refused():
    grid = sites().set_index(["site", "year"]).to_xarray()
    deep = grid.assign(hare=grid["hare"].expand_dims(depth=[1, 2]))
    message = r"sites\.csv: the variable hare\(depth, site, year\) has the dimension depth; allowed is year, site"
    with pytest.raises(UserError, match=message):
        dataset_of(deep, SITES)
    with pytest.raises(UserError, match=r"no variable hare; there are "):
        dataset_of(grid.drop_vars("hare"), SITES)
    two = xr.Dataset({name: ("row", values) for name, values in law().items()}).assign(red=("other", [1.0, 2.0]))
    with pytest.raises(UserError, match=r"the variable \w+\(\w+\) has the dimension \w+; allowed is one that all"):
        dataset_of(two, LAW)


def test_dates_of_a_dataset_are_refused():
    grid = hares().assign(year=pd.date_range("2000", periods=21)).set_index("year").to_xarray()
    with pytest.raises(UserError, match=r"row 1, column year: '2000-01-01 00:00:00' is not .*; turn dates"):
        dataset_of(grid, ONE_SERIES)


STATIONS = ["north", "south", "east", "west"]
AS_BYTES = {  # as NetCDF files have texts, those of FORTRAN filled up by blanks
    "bytes": lambda names: ("row", np.array([name.ljust(8) for name in names], "S8")),
    "characters": lambda names: (("row", "length"), np.array([[c.encode() for c in f"{n:8}"] for n in names], "S1")),
    "objects": lambda names: ("row", np.array([name.encode() for name in names], object)),
}
BY_STATION = changed(SITES, split={"train": ["north", "west"], "validation": ["south"], "test": ["east"]})


def assert_stations(dataset):
    assert dataset["series"].values.tolist() == STATIONS
    assert dataset["split"].values.tolist() == ["train", "validation", "test", "train"]
    np.testing.assert_array_equal(dataset["state"].sel(component="hare")[2], 200 + np.arange(6))


@pytest.mark.parametrize("kind", AS_BYTES)
def test_labels_of_bytes_are_text(kind, tmp_path):
    rows = sites(labels=STATIONS)
    data = xr.Dataset({name: ("row", rows[name]) for name in ("year", "hare", "lynx")})
    data["site"] = AS_BYTES[kind](rows["site"])
    assert_stations(dataset_of(data, BY_STATION))
    data.to_netcdf(tmp_path / "sites.nc")
    assert_stations(read_dataset(BY_STATION | {"file": str(tmp_path / "sites.nc")}))
    if kind != "characters":
        assert_stations(dataset_of(data.to_dataframe(), BY_STATION))


def test_labels_of_bytes_as_a_dimension_are_text(tmp_path):
    grid = sites(labels=STATIONS).set_index(["site", "year"]).to_xarray().sel(site=STATIONS)
    grid = grid.assign_coords(site=np.array(STATIONS, "S8"))
    assert_stations(dataset_of(grid, BY_STATION))
    grid.to_netcdf(tmp_path / "sites.nc")
    with xr.open_dataset(tmp_path / "sites.nc") as found:
        assert found["site"].values[0] == b"north"
    assert_stations(read_dataset(BY_STATION | {"file": str(tmp_path / "sites.nc")}))


def test_bytes_that_are_no_text_are_named():
    grid = sites().set_index(["site", "year"]).to_xarray().assign_coords(site=np.array([b"a", b"b", b"\xb0", b"d"]))
    with pytest.raises(UserError, match=r"sites\.csv: the variable site has bytes that are no UTF-8: b'\\xb0'"):
        dataset_of(grid, SITES)


def test_what_attributes_say_of_numbers_in_memory_is_done_once(tmp_path):
    """As of a Dataset that was opened without masking: packed numbers, and gaps that a number stands for."""
    grid = hares().set_index("year").drop(columns="weather").to_xarray()
    packing = {"hare": {"dtype": "int16", "scale_factor": 0.5, "_FillValue": -1}, "lynx": {"_FillValue": -9999.0}}
    grid.to_netcdf(tmp_path / "hare.nc", encoding=packing)
    for masked in (True, False):
        with xr.open_dataset(tmp_path / "hare.nc", mask_and_scale=masked) as found:
            assert dataset_of(found.load(), ONE_SERIES).equals(dataset_of(hares(), ONE_SERIES))
    grid["lynx"] = grid["lynx"].where(grid["year"] != 1903)
    grid.to_netcdf(tmp_path / "gap.nc", encoding=packing)
    with (
        xr.open_dataset(tmp_path / "gap.nc", mask_and_scale=False) as found,
        pytest.raises(UserError, match=r"row 4, column lynx: no value \(1 of 21 rows have none\)"),
    ):
        dataset_of(found.load(), ONE_SERIES)
