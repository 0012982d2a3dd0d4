"""Table 1: what stands in its rows, what is marked, what its notes say, from selections made by hand."""

import json

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
from hybridsam.report.numbers import between, column, ended, gone, in_columns, plus_minus
from hybridsam.report.table_one import as_html, as_markdown, formatted, notes, table_one

NAN = np.nan
ROW = {"rho": 0.0, "n": 10, "failed": 0, "diverged": 0, "rule": "validation", "data": "simulated"}
ROW |= {"rho_of_seeds": '{"0": 10}'}
BEST = ("best", NAN, NAN, NAN)
RESULTS = {  # method -> theta error and y error: centre and ends of its interval, how it compares with the best
    "erm": ((0.4, 0.3, 0.5), ("worse", 4.0, 3.0, 5.0), (0.02, 0.019, 0.021), BEST),
    "sam": ((0.1, 0.09, 0.11), BEST, (0.03, 0.028, 0.033), ("worse", 1.5, 1.2, 1.9)),
    "fsam": ((0.11, 0.1, 0.12), ("equivalent", 1.1, 0.98, 1.2), (0.021, 0.02, 0.022), ("inconclusive", 1.1, 0.9, 1.3)),
}
NOTHING = ((NAN, NAN, NAN), ("", NAN, NAN, NAN))


def selection(results=None, meaning=THETA_ERROR, **changes):
    """A selection by one rule. results: as RESULTS; changes: of columns."""
    rows = []
    for method, (theta, of_theta, y, of_y) in (results or RESULTS).items():
        row = ROW | {"method": method, "theta_error_meaning": meaning, "theta_error_rms": 1.2 * theta[0]}
        off = {"bias": theta[0], "bias_low": theta[1], "bias_high": theta[2]}
        row["theta"] = json.dumps(
            [{"parameter": "k", "unit": "s-1"} | {name: v if v == v else None for name, v in off.items()}]
        )
        for name, centre, compared in (("theta_error", theta, of_theta), ("y_error", y, of_y)):
            row |= dict(zip((f"{name}_{of}" for of in ("centre", "low", "high")), centre, strict=True))
            names = ("standing", "ratio", "ratio_low", "ratio_high")
            row |= dict(zip((f"{name}_{of}" for of in names), compared, strict=True))
        rows.append(row)
    return pd.DataFrame(rows).assign(**changes)


def of(**changes):
    """Table 1 of one task."""
    return table_one({"pendulum": selection(**changes)})


COLUMNS = ["θ-error, RMS", "θ-error, median", "bias of θ", "θ-error against the best", "y-error, geometric mean"]
COLUMNS += ["y-error against the best", "rho", "n"]


def test_a_row_a_task_and_method_with_errors_intervals_and_comparisons():
    table = table_one({"first": selection(), "second": selection(rho=0.1)})
    frame = formatted(table, "validation")
    assert frame.index.tolist() == [(task, method) for task in ("first", "second") for method in RESULTS]
    assert list(frame) == COLUMNS
    assert frame.loc[("first", "erm")].tolist() == [
        "0.480",
        "0.400<br>[0.300, 0.500]",
        "+0.40 [+0.30, +0.50] s⁻¹",
        "worse<br>× 4.0 [3.0, 5.0]",
        "0.0200<br>[0.0190, 0.0210]",
        "best",
        "–",
        "10",
    ]


def test_where_other_seeds_choose_another_rho_it_is_said():
    table = of(rho=[0.0, 0.05, 1e-5], rho_of_seeds=['{"0": 10}', '{"0.02": 3, "0.05": 7}', '{"1e-5": 10}'])
    assert formatted(table, "validation")["rho"].tolist() == ["–", "0.05 (0.02 for 3 of 10 seeds)", "1e-5"]


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


def cells(column, **changes):
    """A column of Table 1, with what is bold in asterisks."""
    return formatted(of(**changes), "validation", "*{}*")[column].tolist()


def test_bold_are_the_best_and_its_equivalents_where_this_is_shown():
    """Of the y-errors one method is inconclusive, so nothing is bold there."""
    assert cells(COLUMNS[3]) == ["worse<br>× 4.0 [3.0, 5.0]", "*best*", "*equivalent<br>× 1.1 [0.98, 1.2]*"]
    assert cells(COLUMNS[5]) == ["best", "worse<br>× 1.5 [1.2, 1.9]", "inconclusive<br>× 1.1 [0.90, 1.3]"]
    alike = ("equivalent", 1.0, 0.95, 1.05)
    assert cells(COLUMNS[3], theta_error_standing=["equivalent", "best", "equivalent"])[1] == "best"
    failed = RESULTS | {"fsam": (*NOTHING[:1], ("failed", NAN, NAN, NAN), (0.02, 0.01, 0.03), alike)}
    assert cells(COLUMNS[3], results=failed) == ["worse<br>× 4.0 [3.0, 5.0]", "*best*", "failed"]
    assert "<strong>best</strong>" in as_html(of()) and "**best**" in as_markdown(of())
    said = " ".join(notes(of()))
    assert "equivalent if the interval lies between 1/1.25 and 1.25" in said and "Bold: the best" in said
    assert "holds for all methods of the task at once" in said


def test_the_interval_of_a_ratio_that_needs_an_exponent_leaves_other_ratios_without():
    wide = RESULTS | {"fsam": (*RESULTS["fsam"][:3], ("inconclusive", 0.8, 1e-37, 4e36))}
    assert cells(COLUMNS[5], results=wide)[1:] == [
        "worse<br>× 1.5 [1.2, 1.9]",
        "inconclusive<br>× 0.80 [1.0e-37, 4.0e+36]",
    ]


def test_one_seed_has_no_interval_and_the_notes_say_that_nothing_is_conclusive():
    alone = ("inconclusive", 4.0, NAN, NAN)
    one = {
        "erm": ((0.4, NAN, NAN), alone, (0.02, NAN, NAN), BEST),
        "sam": ((0.1, NAN, NAN), BEST, (0.03, NAN, NAN), alone),
    }
    table = of(results=one, n=1, rho_of_seeds='{"0": 1}')
    frame = formatted(table, "validation")
    assert frame[COLUMNS[1]].tolist() == ["0.400", "0.100"]
    assert frame[COLUMNS[3]].tolist() == ["inconclusive<br>× 4.0", "best"]
    said = " ".join(notes(table))
    assert "there is no interval: any difference may be chance, and every one is inconclusive" in said
    assert "There is one seed, which chooses its own ρ" in said
    assert "bootstrap" not in said and "other seeds choose" not in said


def test_one_seed_on_several_datasets_has_intervals_but_chooses_its_own_rho():
    said = " ".join(notes(of(n=4, rho_of_seeds='{"0": 1}', datasets=4)))
    assert "95 % interval" in said and "no interval" not in said and "There is one seed, which chooses" in said
    assert "Runs of pendulum are on 4 simulated datasets: one for each dataset and seed." in said


def test_a_method_of_which_all_runs_failed_says_so():
    none = RESULTS | {"asam": (NOTHING[0], ("failed", NAN, NAN, NAN), NOTHING[0], ("failed", NAN, NAN, NAN))}
    table = of(results=none, n=[10, 10, 8, 0], failed=[0, 0, 2, 3], diverged=[0, 0, 1, 3])
    frame = formatted(table, "validation").loc["pendulum"]
    assert frame["n"].tolist() == ["10", "10", "8 (2 failed, 1 of them diverged)", "none: 3 diverged"]
    assert frame.loc["asam", COLUMNS[:6]].tolist() == ["–", "–", "–", "failed", "–", "failed"]


def test_a_method_whose_runs_are_all_missing_says_so():
    assert formatted(of(results={"erm": (*NOTHING, *NOTHING)}, n=0), "validation")["n"].tolist() == ["none"]


def test_where_nothing_can_be_compared_nothing_is_marked():
    alone = {"erm": ((0.4, 0.3, 0.5), (NAN, NAN, NAN, NAN), (0.02, 0.01, 0.03), (NAN, NAN, NAN, NAN))}  # as read
    assert cells(COLUMNS[3], results=alone) == ["–"]
    assert "Bold" not in " ".join(notes(of(results=alone)))


def test_each_rule_has_its_own_table():
    both = pd.concat([selection(), selection(rule="oracle", rho=0.5)])
    for text in (as_markdown(table_one({"t": both})), as_html(table_one({"t": both}))):
        assert text.count("[0.0900, 0.110]") == 2
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


def test_numbers_with_the_ends_of_their_intervals_share_a_style():
    assert between([0.504, 0.4], [0.481, NAN], [0.533, NAN]) == ["0.504 [0.481, 0.533]", "0.400"]
    assert between([0.5, 2e-6], [0.4, 1e-6], [0.6, 3e-6])[1] == "2.00e-06 [1.00e-06, 3.00e-06]"
    assert between([0.5, -0.25], [-0.1, -0.5], [1.0, 0.0], sign="+", digits=2)[0] == "+0.50 [-0.10, +1.0]"
    assert between([NAN], [NAN], [NAN]) == ["–"] and between([], [], []) == []


def test_how_runs_ended_is_said_in_words():
    assert [gone(0, 0), gone(2, 0), gone(2, 2), gone(3, 1)] == [
        "none failed",
        "2 failed",
        "2 diverged",
        "3 failed, 1 of them diverged",
    ]
    assert [ended(3, 0, 0), ended(5, 3, 1), ended(0, 3, 3), ended(0, 0, 0)] == [
        "3",
        "5 (3 failed, 1 of them diverged)",
        "none: 3 diverged",
        "none",
    ]


# What the notes say of tasks


def test_without_a_known_theta_there_is_no_theta_error():
    """Theta itself stands in its place, a line a parameter; alone, its column is called so."""
    own = selection().drop(columns=["theta_error_meaning", *selection().filter(like="theta_error_")])
    unit = {"a_<1": "kg m-0.5", "b": "1"}
    names = ("median", "low", "high", "least", "most")
    numbers = [
        [("a_<1", (1.8, 1.75, 1.85, 1.7, 1.9)), ("b", (3e-7, 2e-7, 4e-7, 1e-7, 5e-7))],
        [("a_<1", (21.0, None, None, 20.0, 22.0)), ("b", (0.2, None, None, 0.2, 0.2))],
        [("a_<1", [None] * 5), ("b", [None] * 5)],
    ]
    rows = [[{"parameter": p, "unit": unit[p], **dict(zip(names, v, strict=True))} for p, v in row] for row in numbers]
    own = own.assign(theta=list(map(json.dumps, rows)), n=[10, 2, 0])
    table = table_one({"lynx": own, "pendulum": selection()})
    [said] = [line for line in notes(table) if "No θ-error of lynx: the true θ is not known." in line]
    assert "a line a parameter: the median over runs, with its 95 % interval where there are 5 seeds or more" in said
    frame = formatted(table, "validation")
    assert frame.loc["lynx", "θ"].tolist() == [
        "a_&lt;1 1.80 [1.75, 1.85] kg m^-0.5<br>b 3.00e-07 [2.00e-07, 4.00e-07]",
        "a_&lt;1 21.0 (20.0 to 22.0) kg m^-0.5<br>b 2.00e-01",
        "–",
    ]
    assert (frame.loc["pendulum", "θ"] == "–").all() and (frame.loc["lynx", COLUMNS[:4]] == "–").all(axis=None)
    assert list(formatted(table_one({"lynx": own}), "validation")) == ["θ", *COLUMNS[4:]]


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
    assert "equivalent, worse or inconclusive" in " ".join(text.split()) and "95 % intervals" in text
    publish_string(text, settings_overrides={"halt_level": 2})  # raises on a fault of the markup
