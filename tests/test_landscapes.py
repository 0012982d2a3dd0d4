"""Landscapes over theta: closed forms, one way for affine sciences and another for others, minima where theta is."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers.known import ASKED, LIFT, K, Known, lifted, members, oscillator, states, with_missing
from helpers.oscillator import drawn

from hybridsam.analysis import landscapes
from hybridsam.analysis.identification import identify
from hybridsam.figures.landscape import draw_landscape
from hybridsam.models.parameters import Parameter
from hybridsam.report.captions import caption


def damped(x):
    return -0.3 * x[..., 1]


def found(rows=(K,), science=oscillator, missing=damped, asked=ASKED, start=None):
    model = Known([with_missing(missing)] * 4, science, *rows)
    return identify(model, members(4, len(rows), start), states(), asked)


def test_curves_have_their_closed_forms():
    """Of damping d p beside k sin q: g = (k - k*) sin q - d p."""
    result = found()
    q, p = states()["state"].values.reshape(-1, 2).T
    k = result["curve_theta"].values[0]
    g = np.stack([np.zeros((len(k), len(q))), np.outer(k - 1.3, np.sin(q)) - 0.3 * p])
    f = np.stack([np.tile(p, (len(k), 1)), -np.outer(k, np.sin(q))])
    ff, fg, gg = ((a * b).mean((0, 2)) for a, b in ((f, f), (f, g), (g, g)))
    left = result["left"].sel(assumption="small").values[0]
    np.testing.assert_allclose(left, np.sqrt(gg), rtol=1e-6)
    np.testing.assert_allclose(result["correlation"].values[0], np.abs(fg) / np.sqrt(ff * gg), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(result["combination"].values[0], gg * np.abs(fg), rtol=1e-5, atol=1e-6)


def test_each_curve_is_least_at_the_theta_of_its_assumption():
    result = found()
    for title in result["assumption"].values:
        theta = result["theta"].sel(assumption=title).item()
        if np.isfinite(theta):
            curve = result["left"].sel(assumption=title).values[0]
            assert result["curve_theta"].values[0, curve.argmin()] == pytest.approx(theta, rel=1e-9)


def squared(theta, x):
    """As the oscillator, but of the square of its parameter."""
    return oscillator({"k": theta["root"] ** 2}, x)


def test_a_science_that_is_not_affine_in_theta_has_the_curve_of_the_one_that_is():
    root = Parameter("root", "s-0.5", 0.7, "softplus", lower=0.0)
    start = np.linspace(0.8, 1.4, 4)[:, None]
    result = found((root,), squared, start=start)
    same = found()
    for title in ("small", "straight"):
        theta, curve = result["curve_theta"].values[0], result["left"].sel(assumption=title).values[0]
        inside = (theta**2 > same["curve_theta"].values.min()) & (theta**2 < same["curve_theta"].values.max())
        expected = np.interp(theta[inside] ** 2, same["curve_theta"].values[0], same["left"].sel(assumption=title)[0])
        np.testing.assert_allclose(curve[inside], expected, rtol=0.02, atol=2e-3)
        assert inside.sum() > 10


def test_of_two_parameters_a_map_holds_the_curves_and_is_least_at_both():
    result = found((K, LIFT), lifted)
    first, second = result["map_theta"].values
    at = result["left_map"].sel(assumption="small").values
    k, lift = result["theta"].sel(assumption="small").values
    i, j = np.unravel_index(at.argmin(), at.shape)
    assert abs(first[i] - k) <= np.diff(first)[0] and abs(second[j] - lift) <= np.diff(second)[0]
    curves = result["left"].sel(assumption="small").values
    ends = np.array([at[:, j].min(), at[i].min()])
    assert (ends >= curves.min(1) - 1e-9).all(), "no map is below the least of all"
    assert "map_theta" not in found()


def test_the_range_holds_starts_ends_and_every_theta_but_none_that_is_far_off():
    near = found()
    values = near["curve_theta"].values
    assert values.min() <= min(near["theta_start"].min(), near["trained"].min(), np.nanmin(near["theta"]))
    assert values.max() >= max(near["theta_start"].max(), near["trained"].max(), np.nanmax(near["theta"]))
    far = found(missing=lambda x: -40 * torch.sin(x[..., 0]), asked=["small"])
    assert far["theta"].item() == pytest.approx(41.3, rel=1e-3)
    assert far["curve_theta"].max() < 5
    assert (values >= 0).all(), "below its bound there is no k"


def test_a_member_of_the_same_theta_leaves_a_range():
    same = found(start=np.full((4, 1), 1.0))
    assert np.ptp(same["curve_theta"].values) > 0


def test_without_assumptions_there_is_no_landscape():
    assert "left" not in found(asked=[])


@pytest.mark.parametrize("case", ["normal", "one_parameter"])
def test_the_figure_has_a_curve_for_each_assumption_and_maps_of_two_parameters(case, results):
    table, figure = drawn("landscape", results(case))
    parameters = results(case).cube.sizes["parameter"]
    assert len(figure.axes) == 3 * (parameters + (2 if parameters == 2 else 0))
    curves = [line for line in figure.axes[0].get_lines() if len(line.get_xdata()) == 11]
    rows = table[(table["statistic"] == "curve") & (table["parameter"] == "k")]
    for line, title in zip(curves, ("small", "straight"), strict=True):
        np.testing.assert_allclose(line.get_ydata(), rows[rows["measure"] == title]["value"])
    assert table["statistic"].value_counts()["minimum"] == parameters
    assert ("map" in set(table["statistic"])) == (parameters == 2)


def test_why_there_is_none_stands_in_its_place(results, tmp_path):

    from hybridsam.analysis.landscapes import landscape

    made = replace(results("one_parameter"))
    made.__dict__["identification"] = (
        results("one_parameter").identification[["trained"]].assign_attrs(reason="too few")
    )
    table = landscape(made).assign(data="simulated", datasets=1)
    assert draw_landscape(table, "Title").axes[0].texts[0].get_text() == "There is no landscape: too few."
    assert caption("landscape", table).startswith("No landscape (simulated), as too few (n = 3 for each method")


def test_every_variable_has_a_name_and_a_unit():
    result = found((K, LIFT), lifted)
    for name in landscapes.ABOUT:
        assert result[name].attrs["long_name"] and result[name].attrs["units"]


def test_a_map_that_differs_by_round_off_alone_has_no_shades(results):
    table = landscapes.landscape(results("normal")).assign(data="simulated")
    is_flat = (table["statistic"] == "map") & (table["measure"] == "straight")
    table.loc[is_flat, "value"] = 0.04 * (1 + 1e-15 * np.arange(is_flat.sum()))
    shades = {axis.get_title(): len(axis.collections) for axis in draw_landscape(table, "Title").axes}
    assert shades["small"] > 0 and shades["straight"] == 0
