"""Theta from a whole that is known: closed forms, other ways to the same number, invariances, coverage, refusals."""

import numpy as np
import pytest
import torch
import xarray as xr
from helpers.known import ASKED, LIFT, K, Known, lifted, members, oscillator, states, with_missing
from hypothesis import given, settings
from hypothesis import strategies as st

from hybridsam.analysis.assumptions import DependsOn, Seen, Straight
from hybridsam.analysis.ensemble import Members, slopes
from hybridsam.analysis.identification import as_table, identify, in_words
from hybridsam.core.errors import UserError
from hybridsam.models.hybrid import Comparison
from hybridsam.models.parameters import Parameter


def found(missing, assume, dataset=None, science=oscillator, rows=(K,), wholes=None, **options):
    """What is said of a whole that every member has, unless ``wholes`` has one for each."""
    dataset = states() if dataset is None else dataset
    model = Known(wholes or [with_missing(missing)] * 4, science, *rows, **options)
    return identify(model, members(len(model.wholes), len(rows)), dataset, assume)


def theta(result):
    return result["theta"].values.ravel()


def regression(dataset, missing, basis):
    """k by ordinary least squares on sin q and a basis, another way to partial it out (Frisch & Waugh 1933)."""
    x = dataset["state"].values.reshape(-1, 2)
    y = with_missing(missing)(torch.as_tensor(x))[:, 1].numpy()
    columns = np.column_stack([-np.sin(x[:, 0]), *(function(*x.T) for function in basis)])
    return np.linalg.lstsq(columns, y, rcond=None)[0][0]


ODD = {
    "damping": lambda x: -0.3 * x[..., 1],
    "spring": lambda x: 0.2 * x[..., 0],
    "cubic": lambda x: -0.1 * x[..., 1] ** 3,
}


@pytest.mark.parametrize("missing", ODD.values(), ids=ODD)
def test_small_is_the_theta_of_least_squares(missing):
    dataset = states()
    result = found(missing, ["small"], dataset)
    assert theta(result) == pytest.approx([regression(dataset, missing, [])], rel=1e-6)
    assert result["information"].item() == pytest.approx(1)
    assert result["unexplained"].item() == pytest.approx(1)


@pytest.mark.parametrize("missing", ODD.values(), ids=ODD)
def test_a_basis_is_partialled_out_as_by_a_regression_on_both(missing):
    dataset = states()
    result = found(missing, [{"spanned_by": ["velocity", "position**2"]}], dataset)
    basis = [lambda q, p: np.ones_like(q), lambda q, p: p, lambda q, p: q**2]
    assert theta(result) == pytest.approx([regression(dataset, missing, basis)], rel=1e-6)


numbers = st.floats(-2, 2)


@settings(max_examples=10)
@given(numbers, numbers, numbers)
def test_straight_finds_theta_whatever_affine_function_is_missing(slope, other, constant):
    result = found(lambda x: slope * x[..., 0] + other * x[..., 1] + constant, ["straight"])
    assert theta(result) == pytest.approx([1.3], rel=1e-5)
    assert 0 < result["information"].item() < 0.2, "most of a sine is straight"


OF_VELOCITY = [lambda p: -0.3 * p, lambda p: 0.4 * p * p.abs(), lambda p: torch.cos(2 * p), lambda p: torch.exp(p / 2)]


@pytest.mark.parametrize("function", OF_VELOCITY, ids=["linear", "quadratic", "cosine", "exponential"])
def test_depends_on_finds_theta_whatever_function_of_the_quantity_is_missing(function):
    asked = [{"depends_on": ["velocity"]}, {"depends_on": ["position"]}]
    by_velocity, by_position = theta(found(lambda x: 1 + function(x[..., 1]), asked))
    assert by_velocity == pytest.approx(1.3, abs=2e-3)
    assert np.isnan(by_position), "the science is a function of the position, too"


def test_depends_on_several_quantities_has_their_products():
    science = lambda theta, x: -theta["k"].unsqueeze(-1) * torch.sin(3 * x)  # noqa: E731
    whole = lambda x: -1.3 * torch.sin(3 * x)  # noqa: E731
    dataset = states().assign_coords(component=["u", "v"])
    wholes = [lambda x: whole(x) + (x[..., :1] * x[..., 1:])] * 4
    result = found(None, [{"depends_on": ["u", "v"]}, {"depends_on": "u"}], dataset, science, wholes=wholes)
    assert (result["information"].values.ravel() < [1e-3, 0.6]).all()
    assert np.isnan(theta(result)[0]), "any function of both is the science, too"


def test_of_a_field_on_a_grid_the_values_at_the_place_count():
    """Diffusion of u with a reaction that is any function of u and v at the place."""
    rng = np.random.default_rng(1)
    fields = rng.uniform(-1, 1, (6, 3, 8, 8, 2))
    dataset = xr.Dataset({"state": (("sample", "time", "y", "x", "component"), fields)}, {"component": ["u", "v"]})

    def diffusion(theta, x):
        around = sum(x.roll(step, axis) for axis in (-2, -3) for step in (-1, 1))
        return theta["k"].reshape(-1, *[1] * (x.ndim - 1)) * (around - 4 * x)

    def whole(x):
        reaction = torch.stack([x[..., 0] * x[..., 1] ** 2, -x[..., 0]], -1)
        return diffusion({"k": torch.tensor([0.2])}, x) + reaction

    result = found(None, [{"depends_on": ["u", "v"]}, "straight"], dataset, diffusion, wholes=[whole] * 3)
    assert theta(result)[0] == pytest.approx(0.2, abs=0.01)
    assert np.isnan(theta(result)[1]), "diffusion is a linear map of the whole field"
    assert result["information"].values[1].item() < 1e-12


def test_where_nothing_is_missing_theta_is_right_whatever_is_missing_elsewhere():
    missing = lambda x: torch.where(x[..., 1] > 0, 5 * torch.sin(x[..., 0]), 0.0)  # noqa: E731
    result = found(missing, [{"vanishes_where": "velocity < 0"}, "small"])
    assert theta(result)[0] == pytest.approx(1.3, rel=1e-6)
    assert theta(result)[1] < 0.5
    assert result["information"].values[0].item() == pytest.approx(0.5, abs=0.05)


def test_of_two_parameters_each_is_told_beside_the_other():
    missing = lambda x: 0.7 * x[..., 0] ** 2 - 0.3 * x[..., 1]  # noqa: E731
    result = found(missing, [{"depends_on": ["velocity"]}], science=lifted, rows=(K, LIFT))
    assert theta(result) == pytest.approx([1.3, 0.7], abs=2e-3)


def test_a_parameter_that_does_what_another_does_is_not_told():
    twice = lambda theta, x: oscillator({"k": theta["k"] + theta["lift"]}, x)  # noqa: E731
    result = found(lambda x: 0 * x[..., 0], ["small"], science=twice, rows=(K, LIFT))
    assert np.isnan(theta(result)).all()
    assert (result["information"].values < 1e-9).all()


def test_a_parameter_is_kept_inside_its_bounds():
    result = found(lambda x: 4 * torch.sin(x[..., 0]), ["small"])  # by which k would be -2.7
    assert theta(result) == pytest.approx([0], abs=1e-6)
    assert result["low"].item() >= 0


def test_starts_that_are_rounded_beyond_a_bound_are_no_mistake():
    below = Parameter("k", "s-1", 1.0, "sigmoid", lower=0.0, upper=2.0 - 1e-9)  # the last member is at 2
    assert theta(found(ODD["damping"], [{"depends_on": ["velocity"]}], rows=(below,))) == pytest.approx([1.3], abs=2e-3)


def test_one_series_alone_can_be_asked():
    result = found(ODD["damping"], [{"depends_on": ["velocity"]}], states(1, 200))
    assert theta(result) == pytest.approx([1.3], abs=2e-3)


def test_units_of_the_state_do_not_matter():
    """The same motion in other units of the state and of time, with the scale of each component in them."""
    scale, slower = torch.tensor([1e3, 1e-2]), 60.0
    dataset = states()
    other = dataset.assign(state=dataset["state"] * scale.numpy())

    def science(theta, x):
        return oscillator({"k": theta["k"] * slower}, x / scale) * scale / slower

    def whole(x):
        return with_missing(ODD["damping"])(x / scale) * scale / slower

    rows = (Parameter("k", "min-1", 0.5 / slower, "softplus", lower=0.0),)
    asked = ["small", "straight", {"depends_on": ["velocity"]}]
    ours = found(ODD["damping"], asked, dataset)
    theirs = found(None, asked, other, science, rows, [whole] * 4, scale=scale / slower)
    np.testing.assert_allclose(theta(theirs) * slower, theta(ours), rtol=1e-4)
    np.testing.assert_allclose(theirs["information"], ours["information"], rtol=1e-4)


def different(n, noise, rng):
    """Wholes of n members that fit the same field, each with an error of its own."""
    errors = rng.normal(0, noise, (n, 3))
    return [
        lambda x, e=e: (
            with_missing(ODD["damping"])(x)
            + torch.stack([0 * x[..., 0], e[0] * torch.sin(x[..., 0]) + e[1] * torch.cos(3 * x[..., 0]) + e[2]], -1)
        )
        for e in errors
    ]


def test_order_of_members_and_of_series_does_not_matter():
    dataset, wholes = states(), different(5, 0.05, np.random.default_rng(0))
    one = found(None, ASKED, dataset, wholes=wholes)
    members_turned = found(None, ASKED, dataset, wholes=wholes[::-1])
    for name in ("theta", "information", "spread_ratio", "unexplained"):
        np.testing.assert_allclose(members_turned[name], one[name], rtol=1e-6, err_msg=name)
    turned = found(None, ["small"], dataset.isel(sample=[*range(15, 30), *range(15)]), wholes=wholes)
    np.testing.assert_allclose(theta(turned), theta(one)[0], rtol=1e-9)


def test_the_spread_between_members_tells_a_wrong_assumption_from_a_right_one():
    result = found(None, ASKED, wholes=different(6, 0.02, np.random.default_rng(2)))
    ratio = dict(zip(result["assumption"].values, result["spread_ratio"].values, strict=True))
    assert ratio["depends on velocity"] < 1.5
    assert ratio["straight"] < 1.5
    assert ratio["depends on position"] > 5, "damping is no function of the position"
    assert result["unexplained"].values[2] < 0.1 < 0.9 < result["unexplained"].values[3]


def test_a_member_alone_has_the_theta_of_its_own_whole():
    wholes = different(4, 0.05, np.random.default_rng(3))
    together = found(None, ["small"], wholes=wholes)["theta_of_members"].values.ravel()
    alone = [theta(found(None, ["small"], wholes=[whole] * 3)).item() for whole in wholes]
    np.testing.assert_allclose(together, alone, rtol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("assumption", ["small", "straight"])
def test_intervals_cover_what_more_members_and_series_would_say(assumption):
    """Members and series are drawn anew 60 times; of 95 % intervals 52 to 60 hold the theta of all of them."""
    true = theta(found(None, [assumption], states(400, seed=9), wholes=[with_missing(ODD["damping"])] * 3)).item()
    held = 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        result = found(None, [assumption], states(20, 5, seed=1000 + seed), wholes=different(8, 0.05, rng))
        held += result["low"].item() <= true <= result["high"].item()
    assert held >= 52, f"{held} of 60"


def test_the_slope_of_theta_on_its_start_is_that_of_a_line():
    start = np.array([[0.5, 1.0], [1.0, 1.0], [1.5, 1.0], [2.0, 1.0]])
    slope = slopes(
        Members(np.arange(4), torch.tensor(1.0 + 0.3 * start), start, torch.zeros(4, 0), torch.zeros(4, 0), 4)
    )
    assert slope[:, 0] == pytest.approx([0.3] * 3)
    assert np.isnan(slope[:, 1]).all(), "all start at the same place"
    noisy = torch.tensor(1 + 0.3 * start + np.array([0.01, -0.02, 0.02, -0.01])[:, None])
    estimate, low, high = slopes(Members(np.arange(4), noisy, start, torch.zeros(4, 0), torch.zeros(4, 0), 4))[:, 0]
    assert low < estimate < high


def test_what_is_found_is_said_with_its_unit_and_an_assumption_that_is_blind_without_a_number():
    lines = in_words(found(ODD["damping"], [{"depends_on": ["velocity"]}, {"depends_on": ["position"]}]))
    assert lines[0].startswith("theta.k, depends on velocity: 1.3")
    assert lines[0].endswith(" s-1")
    assert "says nothing (information" in lines[1]
    table = as_table(found(ODD["damping"], ASKED))
    assert len(table) == 4
    assert table["theta"].isna().tolist() == [False, False, False, True]
    assert {"assumption", "parameter", "unit", "low", "high", "information", "meaning"} <= set(table)


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ("smal", "'smal' is no assumption; allowed are small, straight"),
        (7, "7 is no assumption"),
        ({"depends_on": []}, "is no assumption"),
        ({"depends_on": ["speed"]}, "'speed' is not one of position, velocity"),
        ({"depends on": ["velocity"]}, "is no assumption"),
        ({"vanishes_where": "velocity"}, "'velocity' is no condition"),
        ({"vanishes_where": "speed > 0"}, "'speed > 0' is not an expression"),
        ({"vanishes_where": "velocity > 3"}, "'velocity > 3' holds nowhere in the training data"),
        ({"spanned_by": ["velocity ** "]}, "there are position, velocity"),
        ({"spanned_by": ["__import__('os').getcwd()"]}, "is not an expression"),
    ],
    ids=str,
)
def test_an_assumption_that_makes_no_sense_is_refused_with_what_is_allowed(entry, words):
    with pytest.raises(UserError, match="assume") as error:
        found(ODD["damping"], [entry])
    assert words in str(error.value)


def test_quantities_have_the_names_of_the_components_and_of_the_inputs():
    inputs = xr.Dataset(
        {"light": (("sample", "colour"), np.arange(6.0).reshape(3, 2)), "angle": ("sample", [1.0, 2.0, 3.0])},
        coords={"colour": ["red", "blue"]},
    )
    inputs["spectrum"] = ("sample", "wavelength"), np.zeros((3, 7))  # not at the five places of the target
    points = {name: torch.as_tensor(inputs[name].values)[None].unsqueeze(2) for name in inputs.data_vars}
    seen = Seen.of(Comparison(points, None, None), inputs, (5,))
    assert list(seen.columns) == ["red", "blue", "angle"]
    assert seen.columns["blue"].ravel().tolist() == [1, 3, 5]
    assert seen.evaluated("red + 10 * angle").ravel().tolist() == [10, 22, 34]


def test_a_theta_at_its_bound_is_the_bound():
    """And no number of 1e-32, which a search within bounds comes to."""
    result = found(lambda x: 3 * torch.sin(x[..., 0]), ["small"])
    assert theta(result).tolist() == [0.0], "without a bound it were -1.7"


def test_second_differences_are_as_large_as_what_varies_at_random(pairs=20_000):
    fields = np.random.default_rng(0).normal(scale=3.0, size=(1, 3 * pairs, 1, 1))
    assert np.sqrt(np.mean(Straight().operator(None)(fields) ** 2)) == pytest.approx(3.0, rel=0.02)


@pytest.fixture
def seen():
    """Twelve series of seven states, x of which is all that can be named."""
    x = np.random.default_rng(0).normal(size=(12, 7))
    number = np.broadcast_to(np.arange(12.0)[:, None], x.shape)
    return Seen({"state": torch.tensor(np.stack([x, number], -1))[None]}, {"x": x})


def test_a_series_is_never_predicted_from_itself(seen):
    """Cross-fitting: what is added to one series is left of it as it is, and not partly explained by itself."""
    rng = np.random.default_rng(1)
    fields = rng.normal(size=(1, 12, 7, 1))
    more = np.zeros_like(fields)
    more[:, 4] = rng.normal(size=(7, 1))
    operator = DependsOn(("x",)).operator(seen)
    np.testing.assert_allclose((operator(fields + more) - operator(fields))[:, 4], more[:, 4], atol=1e-10)
    imitation = DependsOn(("x",)).imitation(seen)
    assert np.abs((imitation(fields + more) - imitation(fields) - more)[:, 4]).max() > 0.01


def test_a_second_difference_belongs_to_the_series_of_both_its_ends(seen):
    straight = Straight()
    a, b, _ = straight.points(seen)["state"][0, :, 0, 1].chunk(3)
    np.testing.assert_array_equal(straight.series(seen), np.stack([a, b], -1))
