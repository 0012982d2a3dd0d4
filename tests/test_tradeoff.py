"""The plane of the two errors: its centres, its Pareto front against brute force, what it says where there is none."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from helpers.oscillator import drawn, make_dataset, make_results
from hypothesis import given
from hypothesis import strategies as st

from hybridsam.analysis.cube import runs_table
from hybridsam.analysis.tradeoff import on_front
from hybridsam.figures import registry, style
from hybridsam.report import captions

GRID = {"erm": [0.0], "freg": [0.1], "sam": [0.02, 0.05, 0.2]}
few_values = st.sampled_from([0.0, 1.0, 2.0, 3.0, np.nan, np.inf])  # few, so that there are ties
errors = few_values | st.floats(0, 10)
points = st.lists(st.tuples(errors, errors), max_size=12)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return make_results(
        tmp_path_factory.mktemp("plane"), grid=GRID, diverged={("sam", 0.05): [1], ("freg", 0.1): [0, 1, 2]}
    )


def dominates(one, other):
    return one[0] <= other[0] and one[1] <= other[1] and one != other


@given(points)
def test_the_front_is_what_no_point_dominates(points):
    """By brute force over the finite points; equal ones are on it together, and neither error comes first."""
    finite = [point for point in points if np.isfinite(point).all()]
    expected = [point in finite and not any(dominates(other, point) for other in finite) for point in points]
    first, second = np.array(points, dtype=float).reshape(-1, 2).T
    assert on_front(first, second).tolist() == expected
    assert on_front(second, first).tolist() == expected
    assert any(expected) == bool(finite)


@given(points, st.sampled_from([1e-3, 7.0]))
def test_the_front_does_not_depend_on_units(points, factor):
    first, second = np.array(points, dtype=float).reshape(-1, 2).T
    np.testing.assert_array_equal(on_front(factor * first, second), on_front(first, second))


@pytest.mark.slow
def test_centres_and_runs_are_those_of_the_cube(made):
    table, figure = drawn("tradeoff", made)
    runs = runs_table(made.cube)
    completed = runs[runs["status"] == "completed"]
    centres = table[table["statistic"] == "centre"].set_index(["method", "rho"])
    of_rho = completed.astype({"method": str}).groupby(["method", "rho"])
    expected = of_rho.agg({"theta_error": "median", "y_error": lambda errors: np.exp(np.log(errors).mean())})
    np.testing.assert_allclose(centres.loc[expected.index, ["theta_error", "y_error"]], expected)
    assert centres.loc[("freg", 0.1), ["theta_error", "y_error"]].isna().all()
    assert centres["n"].to_dict() == {
        ("erm", 0): 3,
        ("freg", 0.1): 0,
        ("sam", 0.02): 3,
        ("sam", 0.05): 2,
        ("sam", 0.2): 3,
    }
    dots = np.concatenate([np.c_[line.get_data()] for line in figure.axes[0].get_lines() if line.get_marker() == "."])
    expected = completed.sort_values("y_error")[["theta_error", "y_error"]]
    np.testing.assert_allclose(dots[np.argsort(dots[:, 1])], expected)


def test_a_method_has_its_look_and_its_centres_are_joined_in_the_order_of_rho(made):
    table, figure = drawn("tradeoff", made)
    sam = table[(table["statistic"] == "centre") & (table["method"] == "sam")].sort_values("rho")
    colour, marker = style.look("sam")
    lines = [line for line in figure.axes[0].get_lines() if line.get_color() == colour]
    (joined,) = [line for line in lines if line.get_linestyle() == "-"]
    np.testing.assert_allclose(np.c_[joined.get_data()], sam[["theta_error", "y_error"]])
    filled, hollow = [line for line in lines if line.get_marker() == marker]
    assert filled.get_markerfacecolor() == colour and hollow.get_markerfacecolor() == "white"
    np.testing.assert_allclose(hollow.get_xdata(), sam[sam["rho"] == 0.05]["theta_error"])
    assert {text.get_text() for text in figure.axes[0].texts} <= {"0.02", "0.2"}
    words = [text.get_text() for text in figure.legends[0].get_texts()]
    assert words[:2] == ["erm (baseline)", "sam"] and "some runs failed" in words
    caption = captions.caption("tradeoff", table)
    assert "4 diverged: hollow markers" in caption and "1 value of ρ of which every run failed has no" in caption
    assert "erm is the baseline" in caption


def plane(theta_errors, y_errors, **columns) -> pd.DataFrame:
    """A table of centres of sam at rho 1, 2, ..., without runs."""
    number = len(theta_errors)
    table = pd.DataFrame({"method": "sam", "rho": np.arange(1.0, number + 1), "status": None, "statistic": "centre"})
    table = table.assign(
        n=2, failed=0, diverged=0, theta_error=theta_errors, y_error=y_errors, theta_error_unit="m", y_error_unit="1"
    )
    return table.assign(front=on_front(np.array(theta_errors), np.array(y_errors)), **columns)


def test_the_front_is_drawn_as_steps_to_the_edges():
    """Down to the first marker, right at its height, down to the next; the ends of rho stand beside their markers."""
    figure = registry.FIGURES["tradeoff"][1](plane([1.0, 2.0, 3.0, 3.5], [40.0, 4.0, 20.0, 2.0]), "title")
    axis = figure.axes[0]
    (front,) = [line for line in axis.get_lines() if line.get_drawstyle() == "steps-post"]
    (x, y), right, top = front.get_data(), axis.get_xlim()[1], axis.get_ylim()[1]
    assert list(x) == [1, 1, 2, 3.5, right] and list(y) == [top, 40, 4, 2, 2]
    assert axis.get_yscale() == "log" and axis.get_xscale() == "linear"
    assert [text.get_text() for text in axis.texts] == ["1", "4"]
    assert axis.get_xlabel() == "θ-error (m)" and axis.get_ylabel() == "y-error (test MSE)"


def test_labels_that_would_hide_something_are_left_out():
    """All centres in one place: there is room for some labels, and none lies on another or on a marker."""
    crowded = pd.concat([plane([1.0, 1.0], [1.0, 1.0], method=method) for method in style.LOOKS if method != "erm"])
    figure = registry.FIGURES["tradeoff"][1](crowded, "title")
    boxes = [text.get_window_extent() for text in figure.axes[0].texts]
    assert 0 < len(boxes) < 10
    marker = figure.axes[0].transData.transform((1.0, 1.0))
    assert not any(box.contains(*marker) for box in boxes)
    assert not any(one.overlaps(other) for i, one in enumerate(boxes) for other in boxes[:i])


@pytest.mark.slow
@pytest.mark.parametrize("spread", [1e-6, 3e-5, 6e-5, 1e-4, 3e-4, 0.1])
def test_numbers_at_the_axes_do_not_run_into_each_other(spread):
    """Also those of errors that differ in the sixth digit."""
    table = plane(0.5041 + spread * np.arange(4), [4.0, 3.0, 2.0, 1.0])
    figure = registry.FIGURES["tradeoff"][1](table, "title")
    figure.draw_without_rendering()
    axis = figure.axes[0]
    low, high = axis.get_xlim()
    seen = [label for label in axis.get_xticklabels() if low <= label.get_position()[0] <= high]
    boxes = [label.get_window_extent() for label in seen]
    assert len(boxes) > 1 and not any(one.overlaps(other) for one, other in pairwise(boxes))


@pytest.mark.slow
def test_without_truth_the_y_error_is_drawn_over_theta_itself(tmp_path):
    """A panel a parameter, whose dots are the runs and whose markers the median of theta and the geometric mean."""
    unknown = make_results(tmp_path, seeds=2, grid=GRID, dataset=make_dataset(truth=False))
    table, figure = drawn("tradeoff", unknown)
    assert "theta_error" not in table and not table["front"].any() and table["y_error"].notna().all()
    assert [axis.get_xlabel() for axis in figure.axes] == ["k (N m⁻¹)", "mass (kg)"]
    runs = runs_table(unknown.cube).set_index(["method", "rho", "seed"])["y_error"]
    theta = unknown.cube["theta"].sel(training_method="sam", rho=0.05).isel(data=0)
    for axis, parameter in zip(figure.axes, ("k", "mass"), strict=True):
        dots = np.concatenate([np.c_[line.get_data()] for line in axis.get_lines() if line.get_marker() == "."])
        assert len(dots) == len(runs) and "Pareto front" not in [t.get_text() for t in figure.legends[0].get_texts()]
        own = np.c_[theta.sel(parameter=parameter), runs["sam", 0.05]]
        assert all(np.isclose(dots, point).all(1).any() for point in own)
        marker = style.look("sam")[1]
        centres = [np.c_[line.get_data()] for line in axis.get_lines() if line.get_marker() == marker]
        centre = [np.median(own[:, 0]), np.exp(np.log(own[:, 1]).mean())]
        assert np.isclose(np.concatenate(centres), centre).all(1).any()
    caption = captions.caption("tradeoff", table)
    assert "θ is not known for these data, so there is no θ-error, and θ itself takes its place" in caption


def test_where_every_run_failed_the_figure_is_a_sentence(made):
    cube = made.cube.assign(status=made.cube["status"].where(made.cube["status"] == "missing", "diverged"))
    table, figure = drawn("tradeoff", replace(made, cube=cube))
    (axis,) = figure.axes
    assert not axis.get_lines() and "Every run failed" in axis.texts[0].get_text()
    assert "Every run failed (n = 0 for each method and ρ; 15 diverged; " in captions.caption("tradeoff", table)
