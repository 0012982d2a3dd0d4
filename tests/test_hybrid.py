"""The hybrid model: science plus network, its penalty and its gradients."""

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp

from hybridsam.hybrid import HybridODE, Trajectories
from hybridsam.integrate import Solver
from hybridsam.networks import MLP
from hybridsam.parameters import Parameter, Parameters
from hybridsam.tasks import pendulum

OMEGA = [0.5, 1.0, 2.0]


@pytest.fixture
def theta():
    return torch.tensor(OMEGA, dtype=torch.float64)[:, None]


@pytest.fixture
def phi(model):
    generator = torch.Generator().manual_seed(0)
    return torch.stack([model.network.initial(generator) for _ in OMEGA]).double()


def network_by_hand(model, phi, x):
    """The network of one member in NumPy; x is (..., component)."""
    layers = {name: values[0].numpy() for name, values in model.network.unflatten(phi[None]).items()}
    last = len(layers) // 2 - 1
    for i in range(last + 1):
        x = x @ layers[f"{i}.weight"].T + layers[f"{i}.bias"]
        x = np.maximum(x, 0) if i < last else x
    return x


def test_prediction_has_every_time_after_the_first(model, theta, phi, trajectories):
    data = trajectories()
    assert data.states.shape == (4, 5, 2)
    assert model.predict(theta, phi, data).shape == (3, *data.targets.shape) == (3, 4, 4, 2)
    assert torch.equal(data.targets, data.states[:, 1:])


def test_trajectories_are_those_of_their_split(dataset):
    for split, n in (("train", 4), ("validation", 3), ("test", 2)):
        data = Trajectories.from_dataset(dataset, split, torch.float64)
        np.testing.assert_array_equal(data.states, dataset["state"].values[dataset["split"].values == split])
        assert data.states.shape == (n, 5, 2)
        assert data.times == [0.0, 0.5, 1.0, 1.5, 2.0]


@pytest.mark.parametrize("method", ["rk4", "dopri5"])
def test_a_network_of_zeros_leaves_the_science(build, theta, phi, trajectories, method):
    model, data = build(solver={"method": method}), trajectories()
    science = model.predict_science(theta, data)
    torch.testing.assert_close(model.predict(theta, 0 * phi, data), science, rtol=1e-12, atol=1e-14)
    assert not torch.allclose(model.predict(theta, phi, data), science, atol=1e-3)


@pytest.mark.parametrize("solver", [{"step": 0.005}, {"method": "dopri5", "rtol": 1e-9, "atol": 1e-9}], ids=str)
def test_prediction_solves_science_plus_network(build, theta, phi, trajectories, solver):
    model, data = build(solver=solver), trajectories()
    prediction = model.predict(theta, phi, data)
    for member, omega in enumerate(OMEGA):

        def field(t, x, omega=omega, weights=phi[member]):
            return np.array([x[1], -(omega**2) * np.sin(x[0])]) + network_by_hand(model, weights, x)

        for sample, states in enumerate(data.states[:2].numpy()):
            solution = solve_ivp(field, (0, 2), states[0], t_eval=data.times[1:], rtol=1e-9, atol=1e-9)
            np.testing.assert_allclose(prediction[member, sample], solution.y.T, rtol=0, atol=5e-6)


@pytest.mark.parametrize("solver", [{"step": 0.05}, {"method": "dopri5"}], ids=["rk4", "dopri5"])
def test_prediction_in_single_precision_is_close_to_that_in_double(build, theta, phi, trajectories, solver):
    model = build(solver=solver)
    single = model.predict(theta.float(), phi.float(), trajectories(dtype=torch.float32))
    assert single.dtype == torch.float32
    torch.testing.assert_close(single.double(), model.predict(theta, phi, trajectories()), rtol=0, atol=1e-3)


def test_prediction_starts_from_the_observed_initial_state_alone(model, theta, phi, trajectories):
    data = trajectories()
    later = Trajectories(data.times, torch.cat([data.states[:, :1], data.states[:, 1:] + 1], 1))
    earlier = Trajectories(data.times, torch.cat([data.states[:, :1] + 1, data.states[:, 1:]], 1))
    prediction = model.predict(theta, phi, data)
    assert torch.equal(model.predict(theta, phi, later), prediction)
    assert (model.predict(theta, phi, earlier) - prediction).abs().max() > 0.1


def test_penalty_is_the_mean_square_of_the_network_over_all_observed_states(model, phi, trajectories):
    data = trajectories()
    by_hand = [np.mean(np.sum(network_by_hand(model, one, data.states.numpy()) ** 2, axis=-1)) for one in phi]
    np.testing.assert_allclose(model.penalty(phi, data), by_hand, rtol=1e-12)


def test_gradients_are_those_of_finite_differences():
    parameters = Parameters([Parameter("omega", "rad s-1", 1.0)])
    model = HybridODE(pendulum.science, parameters, MLP((2, 3, 2)), Solver(step=0.25))
    generator = torch.Generator().manual_seed(0)
    states = torch.randn(2, 3, 2, dtype=torch.float64, generator=generator)
    data = Trajectories([0.0, 0.5, 0.8], states)
    theta = torch.tensor([[0.7], [1.3]], dtype=torch.float64, requires_grad=True)
    phi = torch.stack([model.network.initial(generator) for _ in range(2)]).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda theta, phi: model.predict(theta, phi, data), (theta, phi))
    assert torch.autograd.gradcheck(lambda phi: model.penalty(phi, data), (phi,))
    assert torch.autograd.gradcheck(lambda theta: model.predict_science(theta, data), (theta,))
