"""Which methods count as best, tied and worse, against scipy's paired t-test and Holm's method; intervals."""

import itertools

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from hybridsam.analysis.significance import holm, interval, paired_p, standings

NAN, INF = np.nan, np.inf


def compare(**errors):
    """method -> standing, and method -> p; errors: method -> a number for each seed."""
    found = standings(pd.DataFrame(errors))
    assert found.index.tolist() == list(errors)
    return found["standing"].to_dict(), found["p"].to_dict()


def holm_by_hand(p):
    """Straight from Holm (1979): reject in order while p_(k) <= level / (m - k); the smallest level that rejects."""
    m, order = len(p), sorted(range(len(p)), key=p.__getitem__)
    adjusted, largest = [0.0] * m, 0.0
    for k, i in enumerate(order):
        largest = max(largest, (m - k) * p[i])
        adjusted[i] = min(1.0, largest)
    return adjusted


@given(st.lists(st.floats(0, 1), min_size=1, max_size=7))
def test_holm_is_that_of_the_definition(p):
    np.testing.assert_allclose(holm(np.array(p)), holm_by_hand(p))


def test_holm_of_a_textbook_example():
    """Wright (1992), Adjusted p-values for simultaneous inference: 0.01, 0.02, 0.03, 0.05 -> 0.04, 0.06, 0.06, 0.06."""
    np.testing.assert_allclose(holm(np.array([0.03, 0.01, 0.05, 0.02])), [0.06, 0.04, 0.06, 0.06])


def test_what_was_not_tested_does_not_count():
    np.testing.assert_allclose(holm(np.array([NAN, 0.04, NAN, 0.01])), [NAN, 0.04, NAN, 0.02])


@given(st.integers(0, 2**32 - 1), st.integers(2, 6), st.integers(2, 5))
def test_p_values_are_those_of_scipy(seed, seeds, methods):
    rng = np.random.default_rng(seed)
    errors = pd.DataFrame(rng.exponential(size=(seeds, methods)), columns=[f"m{i}" for i in range(methods)])
    found = standings(errors)
    [best] = found.index[found["standing"] == "best"]
    assert best == errors.mean().idxmin() and np.isnan(found.loc[best, "p"])
    others = [name for name in errors if name != best]
    expected = holm_by_hand([stats.ttest_rel(errors[name], errors[best]).pvalue for name in others])
    np.testing.assert_allclose(found.loc[others, "p"], expected, rtol=1e-6)
    assert found.loc[others, "standing"].tolist() == ["worse" if p < 0.05 else "tied" for p in expected]


def test_pairing_finds_what_the_spread_over_seeds_hides():
    """Seeds differ by far more than methods, in the same way for both: unpaired, nothing could be said."""
    standing, p = compare(erm=[1.1, 2.12, 3.09, 4.11], sam=[1.0, 2.0, 3.0, 4.0])
    assert standing == {"erm": "worse", "sam": "best"}
    assert p["erm"] < 0.001 < 0.05 < stats.ttest_ind([1.1, 2.12, 3.09, 4.11], [1.0, 2.0, 3.0, 4.0]).pvalue


def test_more_comparisons_need_a_smaller_p():
    best, other = [1.0, 2.0, 3.0], [1.10, 2.14, 3.21]
    assert compare(best=best, other=other)[0]["other"] == "worse"
    many = {f"m{i}": [4.0, 1.0, 6.0] for i in range(3)}
    standing, p = compare(best=best, other=other, **many)
    assert standing["other"] == "tied"
    assert p["other"] == pytest.approx(4 * stats.ttest_rel(best, other).pvalue)


def test_only_seeds_that_both_completed_are_compared():
    standing, p = compare(erm=[0.5, NAN, 0.9, 0.8, 0.7], sam=[0.1, 0.2, 0.3, NAN, 0.2])
    assert standing == {"erm": "worse", "sam": "best"}
    assert p["erm"] == pytest.approx(stats.ttest_rel([0.5, 0.9, 0.7], [0.1, 0.3, 0.2]).pvalue)


@pytest.mark.parametrize("erm", [[0.5, NAN, NAN], [NAN, NAN, 0.9], [0.5, NAN, 0.9]])
def test_fewer_than_two_pairs_are_no_test(erm):
    standing, p = compare(erm=erm, sam=[0.1, 0.2, NAN])
    assert standing == {"erm": "untested", "sam": "best"}
    assert np.isnan(p["erm"])


def test_one_seed_is_no_test():
    assert compare(erm=[0.5], sam=[0.1], fsam=[0.1])[0] == {"erm": "untested", "sam": "best", "fsam": "untested"}


def test_a_method_of_which_a_run_exploded_is_neither_best_nor_tied():
    """Its mean and any difference to it say nothing, whichever way; the others are compared without it."""
    errors = pd.DataFrame({"erm": [0.2, 0.21, 0.19], "sam": [0.1, 0.11, 0.1], "fsam": [0.01, 0.02, 5000.0]})
    found = standings(errors, ["fsam"])
    assert found["standing"].to_dict() == {"erm": "worse", "sam": "best", "fsam": "exploded"}
    assert found.loc["erm", "p"] == compare(erm=errors["erm"], sam=errors["sam"])[1]["erm"]
    assert standings(errors)["standing"]["fsam"] == "tied"
    assert standings(errors, ["fsam", "sam"])["standing"].to_dict() == {
        "erm": "",
        "sam": "exploded",
        "fsam": "exploded",
    }
    assert standings(errors.assign(fsam=NAN), ["fsam"])["standing"]["fsam"] == ""


# Degenerate cases


def test_equal_errors_are_tied_and_not_undefined():
    """As of two methods that both end on a bound of theta, or of a rho so small that nothing changes."""
    standing, p = compare(erm=[0.25, 0.5, 0.75], sam=[0.25, 0.5, 0.75])
    assert standing == {"erm": "best", "sam": "tied"}
    assert p["sam"] == 1


def test_a_difference_that_is_the_same_for_every_seed_is_one():
    """The limit of a spread that gets smaller and smaller."""
    standing, p = compare(erm=[0.5, 0.75, 1.0], sam=[0.25, 0.5, 0.75])
    assert standing == {"erm": "worse", "sam": "best"}
    assert p["erm"] == 0
    spreads = [1e-2, 1e-4, 1e-6]
    limit = [paired_p(np.array([0.25 - spread, 0.25, 0.25 + spread])) for spread in spreads]
    assert limit[0] > limit[1] > limit[2] > 0 and limit[2] < 1e-10


def test_a_method_without_a_completed_run_has_no_standing():
    standing, p = compare(erm=[0.5, 0.6], sam=[0.1, 0.2], fsam=[NAN, NAN])
    assert standing["fsam"] == "" and np.isnan(p["fsam"])
    assert p["erm"] == pytest.approx(paired_p(np.array([0.4, 0.4])), abs=1e-12)  # one comparison, not two


@pytest.mark.parametrize(
    "errors",
    [{"erm": [0.5, 0.6]}, {"erm": [0.5, 0.6], "sam": [NAN, NAN]}, {"erm": [NAN], "sam": [NAN]}, {"erm": [], "sam": []}],
    ids=["one method", "one with results", "none with results", "no run at all"],
)
def test_where_there_is_nothing_to_compare_nothing_is_best(errors):
    standing, p = compare(**errors)
    assert set(standing.values()) == {""} and np.isnan(list(p.values())).all()


def test_an_infinite_error_is_neither_best_nor_tested():
    assert compare(erm=[INF, 0.0], sam=[0.1, 0.2])[0] == {"erm": "untested", "sam": "best"}
    assert compare(erm=[INF, 0.0], sam=[INF, 0.2])[0] == {"erm": "", "sam": ""}


def test_a_method_that_is_better_on_the_shared_seeds_is_not_called_worse():
    """Its mean is larger because it alone completed a hard seed."""
    standing, p = compare(erm=[0.10, 0.11, 0.12, 9.0], sam=[0.20, 0.212, 0.218, NAN])
    assert p["erm"] < 0.05
    assert standing == {"erm": "tied", "sam": "best"}


@given(st.data())
def test_a_constant_on_all_errors_changes_no_standing(data):
    """Numbers on a grid, so that sums are exact; some runs did not complete."""
    seeds, methods = data.draw(st.integers(1, 5)), data.draw(st.integers(1, 4))
    number = st.one_of(st.integers(0, 64).map(lambda i: i / 64), st.just(NAN))
    columns = {f"m{i}": data.draw(st.lists(number, min_size=seeds, max_size=seeds)) for i in range(methods)}
    errors, constant = pd.DataFrame(columns, dtype=float), data.draw(st.integers(0, 512)) / 64
    before, after = standings(errors), standings(errors + constant)
    means = errors.mean()
    if (means.value_counts() == 1).all():  # else the rounding of the means decides which of equal ones is called best
        pd.testing.assert_frame_equal(before, after)


@pytest.mark.slow
@given(st.integers(0, 2**32 - 1))
def test_the_order_of_methods_and_seeds_changes_nothing(seed):
    errors = pd.DataFrame(np.random.default_rng(seed).exponential(size=(4, 3)), columns=list("abc"))
    expected = standings(errors)
    for order in itertools.permutations("abc"):
        shuffled = standings(errors[list(order)].iloc[::-1])
        assert shuffled["standing"].to_dict() == expected["standing"].to_dict()


@pytest.mark.slow
def test_equal_methods_are_seldom_told_apart():
    """Of six equal methods one is called worse in a tenth of all tables: more than 5 %, as the docstring says."""
    rng = np.random.default_rng(0)
    tables = [pd.DataFrame(rng.normal(size=(4, 6))) for _ in range(200)]
    wrong = np.mean([(standings(table)["standing"] == "worse").any() for table in tables])
    assert 0.04 < wrong < 0.16


# Intervals


def test_interval_is_students():
    assert interval([1.0, 2.0, 3.0]) == pytest.approx(4.302653 / np.sqrt(3), rel=1e-6)
    assert np.isnan(interval([1.0])) and np.isnan(interval([1.0, np.inf]))
