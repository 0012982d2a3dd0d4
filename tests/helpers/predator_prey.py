"""Hares and lynx: a task in a file of the user's own, on a table of measurements whose theta nobody knows.

Science:  hares multiply at the rate a, lynx die out at the rate c (Lotka 1925, Volterra 1926, without meeting);
          a network supplies what happens when they meet.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from hybridsam import MLP, HybridODE, Parameters, Solver


def science(theta: dict[str, Tensor], x: Tensor) -> Tensor:
    """dx/dt in thousands a year; x is (..., 2): hares and lynx in thousands."""
    hare, lynx = x.unbind(-1)
    return torch.stack([theta["a"] * hare, -theta["c"] * lynx], -1)


def build(model: Mapping) -> HybridODE:
    """The hybrid model from the ``model`` section of the task file."""
    return HybridODE(
        science,
        Parameters.from_settings(model["theta"]),
        MLP((2, *model["hidden"], 2)),
        Solver.from_settings(model["solver"]),
    )
