"""Rollouts: order of convergence, step lengths, agreement with other solvers, independence of members."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from math import cos, exp, log, log2, sin

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import solve_ivp
from torchdiffeq import odeint

from hybridsam.core.errors import UserError
from hybridsam.models.solver import ADAPTIVE, Solver
from hybridsam.training.devices import saved_bytes

OMEGA = 2.0


@dataclass(frozen=True)
class Problem:
    """An initial value problem with its exact solution, for one sample of one member."""

    field: Callable
    exact: Callable
    end: float = 2.0

    @property
    def initial(self):
        return torch.tensor([[self.exact(0.0)]], dtype=torch.float64)

    def error(self, step=0.1, times=None, **solver):
        """Largest error over the times."""
        times = times or [0.0, self.end / 2, self.end]
        states = Solver(step=step, **solver).rollout(self.field, self.initial, times)
        return (states[0, 0] - torch.tensor([self.exact(t) for t in times[1:]])).abs().max().item()


def oscillator(t, x):
    return torch.stack([x[..., 1], -(OMEGA**2) * x[..., 0]], -1)


PROBLEMS = {
    "decay": Problem(lambda t, x: -x, lambda t: [3 * exp(-t)]),
    "oscillator": Problem(oscillator, lambda t: [cos(OMEGA * t), -OMEGA * sin(OMEGA * t)]),
    "logistic": Problem(lambda t, x: 2 * x * (1 - x), lambda t: [1 / (1 + 9 * exp(-2 * t))]),
    "driven": Problem(lambda t, x: cos(t) * x, lambda t: [exp(sin(t))]),
    "time alone": Problem(lambda t, x: torch.full_like(x, 1 / (1 + t)), lambda t: [log(1 + t)]),
}
every_problem = pytest.mark.parametrize("name", PROBLEMS)


@pytest.fixture(autouse=True)
def double():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@every_problem
def test_rk4_converges_with_order_four(name):
    errors = [PROBLEMS[name].error(step) for step in (0.1, 0.05, 0.025)]
    assert [log2(a / b) for a, b in pairwise(errors)] == pytest.approx([4, 4], abs=0.35)
    assert errors[-1] < 1e-6


@pytest.mark.parametrize("name", ["decay", "oscillator"])
def test_rk4_equals_that_of_torchdiffeq_where_all_methods_of_order_four_agree(name):
    problem = PROBLEMS[name]  # linear with constant coefficients: one stability polynomial for four stages
    times = torch.tensor([0.0, 1.0, 2.0])
    theirs = odeint(problem.field, problem.initial, times, method="rk4", options={"step_size": 0.1})
    ours = Solver(step=0.1).rollout(problem.field, problem.initial, times.tolist())
    torch.testing.assert_close(ours, theirs[1:].movedim(0, 2), rtol=1e-12, atol=1e-13)


def test_rk4_approaches_that_of_torchdiffeq_with_order_four():
    problem, times, gaps = PROBLEMS["logistic"], torch.tensor([0.0, 2.0]), []
    for step in (0.1, 0.05, 0.025):
        theirs = odeint(problem.field, problem.initial, times, method="rk4", options={"step_size": step})
        ours = Solver(step=step).rollout(problem.field, problem.initial, times.tolist())
        gaps.append((ours[..., 0, 0] - theirs[1, ..., 0]).abs().item())
    assert [log2(a / b) for a, b in pairwise(gaps)] == pytest.approx([4, 4], abs=0.35)


@pytest.mark.slow
@pytest.mark.parametrize("method", ADAPTIVE)
@pytest.mark.parametrize("name", ["oscillator", "driven"])
def test_adaptive_methods_gain_by_tighter_tolerances(name, method):
    loose, tight = (PROBLEMS[name].error(method=method, rtol=r, atol=r) for r in (1e-3, 1e-6))
    assert tight < 1e-3
    assert tight < loose / 3


@pytest.mark.parametrize("method", ["dopri5", "dopri8", "bosh3"])
@pytest.mark.parametrize("name", ["oscillator", "driven"])
def test_adaptive_methods_are_accurate_at_the_times_asked_for_and_not_only_at_their_steps(name, method):
    assert PROBLEMS[name].error(method=method, rtol=1e-6, atol=1e-6) < 5e-5


def pendulum(t, x):
    return torch.stack([x[..., 1], -torch.sin(x[..., 0]) - 0.2 * x[..., 1]], -1)


@pytest.mark.slow
@pytest.mark.parametrize("solver", [Solver(step=0.01), Solver("dopri5", rtol=1e-10, atol=1e-12)], ids=["rk4", "dopri5"])
def test_pendulum_agrees_with_scipy_and_with_tight_dopri5(solver):
    initial, times = torch.tensor([[[1.5, 0.0], [-0.3, 1.2]]]), [0.0, 0.7, 3.0, 10.0]
    states = solver.rollout(pendulum, initial, times)
    theirs = odeint(pendulum, initial, torch.tensor(times), method="dopri5", rtol=1e-11, atol=1e-12)
    torch.testing.assert_close(states, theirs[1:].movedim(0, 2), rtol=0, atol=1e-8)
    for sample, x0 in enumerate(initial[0]):
        field, tight = lambda t, x: pendulum(t, torch.from_numpy(x)).numpy(), {"rtol": 1e-12, "atol": 1e-12}
        solution = solve_ivp(field, (0, 10), x0.numpy(), method="DOP853", t_eval=times, **tight)
        torch.testing.assert_close(states[0, sample], torch.from_numpy(solution.y.T[1:]), rtol=0, atol=1e-8)


@pytest.mark.parametrize("solver", [{"step": 0.02}, {"method": "dopri5", "rtol": 1e-9, "atol": 1e-9}], ids=str)
@every_problem
def test_irregular_times_are_met(name, solver):
    assert PROBLEMS[name].error(times=[0.0, 0.013, 0.5, 0.57, 1.999, 2.0], **solver) < 1e-6


@every_problem
def test_times_may_start_anywhere(name):
    problem = PROBLEMS[name]
    initial = torch.tensor([[problem.exact(0.4)]])
    for solver in (Solver(step=0.01), Solver("dopri5", rtol=1e-10, atol=1e-10)):
        (state,) = solver.rollout(problem.field, initial, [0.4, 1.1])[0, 0]
        torch.testing.assert_close(state, torch.tensor(problem.exact(1.1)), rtol=1e-8, atol=0)


def rk4_steps(step, times):
    """Start and length of every step that was taken, from the times at which the field was evaluated."""
    evaluated = []
    Solver(step=step).rollout(lambda t, x: evaluated.append(t) or x, torch.zeros(1, 1, 1), times)
    first, second, third, fourth = (evaluated[i::4] for i in range(4))
    assert second == third
    return first, [end - start for start, end in zip(first, fourth, strict=True)]


@given(gaps=st.lists(st.floats(1e-3, 3), min_size=1, max_size=5), step=st.floats(0.01, 2))
def test_steps_are_never_longer_than_asked_and_cover_every_interval(gaps, step):
    times = [sum(gaps[:i]) for i in range(len(gaps) + 1)]
    starts, lengths = rk4_steps(step, times)
    assert max(lengths) <= step * (1 + 1e-8)
    ends = [start + length for start, length in zip(starts, lengths, strict=True)]
    assert [*starts, times[-1]] == pytest.approx([0.0, *ends])
    assert all(any(abs(start - t) < 1e-9 for start in starts) for t in times[:-1])


@pytest.mark.parametrize(
    ("start", "end", "step", "n"), [(0.0, 0.5, 0.25, 2), (0.0, 0.5, 0.1, 5), (0.6, 0.9, 0.1, 3), (0.0, 0.5, 0.2, 3)]
)
def test_no_step_more_than_needed_is_taken_whatever_the_rounding(start, end, step, n):
    starts, _ = rk4_steps(step, [start, end])
    assert len(starts) == n


@pytest.mark.parametrize(("interval", "step"), [(1e-12, 0.1), (0.1, float("inf"))])
def test_an_interval_far_shorter_than_the_step_takes_one_step(interval, step):
    assert PROBLEMS["decay"].error(step, times=[0.0, interval]) < 1e-6


def test_shape_is_member_sample_time_and_the_rest():
    initial = torch.ones(3, 2, 4, 5)
    for method in ("rk4", "dopri5"):
        states = Solver(method).rollout(lambda t, x: -x, initial, [0.0, 0.1, 0.2, 0.4])
        assert states.shape == (3, 2, 3, 4, 5)


# Members


RATES = torch.tensor([0.1, 1.0, 30.0])[:, None, None]  # of which the last needs many short steps


def decays(own):
    return lambda t, x: -RATES[own] * x


@pytest.mark.slow
@pytest.mark.parametrize("method", ["rk4", *ADAPTIVE])
def test_members_in_one_call_are_those_of_each_alone_to_the_bit(method):
    solver, initial, times = Solver(method, step=0.05, rtol=1e-4), torch.rand(3, 4, 2), [0.0, 0.5, 1.0]
    together = solver.rollouts(decays, initial, times)
    for i in range(3):
        own = slice(i, i + 1)
        assert torch.equal(together[own], solver.rollout(decays(own), initial[own], times))
    coupled = solver.rollout(decays(slice(3)), initial, times)
    assert torch.equal(coupled, together) == (method == "rk4")


@pytest.mark.parametrize(("method", "calls"), [("rk4", [[0, 1, 2]]), ("dopri5", [[0], [1], [2]])])
def test_a_method_of_fixed_steps_takes_all_members_at_once_and_an_adaptive_one_each_alone(method, calls):
    asked = []

    def field_of(own):
        asked.append([*range(3)][own])
        return decays(own)

    Solver(method).rollouts(field_of, torch.ones(3, 1, 1), [0.0, 0.1])
    assert asked == calls


@pytest.fixture(params=["rk4", "dopri5"])
def hybrid(request, build):
    return build(solver={"method": request.param, "step": 0.25, "rtol": 1e-5, "atol": 1e-6})


@pytest.fixture
def three_members(hybrid):
    generator = torch.Generator().manual_seed(0)
    theta = torch.tensor([[0.5], [1.0], [2.0]])
    return theta, 3 * torch.stack([hybrid.network.initial(generator).double() for _ in theta])


def test_a_member_of_a_block_equals_the_member_alone(hybrid, three_members, trajectories):
    theta, phi = three_members
    data = trajectories()
    together, science = hybrid.predict(theta, phi, data), hybrid.predict_science(theta, phi, data)
    for i in range(3):
        torch.testing.assert_close(together[[i]], hybrid.predict(theta[[i]], phi[[i]], data), rtol=1e-13, atol=1e-14)
        torch.testing.assert_close(
            science[[i]], hybrid.predict_science(theta[[i]], phi[[i]], data), rtol=1e-13, atol=1e-14
        )


def test_members_with_samples_of_their_own_start_from_those(hybrid, three_members, trajectories):
    theta, phi = three_members
    index = torch.tensor([[0, 1], [3, 2], [2, 2]])
    data = trajectories().batch(index)
    for predict in (hybrid.predict, hybrid.predict_science):
        together = predict(theta, phi, data)
        for i in range(3):
            alone = predict(theta[[i]], phi[[i]], trajectories().batch(index[[i]]))
            torch.testing.assert_close(together[[i]], alone, rtol=1e-13, atol=1e-14)
    torch.testing.assert_close(together[2, 0], together[2, 1])
    assert not torch.allclose(together[1, 0], together[1, 1], atol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("bad", [torch.nan, 1e300])
def test_a_member_that_is_not_finite_leaves_predictions_and_gradients_of_the_others(
    hybrid, three_members, trajectories, bad
):
    results = []
    for value in (1.0, bad):
        theta, phi = (part.clone() for part in three_members)
        phi[1] *= value
        phi.requires_grad_()
        prediction = hybrid.predict(theta.requires_grad_(), phi, trajectories())
        gradients = torch.autograd.grad(prediction.square().sum(), (theta, phi))
        results.append((prediction.detach(), *gradients))
    for healthy, damaged in zip(*results, strict=True):
        assert torch.equal(damaged[[0, 2]], healthy[[0, 2]])
        assert damaged[[0, 2]].isfinite().all()
        assert not damaged[1].isfinite().all()


# Memory


@pytest.mark.parametrize("segment", [1, 3, 7, 100])
def test_segments_change_no_bit_of_states_and_gradients_and_need_less_memory(build, trajectories, segment):
    data, results, memory = trajectories(), [], []
    for length in (0, segment):
        model = build(hidden=[64, 64], solver={"method": "rk4", "step": 0.1, "segment": length})
        theta = torch.tensor([[1.0], [2.0]], dtype=torch.float64, requires_grad=True)
        generator = torch.Generator().manual_seed(0)
        phi = torch.stack([model.network.initial(generator) for _ in range(2)]).double().requires_grad_()
        prediction = model.predict(theta, phi, data)
        results.append((prediction.detach(), *torch.autograd.grad(prediction.square().sum(), (theta, phi))))
        memory.append(saved_bytes(lambda: model.predict(theta, phi, data)))  # noqa: B023  used at once
    assert all(torch.equal(one, other) for one, other in zip(*results, strict=True))
    assert memory[1] < memory[0] / 10


# Settings


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *(("method", "euler"), ("step", 0.0), ("step", -0.1), ("step", float("nan"))),
        *(("rtol", 0.0), ("atol", -1e-6), ("segment", -1)),
    ],
)
def test_bad_settings_are_refused_with_key_and_value(key, value):
    with pytest.raises(UserError) as refused:
        Solver(**{key: value})
    assert f"solver.{key}" in str(refused.value) and str(value) in str(refused.value)
