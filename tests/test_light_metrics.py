"""Errors of theta in the light tunnel: what a change of gauge leaves as it is, and what not."""

import numpy as np
import pytest
from helpers import small
from hypothesis import given
from hypothesis import strategies as st

from hybridsam.core import settings
from hybridsam.tasks.light_tunnel import THETA, metrics

DATA = settings.load(str(small.ROOT / "config/tasks/light_tunnel.yaml"))["data"]
TRUTH = {name: DATA[name]["value"] for name in THETA}

positive = st.floats(0.01, 5)
nine = st.lists(positive, min_size=9, max_size=9)
three = st.lists(st.floats(0.1, 10), min_size=3, max_size=3)
FREE = ("theta_gauge_free_error", "theta_ratio_error")


def named(values):
    """name -> value, or (member,) values."""
    return dict(zip(THETA, np.moveaxis(np.asarray(values, float), -1, 0), strict=True))


def in_gauge(values, factors):
    """w of each colour multiplied and both its transmissions divided by the colour's factor."""
    w, t_p, t_c = np.reshape(values, (3, 3))
    return np.concatenate([w * factors, t_p / factors, t_c / factors])


@given(nine, nine, three)
def test_gauge_free_errors_do_not_depend_on_the_gauge(found, true, factors):
    one, other = (metrics(named(values), named(true)) for values in (found, in_gauge(found, factors)))
    for name in FREE:
        assert one[name][0] == pytest.approx(other[name][0], rel=1e-9, abs=1e-12)


@given(three)
def test_gauge_free_errors_are_zero_at_the_truth_in_any_gauge(factors):
    found = metrics(named(in_gauge(list(TRUTH.values()), factors)), TRUTH)
    assert [found[name][0] for name in FREE] == pytest.approx([0, 0], abs=1e-12)


def test_the_plain_cosine_is_zero_at_the_truth_and_depends_on_the_gauge():
    truth = list(TRUTH.values())
    assert metrics(TRUTH, TRUTH)["theta_error"][0] == pytest.approx(0, abs=1e-15)
    assert metrics(named(np.multiply(truth, 3)), TRUTH)["theta_error"][0] == pytest.approx(0, abs=1e-15)
    for factors in ([2, 2, 2], [1, 3, 1], [0.5, 1, 2]):
        assert metrics(named(in_gauge(truth, factors)), TRUTH)["theta_error"][0] > 0.005


@given(nine, nine)
def test_errors_are_those_written_with_numpy_and_have_a_meaning(found, true):
    errors = metrics(named(found), named(true))

    def cosine(a, b):
        return np.dot(a, b) / np.linalg.norm(a) / np.linalg.norm(b)

    def free(values):
        w, t_p, t_c = np.reshape(values, (3, 3))
        return np.concatenate([w * (t_p - t_c), w * t_c])

    ratios = np.array(found[6:]) / found[3:6] / (np.array(true[6:]) / true[3:6])
    expected = {
        "theta_error": 1 - cosine(found, true),
        "theta_gauge_free_error": 1 - cosine(free(found), free(true)),
        "theta_ratio_error": np.mean(np.abs(ratios - 1)),
    }
    assert {name: error for name, (error, _) in errors.items()} == pytest.approx(expected, rel=1e-9, abs=1e-12)
    assert len({meaning for _, meaning in errors.values()}) == 3


def test_errors_of_many_runs_are_those_of_each():
    many = np.random.default_rng(0).uniform(0.1, 2, (2, 3, 4, 9))
    errors = metrics(named(many), TRUTH)
    for name, (values, _) in errors.items():
        assert values.shape == (2, 3, 4)
        assert values[1, 2, 3] == pytest.approx(metrics(named(many[1, 2, 3]), TRUTH)[name][0], rel=1e-12)


def test_errors_of_a_run_that_is_missing_are_not_a_number():
    errors = metrics(named([list(TRUTH.values()), [np.nan] * 9]), TRUTH)
    for values, _ in errors.values():
        assert np.isfinite(values[0]) and np.isnan(values[1])
