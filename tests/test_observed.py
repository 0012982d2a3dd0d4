"""Data of the user's own: what a table becomes, what is refused, and training without a known theta."""

import json
import re
import shutil

import numpy as np
import pandas as pd
import pytest
import torch
import xarray as xr
import yaml
from helpers import small
from helpers.project import Project, assert_refused, copy_repository, executed_by, names
from hypothesis import given
from hypothesis import strategies as st

from hybridsam.analysis.cube import THETA_ERROR, collect, metrics_of
from hybridsam.analysis.identifiability import as_table
from hybridsam.analysis.results import load
from hybridsam.analysis.selection import select
from hybridsam.core import modules, records
from hybridsam.core.errors import UserError
from hybridsam.core.provenance import configuration_hashes, fingerprint
from hybridsam.core.settings import without_sources
from hybridsam.data.splits import SPLITS
from hybridsam.data.table import dataset_of, read
from hybridsam.figures import registry
from hybridsam.models.hybrid import HybridMap
from hybridsam.models.networks import MLP
from hybridsam.models.parameters import Parameters
from hybridsam.report import captions, fragments, index_page, markdown_page, table_one, task_page
from hybridsam.training.block import train_task as fit
from hybridsam.training.compiled import FusedODE
from hybridsam.training.methods import loss

STATE = {"hare": "thousands", "lynx": "thousands"}
TIME = {"column": "year", "unit": "year"}
BY_TIME = {"by": "time", "train": 10, "validation": 5, "test": 6}
ONE_SERIES = {"file": "hare.csv", "time": TIME, "state": STATE, "window": 5, "stride": 2, "split": BY_TIME}
BY_SITE = {"by": "series", "train": 2, "validation": 1, "test": 1}
SITES = {"file": "sites.csv", "time": TIME, "series": "site", "state": STATE, "split": BY_SITE}
LAW = {
    "file": "law.csv",
    "inputs": {"pressure": "Pa", "light": {"red": "W", "blue": "W"}},
    "target": {"ir": "counts", "vis": "V"},
    "split": {"by": "sample", "train": 0.5, "validation": 0.25, "test": 0.25},
}
IRREGULAR = [0.0, 0.1, 0.5, 0.6, 1.3, 2.0]


def hares(years=21, first=1900):
    """One series, whose values tell the year."""
    year = np.arange(first, first + years)
    return pd.DataFrame({"year": year, "hare": year % 100 + 0.5, "lynx": 1000.0 + year % 100, "weather": "mild"})


def sites(times=IRREGULAR, labels="abcd"):
    """A series for each label, one row of each in turn; values tell the site and the number of the time."""
    rows = [(label, t, 100.0 * i + n, -1.0 * n) for n, t in enumerate(times) for i, label in enumerate(labels)]
    return pd.DataFrame(rows, columns=["site", "year", "hare", "lynx"])


def law(rows=8):
    number = np.arange(rows)
    columns = {"pressure": 1e5 + number, "red": 0.1 * number, "blue": 2.0 * number, "ir": number + 0.5, "vis": -number}
    return pd.DataFrame(columns | {"day": number // 2})


def changed(table, **changes):
    """The section with changes; of split, key by key; None removes a key."""
    new = table | changes | ({"split": table["split"] | changes["split"]} if "split" in changes else {})
    return {key: value for key, value in new.items() if value is not None}


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
        read(written(tmp_path, frame, table)),
        dataset_of(grid, table),
        dataset_of(frame.to_xarray(), table),  # a row for each point of one dimension
        read(table | {"file": str(tmp_path / "data.nc")}),
    ]
    assert [fingerprint(dataset) for dataset in found] == [fingerprint(expected)] * 4


def test_a_csv_file_may_have_a_byte_order_mark_empty_lines_and_spaces(tmp_path):
    file = tmp_path / "hare.csv"
    lines = hares().to_csv(index=False).replace("year,", "year , ").replace("\n", "\n\n")
    file.write_text("\ufeff" + lines.replace(",", ", "), encoding="utf-8")
    assert read(ONE_SERIES | {"file": str(file)}).equals(dataset_of(hares(), ONE_SERIES))


def test_times_of_a_netcdf_file_stay_numbers_in_its_unit(tmp_path):
    grid = hares().set_index("year")[list(STATE)].to_xarray()
    grid["year"].attrs["units"] = "days since 1900-01-01"
    grid.to_netcdf(tmp_path / "hare.nc")
    dataset = read(ONE_SERIES | {"file": str(tmp_path / "hare.nc")})
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
        with_cell(hares(), 9, "year", 1907),
        ONE_SERIES,
        "hare.csv: row 9, column year: 1907 does not come after 1907; sort the rows, or name the column that tells",
    ),
    "series that are not told apart": (
        sites(),
        changed(SITES, series=None, window=2, split={"by": "time"}),
        "sites.csv: row 2, column year: 0 does not come after 0; sort the rows, or name the column that tells several",
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


@pytest.mark.parametrize(("frame", "table", "message"), FAULTS.values(), ids=FAULTS)
def test_a_fault_is_named_by_its_place(frame, table, message):
    with pytest.raises(UserError) as caught:
        dataset_of(frame, table)
    assert str(caught.value).startswith(message), str(caught.value)
    assert "\n" not in str(caught.value)


TEXTS = {
    "semicolons": ("year;hare;lynx\n1;2;3\n", "the header 'year;hare;lynx' has no commas; columns must be separated"),
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
        read(ONE_SERIES | {"file": str(file)})
    assert str(caught.value).startswith(f"{file}: {message}")


def test_a_missing_file_and_a_foreign_one_are_named(tmp_path):
    with pytest.raises(UserError, match=r"nowhere/hare\.csv: no such file"):
        read(ONE_SERIES | {"file": "nowhere/hare.csv"})
    (tmp_path / "hare.nc").write_bytes(b"year,hare")
    with pytest.raises(UserError, match=r"hare\.nc: not a readable NetCDF file"):
        read(ONE_SERIES | {"file": str(tmp_path / "hare.nc")})
    (tmp_path / "hare.csv").write_bytes(b"\x89HDF\r\n\x1a\n\xff")
    with pytest.raises(UserError, match=r"hare\.csv: not a CSV file: .*; a NetCDF file ends in \.nc"):
        read(ONE_SERIES | {"file": str(tmp_path / "hare.csv")})


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


# Models on irregular times, and results without a known theta

TASK = {
    "title": "Hares and lynx",
    "module": str(small.ROOT / "tests/helpers/predator_prey.py"),
    "table": SITES,
    "model": {
        "theta": {
            "a": {"unit": "year-1", "start": 0.1, "transform": "softplus", "lower": 0.0, "source": "O"},
            "c": {"unit": "year-1", "start": 0.1, "transform": "softplus", "lower": 0.0, "source": "O"},
        },
        "hidden": [8, 8],
        "solver": {"method": "rk4", "step": 0.25},
    },
    "training": {
        "iterations": 4,
        "learning_rate": 1e-3,
        "learning_rate_final": 1e-5,
        "theta_rate_factor": 10,
        "clip_norm": 10,
        "perturb": "network",
        "record_every": 2,
        "diverged_after": 3,
        "dtype": "float64",
    },
}
HALVES = {"train": 0.5, "validation": 0.25, "test": 0.25}
CHOSEN = without_sources(TASK)
METHODS = {"erm": ["0"], "sam": ["0.05", "0.1"]}


def growth(times=IRREGULAR, labels="abcd", a=0.3, c=0.2):
    """Hares that multiply and lynx that die out, in closed form."""
    rows = [
        (label, t, (1 + i) * np.exp(a * t), (2 + i) * np.exp(-c * t)) for i, label in enumerate(labels) for t in times
    ]
    return pd.DataFrame(rows, columns=["site", "year", "hare", "lynx"])


@pytest.fixture(scope="module")
def model():
    return modules.load(CHOSEN["module"]).build(CHOSEN["model"])


def test_the_science_follows_the_closed_form_at_irregular_times(model):
    data = model.data(dataset_of(growth(), SITES), "train", torch.float64)
    prediction = model.predict_science(torch.tensor([[0.3, 0.2]], dtype=torch.float64), None, data)
    torch.testing.assert_close(prediction, data.targets, rtol=1e-6, atol=0.0)


def test_compiled_code_and_pytorch_agree_at_irregular_times(model):
    data = model.data(dataset_of(growth(), SITES), "train", torch.float64)
    theta = torch.tensor([[0.5, 0.1], [0.2, 0.4]], dtype=torch.float64, requires_grad=True)
    draw = torch.Generator().manual_seed(1)
    phi = torch.stack([model.network.initial(draw) for _ in range(2)]).double().requires_grad_()
    weight = torch.tensor([0.1, 0.2], dtype=torch.float64)
    slow = loss(model, theta, phi, data, weight=weight)
    fast = FusedODE(model, torch.float64)(theta, phi, data, weight)
    torch.testing.assert_close(fast, slow, rtol=1e-9, atol=1e-12)
    for one, other in zip(
        torch.autograd.grad(slow.sum(), (theta, phi)), torch.autograd.grad(fast.sum(), (theta, phi)), strict=True
    ):
        torch.testing.assert_close(other, one, rtol=1e-7, atol=1e-10)


def test_an_adaptive_solver_sees_irregular_times(model):
    settings = CHOSEN["model"] | {"solver": {"method": "dopri5"}}
    adaptive = modules.load(CHOSEN["module"]).build(settings)
    data = model.data(dataset_of(growth(), SITES), "test", torch.float64)
    theta = torch.tensor([[0.3, 0.2]], dtype=torch.float64)
    torch.testing.assert_close(adaptive.predict_science(theta, None, data), data.targets, rtol=1e-5, atol=0.0)


def test_a_law_is_learnt_from_a_table(tmp_path):
    """Fitted by the science alone, which is the law; its network then has nothing to add."""
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(rng.uniform(1, 2, (12, 3)), columns=["pressure", "red", "blue"])
    frame["ir"], frame["vis"] = 3 * frame["red"] * frame["pressure"], 3 * frame["blue"]

    def science(theta, u):
        red, blue = u["light"].unbind(-1)
        return torch.stack([theta["gain"] * red * u["pressure"], theta["gain"] * blue], -1)

    gain = {"gain": {"unit": "counts W-1", "start": 1.0}}
    model = HybridMap(
        science, Parameters.from_settings(gain), MLP((4, 8, 2)), "target", ("pressure", "light"), {"light": 0.5}, True
    )
    dataset = dataset_of(frame, LAW)
    data = model.data(dataset, "train", torch.float64)
    prediction = model.predict_science(torch.tensor([[3.0]], dtype=torch.float64), None, data)
    torch.testing.assert_close(prediction, data.targets)
    phi = model.network.initial(torch.Generator().manual_seed(0)).double()[None]
    assert model.predict(torch.ones(1, 1).double(), phi, data).shape == data.targets.shape == (1, 6, 2)
    assert as_table(model, dataset)["science_only"].item() == pytest.approx(3.0)


def test_a_start_from_which_the_science_runs_away_is_named(model):
    theta = {name: row | {"start": 2000.0} for name, row in CHOSEN["model"]["theta"].items()}
    far = modules.load(TASK["module"]).build(CHOSEN["model"] | {"theta": theta})
    frame = growth(np.arange(6) * 100.0)
    with pytest.raises(
        UserError, match=r"model\.theta: at a = 2000, c = 2000 the science alone runs away from the data"
    ):
        as_table(far, dataset_of(frame, SITES))


@pytest.fixture(scope="module")
def without_truth(tmp_path_factory):
    """The files of a task whose theta is not known, as the workflow makes them, in a folder called sites."""
    folder = tmp_path_factory.mktemp("experiment") / "sites"
    dataset = dataset_of(growth(), SITES).assign_attrs(constants=json.dumps({"file": {"value": "sites.csv"}}))
    records.write(dataset, folder / "dataset.nc", "dataset", "Data")
    dataset = records.read(folder / "dataset.nc", "dataset")
    hash_of, expected, paths = configuration_hashes(CHOSEN, dataset), {}, []
    for method, strengths in METHODS.items():
        for rho in strengths:
            paths.append(folder / f"runs/{method}/rho={rho}/seeds=0-1.nc")
            block, _ = fit(CHOSEN, dataset, method, float(rho), [0, 1], "cpu")
            records.write(block, paths[-1], "runs", "Runs")
            expected[paths[-1]] = hash_of(method, rho, [0, 1])
    blocks = [(path, records.read(path, "runs")) for path in paths]
    cube = collect(blocks, expected, blocks[0][1], dataset, folder)
    records.write(cube, folder / "cube.nc", "cube", "Cube")
    select(cube).to_csv(folder / "selection.csv", index=False)
    as_table(modules.load(CHOSEN["module"]).build(CHOSEN["model"]), dataset).to_csv(
        folder / "identifiability.csv", index=False
    )
    return folder


def test_an_error_of_an_unknown_theta_is_absent_and_there_is_no_oracle(without_truth):
    cube = records.read(without_truth / "cube.nc", "cube")
    assert metrics_of(cube) == ["y_error"]
    selection = pd.read_csv(without_truth / "selection.csv")
    assert set(selection["rule"]) == {"validation", "one_standard_error"}
    assert not [name for name in selection if "theta" in name or "noise" in name]
    assert set(selection["data"]) == {"measured"}


def test_what_the_science_alone_can_tell_needs_no_truth(without_truth):
    table = fragments.identifiability(without_truth)
    assert table["rank"].tolist() == [2, 2]
    np.testing.assert_allclose(table["science_only"], [0.3, 0.2], rtol=1e-5)  # whose closed form the data are
    assert table["true"].isna().all() and table["least_norm"].isna().all()


@pytest.mark.parametrize("name", registry.FIGURES)
def test_every_figure_is_drawn_without_truth_at_irregular_times(without_truth, name, tmp_path):
    files = [without_truth / file for file in ("dataset.nc", "cube.nc", "selection.csv")]
    results = load(*files, "validation")
    registry.write(name, results, [tmp_path / f"{name}.png", tmp_path / f"{name}.csv"])
    table = pd.read_csv(tmp_path / f"{name}.csv")
    assert "measured" in captions.caption(name, table) or name in ("theta_training", "losses")
    if name == "predictions":
        assert "truth" not in set(table["series"])
        assert sorted(table["time"].unique()) == IRREGULAR and set(table["time_unit"]) == {"year"}
    if name == "errors_rho":
        assert set(table["metric"]) == {"y_error"}


def test_tables_and_pages_say_that_theta_is_not_known(without_truth):
    cubes = {"sites": records.read(without_truth / "cube.nc", "cube")}
    table = table_one.table_one({"sites": pd.read_csv(without_truth / "selection.csv")})
    for text in (table_one.as_markdown(table), table_one.as_html(table)):
        assert "No θ-error of sites: the true θ is not known." in text
    page = markdown_page.as_page(
        table, cubes, {"sites": pd.read_csv(without_truth / "identifiability.csv")}, "snakemake"
    )
    assert "The true θ is not known, so there is no θ-error." in page and "nan >" not in page
    assert "No task has a known θ" in index_page.theta_summary(table, cubes)
    assert index_page.attribution(cubes) == "<ul><li>sites: data of your own, sites.csv</li></ul>"
    assert list(task_page.theta_metrics(cubes["sites"], table, "validation")) == []
    assert list(task_page.paired(table))[-1] == "y-error − erm"
    assert task_page.estimates(cubes["sites"], table, "validation").notna().all(axis=None)
    assert task_page.heading(cubes["sites"]).startswith("<h1>untitled task</h1><p>Data: measured.")


def test_a_known_theta_of_another_task_does_not_make_this_one_known(without_truth):
    own = pd.read_csv(without_truth / "selection.csv")
    known = own.assign(theta_error_mean=0.1, theta_error_interval=0.01, theta_error_meaning=THETA_ERROR)
    table = table_one.table_one({"sites": own, "pendulum": known.assign(data="simulated")})
    notes = table_one.notes(table)
    assert "No θ-error of sites: the true θ is not known." in notes
    assert not any("pendulum" in line for line in notes)
    formatted = table_one.formatted(table, "validation")["θ-error"]
    assert (formatted["sites"] == "–").all() and (formatted["pendulum"] == "0.100 ± 0.010").all()


# From a table to the report, under Snakemake


@pytest.fixture(scope="module")
def with_table(tmp_path_factory):
    """A project with one task on a table, data/hare.csv; run to its tables and its page."""
    project = Project(tmp_path_factory.mktemp("own") / "a project")
    copy_repository(project.root)
    (project.root / "data").mkdir()
    shutil.copy(small.ROOT / "tests/helpers/predator_prey.py", project.root / "predator_prey.py")
    table = changed(SITES, file="data/hare.csv", series=None, window=5, stride=1, split={"by": "time"} | HALVES)
    growth(np.arange(24) / 2, "a").to_csv(project.root / table["file"], index=False)
    task = TASK | {"module": "predator_prey.py", "table": table}
    (project.root / "config/tasks/hares.yaml").write_text(yaml.safe_dump(task))
    changes = {"tasks": ["hares"], "methods": list(METHODS), "strengths": {"sam": [0.05]}, "overrides": None}
    project.configure(changes)
    shutil.move(project.root / "changed.yaml", project.root / "config/test.yaml")
    result = project.snakemake("--cores", "2", "results/test/hares/selection.csv", "table", "report")
    assert result.returncode == 0, result.stdout
    return project


@pytest.mark.slow
def test_a_csv_file_and_a_file_of_python_give_a_report(with_table):
    selection = pd.read_csv(with_table.results / "hares/selection.csv")
    assert set(selection["method"]) == set(METHODS) and "theta_error_mean" not in selection
    dataset = records.read(with_table.results / "hares/dataset.nc", "dataset")
    assert dataset["start"].values[dataset["split"] == "test"].tolist() == [9.0, 9.5]
    page = (with_table.results / "report/hares.html").read_text()
    assert "Data: measured." in page and "data/hare.csv" in page
    assert "the true θ is not known" in (with_table.results / "table.md").read_text()
    assert with_table.plan("results/test/hares/selection.csv", "table", "report") == []


@pytest.mark.slow
def test_changed_data_are_read_and_learnt_from_again(with_table, tmp_path):
    project = with_table.copy(tmp_path / "a copy")
    project.append("data/hare.csv", "a,12.0,30.0,1.0\n")
    jobs = project.plan("table")
    assert names(jobs, "tabulate") == {"tabulate hares"}
    assert names(jobs, "train") == {"train hares erm 0 0-1", "train hares sam 0.05 0-1"}


@pytest.mark.slow
def test_what_the_section_says_is_learnt_from_again_and_code_of_tables_leaves_others_alone(with_table, tmp_path):
    project = with_table.copy(tmp_path / "a copy")
    changed_split = project.configure({"overrides": {"hares": {"table": {"stride": 2}}}})
    assert "tabulate" in {job.rule for job in project.plan("table", configuration=changed_split)}
    simulated = project.plan("table", configuration=project.configure({"tasks": ["pendulum"]}))
    assert not any("src/hybridsam/data/table.py" in job.inputs for job in simulated)


WRONG = {
    "a missing file": ({"file": "data/hares.csv"}, ["table.file", "'data/hares.csv'", "no such file"]),
    "a unit left out": ({"state": {"lynx": None}}, ["table.state.lynx", "None is not of type 'string'", "1"]),
    "an unknown split": ({"split": {"by": "site"}}, ["table.split.by", "'site'", "time", "series", "sample"]),
    "an unknown key": ({"windows": 3}, ["table", "windows", "allowed are file, time"]),
    "a column called source": ({"state": {"source": "1"}}, ["table.state", "source and note are for remarks"]),
}


@pytest.mark.slow
@pytest.mark.parametrize(("changes", "words"), WRONG.values(), ids=WRONG)
def test_a_mistake_in_the_section_stops_before_anything_runs(with_table, tmp_path, changes, words):
    assert_refused(with_table.copy(tmp_path / "a copy"), {"overrides": {"hares": {"table": changes}}}, words)


@pytest.mark.slow
def test_a_table_takes_the_place_of_an_archive_and_of_constants(with_table, tmp_path):
    project = with_table.copy(tmp_path / "a copy")
    constants = {"data": {"dt": {"value": 1, "unit": "s", "source": "O"}}}
    assert_refused(project, {"overrides": {"hares": constants}}, ["data: there is a table too"])


@pytest.mark.slow
def test_a_fault_in_the_data_is_one_line_in_the_log(with_table, tmp_path):
    project = with_table.copy(tmp_path / "a copy")
    project.append("data/hare.csv", "a,12.0,,1.0\n")
    assert project.snakemake("--cores", "1", "table").returncode != 0
    [line] = (project.root / "logs/test/hares/tabulate.log").read_text().splitlines()
    assert line.startswith("hybridsam: data/hare.csv: row 25, column hare: no value (1 of 25 rows have none); remove")


@pytest.mark.slow
def test_every_file_of_code_that_reads_a_table_is_an_input(with_table, tmp_path):
    project = with_table.copy(tmp_path / "a copy")
    [job] = [job for job in project.plan("--forceall", "table") if job.rule == "tabulate"]
    executed = executed_by(project, job, tmp_path)
    assert {"src/hybridsam/data/table.py", "src/hybridsam/data/columns.py"} <= executed <= set(job.inputs)
