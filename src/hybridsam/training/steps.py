"""Whether the steps of a model's solver are short enough for what it has learnt."""

import torch
from torch import Tensor

from hybridsam.models.hybrid import HybridModel
from hybridsam.models.networks import RunningStatistics
from hybridsam.models.samples import Samples
from hybridsam.training.checkpoint import State

SOLVER_ERROR = "root mean square change of some predictions by a finer solver, over the spread of their targets"


@torch.no_grad()
def solver_error(model: HybridModel, state: State, data: Samples) -> Tensor | None:
    """What ``SOLVER_ERROR`` says, (member,), on these samples; None for a model without a solver.

    Theta and the network are fitted to what the solver makes of them: where its steps are too long, they make up for
    its errors, and theta is wrong although the fit is good.
    """
    if not (finer := model.finer(data)):
        return None
    n = len(model.parameters)
    theta, phi = model.parameters.constrain(state.w[:, :n]), state.w[:, n:]
    coarse, fine = (one.predict(theta, phi, data, RunningStatistics(state.running)) for one in (model, finer))
    return (fine - coarse).square().flatten(1).mean(1).sqrt() / data.targets.std()
