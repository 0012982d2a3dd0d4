"""The hybrid model: science plus network, its penalty and its gradients."""

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp

from hybridsam.models.networks import MLP
from hybridsam.models.ode import HybridODE
from hybridsam.models.parameters import Parameter, Parameters
from hybridsam.models.samples import Samples
from hybridsam.models.solver import Solver
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
    assert data.inputs["states"].shape == (1, 4, 5, 2)
    assert data.targets.shape == (1, 4, 4, 2)
    assert model.predict(theta, phi, data).shape == (3, 4, 4, 2)
    assert torch.equal(data.targets, data.inputs["states"][:, :, 1:])


def test_trajectories_are_those_of_their_split(dataset, trajectories):
    for split, n in (("train", 4), ("validation", 3), ("test", 2)):
        data = trajectories(split)
        states = data.inputs["states"]
        np.testing.assert_array_equal(states[0], dataset["state"].values[dataset["split"].values == split])
        assert states.shape == (1, n, 5, 2)
        assert data.times == (0.0, 0.5, 1.0, 1.5, 2.0)


@pytest.mark.parametrize("method", ["rk4", "dopri5"])
def test_a_network_of_zeros_leaves_the_science(build, theta, phi, trajectories, method):
    model, data = build(solver={"method": method}), trajectories()
    science = model.predict_science(theta, phi, data)
    torch.testing.assert_close(model.predict(theta, 0 * phi, data), science, rtol=1e-12, atol=1e-14)
    assert not torch.allclose(model.predict(theta, phi, data), science, atol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("solver", [{"step": 0.005}, {"method": "dopri5", "rtol": 1e-9, "atol": 1e-9}], ids=str)
def test_prediction_solves_science_plus_network(build, theta, phi, trajectories, solver):
    model, data = build(solver=solver), trajectories()
    prediction = model.predict(theta, phi, data)
    for member, omega in enumerate(OMEGA):

        def field(t, x, omega=omega, weights=phi[member]):
            return np.array([x[1], -(omega**2) * np.sin(x[0])]) + network_by_hand(model, weights, x)

        for sample, states in enumerate(data.inputs["states"][0, :2].numpy()):
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
    states = data.inputs["states"]
    later = Samples({"states": torch.cat([states[:, :, :1], states[:, :, 1:] + 1], 2)}, data.targets, data.times)
    earlier = Samples({"states": torch.cat([states[:, :, :1] + 1, states[:, :, 1:]], 2)}, data.targets, data.times)
    prediction = model.predict(theta, phi, data)
    assert torch.equal(model.predict(theta, phi, later), prediction)
    assert (model.predict(theta, phi, earlier) - prediction).abs().max() > 0.1


def test_penalty_is_the_mean_square_of_the_network_over_all_observed_states(model, theta, phi, trajectories):
    data = trajectories()
    states = data.inputs["states"][0].numpy()
    by_hand = [np.mean(np.sum(network_by_hand(model, one, states) ** 2, axis=-1)) for one in phi]
    np.testing.assert_allclose(model.penalty(theta, phi, data, None), by_hand, rtol=1e-12)


def test_gradients_are_those_of_finite_differences():
    parameters = Parameters([Parameter("omega", "rad s-1", 1.0)])
    model = HybridODE(pendulum.science, parameters, MLP((2, 3, 2)), Solver(step=0.25))
    generator = torch.Generator().manual_seed(0)
    states = torch.randn(2, 3, 2, dtype=torch.float64, generator=generator)
    data = Samples({"states": states[None]}, states[None, :, 1:], (0.0, 0.5, 0.8))
    theta = torch.tensor([[0.7], [1.3]], dtype=torch.float64, requires_grad=True)
    phi = torch.stack([model.network.initial(generator) for _ in range(2)]).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda theta, phi: model.predict(theta, phi, data), (theta, phi))
    assert torch.autograd.gradcheck(lambda phi: model.penalty(theta, phi, data, None), (phi,))
    assert torch.autograd.gradcheck(lambda theta: model.predict_science(theta, phi, data), (theta,))
