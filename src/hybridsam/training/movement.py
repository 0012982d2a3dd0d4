"""How far theta moved in training, in all and at its end, by which it is seen whether it arrived."""

import numpy as np
import torch
from torch import Tensor

from hybridsam.training.checkpoint import State
from hybridsam.training.loop import Training

LATE = 0.1  # of what the learning rates of all steps add up to: the last tenth of training
MOVEMENT = {
    "theta_moved": "theta at the final iterate minus at the start",
    "theta_moved_late": "change of theta in the last tenth of training, by the sum of learning rates",
    "theta_drift": "change of theta that as much training again would bring at the pace of the last tenth",
}


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
