"""How far theta moved in training, in all and at its end, and whether its steps change anything."""

import numpy as np
import torch
from torch import Tensor

from hybridsam.models.hybrid import HybridModel
from hybridsam.models.networks import RunningStatistics
from hybridsam.models.samples import Samples
from hybridsam.training.checkpoint import State
from hybridsam.training.loop import Training

LATE = 0.1  # of what the learning rates of all steps add up to: the last tenth of training
MOVEMENT = {
    "theta_moved": "theta at the final iterate minus at the start",
    "theta_moved_late": "change of theta in the last tenth of training, by the sum of learning rates",
    "theta_drift": "change of theta that as much training again would bring at the pace of the last tenth",
}
INFLUENCE = {
    "theta_step": "change of theta for a step of one of unconstrained theta, from the final iterate",
    "theta_influence": "root mean square change of some predictions by that step, over the spread of their targets",
}


@torch.no_grad()
def influence(model: HybridModel, state: State, data: Samples) -> dict[str, Tensor]:
    """What ``INFLUENCE`` names, (member, parameter) each, on these samples: whether training can feel theta at all."""
    n, running = len(model.parameters), RunningStatistics(state.running)
    raw, phi = state.w[:, :n], state.w[:, n:]
    theta, spread = model.parameters.constrain(raw), data.targets.std()
    before = model.predict(theta, phi, data, running)
    steps, changes = [], []
    for i in range(n):
        step = torch.zeros_like(raw)
        step[:, i] = 1
        stepped = model.parameters.constrain(raw + step)
        change = model.predict(stepped, phi, data, running) - before
        steps.append((stepped - theta)[:, i])
        changes.append(change.square().flatten(1).mean(1).sqrt() / spread)
    return dict(zip(INFLUENCE, (torch.stack(steps, 1), torch.stack(changes, 1)), strict=True))


def movement(state: State, training: Training, theta: Tensor) -> dict[str, Tensor]:
    """What ``MOVEMENT`` names, (member, parameter) each, of the final theta, in natural units.

    Training is counted by the learning rates of its steps, as an annealed rate lets the last steps do next to nothing.
    The last tenth begins at the record before it. The drift is NaN where the records are too few to say.
    """
    steps = np.array(training.recorded_steps)
    way = np.cumsum([0.0, *map(training.rate, range(training.iterations))])  # at every step
    row = np.flatnonzero(way[steps] <= (1 - LATE) * way[-1])[-1]
    history = state.history["theta"].to(theta)
    late, share = theta - history[row], 1 - way[steps[row]] / way[-1]
    drift = late / share if share < 0.5 else torch.full_like(late, torch.nan)
    return dict(zip(MOVEMENT, (theta - history[0], late, drift), strict=True))
