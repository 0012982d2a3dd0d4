"""How figures write units and numbers."""

import re

import pandas as pd
import pytest
from helpers.geometry import faults

from hybridsam.figures import style


@pytest.mark.parametrize(
    ("unit", "written"),
    [
        ("m s-1", "m s⁻¹"),
        ("(rad s-1)2", "(rad s⁻¹)²"),
        ("rad2, (rad s-1)2", "rad², (rad s⁻¹)²"),
        ("kg m-0.5", "kg m^-0.5"),
        ("m0.5", "m^0.5"),
        ("(m s-1)1/2", "(m s⁻¹)^(1/2)"),
        ("m^2 K**-1", "m² K⁻¹"),
        ("1e4 pelts", "1e4 pelts"),
        ("1e-3 mol m-3", "1e-3 mol m⁻³"),
        ("10^4 pelts", "10^4 pelts"),
        ("µm2 °C-1", "µm² °C⁻¹"),
        ("ppm CO2", "ppm CO2"),
        ("g CO2 m-2 s-1", "g CO2 m⁻² s⁻¹"),
        ("mol NO3 K2", "mol NO3 K²"),
        ("H2O kg-1", "H2O kg⁻¹"),
        ("standard units", "standard units"),
    ],
)
def test_a_unit_has_raised_whole_powers_and_no_other_number_is_raised(unit, written):
    assert style.with_unit("x", unit) == f"x ({written})"
    assert style.with_unit("x\n", "1") == "x"


@pytest.mark.parametrize(
    ("ends", "ticks"),
    [
        ((0.2, 1.3), {"0.5", "1"}),
        ((0, 5e-5), {"0", "5e-5"}),
        ((0, 20_000), {"0", "10000", "20000"}),
        ((-3e7, 0), {"−2e7", "0"}),
        ((-0.02, 0.02), {"−0.02", "0", "0.02"}),
        ((101_000, 101_500), {"101000", "101500"}),
    ],
)
def test_ticks_have_no_prefix_and_no_offset(ends, ticks):
    """500m beside a unit of seconds reads like metres."""
    figure, axes = style.panels(["a"], ["erm"], "Title", wide=True)
    axes["a", "erm"].plot(ends, ends)
    axes["a", "erm"].set_xlim(*ends)
    style.legend(figure, axes["a", "erm"].get_lines())
    texts = [label.get_text() for label in axes["a", "erm"].get_xticklabels()]
    assert ticks <= set(texts) and all(re.fullmatch(r"−?[\d.]+(e-?\d+)?", text) for text in texts)


@style.styled
def with_long_numbers():
    figure, axes = style.panels(["a"], list("abcdefgh"), "Title")
    axes["a", "a"].plot([100_400, 101_700], [298.001, 298.002])
    style.legend(figure, axes["a", "a"].get_lines())
    return figure


def test_long_numbers_at_ticks_do_not_run_into_each_other():
    figure = with_long_numbers()
    assert faults(figure) == []
    assert figure.axes[0].yaxis.get_offset_text().get_text() == ""
    assert any(label.get_text().startswith("298.00") for label in figure.axes[0].get_yticklabels())


@style.styled
def with_columns(number):
    figure, axes = style.panels(["a", "b"], [f"m{i}" for i in range(number)], "Title")
    for (row, column), axis in axes.items():
        if column:
            axis.plot([0, 10], [0, 1], label="line")
            axis.set_title(f"{column}\nρ = 0.05\nseed 0" if row == "a" else "")
    for row in "ab":
        style.limit(axes[row, None], pd.Series([0, 1]), pd.Series([5]))
        for axis in style.leftmost(axes, row):
            axis.set_ylabel(row)
    style.label_below(axes, "b", "time (s)")
    style.legend(figure, axes["a", "m0"].get_lines())
    return figure, axes


@pytest.mark.parametrize(("number", "parts"), [(1, [1]), (8, [8]), (9, [5, 4]), (11, [6, 5]), (17, [6, 6, 5])])
def test_many_columns_go_below_each_other_on_the_same_axes(number, parts):
    figure, axes = with_columns(number)
    assert faults(figure) == []
    panels = {key: axis for key, axis in axes.items() if key[1]}
    assert set(figure.axes) == set(panels.values()) and len(panels) == 2 * number
    heights = {round(axis.get_window_extent().height) for axis in panels.values()}
    assert max(heights) - min(heights) <= 1
    for row in "ab":
        tops = [round(axes[row, f"m{i}"].get_window_extent().y0) for i in range(number)]
        assert [tops.count(top) for top in dict.fromkeys(tops)] == parts
        assert len({axis.get_ylim() for (name, _), axis in panels.items() if name == row}) == 1
        assert [axis.get_ylabel() for axis in style.leftmost(axes, row)] == [row] * len(parts)
    for (row, _), axis in panels.items():
        assert axis.get_xlabel() == ("time (s)" if row == "b" else "")
        assert any(label.get_text() for label in axis.get_xticklabels() if label.get_visible()) == (row == "b")
