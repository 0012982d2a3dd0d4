"""What the log says of a user's table: rows left out, samples in two splits, inputs that never change."""

import numpy as np
import pandas as pd
import pytest
from helpers.tables import LAW, ONE_SERIES, SITES, changed, hares, law, sites

from hybridsam.data.table import dataset_of

BY_LABEL = changed(SITES, split={"train": ["a", "d"], "validation": ["b"], "test": ["c"]})


def said(caplog, frame, table, level="WARNING"):
    """Lines of that level, but for those on units."""
    caplog.set_level("INFO")
    caplog.clear()
    dataset_of(frame, table)
    lines = [record.getMessage() for record in caplog.records if record.levelname == level]
    return [line for line in lines if "not known to pint" not in line]


def parts(train, validation, test):
    return {"train": train, "validation": validation, "test": test}


LEFT_OUT = {
    "none": (hares(), changed(ONE_SERIES, stride=5, split=parts(10, 5, 5)), 1, "1 behind the times that the splits"),
    "windows": (
        hares(),
        changed(ONE_SERIES, window=4, stride=4, split=parts(9, 5, 5)),
        5,
        "2 behind the times that the splits ask for, 3 in no whole window",
    ),
    "between windows": (
        hares(),
        changed(ONE_SERIES, window=3, stride=4, split=parts(7, 7, 7)),
        3,
        "3 in no whole window",
    ),
    "series": (
        sites(labels="abcdefghij"),
        changed(SITES, split=parts(["b"], ["a"], ["c"])),
        42,
        "42 of series that no split asks for (d, e, f, g, h, …)",
    ),
    "series and windows": (
        sites(range(7)),
        changed(SITES, window=3, split=parts(["b"], ["a"], ["c"])),
        10,
        "7 of series that no split asks for (d), 3 in no whole window",
    ),
    "rows": (law(), changed(LAW, split=parts(2, 2, 1)), 3, "3 that no split asks for"),
    "groups": (
        law(),
        changed(LAW, series="day", split={"by": "series", **parts([0], [3], [1])}),
        2,
        "2 of series that no split asks for (2)",
    ),
}


@pytest.mark.parametrize(("frame", "table", "count", "why"), LEFT_OUT.values(), ids=LEFT_OUT)
def test_rows_in_no_sample_are_counted_by_reason(frame, table, count, why, caplog):
    [line] = [line for line in said(caplog, frame, table, "INFO") if "rows are in no sample" in line]
    assert line.startswith(f"{table['file']}: {count} of {len(frame)} rows are in no sample: {why}")


@pytest.mark.parametrize(("frame", "table"), [(sites(), SITES), (law(), LAW)], ids=["sites", "law"])
def test_nothing_is_said_where_every_row_is_used(frame, table, caplog):
    assert said(caplog, frame, table, "INFO") == said(caplog, frame, table) == []


# Samples in two splits


def test_rows_in_two_splits_are_named(caplog):
    twice = pd.concat([law(), law()], ignore_index=True)
    [line] = said(caplog, twice, LAW)
    dataset = dataset_of(twice, LAW)
    own = {name: set(dataset["pressure"].values[dataset["split"] == name]) for name in ("train", "validation", "test")}
    count = sum(len(own[name] & own["train"]) for name in ("validation", "test"))
    assert line.startswith(f"law.csv: {count} of 8 samples of validation and test are in train, too: row ")
    first, same = (int(text.split()[0].rstrip(";")) for text in line.split(" row ")[1:])
    assert abs(first - same) == 8


def test_rows_that_stand_twice_in_one_split_or_differ_in_a_column_are_no_leak(caplog):
    twice = pd.concat([law(), law()], ignore_index=True)
    together = changed(LAW, series="day", split={"by": "series", **parts([0, 1], [2], [3])})
    assert said(caplog, twice, together) == []
    assert said(caplog, twice.assign(blue=np.arange(16.0)), LAW) == []


def test_series_in_two_splits_are_named(caplog):
    frame = sites()
    values = ["hare", "lynx"]
    frame.loc[frame["site"] == "b", values] = frame.loc[frame["site"] == "d", values].to_numpy()
    at = "the sample that begins at year 0 of series"
    assert said(caplog, frame, BY_LABEL) == [
        f"sites.csv: 1 of 2 samples of validation and test are in train, too: {at} b (validation) has the "
        f"values of {at} d; such errors say nothing about new data"
    ]


def test_series_at_rest_are_no_leak(caplog):
    frame = sites()
    rest = frame["site"].isin(["b", "d"])
    assert (
        said(caplog, frame.assign(hare=frame["hare"].where(~rest, 0), lynx=frame["lynx"].where(~rest, 1)), BY_LABEL)
        == []
    )


# Inputs that never change


def test_constant_inputs_are_named(caplog):
    frame = law().assign(pressure=101325.0, blue=0.0)
    assert said(caplog, frame, LAW) == [
        f"law.csv: the input {name} in all training samples, so that there is nothing to learn of what it does"
        for name in ("pressure is 101325", "blue is 0")
    ]


def test_an_input_that_changes_only_beyond_training_is_named(caplog):
    train = dataset_of(law(), LAW)
    known = train["pressure"].values[train["split"] == "train"]
    frame = law().assign(red=lambda own: np.where(own["pressure"].isin(known), 0.3, 0.9))
    [line] = said(caplog, frame, LAW)
    assert line.startswith("law.csv: the input red is 0.3 in all training samples, but not in the others, so that")
