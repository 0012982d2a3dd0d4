"""The rule that selects the rho of each method, and the errors there, against numbers worked out by hand."""

import json

import numpy as np
import pandas as pd
import pytest
from helpers.blocks import ERM, cube_of, runs_with
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from hybridsam.analysis.cube import runs_table
from hybridsam.analysis.selection import RULES, errors_by_rho, read_selection, select
from hybridsam.analysis.significance import interval
from hybridsam.core.errors import UserError
from hybridsam.core.records import RUN


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
    assert row["y_error_standing"] == row["theta_error_standing"] == "exploded" and row["exploded"] == 1
    assert row["y_error_median"] == 0.2


def trained(block, before):
    """A block with this validation loss before training."""
    loss = np.full((*block["status"].shape, block.sizes["step"]), before)
    return block.assign(validation_loss=((*RUN, "step"), loss))


@pytest.mark.parametrize(
    ("validation", "test", "expected"),
    [(0.1, 9.9, False), (0.1, 10.1, True), (10.1, 0.1, True), (0.1, np.inf, True), (np.nan, 0.1, True)],
)
@pytest.mark.parametrize("before", [1.0, 1e-3])
def test_a_run_explodes_whose_error_on_unseen_data_is_ten_times_that_before_training(
    validation, test, expected, before
):
    block = trained(runs_with("sam", 0.1, [0.1, 0.1], [0.1, 0.1]), before)
    block["y_error"][0, 0, 1] = [1e-9, validation * before, test * before]
    block["y_error"][0, 0, 0] = [1e-9, before, before]
    table = runs_table(cube_of(trained(ERM, 100.0), block)).set_index(["method", "seed"])
    assert table["exploded"]["sam"].tolist() == [False, expected] and not table["exploded"]["erm"].any()
    assert set(table["status"]) == {"completed"}


def test_a_diverged_run_did_not_explode_and_a_cube_without_losses_knows_infinite_errors_only():
    gone = runs_with("sam", 0.1, [1e9, np.nan, 1e9], [0.1, 0.1, 0.1])
    gone["status"][0, 0, 2] = "diverged"
    table = runs_table(cube_of(ERM, gone)).query("method == 'sam'")
    assert table["exploded"].tolist() == [False, True, False]


def test_means_contain_a_run_that_exploded_and_no_comparison_does():
    """As one seed of five at 10 000 beside errors of 0.0002: a paired t-test would call it tied."""
    fine, away = ([0.0001] * 5, [0.0001, 0.00011, 0.00009, 0.0001, 5000.0])
    theta = [0.1, 0.1, 0.12, 0.1, 0.11]
    blocks = [runs_with("erm", 0.0, fine, theta), runs_with("l2reg", 0.1, [0.0003] * 5, theta)]
    cube = cube_of(*(trained(block, 1.0) for block in [*blocks, runs_with("sam", 0.1, away, theta)]))
    rows = select(cube).query("rule == 'validation'").set_index("method")
    assert rows["exploded"].to_dict() == {"erm": 0, "l2reg": 0, "sam": 1} and rows["n"].tolist() == [5, 5, 5]
    assert rows["y_error_standing"].to_dict() == {"erm": "best", "l2reg": "worse", "sam": "exploded"}
    assert rows.loc["sam", "theta_error_standing"] == "exploded"
    assert rows.loc["sam", "y_error_mean"] == pytest.approx(2 * np.mean(away))
    assert rows.loc["sam", "y_error_median"] == pytest.approx(0.0002)


@pytest.mark.slow
@given(st.integers(0, 2**32 - 1))
def test_no_rule_looks_at_test_data(seed):
    """Whatever the test errors are, and which runs they make explode, the same rho are chosen."""
    rng = np.random.default_rng(seed)
    blocks = [trained(runs_with("sam", rho, rng.exponential(size=3), rng.normal(size=3)), 1.0) for rho in (0.02, 0.1)]
    before = chosen(cube_of(trained(ERM, 1.0), *blocks))
    for block in blocks:
        block["y_error"][..., 2] = rng.choice([1e-9, 1.0, 1e9, np.nan], (1, 1, 3))
    assert chosen(cube_of(trained(ERM, 1.0), *blocks)) == before


def test_a_selection_of_an_older_version_is_refused_in_one_line(tmp_path):
    select(cube_of(ERM)).drop(columns="exploded").to_csv(tmp_path / "selection.csv")
    with pytest.raises(UserError, match=r"selection\.csv: no column exploded, .*; hybridsam select makes it anew$"):
        read_selection(tmp_path / "selection.csv")


def test_theta_itself_is_in_the_selection():
    selection = select(cube_of(ERM, runs_with("sam", 0.1, [1.0], [0.5]))).query("rule == 'validation'")
    erm, sam = (json.loads(text) for text in selection["theta"])
    assert [row["parameter"] for row in erm] == ["a", "b"] and [row["unit"] for row in erm] == ["m", "s"]
    assert erm[0]["mean"] == pytest.approx(1.6) and erm[0]["interval"] == pytest.approx(interval([1.5, 1.6, 1.7]))
    assert sam[0]["mean"] == pytest.approx(1.5) and sam[0]["interval"] is None


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
