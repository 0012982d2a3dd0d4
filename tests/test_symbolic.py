"""Vector fields recorded as formulas: the same values and gradients as the functions, and what is not followed."""

import numpy as np
import pytest
import torch
from helpers.in_c import by_autograd, in_c

from hybridsam.models.symbolic import NotFollowedError, c_code, record
from hybridsam.tasks import duffing, pendulum


def chemostat(theta, x, g):
    """Saturating growth, with a growth rate that the network corrects; written into a tensor."""
    substrate, biomass = x[..., 0], x[:, :, 1]
    growth = theta["mu"] * substrate / (theta["k"] + substrate) * biomass * (1 + g[..., 0])
    rate = torch.zeros_like(x)
    rate[..., 0] = 0.3 * (4 - substrate) - growth / 0.5
    rate[..., 1] = growth - 0.3 * biomass
    return rate


def every_operation(theta, x, g):
    a, b, c = x.unbind(-1)
    bent = torch.where(a > b, a.sin() * b.cos(), torch.tanh(a) / (1 + b.square())) - torch.relu(c)
    limited = torch.clamp(a * c, min=-0.5, max=0.5) + torch.maximum(a, b).abs() + torch.minimum(b, 2 - c)
    rational = 1 / (2 + torch.sigmoid(c)) + torch.sqrt(1 + b**2) + 2 ** -(a**2) + torch.exp(-a).log() + abs(-b)
    turned = torch.atan2(a, 2 + b**2) + torch.reciprocal(1 + c * c) + x.sum(-1) + torch.sinh(c) + torch.sign(b)
    angles = torch.stack([bent, limited * theta["p"], rational - theta["q"]], -1)
    scaled = torch.cat([x[..., :1], x[..., 1:] * theta["p"][..., None]], -1) * torch.tensor([0.1, 0.2, 0.3])
    return angles + scaled + theta["q"].unsqueeze(-1) * g + turned[..., None]


FIELDS = {
    "pendulum": (lambda theta, x, g: pendulum.science(theta, x) + g, ["omega"], 2, 2),
    "linear": (lambda theta, x, g: duffing.linear(theta, x) + g, ["alpha"], 2, 2),
    "cubic": (lambda theta, x, g: duffing.cubic(theta, x) + g, ["beta"], 2, 2),
    "chemostat": (chemostat, ["mu", "k"], 2, 1),
    "every operation": (every_operation, ["p", "q"], 3, 3),
    "no parameter": (lambda theta, x, g: g * x, [], 1, 1),
}


@pytest.mark.parametrize("name", FIELDS)
def test_formulas_have_the_values_and_gradients_of_the_function(name, tmp_path):
    field, names, n_x, n_g = FIELDS[name]
    [evaluate] = in_c([field], names, n_x, n_g, tmp_path)
    rng = np.random.default_rng(0)
    for _ in range(20):
        draw = [rng.uniform(0.1, 2, n) for n in (n_x, len(names), n_g)] + [rng.normal(size=n_x)]
        for found, expected in zip(evaluate(*draw), by_autograd(field, names, *draw), strict=True):
            np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("field", "reason"),
    [
        (lambda theta, x, g: x.cumsum(0) + g, "cumsum"),
        (lambda theta, x, g: x if x[..., 0] > 0 else g, "decides by the values"),
        (lambda theta, x, g: x[0] + g, r"a component i is x\[\.\.\., i\]"),
        (lambda theta, x, g: torch.stack([x[..., 0], x[..., 1]], 0), "axis 0"),
        (lambda theta, x, g: x * torch.ones(3, 2), "tensor of its own"),
        (lambda theta, x, g: x * torch.ones(2, requires_grad=True), "tensor of its own"),
        (lambda theta, x, g: torch.linalg.norm(x) * g, "linalg_norm"),
        (lambda theta, x, g: x[..., 5] + g, "out of bounds"),
        (lambda theta, x, g: torch.stack([x[..., 0]] * 3, -1), "broadcast"),
        (lambda theta, x, g: "dx/dt", "returns no tensor"),
        (lambda theta, x, g: x.add_(g), "changes a value in place, by add_"),
        (lambda theta, x, g: (x > 0) + (g > 0), "uses add of a comparison"),
        (lambda theta, x, g: x.where(x > 0, g), "uses where of a comparison"),
        (lambda theta, x, g: torch.special.gammaln(x) + g, "lgamma|gammaln"),
        (lambda theta, x, g: {}[x], "failed when it was recorded: KeyError"),
    ],
)
def test_what_is_no_formula_is_refused_with_the_reason(field, reason):
    with pytest.raises(NotFollowedError, match=reason):
        record(field, ["omega"], 2, 2)


def nested(theta, x, g):
    for _ in range(2000):
        x = torch.sin(x)
    return x + g


@pytest.mark.parametrize(
    ("field", "reason"), [(lambda theta, x, g: 1j * x + g, "uses a complex number"), (nested, "recursion|too long")]
)
def test_what_cannot_be_written_in_c_is_refused_with_the_reason(field, reason):
    with pytest.raises(NotFollowedError, match=reason) as caught:
        c_code(record(field, [], 1, 1), torch.float64)
    assert "\n" not in str(caught.value)


def test_powers_are_products_in_c_and_constants_have_the_precision_of_the_type():
    formulas = record(lambda theta, x, g: 0.1 * x**3 + g / x**2, [], 1, 1)
    single, double = (c_code(formulas, dtype) for dtype in (torch.float32, torch.float64))
    assert "pow" not in single + double
    assert "typedef float Real;" in single and "0.3F*" in single
    assert "typedef double Real;" in double and "0.3F" not in double and "0.3" in double
