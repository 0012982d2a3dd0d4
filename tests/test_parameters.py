"""The table of scientific parameters: transforms, bounds, starts, refusals."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hybridsam.core.errors import UserError
from hybridsam.models.parameters import Parameter, Parameters

ROWS = {
    "none": {"unit": "1", "start": -0.7},
    "softplus": {"unit": "rad s-1", "start": 0.5, "transform": "softplus", "lower": 0.1},
    "sigmoid": {"unit": "m2 s-1", "start": 1.2e-3, "transform": "sigmoid", "lower": 0.0, "upper": 1e-2},
}
every_transform = pytest.mark.parametrize("transform", ROWS)
moderate = st.lists(st.floats(-15, 15), min_size=1, max_size=5)


def table(**changes):
    """All three rows, of which one is changed."""
    return {name: row | changes.get(name, {}) for name, row in ROWS.items()}


def column(values):
    return torch.tensor(values, dtype=torch.float64)


@every_transform
@given(raw=moderate)
def test_unconstrain_inverts_constrain(transform, raw):
    row = Parameter("x", **ROWS[transform])
    torch.testing.assert_close(row.unconstrain(row.constrain(column(raw))), column(raw), rtol=1e-7, atol=1e-7)


@every_transform
@given(share=st.floats(1e-6, 1 - 1e-6))
def test_constrain_inverts_unconstrain(transform, share):
    row = Parameter("x", **ROWS[transform])
    lower, upper = max(row.lower, -100), min(row.upper, 100)
    theta = column([lower + share * (upper - lower)])
    torch.testing.assert_close(row.constrain(row.unconstrain(theta)), theta, rtol=1e-9, atol=1e-12)


@every_transform
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@given(raw=st.lists(st.floats(-1e4, 1e4), min_size=1, max_size=5))
def test_constrained_values_respect_the_bounds(transform, dtype, raw):
    row = Parameter("x", **ROWS[transform])
    theta = row.constrain(torch.tensor(raw, dtype=dtype))
    assert theta.isfinite().all()
    assert (theta >= torch.tensor(row.lower, dtype=dtype)).all()
    assert (theta <= torch.tensor(row.upper, dtype=dtype)).all()


def test_transforms_are_those_of_the_documentation():
    raw = column([-2.0, 0.3, 4.0])
    none, softplus, sigmoid = (Parameter(name, **row).constrain(raw).tolist() for name, row in ROWS.items())
    assert none == raw.tolist()
    assert softplus == pytest.approx([0.1 + math.log1p(math.exp(x)) for x in raw.tolist()], rel=1e-12)
    assert sigmoid == pytest.approx([1e-2 / (1 + math.exp(-x)) for x in raw.tolist()], rel=1e-12)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-6)])
def test_every_member_starts_at_the_start(dtype, tolerance):
    parameters = Parameters.from_settings(table())
    raw = parameters.initial(4, dtype)
    expected = torch.tensor([[-0.7, 0.5, 1.2e-3]] * 4, dtype=dtype)
    assert raw.dtype == dtype
    torch.testing.assert_close(parameters.constrain(raw), expected, rtol=tolerance, atol=0)
    torch.testing.assert_close(parameters.unconstrain(expected), raw, rtol=10 * tolerance, atol=0)


@given(start=st.floats(1e-12, 1e6))
def test_a_start_close_to_its_lower_bound_or_far_from_it_is_reproduced(start):
    parameters = Parameters([Parameter("x", "1", start, "softplus", lower=0.0)])
    theta = parameters.constrain(parameters.initial(1, torch.float64))
    torch.testing.assert_close(theta, column([[start]]), rtol=1e-9, atol=0)


def test_table_keeps_order_names_and_units():
    parameters = Parameters.from_settings(table())
    assert len(parameters) == 3
    assert parameters.names == ["none", "softplus", "sigmoid"]
    assert parameters.units == ["1", "rad s-1", "m2 s-1"]
    named = parameters.named(column([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]))
    assert {name: values.tolist() for name, values in named.items()} == {
        "none": [[1.0], [4.0]],
        "softplus": [[2.0], [5.0]],
        "sigmoid": [[3.0], [6.0]],
    }


@pytest.mark.parametrize(
    ("name", "key", "value"),
    [
        ("none", "transform", "log"),
        ("none", "start", float("nan")),
        ("none", "start", "fast"),
        ("none", "unit", 1),
        ("none", "nominal", 1.0),
        ("softplus", "lower", float("-inf")),
        ("softplus", "start", 0.1),
        ("softplus", "start", -1.0),
        ("sigmoid", "start", 0.0),
        ("sigmoid", "start", 1e-2),
        ("sigmoid", "upper", float("inf")),
        ("sigmoid", "lower", None),
        ("sigmoid", "lower", True),
    ],
)
def test_bad_value_is_refused_with_its_key(name, key, value):
    with pytest.raises(UserError, match=rf"theta\.{name}\.{key}"):
        Parameters.from_settings(table(**{name: {key: value}}))


@pytest.mark.parametrize(
    ("row", "key"),
    [
        ({"start": 1.0}, "unit"),
        ({"unit": "1"}, "start"),
        ({"unit": "1", "start": 1.0, "transform": "softplus"}, "lower"),
        ({"unit": "1", "start": 1.0, "transform": "sigmoid", "lower": 0.0}, "upper"),
    ],
)
def test_missing_value_is_refused_with_its_key(row, key):
    with pytest.raises(UserError, match=rf"theta\.mass\.{key}"):
        Parameters.from_settings({"mass": row})


def test_a_number_in_place_of_a_row_is_refused_with_its_name():
    with pytest.raises(UserError, match=r"theta\.mass"):
        Parameters.from_settings({"mass": 1.0})
