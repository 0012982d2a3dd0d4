"""What a user's own vector field gains by the compiled path, without a line of C++: a chemostat with a closure.

    python benchmarks/user_model.py

The science is saturating growth in three states; the network corrects the growth rate, so it enters as a factor. SAM
iterations of one run on one core, by the compiled path and by PyTorch alone, taking turns; the pendulum beside it.
"""

import json
import statistics
import time

import torch

from hybridsam.core import modules
from hybridsam.core.methods import get_method
from hybridsam.core.settings import load, typed
from hybridsam.models.networks import MLP
from hybridsam.models.ode import HybridODE
from hybridsam.models.parameters import Parameter, Parameters
from hybridsam.models.samples import Samples
from hybridsam.models.solver import Solver
from hybridsam.training.compiled import faster_loss
from hybridsam.training.devices import arithmetic, without_old_garbage
from hybridsam.training.loop import Training, adam_step, initial_state
from hybridsam.training.loss import Loss, objective
from hybridsam.training.methods import PERTURBATIONS, hybrid_gradient

ROUNDS, SAMPLES, STEPS = 7, 25, 40
GROWTH = [Parameter("mu", "h-1", 0.8, "softplus", lower=0.0), Parameter("k", "g l-1", 0.5, "softplus", lower=0.0)]


class Chemostat(HybridODE):
    """Substrate, biomass and product; the network, which sees all three, changes the rate of growth."""

    def field(self, theta, x, g):
        substrate, biomass, product = x.unbind(-1)
        growth = theta["mu"] * substrate / (theta["k"] + substrate) * biomass * torch.exp(g[..., 0])
        dilution = 0.3
        return torch.stack(
            [dilution * (4 - substrate) - growth / 0.5, growth - dilution * biomass, growth - dilution * product], -1
        )


def chemostat() -> tuple[HybridODE, Samples]:
    """The model and random trajectories, of the pendulum's length and number."""
    states = torch.rand(1, SAMPLES, STEPS + 1, 3, generator=torch.Generator().manual_seed(0)) + 0.5
    model = Chemostat(None, Parameters(GROWTH), MLP((3, 128, 128, 1)), Solver(step=0.25))
    return model, Samples({"states": states}, states[:, :, 1:], tuple(0.25 * i for i in range(STEPS + 1)))


def pendulum() -> tuple[HybridODE, Samples]:
    """The task as it is shipped."""
    settings = load("config/tasks/pendulum.yaml")
    module = modules.load(settings["module"])
    model = module.build(settings["model"])
    constants = {name: entry["value"] for name, entry in settings["data"].items()}
    return model, model.data(module.simulate(constants), "train")


def iterations_per_second(loss: Loss, data: Samples, state, how: Training, seconds: float = 1.0) -> float:
    """SAM iterations of the members in the state, for about so many seconds."""
    n, method, rho = len(loss.model.parameters), get_method("sam"), torch.full((len(state.w),), 0.05)
    is_weight, rate = loss.model.network.is_weight(), torch.ones_like(state.w[0])
    minimized = objective(loss, method, rho, data)
    start, done = time.perf_counter(), 0
    while (passed := time.perf_counter() - start) < seconds:
        theta, phi = state.w[:, :n], state.w[:, n:]
        values, *g = hybrid_gradient(minimized, theta, phi, PERTURBATIONS[method.perturbation], rho, is_weight)
        adam_step(state, values, torch.cat(g, 1), how, rate)
        done += 1
    return done / passed


def main() -> None:
    """Measure both models on both paths and print the gains."""
    torch.set_num_threads(1)
    how = typed(Training, load("config/tasks/pendulum.yaml")["training"], "training")
    gains = {}
    with arithmetic(tf32=False), without_old_garbage():
        for name, make in (("pendulum", pendulum), ("chemostat", chemostat)):
            model, data = make()
            faster = faster_loss(model, data)
            assert faster, "no compiled path"
            paths = {"compiled": faster, "PyTorch": Loss(model)}
            states = {path: initial_state(model, [0], how) for path in paths}
            rates: dict[str, list[float]] = {path: [] for path in paths}
            for _ in range(ROUNDS):
                for path, loss in paths.items():
                    rates[path].append(iterations_per_second(loss, data, states[path], how))
            ratios = [a / b for a, b in zip(*rates.values(), strict=True)]
            gains[name] = {
                "iterations_per_second": {path: round(statistics.median(values), 2) for path, values in rates.items()},
                "gain": round(statistics.median(ratios), 2),
                "least": round(min(ratios), 2),
                "most": round(max(ratios), 2),
            }
    print(json.dumps(gains, indent=1))


if __name__ == "__main__":
    main()
