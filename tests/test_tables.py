"""Table 1: what stands in its rows, what is marked, what its notes say, from selections made by hand."""

import json
import re

import numpy as np
import pandas as pd
import pytest
from docutils.core import publish_string
from helpers.project import ROOT
from hypothesis import given
from hypothesis import strategies as st
from jinja2 import Environment, StrictUndefined

from hybridsam.analysis.cube import THETA_ERROR
from hybridsam.core.errors import UserError
from hybridsam.report.numbers import column, in_columns, plus_minus
from hybridsam.report.table_one import as_html, as_markdown, formatted, notes, table_one

NAN = np.nan
ROW = {"rho": 0.0, "n": 3, "diverged": 0, "exploded": 0, "rule": "validation", "data": "simulated"}
RESULTS = {  # method -> theta error and y error: mean, half width of the interval, standing
    "erm": ((0.4, 0.089, "worse"), (0.02, 0.001, "best")),
    "sam": ((0.1, 0.02, "best"), (0.03, 0.002, "worse")),
    "fsam": ((0.12, 0.03, "tied"), (0.021, 0.0011, "tied")),
}


def selection(results=None, meaning=THETA_ERROR, **changes):
    """A selection by one rule. results: as RESULTS; changes: of columns."""
    rows = []
    for method, errors in (results or RESULTS).items():
        row = ROW | {"method": method, "theta_error_meaning": meaning}
        for name, (mean, interval, standing) in zip(("theta_error", "y_error"), errors, strict=True):
            row |= {f"{name}_mean": mean, f"{name}_interval": interval, f"{name}_standing": standing}
        rows.append(row)
    return pd.DataFrame(rows).assign(**changes)


def of(**changes):
    """Table 1 of one task."""
    return table_one({"pendulum": selection(**changes)})


def test_a_row_a_task_and_method_with_mean_and_interval():
    table = table_one({"first": selection(), "second": selection(rho=0.1)})
    frame = formatted(table, "validation")
    assert frame.index.tolist() == [(task, method) for task in ("first", "second") for method in RESULTS]
    assert frame.loc[("second", "erm")].tolist() == ["0.400 ± 0.089", "0.0200 ± 0.0010", "0.1", "3"]
    assert frame.loc[("first", "erm"), "rho"] == "0"


@pytest.mark.parametrize(
    ("mean", "interval", "text"),
    [
        (0.50423, 0.00097, "0.50423 ± 0.00097"),
        (0.024, 0.051, "0.024 ± 0.051"),
        (0.40412, 0.0996, "0.40 ± 0.10"),
        (3234.5, 13912, "3000 ± 14000"),
        (137.2, 228.0, "140 ± 230"),
        (0.000487, 0.00033, "0.00049 ± 0.00033"),
        (2.04e-5, 1.1e-6, "(2.04 ± 0.11)e-05"),
        (1.234e7, 2.04e6, "(1.23 ± 0.20)e+07"),
        (-0.3, 0.05, "-0.300 ± 0.050"),
        (0.5, 0.0, "0.500 ± 0"),
        (0.5, 1e-17, "0.500 ± 0"),  # the mean of equal numbers, rounded
        (0.0, 0.0, "0.00 ± 0"),
        (12345.6, NAN, "12300"),
        (2.04e-5, NAN, "2.04e-05"),
        (-np.inf, NAN, "-∞"),
        (0.0, 0.02, "0.000 ± 0.020"),
        (0.40412, NAN, "0.404"),
        (NAN, NAN, "–"),
        (np.inf, NAN, "∞"),
    ],
)
def test_a_mean_has_as_many_digits_as_its_interval_allows(mean, interval, text):
    assert plus_minus(mean, interval) == text


@given(st.floats(-1e5, 1e5), st.floats(1e-6, 1e9))
def test_what_is_written_is_right_to_the_second_digit_of_the_interval(mean, interval):
    written = plus_minus(mean, interval)
    numbers, _, exponent = written.strip("(").partition(")e")
    values = [float(number) * 10 ** int(exponent or 0) for number in numbers.split(" ± ")]
    np.testing.assert_allclose(values, [mean, interval], atol=0.0501 * interval, rtol=1e-9)


def test_the_best_and_what_is_not_distinguishable_are_marked():
    markdown, html = as_markdown(of()), as_html(of())
    shown = [
        ["0.400 ± 0.089", "*0.0200 ± 0.0010*"],
        ["*0.100 ± 0.020*", "0.0300 ± 0.0020"],
        ["*0.120 ± 0.030* †", "*0.0210 ± 0.0011* †"],
    ]
    rows = [re.split(r" *\| *", line)[3:5] for line in markdown.splitlines() if re.match(r"\|.*±", line)]
    assert rows == [[cell.replace("*", "**") for cell in row] for row in shown]
    rows = [re.findall("<td>(.*?)</td>", line)[2:4] for line in re.sub(r"\n\s*", "", html).split("<tr>")[1:]]
    assert rows == [[re.sub(r"\*(.*)\*", r"<strong>\1</strong>", cell) for cell in row] for row in shown]
    for text in (markdown, html):
        assert "paired t-test over seeds, Holm-adjusted over methods, 5 %" in text and "not distinguishable" in text
        assert "‡" not in text


def test_one_seed_has_no_interval_and_the_notes_say_that_nothing_was_tested():
    one = {"erm": ((0.4, NAN, "untested"), (0.02, NAN, "best")), "sam": ((0.1, NAN, "best"), (0.03, NAN, "untested"))}
    table = of(results=one, n=1)
    assert formatted(table, "validation")["θ-error"].tolist() == ["0.400 ‡", "0.100"]
    said = " ".join(notes(table))
    assert "no interval and no test" in said and "‡: not compared" in said
    assert "Student" not in said and "t-test" not in said and "±" not in said


def test_a_method_without_a_completed_run_says_so():
    none = RESULTS | {"asam": ((NAN, NAN, ""), (NAN, NAN, ""))}
    table = of(results=none, n=[3, 3, 2, 0], diverged=[0, 0, 1, 3])
    frame = formatted(table, "validation").loc["pendulum"]
    assert frame["n"].tolist() == ["3", "3", "2 (1 diverged)", "none completed: 3 diverged"]
    assert frame.loc["asam", ["θ-error", "y-error"]].tolist() == ["–", "–"]


def test_a_method_whose_runs_are_all_missing_says_so():
    none = {"erm": ((NAN, NAN, ""), (NAN, NAN, ""))}
    assert formatted(of(results=none, n=0), "validation")["n"].tolist() == ["none completed"]


def test_where_nothing_can_be_compared_nothing_is_marked():
    alone = {"erm": ((0.4, 0.089, NAN), (0.02, 0.001, NAN))}  # as read from a file
    assert "**0.4" not in as_markdown(of(results=alone)) and "Bold" not in " ".join(notes(of(results=alone)))


def test_an_error_that_ran_away_is_infinite_and_explained():
    away = RESULTS | {"freg": ((0.2, 0.1, "tied"), (np.inf, NAN, "untested"))}
    table = of(results=away)
    assert formatted(table, "validation").loc[("pendulum", "freg"), "y-error"] == "∞ ‡"
    assert any(line.startswith("∞:") for line in notes(table))
    assert not any(line.startswith("∞:") for line in notes(of()))


def test_each_rule_has_its_own_table():
    both = pd.concat([selection(), selection(rule="oracle", rho=0.5)])
    for text in (as_markdown(table_one({"t": both})), as_html(table_one({"t": both}))):
        assert text.count("0.120 ± 0.030") == 2 and text.count("0.5") == 3
        assert text.index("default rule") < text.index("oracle: uses the truth")


def test_names_are_escaped_in_html():
    assert "&lt;b&gt;" in as_html(table_one({"<b>": selection()}))


def test_numbers_of_a_column_share_a_style():
    """All with an exponent where one needs it, and as many digits; what is not known changes nothing."""
    assert column([0.5, 2e-6, np.inf, NAN]) == ["5.00e-01", "2.00e-06", "∞", "–"]
    assert column([0.5, 0.0, 1234.0]) == ["0.500", "0.00", "1230"]
    assert column([0.5, 2e-6], [0.01, NAN]) == ["(5.00 ± 0.10)e-01", "2.00e-06"]
    assert column([0.5, -0.25], [0.01, 0.1], sign="+") == ["+0.500 ± 0.010", "-0.25 ± 0.10"]
    mixed = {
        "number": [0.5, 10, None],
        "count": [1, 2, 3],
        "text": ["a", 0.5, ""],
        "flag": [True, False, True],
        "none": [None] * 3,
    }
    written = in_columns(pd.DataFrame(mixed))
    assert written["number"].tolist() == ["0.5000", "10.00", "–"] and written["none"].tolist() == ["–"] * 3
    assert all(written[name].tolist() == mixed[name] for name in ("count", "text"))
    assert written["flag"].tolist() == ["yes", "no", "yes"]
    assert in_columns(pd.DataFrame({"a": [1e-9, 0.1]}))["a"].tolist() == ["1.000e-09", "1.000e-01"]


def test_in_table_1_too():
    small = RESULTS | {"fsam": ((3e-6, 1e-6, "worse"), (0.02, 0.001, "best"))}
    errors = formatted(of(results=small), "validation")["θ-error"]
    assert errors.tolist() == ["(4.00 ± 0.89)e-01", "(1.00 ± 0.20)e-01", "(3.0 ± 1.0)e-06"]


def test_runs_that_exploded_are_counted_and_their_method_is_not_bold():
    """The mean contains them, the median stands beside; the notes say how many there are, and by which rule."""
    away = RESULTS | {"sam": ((0.01, 0.002, "exploded"), (2000.0, 5500.0, "exploded"))}
    table = of(results=away, exploded=[0, 1, 0], y_error_median=0.00022, theta_error_median=0.011)
    frame = formatted(table, "validation", "**{}**").loc["pendulum"]
    assert frame.loc["sam"].tolist() == ["0.0100 ± 0.0020 (median 0.0110) §", "2000 ± 5500 (median 0.000220) §", "0",
                                         "3 (1 exploded)"]  # fmt: skip
    [said] = [line for line in notes(table) if line.startswith("§")]
    assert "§: 1 completed runs in these tables exploded" in said and "over 10 times the validation loss" in said
    assert not any(line.startswith("§") for line in notes(of()))


# What the notes say of tasks


def test_without_a_known_theta_there_is_no_theta_error():
    """Theta itself stands in its place, a line a parameter; alone, its column is called so."""
    own = selection().drop(columns=["theta_error_meaning", *selection().filter(like="theta_error_")])
    unit = {"a_<1": "kg m-0.5", "b": "1"}
    rows = [[{"parameter": p, "unit": unit[p], "mean": mean, "interval": half} for p, mean, half in of_method]
            for of_method in ([("a_<1", 1.8, 0.02), ("b", 3e-7, 1e-8)], [("a_<1", 21.0, 0.5), ("b", 0.2, None)],
                              [("a_<1", None, None), ("b", None, None)])]  # fmt: skip
    own = own.assign(theta=list(map(json.dumps, rows)), n=[3, 1, 0])
    table = table_one({"lynx": own, "pendulum": selection()})
    [said] = [line for line in notes(table) if "No θ-error of lynx: the true θ is not known." in line]
    assert "θ itself, a line a parameter: mean over the completed runs, ± half width of its 95 %" in said
    frame = formatted(table, "validation")["θ-error"]
    assert frame["lynx"].tolist() == [
        "a_&lt;1 = 1.800 ± 0.020 kg m^-0.5<br>b = (3.00 ± 0.10)e-07",
        "a_&lt;1 = 21.00 ± 0.50 kg m^-0.5<br>b = 2.00e-01",
        "–",
    ]
    assert frame["pendulum"].str.contains("±").all()
    assert list(formatted(table_one({"lynx": own}), "validation")) == ["θ", "y-error", "rho", "n"]


def test_a_theta_error_of_a_kind_of_its_own_is_explained():
    assert "θ-error of pendulum: 1 − cosine." in notes(of(meaning="1 − cosine"))
    assert not any("θ-error of" in line for line in notes(of()))


def test_twins_and_measured_data_are_refused_in_one_table():
    origins = {"wind": "SYNTHETIC TWIN", "light": "measured", "pendulum": "simulated"}
    mixed = {task: selection(data=data) for task, data in origins.items()}
    with pytest.raises(UserError, match=r"synthetic twins \(wind\) and measured data \(light\)"):
        table_one(mixed)
    for left_out in ("wind", "light"):
        assert len(table_one({task: frame for task, frame in mixed.items() if task != left_out}))


def test_a_table_with_a_twin_says_so_in_every_row_of_it_and_in_its_head():
    table = table_one({"wind": selection(data="SYNTHETIC TWIN"), "pendulum": selection()})
    assert table.set_index("task").loc["wind", "data"].unique().tolist() == ["SYNTHETIC TWIN"]
    tasks = formatted(table, "validation").index.get_level_values("task")
    assert tasks.tolist() == ["SYNTHETIC TWIN: wind"] * 3 + ["pendulum"] * 3
    for rendered in (as_markdown(table), as_html(table)):
        assert rendered.index("SYNTHETIC TWIN: the data of wind") < rendered.index("SYNTHETIC TWIN: wind")
    assert "SYNTHETIC" not in as_markdown(of(data="measured"))


@pytest.mark.parametrize("twins", ["", "wind_tunnel"])
def test_the_caption_for_the_snakemake_report_says_what_is_marked(twins):
    template = Environment(undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True).from_string(
        (ROOT / "workflow/report/table.rst").read_text()
    )
    text = template.render(snakemake={"params": {"twins": twins}, "wildcards": {"experiment": "laptop"}})
    assert text.strip().startswith("**SYNTHETIC TWIN**") == bool(twins)
    assert "not distinguishable" in text and "95 % Student t interval" in text
    publish_string(text, settings_overrides={"halt_level": 2})  # raises on a fault of the markup
