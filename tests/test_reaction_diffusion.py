"""Reaction-diffusion: the Laplacian against closed forms, data against another solver, the model against the data."""

import numpy as np
import pytest
import torch
from helpers import small
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import solve_ivp

from hybridsam.analysis import identifiability
from hybridsam.analysis.identifiability import identify, least_norm_theta
from hybridsam.models.samples import trajectories
from hybridsam.tasks.reaction_diffusion import laplacian

A, B, K = 1.5e-3, 5.0e-3, 5.0e-3
double = {"dtype": torch.float64}


def dataset_of(**changes):
    return small.dataset_of("reaction_diffusion", None, **changes)


def by_slices(x, spacing):
    """Five-point stencil with mirrored edges in NumPy; x (y, x)."""
    outside = np.pad(x, 1, mode="edge")
    around = outside[:-2, 1:-1] + outside[2:, 1:-1] + outside[1:-1, :-2] + outside[1:-1, 2:]
    return (around - 4 * x) / spacing**2


# The Laplacian


def errors_of(f, laplacian_of_f, sizes):
    """Largest error on the unit square, whose cells have these numbers along a side."""
    for n in sizes:
        centres = (torch.arange(n, **double) + 0.5) / n
        y, x = torch.meshgrid(centres, centres, indexing="ij")
        found = laplacian(f(y, x).unsqueeze(-1), 1 / n)[..., 0]
        yield (found - laplacian_of_f(y, x)).abs().max().item()


SMOOTH = {  # even about every edge: nothing flows out
    "cosines": (
        lambda y, x: torch.cos(2 * np.pi * y) * torch.cos(np.pi * x),
        lambda y, x: -5 * np.pi**2 * torch.cos(2 * np.pi * y) * torch.cos(np.pi * x),
    ),
    "exponential of a cosine": (
        lambda y, x: torch.exp(torch.cos(np.pi * x)) + 0 * y,
        lambda y, x: (
            np.pi**2 * torch.exp(torch.cos(np.pi * x)) * (torch.sin(np.pi * x) ** 2 - torch.cos(np.pi * x)) + 0 * y
        ),
    ),
}


@pytest.mark.parametrize("name", SMOOTH)
def test_laplacian_converges_with_second_order_up_to_the_edge(name):
    errors = np.array(list(errors_of(*SMOOTH[name], (16, 32, 64, 128))))
    orders = np.log2(errors[:-1] / errors[1:])
    np.testing.assert_allclose(orders, 2, atol=0.1)
    assert errors[-1] < 0.02


@given(st.integers(0, 7), st.integers(0, 4), st.floats(0.01, 10))
def test_cosines_at_the_cell_centres_are_eigenvectors(k, m, spacing):
    rows, columns = 8, 5
    y = torch.cos(np.pi * k * (torch.arange(rows, **double) + 0.5) / rows)
    x = torch.cos(np.pi * m * (torch.arange(columns, **double) + 0.5) / columns)
    field = (y[:, None] * x)[..., None]
    eigenvalue = 2 * (np.cos(np.pi * k / rows) + np.cos(np.pi * m / columns) - 2) / spacing**2
    torch.testing.assert_close(laplacian(field, spacing), eigenvalue * field, rtol=1e-11, atol=1e-12 / spacing**2)


@given(st.integers(0, 2**31), st.integers(1, 9), st.integers(1, 9))
def test_nothing_flows_out_and_a_constant_is_at_rest(seed, rows, columns):
    field = torch.randn(2, 3, rows, columns, 2, generator=torch.Generator().manual_seed(seed), **double)
    total = laplacian(field, 0.1).sum((-3, -2))
    torch.testing.assert_close(total, torch.zeros_like(total), rtol=0, atol=1e-9)
    assert laplacian(torch.full((rows, columns, 2), 3.7, **double), 0.1).abs().max() < 1e-12


def test_laplacian_is_the_stencil_written_by_slices_for_each_component():
    field = torch.randn(2, 4, 6, 5, 2, generator=torch.Generator().manual_seed(0), **double)
    found = laplacian(field, 0.3)
    for index in np.ndindex(2, 4):
        for c in range(2):
            np.testing.assert_allclose(found[index][..., c], by_slices(field[index][..., c].numpy(), 0.3), atol=1e-12)


# Data


def test_fields_start_independently_at_every_point():
    start = dataset_of(points=16)["state_true"].values[:, 0]
    assert start.shape == (14, 16, 16, 2)
    assert 0 <= start.min() < 0.01 and 0.99 < start.max() <= 1
    assert len(np.unique(start)) == start.size
    neighbours = np.corrcoef(start[:, 1:].ravel(), start[:, :-1].ravel())[0, 1]
    assert abs(neighbours) < 0.05


def test_grid_and_units_are_in_the_dataset():
    dataset = dataset_of()
    assert dataset["state"].dims == ("sample", "time", "y", "x", "component")
    for name in ("y", "x"):
        np.testing.assert_allclose(dataset[name], np.linspace(-1, 1, 6))
        assert dataset[name].attrs["units"] == "m"
    assert dataset["component"].values.tolist() == ["u", "v"]
    assert dataset.attrs["target"] == "state" and dataset.attrs["synthetic"] == "yes"


def test_trajectories_agree_with_another_solver_and_stencil():
    dataset = dataset_of(points=8, steps=5, train=2, validation=1, test=1)
    states, times, spacing = dataset["state_true"].values, dataset["time"].values, 2 / 7

    def field(t, flat):
        u, v = flat.reshape(2, 8, 8)
        return np.stack([A * by_slices(u, spacing) + u - u**3 - K - v, B * by_slices(v, spacing) + u - v]).ravel()

    np.testing.assert_allclose(times, 0.1 * np.arange(6))
    for sample in range(4):
        start = states[sample, 0].transpose(2, 0, 1)
        solution = solve_ivp(field, (0, times[-1]), start.ravel(), "DOP853", times, rtol=1e-12, atol=1e-12)
        expected = solution.y.T.reshape(6, 2, 8, 8).transpose(0, 2, 3, 1)
        np.testing.assert_allclose(states[sample], expected, rtol=0, atol=1e-8)
        rates = np.stack([field(0, state.transpose(2, 0, 1).ravel()).reshape(2, 8, 8) for state in states[sample]])
        np.testing.assert_allclose(dataset["rate_true"].values[sample], rates.transpose(0, 2, 3, 1), atol=1e-12)
    assert np.abs(states[:, -1] - states[:, 0]).max() > 0.05


def test_noise_has_the_spread_asked_for():
    dataset = dataset_of(points=16, noise=0.05)
    noise = (dataset["state"] - dataset["state_true"]).values
    assert noise.std() == pytest.approx(0.05, rel=0.02) and abs(noise.mean()) < 1e-3


# Model


@pytest.fixture
def model():
    return small.build("reaction_diffusion")


def reaction(layers, x):
    """The true reaction in the place of a network; x (member, sample, y, x, 2)."""
    u, v = x.unbind(-1)
    return torch.stack([u - u**3 - K - v, u - v], -1)


def test_the_true_reaction_in_the_place_of_the_network_gives_the_data(model, monkeypatch):
    """To the error of rk4 at the model's step, which falls with its fourth power."""
    monkeypatch.setattr(type(model.network), "__call__", lambda self, layers, x: reaction(layers, x))
    data = trajectories(dataset_of(points=8, steps=5, noise=0.0), "train", torch.float64)
    theta, phi = torch.tensor([[A, B]], **double), torch.zeros(1, len(model.network), **double)
    errors = []
    for step in (0.1, 0.05):
        model.solver = type(model.solver)(step=step)
        errors.append((model.predict(theta, phi, data) - data.targets).abs().max().item())
    assert errors[0] < 1e-5
    assert 12 < errors[0] / errors[1] < 20
    wrong = model.predict(2 * theta, phi, data) - data.targets
    assert wrong.abs().max() > 1e-3


def test_science_is_the_diffusion_of_each_component_with_its_own_constant(model):
    field = torch.rand(3, 4, 6, 6, 2, generator=torch.Generator().manual_seed(0), **double)
    theta = torch.tensor([[1e-3, 2e-3], [3e-3, 4e-3], [5e-3, 6e-3]], **double)
    found = model.science(model.parameters.named(theta), field)
    for member, sample in np.ndindex(3, 4):
        for c in range(2):
            expected = theta[member, c].item() * by_slices(field[member, sample, ..., c].numpy(), 2 / 5)
            np.testing.assert_allclose(found[member, sample, ..., c], expected, atol=1e-15)


def test_cosines_decay_at_the_rate_of_their_eigenvalue(model):
    """Closed form of the science alone: each mode exp(lambda t), with the eigenvalue of the stencil."""
    n, spacing, times = 6, 2 / 5, torch.tensor([0.0, 0.1, 0.2], **double)
    modes = torch.stack([torch.cos(np.pi * k * (torch.arange(n, **double) + 0.5) / n) for k in (1, 3)])
    start = (modes[:, :, None] * modes[:, None, :])[..., None].expand(2, n, n, 2)
    eigenvalues = torch.tensor([4 * (np.cos(np.pi * k / n) - 1) / spacing**2 for k in (1, 3)], **double)
    theta = torch.tensor([[2e-3, 7e-3]], **double)
    rates = eigenvalues[:, None] * theta
    states = start[:, None] * torch.exp(rates[:, None] * times[:, None])[:, :, None, None]
    data = dataset_of(train=2, validation=1, test=1).isel(sample=[0, 1])
    data["state"] = (data["state"].dims, states.numpy())
    samples = model.data(data, "train", torch.float64)
    torch.testing.assert_close(model.predict_science(theta, None, samples), samples.targets, rtol=0, atol=1e-9)


def test_penalty_is_summed_over_components_and_averaged_over_pixels(model, monkeypatch):
    data = trajectories(dataset_of(), "train", torch.float64)
    theta, phi = torch.tensor([[A, B]] * 2, **double), torch.zeros(2, len(model.network), **double)
    monkeypatch.setattr(type(model.network), "__call__", lambda self, layers, x: reaction(layers, x))
    u, v = data.inputs["states"].unbind(-1)
    by_hand = ((u - u**3 - K - v) ** 2 + (u - v) ** 2).mean()
    torch.testing.assert_close(model.penalty(theta, phi, data, None), by_hand.expand(2), rtol=1e-12, atol=0)


# Identifiability


def test_both_constants_can_be_told_apart(model):
    found = identify(model, dataset_of(points=32, steps=3, train=2, validation=1, test=1))
    assert found.rank == 2
    assert found.told_by_science.tolist() == [True, True]
    assert found.condition < 10
    np.testing.assert_allclose(found.science_only, [A, B], rtol=0.5)


def test_science_alone_finds_the_constants_where_nothing_is_missing(model):
    """Diffusion alone, from random starts: data of the model's own science."""
    dataset = dataset_of(points=8, noise=0.0)
    data = trajectories(dataset, "train", torch.float64)
    theta = torch.tensor([[A, B]], **double)
    is_train = dataset["split"].values == "train"
    states = dataset["state"].values.copy()
    states[is_train, 1:] = model.predict_science(theta, None, data)[0]
    dataset["state"] = (dataset["state"].dims, states)
    np.testing.assert_allclose(identify(model, dataset.drop_vars("rate_true")).science_only, [A, B], rtol=1e-6)


def test_least_norm_theta_is_a_linear_regression_of_the_rate_on_the_laplacian(model):
    dataset = dataset_of(points=32, steps=5, train=3, validation=1, test=1)
    train = dataset.isel(sample=dataset["split"].values == "train")
    expected = []
    for c in range(2):
        states, rates = (train[name].values[..., c].reshape(-1, 32, 32) for name in ("state_true", "rate_true"))
        diffusion = np.stack([by_slices(state, 2 / 31) for state in states])
        expected.append((rates * diffusion).sum() / (diffusion**2).sum())
    np.testing.assert_allclose(least_norm_theta(model, dataset), expected, rtol=1e-5)
    assert (np.abs(np.array(expected) - [A, B]) > 2e-4).all()


@pytest.mark.slow
def test_a_diagnosis_looks_at_the_first_training_samples_only_where_they_are_many(model, monkeypatch):
    """As many as the limit allows of 32 x 32 x 2 x 3 residuals each, one at least."""
    dataset = dataset_of(points=32, steps=3, train=4, validation=1, test=1)
    for limit, samples in ((2 * 32 * 32 * 2 * 4, 2), (1, 1), (10**9, 4)):
        few = dataset.isel(sample=np.flatnonzero(dataset["split"] == "train")[:samples])
        whole = identify(model, few)
        with monkeypatch.context() as limited:
            limited.setattr(identifiability, "MOST", limit)
            found = identify(model, dataset)
        np.testing.assert_allclose(found.least_norm, whole.least_norm, rtol=1e-9)
        np.testing.assert_allclose(found.science_only, whole.science_only, rtol=1e-6)
        np.testing.assert_allclose(found.singular_values, whole.singular_values, rtol=1e-6)
