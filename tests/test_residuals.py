"""What models leave unexplained: its numbers against closed forms, its pictures for every kind of target."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from helpers.oscillator import drawn, make_results
from scipy.signal import lfilter
from test_pictures import DATASETS, TESTED, about_zero, predicted

from hybridsam.analysis import residuals
from hybridsam.analysis.results import Results
from hybridsam.figures import registry
from hybridsam.report import captions

GRID = {"erm": [0.0], "sam": [0.02, 0.05]}
GONE = {("sam", 0.02): [0, 1], ("sam", 0.05): [0, 1]}


def series(values) -> xr.DataArray:
    """(time,) or (sample, time) -> residuals (sample, time)."""
    return xr.DataArray(np.atleast_2d(np.asarray(values, dtype=float)), dims=("sample", "time"))


@pytest.mark.parametrize("times", [2, 5, 100])
def test_autocorrelation_of_series_with_closed_form(times):
    """1 - 1/T for a constant, the opposite where signs alternate, 0 for a single peak; whatever the unit."""
    constant, signs = np.ones(times), (-1.0) ** np.arange(times)
    for values, expected in ((constant, 1 - 1 / times), (signs, 1 / times - 1), (np.eye(times)[0], 0)):
        found = float(residuals.autocorrelation(series(1e-3 * values)))
        assert found == pytest.approx(expected, abs=1e-12)


def test_autocorrelation_does_not_lead_from_one_sample_to_the_next():
    """Of two samples: numerators and denominators are added."""
    assert float(residuals.autocorrelation(series([[1, 2], [3, -1]]))) == pytest.approx((2 - 3) / (1 + 4 + 9 + 1))


def test_autocorrelation_of_nothing_is_not_known():
    for values in ([[3.0], [1.0]], [[0.0, 0.0]], [[np.nan, np.nan]]):
        assert np.isnan(float(residuals.autocorrelation(series(values))))


@pytest.mark.parametrize("coefficient", [-0.7, 0.0, 0.9])
def test_autocorrelation_of_an_autoregressive_process_is_its_coefficient(coefficient):
    noise = np.random.default_rng(0).standard_normal((3, 20_000))
    process = series(lfilter([1], [1, -coefficient], noise, axis=1))
    assert float(residuals.autocorrelation(process)) == pytest.approx(coefficient, abs=3 / np.sqrt(noise.size))


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """Kind of target, whether sam diverged -> the files of a task, made once."""
    made: dict[tuple, Results] = {}

    def make(kind: str, gone: bool = False) -> Results:
        if (kind, gone) not in made:
            folder, diverged = tmp_path_factory.mktemp("results"), GONE if gone else {}
            made[kind, gone] = make_results(folder, seeds=2, dataset=DATASETS[kind](), grid=GRID, diverged=diverged)
        return made[kind, gone]

    return make


def left(results: Results, method: str = "sam") -> np.ndarray:
    """Data minus full model for the three samples and the predicted times, by NumPy."""
    target = results.dataset[results.dataset.attrs["target"]].values[TESTED]
    full = predicted(results, method).values
    return target[:, -full.shape[1] :] - full if full.ndim > 2 else target - full


@pytest.mark.slow
def test_a_series_and_its_numbers(results):
    table, figure = drawn("residuals", results("time series"))
    rows = table[table["method"] == "sam"]
    expected = left(results("time series"))
    np.testing.assert_allclose(rows.sort_values(["sample", "time"])["value"], expected.ravel())
    assert rows["rms"].iloc[0] == pytest.approx(np.sqrt(np.mean(expected**2)))
    lags = np.sum(expected[:, 1:] * expected[:, :-1]) / np.sum(expected**2)
    assert rows["autocorrelation"].iloc[0] == pytest.approx(lags)
    lines = [line.get_ydata() for line in figure.axes[1].get_lines() if len(line.get_ydata()) == expected.shape[1]]
    np.testing.assert_allclose(lines, expected)
    assert f"r₁ {lags:z.2f}".replace("-", "−") in figure.axes[1].texts[0].get_text()
    caption = captions.caption("residuals", table)
    assert "over 3 test samples and 200 times" in caption and f"0 ± {2 / np.sqrt(600):.2g} (95 %)" in caption
    assert table["noise"].isna().all() and "Band" not in caption


def test_a_band_shows_noise_that_is_known(results):
    made = results("time series")
    noisy = Results(made.dataset.assign_attrs(noise=1.5), made.cube, made.selection, made.rule, made.folder)
    table, figure = drawn("residuals", noisy)
    (band,) = figure.axes[0].patches
    assert (band.get_y(), band.get_height()) == (-3, 6)
    assert "Band: ± 2σ of the measurement noise (σ = 1.5)" in captions.caption("residuals", table)


@pytest.mark.slow
def test_readings_are_drawn_against_their_measured_values(results):
    made, expected = results("readings"), left(results("readings"))
    table, figure = drawn("residuals", made)
    (points,) = [line for line in figure.axes[1].get_lines() if len(line.get_xdata()) == 18]
    order, measured = np.argsort(points.get_xdata()), made.dataset["reading"].values[TESTED]
    np.testing.assert_allclose(points.get_xdata()[order], np.sort(measured.ravel()))
    np.testing.assert_allclose(points.get_ydata()[order], expected.ravel()[np.argsort(measured.ravel())])
    assert table[table["method"] == "sam"]["rms"].iloc[0] == pytest.approx(np.sqrt(np.mean(expected**2)))
    assert figure.axes[0].get_xscale() == "log" and figure.axes[0].get_xlabel() == "measured\n(counts)"


def test_readings_of_several_units_have_a_row_for_each(tmp_path):
    made = make_results(tmp_path, seeds=1, grid={"erm": [0.0]}, dataset=about_zero())
    table, figure = drawn("residuals", made)
    labels = [axis.get_ylabel().replace("\n", " ") for axis in figure.axes]
    assert labels == ["residual of what is seen of the reading (counts)", "residual of vis_3 (V)"]
    by_unit = table.groupby("unit")["value"].agg(lambda values: np.sqrt(np.mean(values**2)))
    np.testing.assert_allclose(table["rms"], table["unit"].map(by_unit))
    assert [axis.get_xscale() for axis in figure.axes] == ["linear", "linear"]  # some measured values are negative


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "over"), [("fields", (0, 1)), ("frames", (0, 1, 4)), ("images", (0, 3))])
def test_maps_are_root_mean_squares_the_right_way_up(kind, over, results):
    """Over samples, times and channels; the largest y, or the first row, is on top."""
    table, figure = drawn("residuals", results(kind))
    everything = left(results(kind))
    expected = np.sqrt(np.mean(everything**2, axis=over))
    expected = expected if kind == "images" else expected[::-1]
    components = expected.shape[2] if kind == "fields" else 1
    for i, axis in enumerate(figure.axes[: 2 * components : 1][1::2]):
        shown = expected[..., i] if kind == "fields" else expected
        np.testing.assert_allclose(axis.get_images()[0].get_array(), shown, rtol=1e-3)
    rms = table[table["method"] == "sam"].drop_duplicates("component")["rms"]
    axes = (0, 1, 2, 3) if kind == "fields" else None
    np.testing.assert_allclose(rms, np.sqrt(np.mean(everything**2, axis=axes)))
    limits = [axis.get_images()[0].get_clim() for axis in figure.axes[:2]]
    assert limits[0] == limits[1] and limits[0][0] == 0


def test_a_method_that_is_far_off_does_not_hide_the_others(results):
    """Its map is of the last colour; the pointed end of the colour bar says so."""
    table = registry.tabulate("residuals", results("images"))
    pixels = list(table.filter(like="x="))
    table.loc[table["method"] == "erm", pixels] *= 1000
    figure = registry.FIGURES["residuals"][1](table, "title")
    least = table.loc[table["method"] == "sam", pixels].max(axis=None)
    assert figure.axes[0].get_images()[0].get_clim() == pytest.approx((0, 4 * least))
    assert "pointed end" in captions.caption("residuals", table)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["v", "image", "frame", "what is seen of the field"])
@pytest.mark.parametrize("kind", ["frames", "images"])
def test_the_label_of_a_colour_bar_is_no_longer_than_the_figure_is_high(kind, name, results):
    made = results(kind)
    dataset = made.dataset.copy()
    target = dataset.attrs["target"]
    dataset[target] = dataset[target].assign_attrs(long_name=name)
    _, figure = drawn("residuals", replace(made, dataset=dataset))
    figure.draw_without_rendering()
    [label] = [axis.yaxis.label for axis in figure.axes if axis.get_ylabel()]
    assert label.get_text().replace("\n", " ") == f"RMS residual of {name}"
    low, high = label.get_window_extent().intervaly
    assert low >= 0 and high <= figure.bbox.y1


@pytest.mark.slow
@pytest.mark.parametrize("kind", DATASETS)
def test_a_method_without_a_completed_run_keeps_its_place(kind, results, tmp_path):
    """Empty, with words; the table, read back, says the same."""
    made = results(kind, gone=True)
    registry.write("residuals", made, [tmp_path / "a.csv"])
    table, figure = drawn("residuals", made)
    figure.draw_without_rendering()
    assert "none\ncompleted\n2 failed" in figure.axes[1].get_title()
    assert table[table["method"] == "sam"]["rms"].isna().all()
    caption = captions.caption("residuals", pd.read_csv(tmp_path / "a.csv"))
    assert caption == captions.caption("residuals", table) and "sam: none completed." in caption


@pytest.mark.slow
@pytest.mark.parametrize("kind", DATASETS)
def test_nothing_is_left_of_runs_that_all_diverged(kind, tmp_path):
    diverged = {("erm", 0.0): [0]}
    made = make_results(tmp_path, seeds=1, grid={"erm": [0.0]}, diverged=diverged, dataset=DATASETS[kind]())
    table, figure = drawn("residuals", made)
    figure.draw_without_rendering()
    assert table["rms"].isna().all()
    caption = captions.caption("residuals", table)
    assert ": none. At" in caption and "no run completed (n = 0; 1 diverged)." in caption
