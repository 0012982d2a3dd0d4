"""How often verdicts are right: truths whose missing part is drawn from a dictionary, identified without the truth.

A truth is an oscillator (position q, velocity p) with a known term, f, and one or two terms of ``TERMS`` that the
science lacks. It is identified from fields that are known but for small errors, or from an ensemble that was trained
on noisy trajectories. What comes out is compared with the truth.
"""

import json
import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
import xarray as xr
from torch import Tensor

from hybridsam.analysis import identification
from hybridsam.analysis.assumptions import DependsOn, Straight
from hybridsam.analysis.cube import MADE_BY
from hybridsam.analysis.ensemble import Members
from hybridsam.analysis.runs import with_network
from hybridsam.analysis.trust import identify, with_verdicts
from hybridsam.core.blocks import Block
from hybridsam.core.methods import BASELINE
from hybridsam.data.simulate import simulate_ode
from hybridsam.models.hybrid import Comparison, Inputs
from hybridsam.models.networks import MLP
from hybridsam.models.ode import HybridODE
from hybridsam.models.parameters import Parameter, Parameters
from hybridsam.models.samples import Samples
from hybridsam.models.solver import Solver
from hybridsam.training.block import train_block
from hybridsam.training.loop import Training

logger = logging.getLogger(__name__)

Term = Callable[[Any, Any, Any], Any]

TERMS: dict[str, Term] = {  # of NumPy or PyTorch, q and p, in the equation of the velocity
    "p": lambda m, q, p: p,
    "q": lambda m, q, p: q,
    "p|p|": lambda m, q, p: p * m.abs(p),
    "q^3": lambda m, q, p: q**3,
    "1": lambda m, q, p: m.ones_like(q),
    "cos q": lambda m, q, p: m.cos(q),
    "sin q": lambda m, q, p: m.sin(q),
    "q p": lambda m, q, p: q * p,
}
POSITION, VELOCITY = "position", "velocity"
HOLDS = {  # assumption -> the terms that it allows to be missing; small allows all, and what it says is no test
    Straight.title: {"p", "q", "1"},
    DependsOn((POSITION,)).title: {"q", "q^3", "1", "cos q", "sin q"},
    DependsOn((VELOCITY,)).title: {"p", "p|p|", "1"},
}
SIZES = (0.1, 0.5)  # of the missing part over that of the known term, root mean squares
FAR = 6.0  # of the origin: a truth that goes further is drawn anew
SPREAD = 0.01  # root mean square error of a known field, over that of the field
MEMBERS, WAVES = 6, 12  # of an ensemble; in the error of a known field
CONSTANTS = {"dt": 0.05, "subsample": 10, "steps": 12, "train": 24, "validation": 12, "test": 1}
NOISE = 0.01  # of the trajectories that are trained on
TRAINING = Training(
    iterations=1500,
    learning_rate=3e-3,
    learning_rate_final=1e-5,
    theta_rate_factor=10.0,
    clip_norm=10.0,
    perturb="network",
    record_every=100,
    diverged_after=20,
    dtype="float32",
)
HIDDEN = (48, 48)


@dataclass(frozen=True)
class Known:
    """A term that the science knows, times -theta, in the equation of the velocity; true theta lies between the ends.

    imitated_by: the term of ``TERMS`` that is the same function, which no method can tell from it.
    """

    term: Term
    between: tuple[float, float]
    imitated_by: str


SCIENCES: dict[str, Known] = {
    "pendulum": Known(TERMS["sin q"], (0.7, 1.7), "sin q"),
    "spring": Known(TERMS["q"], (0.7, 1.7), "q"),
    "hardening_spring": Known(TERMS["q^3"], (0.4, 1.0), "q^3"),
    "damper": Known(TERMS["p"], (0.1, 0.4), "p"),
}


@dataclass(frozen=True)
class Truth:
    """A known term with its theta, and what is missing: term -> coefficient."""

    science: str
    theta: float
    missing: Mapping[str, float]

    @property
    def known(self) -> Known:
        return SCIENCES[self.science]

    @property
    def is_imitated(self) -> bool:
        """Whether what is missing contains the known term itself."""
        return self.known.imitated_by in self.missing

    def force(self, m: Any, q: Any, p: Any) -> Any:
        """dp/dt; m: the module, NumPy or PyTorch, that q and p are of."""
        return -self.theta * self.known.term(m, q, p) + sum(
            size * TERMS[name](m, q, p) for name, size in self.missing.items()
        )

    def field(self, x: Tensor) -> Tensor:
        """dx/dt at states (..., 2)."""
        q, p = x.unbind(-1)
        return torch.stack([p, self.force(torch, q, p)], -1)

    def allows(self, assumption: str) -> bool:
        """Whether an assumption, by its title, holds for what is missing."""
        return set(self.missing) <= HOLDS.get(assumption, set(TERMS))


class RunsAwayError(Exception):
    """A trajectory has left the region that is observed."""


def truths(science: str, n: int, seed: int = 0) -> Iterator[tuple[Truth, xr.Dataset]]:
    """Truths that are drawn at random, of which the trajectories stay near the origin, and these without noise."""
    rng = np.random.default_rng([seed, list(SCIENCES).index(science)])
    while n:
        truth = drawn(science, rng)
        dataset = trajectories(truth, int(rng.integers(2**31)))
        if dataset is not None:
            n -= 1
            yield truth, dataset


def drawn(science: str, rng: np.random.Generator) -> Truth:
    """A truth at random: one or two missing terms, whose sizes are told at states at random."""
    known = SCIENCES[science]
    theta = float(rng.uniform(*known.between))
    states = rng.uniform(-1.5, 1.5, (2, 500))
    chosen = rng.choice(list(TERMS), int(rng.integers(1, 3)), replace=False)
    size = theta * _size(known.term, states)
    missing = {}
    for name in map(str, chosen):
        missing[name] = float(rng.choice([-1, 1]) * rng.uniform(*SIZES) * size / _size(TERMS[name], states))
    return Truth(science, theta, missing)


def _size(term: Term, states: np.ndarray) -> float:
    """Root mean square at states (2, n)."""
    return float(np.sqrt(np.square(term(np, *states)).mean()))


def trajectories(truth: Truth, seed: int, noise: float = 0.0) -> xr.Dataset | None:
    """What is observed of a truth; None where it runs away."""

    def field(t: float, x: np.ndarray) -> np.ndarray:
        if np.abs(x).max() > 2 * FAR:  # before a solver takes ever shorter steps towards infinity
            raise RunsAwayError
        return np.array([x[1], truth.force(np, *x)])

    constants = CONSTANTS | {"noise": noise, "seed": seed}
    bounds = np.array([[-1.5, 1.5], [-1.5, 1.5]])
    try:
        dataset = simulate_ode(field, bounds, {POSITION: "1", VELOCITY: "s-1"}, constants, {"theta": truth.theta})
    except RunsAwayError:
        return None
    return dataset if float(np.abs(dataset["state_true"]).max()) < FAR else None


def model_of(science: str, kind: type[HybridODE] = HybridODE) -> HybridODE:
    """The hybrid model; theta starts anywhere between half the least and twice the largest true value."""
    known = SCIENCES[science]

    def f(theta: dict[str, Tensor], x: Tensor) -> Tensor:
        q, p = x.unbind(-1)
        return torch.stack([p, -theta["theta"] * known.term(torch, q, p)], -1)

    low, high = known.between
    row = Parameter("theta", "1", (low / 2, 2 * high), "softplus", lower=0.0)
    return kind(f, Parameters([row]), MLP((2, *HIDDEN, 2)), Solver("rk4", 0.25))


class OfKnownFields(HybridODE):
    """A model whose fitted wholes are fields that are given: of states (1, series, time, 2), (member, ...) of rates."""

    fields: Callable[[Tensor], Tensor]

    def comparison(self, data: Samples) -> Comparison | None:
        comparison = super().comparison(data)
        scale = self.scale_of_network(data)

        def whole(theta: Tensor, phi: Tensor, points: Inputs) -> Tensor:
            return self.fields(points[self.target].double()) / scale

        return comparison and comparison._replace(whole=whole)


def from_fields(truth: Truth, dataset: xr.Dataset, seed: int) -> xr.Dataset:
    """What is said of theta where each member knows the field but for a smooth error of its own."""
    model = model_of(truth.science, OfKnownFields)
    assert isinstance(model, OfKnownFields)
    rng = np.random.default_rng(seed)
    waves = torch.as_tensor(rng.normal(0, 1, (MEMBERS, 2, WAVES)))
    phases = torch.as_tensor(rng.uniform(0, 2 * np.pi, (MEMBERS, 1, 1, WAVES)))
    sizes = torch.as_tensor(rng.normal(0, (2 / WAVES) ** 0.5, (MEMBERS, WAVES, 2)))
    spread = SPREAD * float(dataset["rate_true"].std())

    def fields(x: Tensor) -> Tensor:
        errors = torch.cos(torch.einsum("sti,mik->mstk", x[0], waves) + phases)
        return truth.field(x) + spread * torch.einsum("mstk,mkj->mstj", errors, sizes)

    model.fields = fields
    low, high = truth.known.between
    theta = torch.linspace(low, high, MEMBERS).unsqueeze(1)
    members = Members(
        np.arange(MEMBERS), theta, np.ones((MEMBERS, 1)), torch.zeros(MEMBERS, 0), torch.zeros(MEMBERS, 0), MEMBERS
    )
    return with_verdicts(identification.identify(model, members, dataset), [True])


def from_training(truth: Truth, dataset: xr.Dataset) -> xr.Dataset:
    """What is said of theta by an ensemble that was trained on trajectories with noise."""
    model = model_of(truth.science)
    block = Block(BASELINE, 0.0, tuple(range(MEMBERS)))
    runs, weights = train_block(model, TRAINING, dataset, block, "cpu")
    about = dict.fromkeys(MADE_BY, "") | {"configuration": json.dumps(asdict(TRAINING))}
    return identify(model, with_network(runs.assign_attrs(about), model, weights), dataset)


def calibrate(science: str, fields: int, trained: int, seed: int = 0) -> pd.DataFrame:
    """Verdicts on drawn truths of a science, from known fields and from training: a row a truth and assumption.

    Columns: science, source (``fields``, ``training``), truth (its number), missing, imitated, theta_true, verdict,
    assumption, holds (whether it does), and of it theta, low, high, information, spread_ratio. A truth
    without an assumption that was asked has one row.
    """
    rows = []
    for number, (truth, dataset) in enumerate(truths(science, fields, seed)):
        rows += _rows(truth, "fields", number, from_fields(truth, dataset, number))
    for number, (truth, _) in enumerate(truths(science, trained, seed)):
        noisy = trajectories(truth, number, NOISE)
        if noisy is not None:
            logger.info(f"training of truth {number + 1} of {trained}")
            rows += _rows(truth, "training", number, from_training(truth, noisy))
    return pd.DataFrame(rows)


def _rows(truth: Truth, source: str, number: int, found: xr.Dataset) -> list[dict]:
    missing = " ".join(f"{size:+.3g} {name}" for name, size in truth.missing.items())
    same = {
        "science": truth.science,
        "source": source,
        "truth": number,
        "missing": missing,
        "imitated": truth.is_imitated,
        "theta_true": truth.theta,
        "verdict": found["verdict"].item(),
    }
    of_each = ("theta", "low", "high", "information", "spread_ratio")
    rows = [
        same
        | {"assumption": title, "holds": truth.allows(title)}
        | {name: found[name].sel(assumption=title).item() for name in of_each}
        for title in found["assumption"].values
    ]
    return rows or [same]
