"""Training of a block of members: Adam on (theta, phi), cosine annealing, logging, checkpoints, divergence."""

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from math import cos, pi
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from hybridsam.errors import UserError
from hybridsam.hybrid import HybridODE, Trajectories
from hybridsam.methods import PERTURBED, Method, hybrid_gradient, mean_squared_error, objective
from hybridsam.records import write_whole

BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8  # Adam's defaults (Kingma & Ba 2015)
PURPOSES = ("initialisation", "batch order")
SECONDS_BETWEEN_LINES = 10

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Training:
    """How to train; the same for every method.

    iterations: gradient steps. learning_rate: of phi, annealed by one cosine to learning_rate_final.
    theta_rate_factor: learning rate of theta over that of phi. clip_norm: largest norm of the applied gradient.
    perturb: ``network`` (the paper) or ``all`` (ablation). record_every: iterations between records.
    diverged_after: skipped updates after which a run counts as diverged. dtype: ``float32`` or ``float64``.
    """

    iterations: int
    learning_rate: float
    learning_rate_final: float
    theta_rate_factor: float
    clip_norm: float
    perturb: str
    record_every: int
    diverged_after: int
    dtype: str

    def __post_init__(self) -> None:
        for key in ("iterations", "learning_rate", "theta_rate_factor", "clip_norm", "record_every", "diverged_after"):
            if not getattr(self, key) > 0:
                raise UserError(f"training.{key}: {getattr(self, key)!r} is not larger than zero")
        if not 0 <= self.learning_rate_final <= self.learning_rate:
            raise UserError(f"training.learning_rate_final: {self.learning_rate_final} is not in [0, learning_rate]")
        if self.perturb not in PERTURBED:
            raise UserError(f"training.perturb: {self.perturb!r} is not one of {', '.join(PERTURBED)}")
        if self.dtype not in ("float32", "float64"):
            raise UserError(f"training.dtype: {self.dtype!r} is not one of float32, float64")

    def rate(self, step: int) -> float:
        """Learning rate of phi at a step: cosine annealing over one period."""
        span = self.learning_rate - self.learning_rate_final
        return self.learning_rate_final + span * (1 + cos(pi * step / self.iterations)) / 2

    @property
    def recorded_steps(self) -> list[int]:
        """Steps whose losses and theta are kept: every record_every and the last."""
        return sorted({*range(0, self.iterations, self.record_every), self.iterations})


@dataclass
class State:
    """Everything that training changes; saved whole, it resumes to the same bits.

    w, m, v: (member, n) unconstrained theta followed by phi, and Adam's two moments. updates: (member,) updates done.
    skipped: (member,) updates skipped because a loss or gradient was not finite.
    """

    w: Tensor
    m: Tensor
    v: Tensor
    updates: Tensor
    skipped: Tensor
    step: int = 0
    seconds: float = 0.0
    history: dict[str, Tensor] = field(default_factory=dict)


def generator(seed: int, purpose: str) -> torch.Generator:
    """The random numbers of one member for one purpose; a function of the member's seed alone."""
    words = np.random.SeedSequence([seed, PURPOSES.index(purpose)]).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(words[0] >> np.uint64(1)))


def initial_state(
    model: HybridODE, seeds: Sequence[int], training: Training, device: torch.device | str = "cpu"
) -> State:
    """Start of training: theta at its start, phi drawn from each member's own seed."""
    dtype = getattr(torch, training.dtype)
    theta = model.parameters.initial(len(seeds), dtype)
    phi = torch.stack([model.network.initial(generator(seed, "initialisation")) for seed in seeds]).to(dtype)
    w = torch.cat([theta, phi], 1).to(device)
    n_records, members = len(training.recorded_steps), len(seeds)
    shapes = dict.fromkeys(("train_loss", "validation_loss", "grad_norm_theta", "grad_norm_phi"), ()) | {
        "theta": (theta.shape[1],)
    }
    return State(
        w=w,
        m=torch.zeros_like(w),
        v=torch.zeros_like(w),
        updates=torch.zeros(members, dtype=torch.float64, device=device),
        skipped=torch.zeros(members, dtype=torch.int64, device=device),
        history={name: torch.full((n_records, members, *s), torch.nan, dtype=dtype) for name, s in shapes.items()},
    )


def train(
    model: HybridODE,
    method: Method,
    rho: Sequence[float],
    seeds: Sequence[int],
    data: Trajectories,
    validation: Trajectories,
    training: Training,
    checkpoint: "Checkpoint | None" = None,
) -> State:
    """Train one member for each pair of rho and seed, all at once; return the final state.

    A member equals the same run alone, and a member whose losses or gradients are not finite disturbs no other.
    """
    device = data.states.device
    state = (checkpoint and checkpoint.load(device)) or initial_state(model, seeds, training, device)
    n_theta = len(model.parameters)
    strength = torch.as_tensor(rho, dtype=state.w.dtype, device=device)
    loss = objective(model, method, strength, data)
    is_weight = model.network.is_weight().to(device)
    relative_rate = torch.ones_like(state.w[0])
    relative_rate[:n_theta] = training.theta_rate_factor
    records = {step: i for i, step in enumerate(training.recorded_steps)}
    progress = Progress(state, training, model.parameters.names)

    while True:
        theta, phi = state.w[:, :n_theta], state.w[:, n_theta:]
        values, g_theta, g_phi = hybrid_gradient(
            loss, theta, phi, method.perturbation, strength, is_weight, training.perturb
        )
        if state.step in records:
            record(state, records[state.step], model, data, validation, g_theta, g_phi)
            progress.show(state, records[state.step])
        if state.step == training.iterations or bool((state.skipped >= training.diverged_after).all()):
            return state
        adam_step(state, values, torch.cat([g_theta, g_phi], 1), training, relative_rate)
        state.step += 1
        state.seconds = progress.seconds()
        if checkpoint:
            checkpoint.save_when_due(state)


@torch.no_grad()
def adam_step(state: State, values: Tensor, g: Tensor, training: Training, relative_rate: Tensor) -> None:
    """One Adam step of every member whose loss and gradient are finite, after clipping its gradient's norm."""
    norm = g.norm(dim=1)
    finite = values.isfinite() & norm.isfinite()
    running = state.skipped < training.diverged_after
    state.skipped += running & ~finite
    active = running & finite
    g = g * (training.clip_norm / norm).clamp(max=1).unsqueeze(1)

    updates = state.updates + active
    m = BETA1 * state.m + (1 - BETA1) * g
    v = BETA2 * state.v + (1 - BETA2) * g * g
    m_hat = m / (1 - BETA1**updates).to(m.dtype).unsqueeze(1)
    v_hat = v / (1 - BETA2**updates).to(v.dtype).unsqueeze(1)
    w = state.w - training.rate(state.step) * relative_rate * m_hat / (v_hat.sqrt() + EPSILON)

    keep = active.unsqueeze(1)
    state.w, state.m, state.v = (torch.where(keep, new, old) for new, old in ((w, state.w), (m, state.m), (v, state.v)))
    state.updates = updates


@torch.no_grad()
def record(
    state: State,
    row: int,
    model: HybridODE,
    data: Trajectories,
    validation: Trajectories,
    g_theta: Tensor,
    g_phi: Tensor,
) -> None:
    """Keep the losses (mean squared errors), theta and the norms of the applied gradients at this step."""
    n_theta = len(model.parameters)
    theta, phi = model.parameters.constrain(state.w[:, :n_theta]), state.w[:, n_theta:]
    now = {
        "train_loss": mean_squared_error(model, theta, phi, data),
        "validation_loss": mean_squared_error(model, theta, phi, validation),
        "theta": theta,
        "grad_norm_theta": g_theta.norm(dim=1),
        "grad_norm_phi": g_phi.norm(dim=1),
    }
    for name, value in now.items():
        state.history[name][row] = value.cpu()


class Progress:
    """Lines in the log: step, losses and theta of the first member, rate, time left."""

    def __init__(self, state: State, training: Training, names: Sequence[str]) -> None:
        self.training, self.names = training, names
        self.start, self.first_step, self.seconds_before = time.monotonic(), state.step, state.seconds
        self.shown = -float("inf")

    def seconds(self) -> float:
        """Training time of this state, earlier sessions included."""
        return self.seconds_before + time.monotonic() - self.start

    def show(self, state: State, row: int) -> None:
        now, last = time.monotonic(), self.training.iterations
        if now - self.shown < SECONDS_BETWEEN_LINES and state.step != last:
            return
        self.shown = now
        done = state.step - self.first_step
        rate = done / (now - self.start)
        left = f"{(last - state.step) / rate:.0f} s left" if done else "estimating time left"
        history = {name: values[row, 0] for name, values in state.history.items()}
        theta = ", ".join(f"{n}={v:.5g}" for n, v in zip(self.names, history["theta"].tolist(), strict=True))
        diverged = int((state.skipped >= self.training.diverged_after).sum())
        logger.info(
            f"step {state.step}/{last}  train {history['train_loss']:.3e}  "
            f"validation {history['validation_loss']:.3e}  {theta}  "
            f"{rate * len(state.w):.1f} member-iterations/s  {left}"
            + (f"  {diverged} of {len(state.w)} diverged" if diverged else "")
        )


class Checkpoint:
    """A file from which a killed training resumes to the bit-identical result.

    The caller puts a hash of everything that the result depends on into the path.
    """

    TENSORS = tuple(f.name for f in fields(State) if f.type is Tensor)

    def __init__(self, path: Path, every_seconds: float = 60.0) -> None:
        self.path, self.every_seconds = Path(path), every_seconds
        self.saved = time.monotonic()

    def save_when_due(self, state: State) -> None:
        if time.monotonic() - self.saved >= self.every_seconds:
            self.save(state)
            self.saved = time.monotonic()

    def save(self, state: State) -> None:
        tensors = {name: getattr(state, name) for name in self.TENSORS}
        tensors |= {f"history.{name}": values for name, values in state.history.items()}
        metadata = {"step": str(state.step), "seconds": str(state.seconds)}
        write_whole(self.path, lambda part: save_file(tensors, part, metadata))

    def load(self, device: torch.device | str) -> State | None:
        """The saved state, or None where there is none."""
        if not self.path.exists():
            return None
        try:
            with safe_open(self.path, "pt") as file:
                metadata, names = file.metadata(), file.keys()
                tensors = {name: file.get_tensor(name) for name in names}
        except SafetensorError as error:
            logger.warning(f"{self.path}: damaged checkpoint ({error}); training starts anew")
            return None
        logger.info(f"resuming at step {metadata['step']} from {self.path}")
        return State(
            **{name: tensors[name].to(device) for name in self.TENSORS},
            step=int(metadata["step"]),
            seconds=float(metadata["seconds"]),
            history={name.removeprefix("history."): t for name, t in tensors.items() if name.startswith("history.")},
        )

    def discard(self) -> None:
        """Remove the file, and what a save that was killed may have left."""
        for path in (self.path, *self.path.parent.glob(f".{self.path.name}.*.part")):
            path.unlink(missing_ok=True)
