"""Models of a law without a rollout: a network that is added, comes behind, or in front."""

import numpy as np
import pytest
import torch
import xarray as xr

from hybridsam.analysis.identifiability import identify
from hybridsam.models.law import HybridEncoder, HybridMap, HybridSum
from hybridsam.models.networks import MLP
from hybridsam.models.parameters import Parameter, Parameters

LINE = Parameters([Parameter("k", "1", 0.5), Parameter("c", "1", 0.1)])
NETWORK_INPUTS = {"t": 0.5, "u": 2.0}
TRAIN = slice(8)


@pytest.fixture(scope="module")
def dataset():
    """y (sample, 2) = 3 t + 1, with noise, beside inputs t (sample,) and u (sample, 2)."""
    rng = np.random.default_rng(0)
    t, u = rng.uniform(1, 2, 12), rng.normal(size=(12, 2))
    y = 3 * t[:, None] + 1 + 0.1 * rng.normal(size=(12, 2))
    variables = {"y": (("sample", "component"), y), "t": ("sample", t), "u": (("sample", "entry"), u)}
    return xr.Dataset(variables, {"split": ("sample", ["train"] * 8 + ["validation"] * 2 + ["test"] * 2)})


def line(theta, u):
    return (theta["k"] * u["t"] + theta["c"]).unsqueeze(-1).expand(-1, -1, 2)


def bent(theta, u):
    return line(theta, u) * torch.exp(u["rate"]).unsqueeze(-1) + u["shift"].unsqueeze(-1)


def a_sum(standardise=True):
    return HybridSum(line, LINE, MLP((3, 5, 2)), "y", ("t", "u"), NETWORK_INPUTS, standardise)


def a_map(standardise=True):
    return HybridMap(line, LINE, MLP((5, 5, 2)), "y", ("t", "u"), NETWORK_INPUTS, standardise)


def an_encoder(standardise=True):
    names = ("rate", "shift")
    return HybridEncoder(bent, LINE, MLP((3, 5, 2)), "y", ("t", "u"), NETWORK_INPUTS, standardise, unmeasured=names)


every_kind = pytest.mark.parametrize("build", [a_sum, a_map, an_encoder])


@pytest.fixture
def theta():
    return torch.tensor([[0.5, 0.1], [2.0, 0.3], [3.0, 1.0]], dtype=torch.float64)


def prepared(build, dataset, members=3):
    model = build()
    phi = torch.stack([model.network.initial(torch.Generator().manual_seed(i)) for i in range(members)]).double()
    return model, phi, model.data(dataset, "train", torch.float64)


def network_by_hand(model, phi, dataset):
    """What the network makes of 0.5 t and 2 u of the training samples, (member, sample, n)."""
    t, u = (dataset[name].values[TRAIN] for name in ("t", "u"))
    seen = np.concatenate([0.5 * t[:, None], 2 * u], 1)
    return model.network(model.network.unflatten(phi), torch.tensor(np.stack([seen] * len(phi)))).numpy()


def line_by_hand(theta, dataset):
    t = dataset["t"].values[TRAIN]
    return np.stack([np.stack([k * t + c] * 2, -1) for k, c in theta.tolist()])


def standard(values, dataset):
    known = dataset["y"].values[TRAIN]
    return (values - known.mean(0)) / known.std(0)


def test_a_sum_is_the_law_and_the_network(theta, dataset):
    model, phi, data = prepared(a_sum, dataset)
    g, found = network_by_hand(model, phi, dataset), model.predict(theta, phi, data)
    np.testing.assert_allclose(found, standard(line_by_hand(theta, dataset), dataset) + g, rtol=1e-11, atol=1e-12)
    np.testing.assert_allclose(model.penalty(theta, phi, data, found), (g**2).mean((1, 2)), rtol=1e-9)


def test_an_encoder_finds_what_the_law_needs(theta, dataset):
    model, phi, data = prepared(an_encoder, dataset)
    z, found = network_by_hand(model, phi, dataset), model.predict(theta, phi, data)
    law = line_by_hand(theta, dataset) * np.exp(z[..., :1]) + z[..., 1:]
    np.testing.assert_allclose(found, standard(law, dataset), rtol=1e-11, atol=1e-12)
    np.testing.assert_allclose(model.penalty(theta, phi, data, found), (z**2).mean((1, 2)), rtol=1e-11)


def test_a_sum_is_no_map_and_a_map_no_sum():
    """What is compiled, or tried before training, for one must not be taken for the other."""
    assert not isinstance(a_sum(), HybridMap) and not isinstance(a_map(), HybridSum)


@every_kind
def test_the_science_alone_is_the_law_in_standard_units(build, theta, dataset):
    model, _, data = prepared(build, dataset)
    expected = standard(line_by_hand(theta, dataset), dataset)
    np.testing.assert_allclose(model.predict_science(theta, None, data), expected, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("build", [a_sum, an_encoder])
def test_a_network_of_zeros_leaves_the_science(build, theta, dataset):
    model, phi, data = prepared(build, dataset)
    science = model.predict_science(theta, phi, data)
    torch.testing.assert_close(model.predict(theta, 0 * phi, data), science, rtol=1e-12, atol=1e-12)
    assert model.penalty(theta, 0 * phi, data, science).eq(0).all()


@every_kind
def test_members_of_mini_batches_see_their_own_samples(build, theta, dataset):
    model, phi, data = prepared(build, dataset)
    index = torch.tensor([[0, 3], [7, 2], [5, 5]])
    whole, few = model.predict(theta, phi, data), model.predict(theta, phi, data.batch(index))
    for i in range(3):
        torch.testing.assert_close(few[i], whole[i, index[i]], rtol=1e-12, atol=1e-12)


def test_diagnosis_says_where_a_network_has_least_to_add(dataset):
    """For a sum the fit of the science alone, here a straight line; for an encoder it is not known."""
    t, y = np.repeat(dataset["t"].values[TRAIN], 2), dataset["y"].values[TRAIN].ravel()
    np.testing.assert_allclose(identify(a_sum(standardise=False), dataset).least_norm, np.polyfit(t, y, 1), rtol=1e-6)
    assert identify(an_encoder(standardise=False), dataset).least_norm is None
