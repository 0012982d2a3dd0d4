"""Equal steps of a user's times are equal however they are printed, and others are not."""

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from helpers.refusals import refused
from helpers.tables import changed
from hypothesis import given
from hypothesis import strategies as st

from hybridsam.data.table import dataset_of, read_dataset
from hybridsam.data.times import Times

TABLE = {
    "file": "log.csv",
    "time": {"column": "t", "unit": "s"},
    "state": {"x": "m"},
    "window": 10,
    "stride": 5,
    "split": {"by": "time", "train": 40, "validation": 20, "test": 20},
}
N = np.arange(80)


def frame(times):
    return pd.DataFrame({"t": times, "x": N[: len(times)] * 0.5})


def found(times, **time):
    return dataset_of(frame(times), TABLE | {"time": TABLE["time"] | time})


def refusal(times, **time):
    return refused(found, times, **time)


EQUAL = {  # times, the step, how exactly it comes out
    "Unix seconds at 10 Hz": (1.7e9 + 0.1 * N, 0.1, 1e-6),
    "the same as text": ([f"{1700000000 + 0.1 * n:.1f}" for n in N], 0.1, 1e-12),
    "added up": (np.cumsum(np.full(80, 0.1)) + 1.7e9, 0.1, 1e-5),
    "Julian days of ten minutes": ([f"{2459000.5 + n / 144:.6f}" for n in N], 1 / 144, 1e-6),
    "the same as numbers": (np.round(2459000.5 + N / 144, 6), 1 / 144, 1e-6),
    "decimal years of days": ([f"{2001 + n / 365:.4f}" for n in N], 1 / 365, 1e-4),
    "decimal years of months": ([f"{1990 + n / 12:.4f}" for n in N], 1 / 12, 1e-4),
    "nanoseconds": (1_700_000_000_123_456_789 + 100_000_000 * N, 1e8, 1e-9),
    "nanoseconds as text": ([str(1_700_000_000_123_456_789 + 100_000_000 * int(n)) for n in N], 1e8, 1e-9),
    "milliseconds that are rounded": (np.round(1.7e12 + 100 / 3 * N).astype(int), 100 / 3, 1.0),
    "32 bits": ((0.1 * N).astype("float32"), 0.1, 1e-5),
    "unsigned numbers": ((10 * N).astype("uint8")[:25].astype("uint64"), 10, 1e-9),
    "before our era": (-0.5 * N[::-1], 0.5, 1e-12),
}


@pytest.mark.parametrize(("times", "step", "exact"), EQUAL.values(), ids=EQUAL)
def test_equal_steps_are_equal(times, step, exact):
    table = TABLE if len(times) == 80 else changed(TABLE, split={"train": 10, "validation": 7, "test": 8}, window=5)
    elapsed = dataset_of(frame(times), table)["time"].values
    np.testing.assert_allclose(elapsed, step * np.arange(len(elapsed)), rtol=0, atol=exact)


@pytest.mark.parametrize("kind", ["frame", "CSV", "NetCDF"])
def test_nanoseconds_lose_nothing(kind, tmp_path):
    """As binary numbers such times are off by up to 128."""
    data = frame(1_700_000_000_000_000_001 + 7 * N)
    table = TABLE | {"file": str(tmp_path / ("log.nc" if kind == "NetCDF" else "log.csv"))}
    data.to_csv(tmp_path / "log.csv", index=False)
    data.set_index("t").to_xarray().to_netcdf(tmp_path / "log.nc")
    dataset = dataset_of(data, table) if kind == "frame" else read_dataset(table)
    assert dataset["time"].values.tolist() == [7 * n for n in range(10)]
    assert dataset["start"].values[0] == 1.7e18


def test_times_of_fields_are_exact_too():
    times = 1_700_000_000_000_000_001 + 7 * N
    data = xr.Dataset({"x": (("t", "a", "b"), np.arange(480.0).reshape(80, 2, 3))}, {"t": times})
    dataset = dataset_of(data, TABLE | {"axes": ["a", "b"]})
    assert dataset["time"].values.tolist() == [7 * n for n in range(10)]


@given(st.integers(1, 6), st.floats(0.013, 50), st.floats(-1e6, 1e6))
def test_times_that_are_rounded_to_their_digits_are_equal(decimals, step, first):
    step = max(step, 25 * 10.0**-decimals)  # so that the digits tell the steps
    elapsed = found([f"{first + step * n:.{decimals}f}" for n in N])["time"].values
    np.testing.assert_allclose(elapsed, step * np.arange(10), rtol=0, atol=1.01 * 10.0**-decimals)


def test_where_samples_differ_their_mean_is_taken_and_that_is_said(caplog):
    caplog.set_level("INFO")
    times = [f"{n / 3:.2f}" for n in N]
    elapsed = found(times)["time"].values
    samples = np.array(times, float)[[list(range(i, i + 10)) for i in (*range(0, 31, 5), 40, 45, 50, 60, 65, 70)]]
    np.testing.assert_allclose(elapsed, (samples - samples[:, :1]).mean(0), atol=1e-12)
    assert any("differ by up to 0.01 s; their mean is taken" in record.getMessage() for record in caplog.records)


UNEQUAL = {
    "a year that is missing": np.delete(np.arange(1900, 1981), 33),
    "a whole minute, once": [*range(0, 330, 10), *range(331, 801, 10)],
    "digits that do not tell the steps": [f"{2001 + n / 8766:.4f}" for n in N],
    "noise beyond the digits": 0.1 * N + 0.002 * np.sin(7.0 * N),
    "days of months": np.cumsum([31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] * 7)[:80],
}


@pytest.mark.parametrize("times", UNEQUAL.values(), ids=UNEQUAL)
def test_other_steps_are_refused(times):
    assert "all samples must have the same time steps, windows equal ones" in refusal(times)


def test_a_time_that_stands_twice_is_called_that():
    times = [0, 1, 2, 3, 3.5, 4, 3.5, *range(10, 80)]
    assert "row 7, column t: 3.5 does not come after 4; sort the rows" in refusal(times)
    times = [0, 1, 2, 3, 3.2, 3.5, 3.5, *range(10, 80)]
    assert refusal(times).startswith("log.csv: row 7, column t: time 3.5 stands twice, also in row 6; remove one, or")
    at = ["1700000000000000001", "1700000000000000002", "1700000000000000002"]
    assert "row 3, column t: time 1700000000000000002 stands twice" in refusal(at)


# The nominal step


def jitter(seed=0):
    return np.round(5.0 + 0.1 * N + np.random.default_rng(seed).integers(-1, 2, 80) * 0.001, 3)


def test_noise_is_refused_with_the_step_to_write_and_gone_with_it():
    noisy = 5.0 + 0.1 * N + np.random.default_rng(0).normal(0, 0.003, 80)
    assert refusal(noisy).endswith(
        "; if they are equal but for noise, say so by table.time.step; the median of the steps is 0.1007 s, their mean "
        "0.1002 s"
    )
    dataset = found(noisy, step=0.1)
    assert dataset["time"].values.tolist() == [0.1 * n for n in range(10)]
    np.testing.assert_allclose(dataset["start"], noisy[0] + 0.1 * np.array([*range(0, 31, 5), 40, 45, 50, 60, 65, 70]))


@pytest.mark.parametrize("seed", range(3))
def test_a_millisecond_of_noise_is_gone_with_the_step(seed):
    assert found(jitter(seed), step=0.1)["time"].values.tolist() == [0.1 * n for n in range(10)]


def test_a_row_that_is_missing_or_too_far_off_is_named():
    assert refusal(np.delete(jitter(), 17), step=0.1) == (
        "log.csv: row 18, column t: 6.8 is 17.99 steps of 0.1 s after 5.001, not 17; a row is missing before it, or "
        "table.time.step is wrong; the median of the steps is 0.1 s, their mean 0.1013 s; that before row 18 is 0.2 s"
    )
    late = jitter()
    late[30] += 0.06
    assert refusal(late, step=0.1).startswith("log.csv: row 31, column t: ")
    assert "row 7, column t: 5.599 is 5.436 steps of 0.11 s" in refusal(jitter(), step=0.11)


@pytest.mark.parametrize("gap", [1, 17, 33, 79])
def test_a_gap_is_named_with_the_usual_step(gap):
    """Also where the first window has it, which the others are compared with."""
    times = np.r_[0:gap, gap + 2 : 82]
    assert refusal(times).endswith(
        "windows equal ones; the median of the steps is 1 s, their mean "
        f"{refusal(times).split('their mean ')[1].split(' s;')[0]} s; that before row {gap + 1} is 3 s"
    )


def test_nothing_is_usual_where_steps_change():
    assert "median" not in refusal(np.cumsum(1.3**N))
    assert "median" not in refusal(np.cumsum([1, 5] * 40) + (N > 50))


def test_steps_that_are_farther_off_are_told(caplog):
    caplog.set_level("INFO")
    slow = 0.1004 * N
    assert found(slow, step=0.1)["time"].values.tolist() == [0.1 * n for n in range(10)]
    assert (
        "log.csv: row 80, column t: 7.9316 is taken for 79 steps, and is 79.32, the farthest off; the median of the "
        "steps is 0.1004 s, their mean 0.1004 s"
    ) in caplog.messages
    caplog.clear()
    found(0.1 * N + 0.04 * (N > 30), step=0.1)
    assert "their mean 0.1005 s" in caplog.text and "row " in caplog.text
    caplog.clear()
    found(jitter(), step=0.1)
    assert "farthest" not in caplog.text


def test_each_series_begins_its_own_steps():
    data = pd.concat([frame(jitter(i) + 3.3 * i).assign(site=i) for i in range(3)])
    table = changed(TABLE, series="site", window=None, stride=None, time=TABLE["time"] | {"step": 0.1})
    dataset = dataset_of(data, table | {"split": {"by": "series", "train": 1, "validation": 1, "test": 1}})
    assert dataset["time"].values.tolist() == [0.1 * n for n in range(80)]
    assert sorted(dataset["start"].values) == pytest.approx([jitter(i)[0] + 3.3 * i for i in range(3)])


@pytest.mark.parametrize("step", [-0.1, float("inf"), float("nan"), "fast"])
def test_a_step_that_is_none_is_refused(step):
    assert refusal(0.1 * N, step=step).startswith("table.time.step: ")


def test_a_step_is_in_the_unit_of_the_section():
    data = frame(60 * N).set_index("t").to_xarray()
    data["t"].attrs["units"] = "minutes since 2001-01-01"
    table = TABLE | {"time": {"column": "t", "unit": "h", "step": 1}, "convert": True}
    assert dataset_of(data, table)["time"].values.tolist() == list(range(10))


@given(st.lists(st.integers(-(10**18), 10**18), min_size=1, max_size=9))
def test_whole_numbers_are_exact(numbers):
    times = Times.read(np.array(numbers), None)
    assert times.since.tolist() == [float(number - numbers[0]) for number in numbers]
    assert times.printed.tolist() == list(map(str, numbers))
