"""The rule that selects the rho of each method, and the errors there, against numbers worked out by hand."""

import numpy as np
import pandas as pd
import pytest
from helpers.blocks import ERM, cube_of, runs_with
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from hybridsam.analysis.cube import runs_table
from hybridsam.analysis.selection import RULES, errors_by_rho, select
from hybridsam.analysis.significance import interval


def chosen(cube, method="sam"):
    """rule -> rho."""
    selection = select(cube)
    return selection[selection["method"] == method].set_index("rule")["rho"].to_dict()


def test_rules_choose_lowest_validation_error_occam_and_oracle():
    cube = cube_of(
        ERM,
        runs_with("sam", 0.02, [1.0, 1.2, 1.4], [0.9, 0.9, 0.9]),  # best validation: mean 1.2, standard error 0.115
        runs_with("sam", 0.05, [1.2, 1.3, 1.4], [0.5, 0.5, 0.5]),  # mean 1.3: within one standard error
        runs_with("sam", 0.1, [1.5, 1.5, 1.5], [0.1, 0.1, 0.1]),  # outside, but nearest to the truth
    )
    assert chosen(cube) == {"validation": 0.02, "one_standard_error": 0.05, "oracle": 0.1}


def test_one_seed_has_no_standard_error_and_all_rules_still_choose():
    cube = cube_of(ERM, runs_with("sam", 0.02, [1.0], [0.9]), runs_with("sam", 0.05, [1.1], [0.5]))
    assert chosen(cube) == {"validation": 0.02, "one_standard_error": 0.02, "oracle": 0.05}
    row = select(cube).query("method == 'sam' and rule == 'validation'").iloc[0]
    assert row["n"] == 1
    assert np.isnan(row["theta_error_sd"])


def test_diverged_runs_are_counted_and_never_make_a_rho_look_better():
    bad = runs_with("sam", 0.1, [0.1, 0.1, 0.1], [0.0, 0.0, 0.0])
    bad["status"][0, 0, 1] = "diverged"
    cube = cube_of(ERM, runs_with("sam", 0.02, [1.0, 1.0, 1.0], [0.9, 0.9, 0.9]), bad)
    assert set(chosen(cube).values()) == {0.02}
    cube = cube_of(ERM, bad)
    row = select(cube).query("method == 'sam' and rule == 'oracle'").iloc[0]
    assert (row["n"], row["diverged"], row["n_paired"]) == (2, 1, 2)


def test_a_method_of_which_all_runs_diverged_is_still_reported():
    cube = cube_of(ERM, runs_with("sam", 0.1, [9.0, 9.0, 9.0], [0, 0, 0], status="diverged"))
    row = select(cube).query("method == 'sam' and rule == 'validation'").iloc[0]
    assert (row["n"], row["diverged"]) == (0, 3)
    assert np.isnan(row[["theta_error_mean", "theta_error_interval", "theta_error_p"]].astype(float)).all()
    assert (select(cube)["theta_error_standing"] == "").all()


def test_a_prediction_that_ran_away_on_validation_or_test_data_is_an_infinite_error():
    """Not one that is left out of the mean, which would make the rho look better than the others."""
    away = runs_with("sam", 0.1, [0.1, np.nan, 0.1], [0.1, 0.1, 0.1])
    cube = cube_of(ERM, away, runs_with("sam", 0.02, [0.5, 0.5, 0.5], [0.9, 0.9, 0.9]))
    assert runs_table(cube).query("rho == 0.1")["y_error"].tolist() == [0.2, np.inf, 0.2]
    assert chosen(cube) == {"validation": 0.02, "one_standard_error": 0.02, "oracle": 0.1}
    row = select(cube).query("method == 'sam' and rule == 'oracle'").iloc[0]
    assert row["y_error_mean"] == np.inf and np.isnan(row["y_error_interval"])
    assert row["y_error_standing"] == "untested" and row["theta_error_standing"] == "best"


def test_every_rule_compares_the_methods_at_its_own_rho():
    """Against scipy, by the seeds: sam is best by the oracle, at rho = 0.1, and erm by the validation error."""
    small, large = [0.8, 0.9, 1.2], [0.1, 0.2, 0.1]
    cube = cube_of(ERM, runs_with("sam", 0.02, [1.0, 1.1, 1.2], small), runs_with("sam", 0.1, [5.0, 5.1, 5.2], large))
    selection = select(cube).set_index(["rule", "method"])
    of_rule = {rule: selection.loc[rule, "theta_error_standing"].to_dict() for rule in RULES}
    p = selection["theta_error_p"]
    assert of_rule["validation"]["erm"] == "best" and of_rule["oracle"] == {"erm": "worse", "sam": "best"}
    erm = [0.5, 0.6, 0.7]
    assert p["validation", "sam"] == pytest.approx(stats.ttest_rel(small, erm).pvalue)
    assert p["oracle", "erm"] == pytest.approx(stats.ttest_rel(erm, large).pvalue)
    assert np.isnan(p["oracle", "sam"])
    y = selection.loc["oracle", ["y_error_p", "y_error_standing"]]
    assert y.loc["erm", "y_error_standing"] == "best"
    assert y.loc["sam", "y_error_p"] == pytest.approx(stats.ttest_rel([10.0, 10.2, 10.4], [2.0, 4.0, 6.0]).pvalue)
    assert not [name for name in selection if name.startswith("theta_relative") and name.endswith(("_p", "_standing"))]


def test_the_selection_has_the_interval_of_every_mean():
    selection = select(cube_of(ERM, runs_with("sam", 0.1, [2.0, 2.5, 3.0], [0.1, 0.3, 0.5])))
    assert {name.removesuffix("_mean") for name in selection if name.endswith("_mean")} == {
        name.removesuffix("_interval") for name in selection if name.endswith("_interval")
    }
    row = selection.query("method == 'sam' and rule == 'validation'").iloc[0]
    assert row["theta_error_interval"] == pytest.approx(interval([0.1, 0.3, 0.5]))
    assert row["theta_error_interval"] == pytest.approx(row["theta_error_sd"] * 4.302653 / np.sqrt(3))


def test_differences_to_erm_are_paired_by_seed():
    cube = cube_of(ERM, runs_with("sam", 0.1, [2.0, 2.5, 3.0], [0.1, 0.3, 0.5]))
    row = select(cube).query("method == 'sam' and rule == 'validation'").iloc[0]
    assert row["theta_error_minus_erm"] == pytest.approx(-0.3)
    assert row["theta_error_minus_erm_sd"] == pytest.approx(0.1)
    assert row["y_error_minus_erm"] == pytest.approx(2 * 0.5)
    assert row["n_paired"] == 3
    fewer = select(cube_of(ERM, runs_with("sam", 0.1, [2.0, 2.5], [0.1, 0.3])))
    assert fewer.query("method == 'sam'")["n_paired"].tolist() == [2, 2, 2]


def test_without_erm_there_is_nothing_to_pair_with():
    selection = select(cube_of(runs_with("sam", 0.1, [2.0, 2.5], [0.1, 0.3])))
    assert selection["n_paired"].tolist() == [0, 0, 0]
    assert selection["theta_error_minus_erm"].isna().all()


@given(st.lists(st.floats(0.1, 10), min_size=1, max_size=6, unique=True), st.integers(0, 2**32 - 1))
def test_occam_never_chooses_a_smaller_rho_than_the_validation_rule(rhos, seed):
    rng = np.random.default_rng(seed)
    runs = pd.DataFrame(
        [
            {"rho": rho, "status": "completed", "validation_error": rng.exponential(), "theta_error": rng.exponential()}
            for rho in rhos
            for _ in range(3)
        ]
    )
    table = errors_by_rho(runs)
    best, occam = RULES["validation"](table), RULES["one_standard_error"](table)
    assert occam >= best
    assert table.loc[occam, "validation_error"] <= table.loc[best, ["validation_error", "standard_error"]].sum()
    assert table.loc[RULES["oracle"](table), "theta_error"] == runs.groupby("rho")["theta_error"].mean().min()
