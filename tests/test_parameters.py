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
MORE = {  # kinds whose values the tests below know by the documentation alone
    "scaled": {"unit": "W K-1", "start": 50.0},
    "below": {"unit": "K", "start": 290.0, "transform": "softplus", "upper": 310.0},
    "log": {"unit": "Pa", "start": 3e5, "transform": "log"},
    "negative": {"unit": "V", "start": -0.07, "transform": "log"},
}
every_transform = pytest.mark.parametrize("transform", [*ROWS, *MORE])
moderate = st.lists(st.floats(-15, 15), min_size=1, max_size=5)


def table(**changes):
    """All three rows, of which one is changed, or another one that is."""
    rows = ROWS | {name: MORE[name] for name in changes if name in MORE}
    return {name: row | changes.get(name, {}) for name, row in rows.items()}


def column(values):
    return torch.tensor(values, dtype=torch.float64)


@every_transform
@given(raw=moderate)
def test_unconstrain_inverts_constrain(transform, raw):
    row = Parameter("x", **(ROWS | MORE)[transform])
    torch.testing.assert_close(row.unconstrain(row.constrain(column(raw))), column(raw), rtol=1e-7, atol=1e-7)


@every_transform
@given(share=st.floats(1e-6, 1 - 1e-6))
def test_constrain_inverts_unconstrain(transform, share):
    row = Parameter("x", **(ROWS | MORE)[transform])
    far = 100 * abs(row.start)
    lower, upper = max(row.lower, -far), min(row.upper, far)
    if row.transform == "log":
        lower, upper = sorted((0, 100 * row.start))
    theta = column([lower + share * (upper - lower)])
    torch.testing.assert_close(row.constrain(row.unconstrain(theta)), theta, rtol=1e-9, atol=1e-9 * abs(row.start))


@every_transform
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@given(raw=st.lists(st.floats(-1e4, 50), min_size=1, max_size=5))
def test_constrained_values_respect_the_bounds(transform, dtype, raw):
    row = Parameter("x", **(ROWS | MORE)[transform])
    theta = row.constrain(torch.tensor(raw, dtype=dtype))
    assert theta.isfinite().all()
    assert (theta >= torch.tensor(row.lower, dtype=dtype)).all()
    assert (theta <= torch.tensor(row.upper, dtype=dtype)).all()


def test_transforms_are_those_of_the_documentation():
    raw = column([-2.0, 0.3, 4.0])
    found = {name: Parameter(name, **row).constrain(raw).tolist() for name, row in (ROWS | MORE).items()}
    expected = {
        "none": lambda x: 0.7 * x,
        "softplus": lambda x: 0.1 + 0.4 * math.log1p(math.exp(x)),
        "sigmoid": lambda x: 1e-2 / (1 + math.exp(-x)),
        "scaled": lambda x: 50 * x,
        "below": lambda x: 310 - 20 * math.log1p(math.exp(x)),
        "log": lambda x: 3e5 * math.exp(x),
        "negative": lambda x: -0.07 * math.exp(x),
    }
    for name, values in found.items():
        assert values == pytest.approx([expected[name](x) for x in raw.tolist()], rel=1e-12), name


def test_a_scale_that_is_stated_replaces_the_parameters_own_size():
    raw = column([-2.0, 0.3, 4.0])
    none, softplus = (Parameter(name, **ROWS[name], scale=1.0).constrain(raw) for name in ("none", "softplus"))
    assert none.tolist() == raw.tolist()
    assert softplus.tolist() == pytest.approx([0.1 + math.log1p(math.exp(x)) for x in raw.tolist()], rel=1e-12)


@every_transform
@given(unit=st.floats(1e-9, 1e9))
def test_training_sees_the_same_whatever_the_unit_of_theta(transform, unit):
    """Only the sign of a bound's or a start's unit could matter, and a unit has none."""
    row = (ROWS | MORE)[transform]
    other = row | {key: row[key] * unit for key in ("start", "lower", "upper") if key in row}
    ours, theirs = Parameters([Parameter("x", **row)]), Parameters([Parameter("x", **other)])
    raw = theirs.initial(1, torch.float64)
    torch.testing.assert_close(raw, ours.initial(1, torch.float64), rtol=1e-9, atol=1e-9)
    raw = raw + column([[-3.0], [0.1], [5.0]])
    torch.testing.assert_close(theirs.constrain(raw), unit * ours.constrain(raw), rtol=1e-9, atol=0)


@pytest.mark.parametrize(
    ("row", "size"),
    [
        ({"start": 50.0}, 50),
        ({"start": -3.0}, 3),
        ({"start": 290.0, "lower": 273.0, "transform": "softplus"}, 17),
        ({"start": 290.0, "upper": 310.0, "transform": "softplus"}, 20),
        ({"start": 0.0, "lower": -2.0, "upper": 6.0, "transform": "sigmoid"}, 8),
        ({"start": 0.3, "lower": 0.0, "upper": 1.0, "transform": "sigmoid"}, 1),
        ({"start": 50.0, "scale": 7.0}, 50),
        ({"start": (-3.0, 1.0)}, 3),
        ({"start": [280.0, 290.0], "upper": 310.0, "transform": "softplus"}, 30),
    ],
)
def test_a_parameter_has_a_size_of_its_own(row, size):
    assert Parameter("x", "1", **row).size == pytest.approx(size)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-6)])
def test_every_member_starts_at_the_start(dtype, tolerance):
    parameters = Parameters.from_settings(table())
    raw = parameters.initial(4, dtype)
    expected = torch.tensor([[-0.7, 0.5, 1.2e-3]] * 4, dtype=dtype)
    assert raw.dtype == dtype
    torch.testing.assert_close(parameters.constrain(raw), expected, rtol=tolerance, atol=0)
    torch.testing.assert_close(parameters.unconstrain(expected), raw, rtol=10 * tolerance, atol=0)


INTERVALS = {
    "none": {"start": (-3.0, 5.0)},
    "softplus": {"start": [0.2, 4.0], "transform": "softplus", "lower": 0.1},
    "sigmoid": {"start": (0.1, 9.9), "transform": "sigmoid", "lower": 0.0, "upper": 10.0},
    "log": {"start": (1e-3, 1e3), "transform": "log"},
    "fixed": {"start": 0.7},
}


def drawn(seeds, *names):
    """The starts of seeds, in natural units."""
    parameters = Parameters([Parameter(name, "1", **INTERVALS[name]) for name in names])
    return parameters.constrain(parameters.drawn(seeds, torch.float64))


@given(seed=st.integers(0, 10**9))
def test_starts_are_inside_their_interval_and_of_their_own_seed_alone(seed):
    starts = drawn([3, seed], *INTERVALS)
    assert starts[1].tolist() == drawn([seed], *INTERVALS)[0].tolist()
    for values, (low, high) in zip(starts.T, [(-3, 5), (0.2, 4), (0.1, 9.9), (1e-3, 1e3), (0.7, 0.7)], strict=True):
        assert ((values >= low - 1e-9) & (values <= high + 1e-9)).all()


@pytest.mark.parametrize("seeds", [range(3), range(6), range(100, 106)], ids=str)
def test_few_seeds_cover_an_interval(seeds):
    """A third of it has a start each; two parameters do not go together: three quarters of their plane have one."""
    decades = drawn(list(seeds), "log").log10()[:, 0]
    assert {int(decade + 3) // 2 for decade in decades} == {0, 1, 2}, "by factors, as of log"
    places = drawn(list(seeds), "none", "sigmoid") - column([[1.0, 5.0]])
    if len(seeds) == 6:
        assert len({tuple((of_seed > 0).tolist()) for of_seed in places}) >= 3


def test_a_start_that_is_a_number_is_that_of_every_seed_and_an_interval_is_tried_at_its_centre():
    assert drawn([0, 1, 7], "log", "fixed")[:, 1].tolist() == [0.7] * 3
    parameters = Parameters([Parameter(name, "1", **INTERVALS[name]) for name in ("none", "log")])
    tried = parameters.constrain(parameters.initial(2, torch.float64))
    torch.testing.assert_close(tried, column([[1.0, 1.0]] * 2))


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
        ("none", "transform", "exp"),
        ("none", "lower", -1.0),
        ("none", "upper", 2.0),
        ("none", "scale", 0.0),
        ("none", "scale", -1.0),
        ("none", "scale", float("inf")),
        ("none", "scale", "large"),
        ("softplus", "upper", 7.0),
        ("sigmoid", "scale", 1.0),
        ("log", "scale", 1.0),
        ("log", "lower", 0.0),
        ("log", "upper", 1e9),
        ("log", "start", 0.0),
        ("log", "start", [-1.0, 2.0]),
        ("none", "start", [1.0]),
        ("none", "start", [1.0, 1.0]),
        ("none", "start", [2.0, 1.0]),
        ("none", "start", [1.0, 2.0, 3.0]),
        ("none", "start", [1.0, "two"]),
        ("sigmoid", "start", [1e-3, 1e-2]),
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
        ({"unit": "1", "start": 0.0}, "scale"),
        ({"unit": "1", "start": 0}, "scale"),
    ],
)
def test_missing_value_is_refused_with_its_key(row, key):
    with pytest.raises(UserError, match=rf"theta\.mass\.{key}"):
        Parameters.from_settings({"mass": row})


def test_a_number_in_place_of_a_row_is_refused_with_its_name():
    with pytest.raises(UserError, match=r"theta\.mass"):
        Parameters.from_settings({"mass": 1.0})
