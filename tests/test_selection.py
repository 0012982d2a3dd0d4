"""The rules that select the rho of each method, and the errors there, against numbers worked out by hand."""

import json

import numpy as np
import pandas as pd
import pytest
from helpers.blocks import ERM, block, cube_of, runs_with
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from hybridsam.analysis.cube import runs_table
from hybridsam.analysis.intervals import log_root_mean_square, median, of_all, t_interval
from hybridsam.analysis.selection import RULES, cross_fitted, errors_by_rho, read_selection, select
from hybridsam.analysis.standings import log_ratio
from hybridsam.core.errors import UserError
from hybridsam.core.records import RUN

NO_SAMPLES = pd.DataFrame()


def chosen(cube, method="sam"):
    """rule -> rho."""
    selection = select(cube)
    return selection[selection["method"] == method].set_index("rule")["rho"].to_dict()


def row_of(cube, method="sam", rule="validation"):
    return select(cube).set_index(["method", "rule"]).loc[(method, rule)]


def with_samples(runs, errors):
    """A block whose runs all have these errors of the validation samples, whose mean is the validation error."""
    of_runs = np.broadcast_to(errors, (*runs["status"].shape, len(errors)))
    runs["y_error"][..., 1] = np.mean(errors)
    return runs.assign(validation_errors=((*RUN, "validation_sample"), of_runs))


def test_validation_and_oracle_choose_the_lowest_error():
    cube = cube_of(
        ERM,
        runs_with("sam", 0.02, [1.0, 1.2, 1.4], [0.9, 0.9, 0.9]),
        runs_with("sam", 0.1, [1.5, 1.5, 1.5], [0.1, 0.1, 0.1]),
    )
    assert chosen(cube) == {"validation": 0.02, "one_standard_error": 0.02, "oracle": 0.1}


# One standard error

BEST = np.array([1.0, 2.0, 3.0, 4.0])


def occam(*errors):
    """The rho that the rule chooses of 0.1, 0.2, ..., with these errors of validation samples."""
    blocks = [with_samples(runs_with("sam", (i + 1) / 10, [1, 1], [0, 0]), own) for i, own in enumerate(errors)]
    return chosen(cube_of(*blocks))["one_standard_error"]


def test_occam_takes_the_largest_rho_within_a_standard_error_that_is_paired_by_validation_samples():
    """Samples differ by far more than one rho from another, so unpaired anything would be close enough."""
    noise = np.array([0.3, -0.3, 0.3, -0.2])  # mean 0.025, standard error 0.16
    assert stats.sem(BEST) > 0.5 > stats.sem(noise) > np.mean(noise) > 0
    assert occam(BEST, BEST + noise) == 0.2
    assert occam(BEST, BEST + noise + 0.1) == 0.2
    assert occam(BEST, BEST + noise + 0.3) == 0.1


def test_occam_stops_at_the_first_rho_that_is_too_far():
    noise = np.array([0.3, -0.3, 0.3, -0.2])
    assert occam(BEST, BEST + 1, BEST + noise) == 0.1
    assert occam(BEST, BEST + noise, BEST + 1) == 0.2


def test_occam_takes_no_rho_of_which_more_runs_failed():
    close = with_samples(runs_with("sam", 0.2, [1, 1], [0, 0]), BEST)
    close["status"][0, 0, 1] = "diverged"
    assert (
        chosen(cube_of(with_samples(runs_with("sam", 0.1, [1, 1], [0, 0]), BEST), close))["one_standard_error"] == 0.1
    )


def test_without_errors_of_samples_as_in_older_files_there_is_no_such_rule():
    assert set(select(cube_of(ERM.drop_vars("validation_errors")))["rule"]) == {"validation", "oracle"}


@given(st.lists(st.floats(0.1, 10), min_size=1, max_size=6, unique=True), st.integers(0, 2**32 - 1))
def test_occam_never_chooses_a_smaller_rho_than_the_validation_rule(rhos, seed):
    rng = np.random.default_rng(seed)
    samples = pd.DataFrame(rng.exponential(size=(3 * len(rhos), 5)))
    runs = pd.DataFrame({"rho": np.repeat(rhos, 3), "data": 0, "seed": 3 * len(rhos) * [0]})
    runs = runs.assign(
        failed_validation=False, validation_error=samples.mean(axis=1), theta_error=rng.exponential(size=len(runs))
    )
    best, largest = RULES["validation"](runs, samples), RULES["one_standard_error"](runs, samples)
    assert largest >= best == errors_by_rho(runs)["validation_error"].idxmin()
    oracle = RULES["oracle"](runs, samples)
    assert oracle == (runs["theta_error"] ** 2).groupby(runs["rho"]).mean().idxmin()


# Failed runs


@pytest.mark.parametrize(
    ("validation", "test", "expected"),
    [
        (1.0, 9e3, [False, False]),
        (1.0, 1.1e4, [True, False]),
        (1.0, np.inf, [True, False]),
        (np.nan, 1.0, [False, True]),
    ],
)
def test_a_run_fails_whose_prediction_is_worse_than_the_mean_of_the_data(validation, test, expected):
    """Data of the helper are -100 and 100, with a variance of 10 000."""
    runs = block("sam", 0.1, [0, 1], [[1, 2], [1, 2]], [[0, validation, test], [0, 1, 1]])
    table = runs_table(cube_of(runs))
    assert table.loc[0, ["failed", "failed_validation"]].tolist() == expected
    assert not table.loc[1, ["failed", "failed_validation"]].any()


def test_failed_runs_are_counted_and_in_no_statistic():
    """As one seed of five with an error of 10 000 beside 0.0002: the mean said 2000."""
    away = runs_with("sam", 0.1, [1e-4, 1e-4, 1e-4, 1e-4, 5.1e3], [0.1, 0.1, 0.1, 0.1, 7.0])
    gone = runs_with("fsam", 0.1, [1e-4, 1e-4, 1e-4, 1e-4, 9.0], [0.1, 0.1, 0.1, 0.1, 7.0])
    gone["status"][0, 0, 4] = "diverged"
    selection = select(cube_of(runs_with("erm", 0.0, [2e-4] * 5, [0.1] * 5), away, gone)).query("rule == 'validation'")
    rows = selection.set_index("method")
    assert rows[["n", "failed", "diverged"]].to_numpy().tolist() == [[5, 0, 0], [4, 1, 0], [4, 1, 1]]
    assert rows["y_error_centre"].tolist() == pytest.approx([4e-4, 2e-4, 2e-4])
    assert rows["theta_error_rms"].tolist() == pytest.approx([0.1, 0.1, 0.1])
    assert rows["y_error_standing"].to_dict() == {"erm": "best", "sam": "inconclusive", "fsam": "inconclusive"}


@pytest.mark.filterwarnings("error")
def test_where_every_run_failed_the_smallest_rho_is_chosen_without_a_warning():
    gone = [with_samples(runs_with("sam", rho, [9, 9], [0, 0], "diverged"), BEST) for rho in (0.1, 0.2)]
    assert chosen(cube_of(*gone))["one_standard_error"] == 0.1


def test_failed_runs_never_make_a_rho_look_better():
    bad = runs_with("sam", 0.1, [0.1, 0.1, 0.1], [0.0, 0.0, 0.0])
    bad["status"][0, 0, 1] = "diverged"
    cube = cube_of(ERM, runs_with("sam", 0.02, [1.0, 1.0, 1.0], [0.9, 0.9, 0.9]), bad)
    assert set(chosen(cube).values()) == {0.02}
    away = runs_with("sam", 0.1, [0.1, np.nan, 0.1], [0.0, 0.0, 0.0])
    assert set(chosen(cube_of(ERM, away, runs_with("sam", 0.02, [0.5] * 3, [0.9] * 3))).values()) == {0.02}


def test_a_method_of_which_all_runs_failed_is_still_reported():
    cube = cube_of(ERM, runs_with("sam", 0.1, [9.0, 9.0, 9.0], [0, 0, 0], status="diverged"))
    row = row_of(cube)
    assert (row["n"], row["failed"], row["diverged"]) == (0, 3, 3)
    assert np.isnan(row[["theta_error_centre", "theta_error_low", "theta_error_rms"]].astype(float)).all()
    assert row["theta_error_standing"] == "failed"


@pytest.mark.slow
@settings(max_examples=10)
@given(st.integers(0, 2**32 - 1))
def test_no_rule_looks_at_test_data(seed):
    """Whatever the test errors are, and which runs they make fail, the same rho are chosen."""
    rng = np.random.default_rng(seed)
    blocks = [runs_with("sam", rho, rng.exponential(size=3), rng.normal(size=3)) for rho in (0.02, 0.1)]
    before = chosen(cube_of(ERM, *blocks))
    for runs in blocks:
        runs["y_error"][..., 2] = rng.choice([1e-9, 1.0, 1e9, np.nan], (1, 1, 3))
    assert chosen(cube_of(ERM, *blocks)) == before


# Seeds that choose, and seeds that are reported


def test_the_rho_of_a_seed_is_chosen_by_the_others():
    """All seeds choose 0.1; without the last one, which is good there, the others choose 0.02 for it."""
    low, high = runs_with("sam", 0.02, [0.1, 2.0, 3.0], [0.5] * 3), runs_with("sam", 0.1, [2.0, 0.2, 0.3], [0.1] * 3)
    cube = cube_of(ERM, low, high)
    runs = runs_table(cube).query("method == 'sam'")
    assert cross_fitted(runs, NO_SAMPLES, RULES["validation"]) == {0: 0.1, 1: 0.1, 2: 0.02}
    row = row_of(cube)
    assert row["rho"] == 0.1 and json.loads(row["rho_of_seeds"]) == {"0.02": 1, "0.1": 2}
    assert row["theta_error_rms"] == pytest.approx(np.sqrt((0.1**2 + 0.1**2 + 0.5**2) / 3))


def test_one_seed_chooses_for_itself_and_many_in_ten_parts():
    runs = runs_table(cube_of(runs_with("sam", 0.02, [1.0], [0.9]), runs_with("sam", 0.05, [1.1], [0.5])))
    assert cross_fitted(runs, NO_SAMPLES, RULES["validation"]) == {0: 0.02}
    called = []
    many = runs_table(cube_of(runs_with("sam", 0.02, [1.0] * 25, [0.9] * 25)))
    rhos = cross_fitted(many, NO_SAMPLES, lambda others, _: called.append(set(others["seed"])) or 0.02)
    assert rhos == dict.fromkeys(range(25), 0.02) and len(called) == 10
    assert set().union(*(set(range(25)) - seeds for seeds in called)) == set(range(25))


def test_cross_fitting_takes_away_the_optimism_of_the_best_of_several():
    """Ten values of rho that are all alike: the one that is lowest on some runs is too low on those."""
    rng, same, other = np.random.default_rng(0), [], []
    for _ in range(200):
        rows = [{"rho": rho, "data": 0, "seed": seed} for rho in range(1, 11) for seed in range(4)]
        error = 1 + 0.2 * rng.normal(size=len(rows))
        runs = pd.DataFrame(rows).assign(failed_validation=False, validation_error=error)
        best = RULES["validation"](runs, NO_SAMPLES)
        same.append(runs["validation_error"][runs["rho"] == best].mean())
        rho_of = cross_fitted(runs, NO_SAMPLES, RULES["validation"])
        other.append(runs["validation_error"][runs["rho"] == runs["seed"].map(rho_of)].mean())
    assert np.mean(same) == pytest.approx(1 - 1.54 * 0.2 / 2, abs=0.01)  # the expected least of ten normal means
    assert np.mean(other) == pytest.approx(1, abs=4 * stats.sem(other))


# What is said of the runs


def test_errors_and_theta_have_the_statistics_that_they_are_said_to_have():
    errors, validation = [0.1, -0.3, 0.5, 0.2, 0.4], [2.0, 2.5, 3.0, 1.0, 1.5]
    row = row_of(cube_of(runs_with("sam", 0.1, validation, errors)))
    index = pd.MultiIndex.from_product([[0], range(5)], names=["data", "seed"])
    assert row["theta_error_centre"] == pytest.approx(0.3)
    assert (row["theta_error_low"], row["theta_error_high"]) == pytest.approx((0.1, 0.5))
    assert row["theta_error_rms"] == pytest.approx(np.sqrt(np.mean(np.square(errors))))
    logs = np.log(2 * np.array(validation))
    half = stats.t.ppf(0.975, 4) * stats.sem(logs)
    found = row[["y_error_low", "y_error_centre", "y_error_high"]].astype(float)
    np.testing.assert_allclose(found, np.exp(logs.mean() + np.array([-half, 0, half])))
    a, b = json.loads(row["theta"])
    values = pd.Series([1 + error for error in errors], index)
    assert (a["parameter"], a["unit"], b["parameter"], b["unit"]) == ("a", "m", "b", "s")
    assert a["median"] == pytest.approx(of_all(median, values)) and (a["least"], a["most"]) == pytest.approx((0.7, 1.5))
    assert a["bias"] == pytest.approx(0.18) and a["rms"] == pytest.approx(row["theta_error_rms"])
    assert (a["bias_low"], a["bias_high"]) == pytest.approx(t_interval(lambda w, x: w @ x / w.sum(-1), values - 1))
    assert (b["bias"], b["rms"]) == (0, 0)


def test_one_run_has_no_interval():
    row = row_of(cube_of(ERM, runs_with("sam", 0.1, [1.0], [0.5])))
    assert np.isnan(row[["theta_error_low", "y_error_low", "y_error_high"]].astype(float)).all()
    assert row["theta_error_centre"] == pytest.approx(0.5) and row["theta_error_standing"] == "best"


def test_ratios_to_erm_are_paired_by_seed():
    sam = [0.1, 0.3, 0.5]
    cube = cube_of(ERM, runs_with("sam", 0.1, [2.0, 2.5, 3.0], sam))
    row, index = row_of(cube), pd.MultiIndex.from_product([[0], range(3)], names=["data", "seed"])
    erm = pd.Series([0.5, 0.6, 0.7], index)
    expected = np.exp(log_ratio(pd.Series(sam, index), erm, log_root_mean_square, 0.95))
    found = row[["theta_error_over_erm_low", "theta_error_over_erm", "theta_error_over_erm_high"]].astype(float)
    np.testing.assert_allclose(found, expected)
    assert row["y_error_over_erm"] == pytest.approx(stats.gmean([2.0, 1.25, 1.0])) and row["n_paired"] == 3
    assert row_of(cube_of(ERM, runs_with("sam", 0.1, [2.0, 2.5], [0.1, 0.3])))["n_paired"] == 2


def test_without_erm_there_is_nothing_to_pair_with():
    selection = select(cube_of(runs_with("sam", 0.1, [2.0, 2.5], [0.1, 0.3])))
    assert selection["n_paired"].tolist() == [0, 0, 0]
    assert selection["theta_error_over_erm"].isna().all()


def test_every_rule_compares_the_methods_at_its_own_rho():
    """sam is the best by the oracle, at rho = 0.1, and erm by the validation error."""
    small, large = [0.8, 0.9, 1.2], [0.01, 0.02, 0.01]
    cube = cube_of(ERM, runs_with("sam", 0.02, [1.0, 1.1, 1.2], small), runs_with("sam", 0.1, [5.0, 5.1, 5.2], large))
    selection = select(cube).set_index(["rule", "method"])
    assert selection.loc["validation", "theta_error_standing"].to_dict() == {"erm": "best", "sam": "worse"}
    assert selection.loc["oracle", "theta_error_standing"].to_dict() == {"erm": "worse", "sam": "best"}
    assert not [name for name in selection if name.startswith("theta_relative") and name.endswith("_standing")]


def test_a_selection_of_an_older_version_is_refused_in_one_line(tmp_path):
    select(cube_of(ERM)).drop(columns="failed").to_csv(tmp_path / "selection.csv")
    with pytest.raises(UserError, match=r"selection\.csv: no column failed, .*; hybridsam select makes it anew$"):
        read_selection(tmp_path / "selection.csv")
