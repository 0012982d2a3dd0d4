"""Formulas of every operation, through C and through PyTorch: the same values and gradients, at kinks and edges too."""

import math

import numpy as np
import pytest
import torch
from helpers.in_c import by_autograd, in_c
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from hybridsam.models.symbolic import FORMULAS

NAMES = ["p", "q"]
EDGES = [0.0, -1.0, 1.0, 0.5, -0.5, 2.0, -2.0, 3.0]  # kinks, negative numbers, ties; exact in sums and products
COMPARISONS = ["eq", "ge", "gt", "le", "lt", "ne"]
OF_TWO = ["add", "atan2", "div", "maximum", "minimum", "mul", "pow", "rsub", "sub"]
OF_AXES = ["cat", "stack", "sum", "unbind", "unsqueeze", "ones_like", "zeros_like"]  # test_symbolic.py has these
OF_ONE = sorted(set(FORMULAS) - {*COMPARISONS, *OF_TWO, *OF_AXES, "where", "clamp"})

constants = st.sampled_from([value for value in EDGES if value])
variables = st.sampled_from(["x0", "x1", "p", "q", "g0"])


def of(formulas):
    """Formulas of formulas, as nested tuples."""
    return st.one_of(
        st.tuples(st.sampled_from(OF_ONE), formulas),
        st.tuples(st.sampled_from(OF_TWO), formulas, formulas),
        st.tuples(st.sampled_from(["add", "div", "mul", "pow", "rsub", "sub"]), formulas, constants),
        st.tuples(st.just("pow"), constants.filter(lambda value: value > 0), formulas),
        st.tuples(st.sampled_from(COMPARISONS), formulas, formulas),
        st.tuples(st.just("where"), st.sampled_from(COMPARISONS), formulas, formulas, formulas, formulas),
        st.tuples(st.just("clamp"), formulas, constants, constants),
        st.tuples(st.just("clamp"), formulas, formulas, formulas),
        st.tuples(st.just("clamp"), formulas, st.none(), formulas),
    )


formulas = st.recursive(variables, of, max_leaves=6)


def computed(formula, values):
    """A formula, of tensors or of what stands for them while a field is recorded."""
    if isinstance(formula, str):
        return values[formula]
    if not isinstance(formula, tuple):
        return formula
    name, *parts = formula
    if name == "where":
        comparison, *parts = parts
        a, b, yes, no = (computed(part, values) for part in parts)
        return torch.where(getattr(torch, comparison)(a, b), yes, no)
    parts = [computed(part, values) for part in parts]
    if name in COMPARISONS:
        return getattr(torch, name)(*parts) * values["x0"]
    if name == "add":
        return parts[0] + parts[1]
    return getattr(torch, name)(*parts)


def field_of(formula):
    def field(theta, x, g):
        values = {"x0": x[..., 0], "x1": x[..., 1], "g0": g[..., 0]} | theta
        rate = computed(formula, values)
        return torch.stack([rate, rate], -1)

    return field


def assert_same(formula, evaluate, point):
    """The same value, also an infinite one or NaN; the same gradient, or one that is not finite in both.

    Behind a sign nothing is looked at in C, where PyTorch multiplies 0 by what may be infinite.
    """
    x, theta, g = point[:2], point[2:4], point[4:]
    upstream = [1.0, 0.5]
    (value, *found), (expected, *wanted) = (
        evaluate(x, theta, g, upstream),
        by_autograd(field_of(formula), NAMES, x, theta, g, upstream),
    )
    where = f"{formula} at {point}"
    np.testing.assert_allclose(value, expected, rtol=1e-8, atol=1e-9, err_msg=where)
    found, wanted = np.concatenate(found), np.concatenate(wanted)
    if np.isfinite(wanted).all():
        np.testing.assert_allclose(found, wanted, rtol=1e-8, atol=1e-9, err_msg=where)
    elif "sign" not in where:
        assert not np.isfinite(found).all(), where


@pytest.mark.slow
@settings(max_examples=12, phases=[Phase.generate])  # the message names the formula; to shrink would compile for long
@given(some=st.lists(formulas, min_size=15, max_size=25), seed=st.integers(0, 1000))
def test_random_formulas_have_the_values_and_gradients_of_pytorch(tmp_path_factory, some, seed):
    """Each example is one compilation; where PyTorch has an infinite or undefined number, C has it too."""
    rng = np.random.default_rng(seed)
    points = [*rng.choice(EDGES, (25, 5)).tolist(), *rng.normal(size=(5, 5)).tolist()]
    evaluations = in_c([field_of(formula) for formula in some], NAMES, 2, 1, tmp_path_factory.mktemp("in c"))
    for formula, evaluate in zip(some, evaluations, strict=True):
        for point in points:
            assert_same(formula, evaluate, point)


# By hand


def root_of_difference(theta, x, g):
    """Flow through an opening between two tanks, which goes where it is lower."""
    d = x[..., 0] - x[..., 1]
    flow = theta["p"] * torch.sign(d) * torch.sqrt(torch.abs(d))
    return torch.stack([-flow, flow], -1) + g


def of_one(function):
    return lambda theta, x, g: torch.stack([function(x[..., 0], theta), g[..., 0]], -1)


KINKS = {  # formula, state, its value, and what it passes on of a gradient of 1
    "sign": (lambda x, t: torch.sign(x), 0.0, 0.0, 0.0),
    "abs": (lambda x, t: x.abs(), 0.0, 0.0, 0.0),
    "abs below": (lambda x, t: abs(x), -2.0, 2.0, -1.0),
    "relu": (lambda x, t: torch.relu(x), 0.0, 0.0, 0.0),
    "root of relu": (lambda x, t: torch.relu(x).sqrt(), -1.0, 0.0, 0.0),  # not inf * 0
    "clamp at its bound": (lambda x, t: x.clamp(min=1.0), 1.0, 1.0, 1.0),
    "clamp beyond": (lambda x, t: x.clamp(-1.0, 1.0), 1.5, 1.0, 0.0),
    "tie": (lambda x, t: torch.maximum(x, 2 - x), 1.0, 1.0, 0.0),
    "half a tie": (lambda x, t: torch.minimum(3 * x, t["p"] + 2), 1.0, 3.0, 1.5),
    "Hill at zero": (lambda x, t: x ** (2 * t["p"]) / (1 + x ** (2 * t["p"])), 0.0, 0.0, 0.0),
    "steep sigmoid": (lambda x, t: torch.sigmoid(1000 * x), -1.0, 0.0, 0.0),
    "root of a negative square": (lambda x, t: torch.sqrt(x) ** 2, -1.0, math.nan, math.nan),
    "quotient": (lambda x, t: x / x, 0.0, math.nan, math.nan),
    "branch not taken": (lambda x, t: torch.where(x > 0, torch.log(x), x), -1.0, -1.0, 1.0),
    "branch not taken, infinite": (lambda x, t: torch.where(x > 0, torch.log(x), x), 0.0, 0.0, math.nan),
    "factor": (lambda x, t: (x > 1) * x**2, 2.0, 4.0, 4.0),
}


@pytest.fixture(scope="module")
def kinks(tmp_path_factory):
    fields = [of_one(function) for function, *_ in KINKS.values()]
    return dict(zip(KINKS, in_c(fields, NAMES, 2, 1, tmp_path_factory.mktemp("kinks")), strict=True))


@pytest.mark.parametrize("name", KINKS)
def test_kinks_and_edges_are_those_of_pytorch(kinks, name):
    function, state, *expected = KINKS[name]
    point = ([state, 0.7], [1.0, 1.0], [0.0], [1.0, 0.0])
    for evaluate in (kinks[name], lambda *at: by_autograd(of_one(function), NAMES, *at)):
        (value, _), (slope, _), *_ = evaluate(*point)
        np.testing.assert_allclose([value, slope], expected, atol=1e-12)


def test_a_root_of_a_difference_with_its_sign_is_followed(tmp_path):
    [evaluate] = in_c([root_of_difference], ["p"], 2, 2, tmp_path)
    for state in ([2.0, 1.0], [1.0, 3.0], [0.5, 0.25]):
        at = (state, [0.3], [0.1, 0.2], [1.0, -0.5])
        for found, expected in zip(evaluate(*at), by_autograd(root_of_difference, ["p"], *at), strict=True):
            np.testing.assert_allclose(found, expected, rtol=1e-14)
