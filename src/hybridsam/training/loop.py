"""Training of a block of members: Adam on (theta, phi), cosine annealing, logging, checkpoints, divergence."""

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import cos, inf, pi

import numpy as np
import torch
from torch import Tensor

from hybridsam.core.errors import UserError
from hybridsam.core.methods import Method
from hybridsam.models.hybrid import HybridModel
from hybridsam.models.networks import RunningStatistics
from hybridsam.models.samples import Samples
from hybridsam.training.checkpoint import Checkpoint, State
from hybridsam.training.devices import captured, members_at_once, saved_bytes
from hybridsam.training.loss import Loss, mean_squared_error, objective
from hybridsam.training.methods import PERTURBED, hybrid_gradient, perturbation_of
from hybridsam.training.warm import WarmStart

BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8  # Adam's defaults (Kingma & Ba 2015)
PURPOSES = ("initialisation", "batch order")
SECONDS_BETWEEN_LINES, SHOWN = 10, 4  # lines of progress, parameters on such a line

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Training:
    """How to train; the same for every method.

    iterations: gradient steps. learning_rate: of phi, annealed by one cosine to learning_rate_final.
    theta_rate_factor: learning rate of theta over that of phi. clip_norm: largest norm of the applied gradient.
    perturb: ``network`` (the paper) or ``all`` (ablation). record_every: iterations between records.
    diverged_after: skipped updates after which a run counts as diverged. dtype: ``float32`` or ``float64``. batch_size:
    samples in a mini-batch; 0: all samples at once. tf32: on a GPU, products of 10 instead of 23 bits, which is faster.
    eta: damping of fsam relative to the mean square of the gradient; 0: 1 + g^2, whatever the size of g.
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
    batch_size: int = 0
    tf32: bool = False
    eta: float = 0.0

    def __post_init__(self) -> None:
        for key in ("iterations", "learning_rate", "theta_rate_factor", "clip_norm", "record_every", "diverged_after"):
            if not getattr(self, key) > 0:
                raise UserError(f"training.{key}: {getattr(self, key)!r} is not larger than zero")
            if getattr(self, key) == inf and key != "clip_norm":  # which then clips nothing
                raise UserError(f"training.{key}: {getattr(self, key)!r} is not finite")
        if not 0 <= self.learning_rate_final <= self.learning_rate:
            raise UserError(f"training.learning_rate_final: {self.learning_rate_final} is not in [0, learning_rate]")
        if not 0 <= self.eta < inf:
            raise UserError(f"training.eta: {self.eta!r} is not a finite number from zero on")
        if self.perturb not in PERTURBED:
            raise UserError(f"training.perturb: {self.perturb!r} is not one of {', '.join(PERTURBED)}")
        if self.batch_size < 0:
            raise UserError(f"training.batch_size: {self.batch_size} is not a number of samples, or 0 for all")
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


def generator(seed: int, purpose: str, *part: int) -> torch.Generator:
    """The random numbers of one member for one purpose (and part of it); a function of the member's seed alone."""
    words = np.random.SeedSequence([seed, PURPOSES.index(purpose), *part]).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(words[0] >> np.uint64(1)))


class BatchOrder:
    """Which samples each member sees at a step: a new permutation each epoch, cut into batches of equal size.

    What does not fill a batch is left out of that epoch. Depends on a member's seed and the step alone, so that a
    resumed training sees the same batches.
    """

    def __init__(self, seeds: Sequence[int], samples: int, batch_size: int) -> None:
        self.seeds, self.samples, self.size = seeds, samples, min(batch_size, samples)
        self.epoch, self.order = -1, torch.empty(0)

    def at(self, step: int) -> Tensor:
        """(member, batch) numbers of samples."""
        epoch, position = divmod(step, self.samples // self.size)
        if epoch != self.epoch:
            draws = [generator(seed, "batch order", epoch) for seed in self.seeds]
            self.epoch, self.order = epoch, torch.stack([torch.randperm(self.samples, generator=g) for g in draws])
        return self.order[:, position * self.size : (position + 1) * self.size]


def initial_state(
    model: HybridModel,
    seeds: Sequence[int],
    training: Training,
    device: torch.device | str = "cpu",
    warm: WarmStart | None = None,
) -> State:
    """Start of training: theta at its start, of an interval at that of the seed, and phi drawn from the seed."""
    dtype = getattr(torch, training.dtype)
    theta, running = model.parameters.drawn(seeds, dtype), model.network.initial_running().repeat(len(seeds), 1)
    phi = torch.stack([model.initial(generator(seed, "initialisation")) for seed in seeds])
    if warm:
        theta = warm.raw
        phi, running = (own if given is None else given for own, given in ((phi, warm.phi), (running, warm.running)))
    w = torch.cat([theta.to(dtype), phi.to(dtype)], 1).to(device)
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
        running=running.to(w, copy=True),
        history={name: torch.full((n_records, members, *s), torch.nan, dtype=dtype) for name, s in shapes.items()},
    )


def train(
    loss: Loss,
    method: Method,
    rho: Sequence[float],
    seeds: Sequence[int],
    data: Samples,
    validation: Samples,
    training: Training,
    checkpoint: Checkpoint | None = None,
    each_step: Callable[[State], None] | None = None,
    warm: WarmStart | None = None,
) -> State:
    """Train one member for each pair of rho and seed, all at once; return the final state.

    A member equals the same run alone, and a member whose losses or gradients are not finite disturbs no other.
    """
    device = data.targets.device
    model = loss.model
    state = (checkpoint and checkpoint.load(device)) or initial_state(model, seeds, training, device, warm)
    n_theta = len(model.parameters)
    rhos = torch.as_tensor(rho, dtype=state.w.dtype, device=device)
    relative_rate = torch.ones_like(state.w[0])
    relative_rate[:n_theta] = training.theta_rate_factor
    if training.batch_size > len(data):
        logger.warning(
            f"training.batch_size: {training.batch_size}, of {len(data)} samples; every step sees all of them"
        )
    order = BatchOrder(seeds, len(data), training.batch_size) if training.batch_size else None
    index = order.at(state.step).to(device) if order else None
    gradients = captured(block_gradients(loss, method, rhos, data, index, state, training), device)
    records = {step: i for i, step in enumerate(training.recorded_steps)}
    progress = Progress(state, training, model.parameters.names if method.lacks != "science" else [])
    held = warm.held.to(device) if warm else None

    while True:
        if order and index is not None:
            index.copy_(order.at(state.step))
        values, g_theta, g_phi, running = gradients()
        if held is not None:
            g_theta = g_theta.masked_fill(held, 0)
        if state.step in records:
            batch = data if index is None else data.batch(index)
            record(state, records[state.step], loss, batch, validation, g_theta, g_phi)
            progress.show(state, records[state.step])
            if state.step == training.iterations or bool((state.skipped >= training.diverged_after).all()):
                if checkpoint:  # should the result be lost before it is safe, nothing is trained twice
                    checkpoint.save(state)
                return state
        active = adam_step(state, values, torch.cat([g_theta, g_phi], 1), training, relative_rate)
        state.running.copy_(torch.where(active.unsqueeze(1), running, state.running))
        state.step += 1
        state.seconds = progress.seconds()
        if checkpoint:
            checkpoint.save_when_due(state)
        if each_step:
            each_step(state)


def block_gradients(
    loss: Loss,
    method: Method,
    rho: Tensor,
    data: Samples,
    index: Tensor | None,
    state: State,
    training: Training,
) -> Callable[[], list[Tensor]]:
    """A function of what the state and the index of the mini-batch hold when it is called.

    It returns losses, gradients for theta and phi (see :func:`hybrid_gradient`) and running statistics after the step,
    (member, ...). As many members are treated at once as the memory has room for.
    """
    n_theta, is_weight = len(loss.model.parameters), loss.model.network.is_weight().to(state.w.device)
    perturbation = perturbation_of(method, training.eta)

    def of_members(own: slice) -> tuple[Tensor, ...]:
        batch = data if index is None else data.batch(index[own])
        running = RunningStatistics(state.running[own], training=True)
        minimized = objective(loss, method, rho[own], batch, running)
        theta, phi = state.w[own, :n_theta], state.w[own, n_theta:]
        found = hybrid_gradient(minimized, theta, phi, perturbation, rho[own], is_weight, training.perturb)
        return *found, running.moved()

    def one_forward() -> Tensor:
        batch = data if index is None else data.batch(index[:1])
        theta, phi = (values.detach().requires_grad_() for values in (state.w[:1, :n_theta], state.w[:1, n_theta:]))
        running = RunningStatistics(state.running[:1], training=True)
        return objective(loss, method, rho[:1], batch, running)(theta, phi)

    members = len(state.w)
    size = members_at_once(saved_bytes(one_forward), state.w.device) if members > 1 else 1
    groups = [slice(first, first + size) for first in range(0, members, size)]
    if len(groups) > 1:
        logger.info(f"{members} members, {size} at once, as the memory allows")
    return lambda: [torch.cat(parts) for parts in zip(*map(of_members, groups), strict=True)]


@torch.no_grad()
def adam_step(state: State, values: Tensor, g: Tensor, training: Training, relative_rate: Tensor) -> Tensor:
    """One Adam step of every member whose loss and gradient are finite, after clipping its gradient's norm.

    Returns which members took it, (member,).
    """
    norm = g.norm(dim=1)
    finite = values.isfinite() & norm.isfinite()
    going_on = state.skipped < training.diverged_after
    state.skipped += going_on & ~finite
    active = going_on & finite
    state.updates += active

    # In place, in half the time of new tensors. A factor of zero or one keeps a member that takes no step as it is.
    took = active.to(g.dtype).unsqueeze(1)
    clip = torch.where(active, (training.clip_norm / norm).clamp(max=1), 0.0).unsqueeze(1)
    g = torch.where(active.unsqueeze(1), g, 0.0).mul_(clip)
    state.m.mul_(1 - (1 - BETA1) * took).add_((1 - BETA1) * g)
    state.v.mul_(1 - (1 - BETA2) * took).add_((g * g).mul_(1 - BETA2))
    bias1, bias2 = (torch.where(active, 1 - beta**state.updates, 1.0).to(g.dtype) for beta in (BETA1, BETA2))
    update = state.m / state.v.sqrt().div_(bias2.sqrt().unsqueeze(1)).add_(EPSILON)
    state.w.sub_(update.mul_(took / bias1.unsqueeze(1)).mul_(training.rate(state.step) * relative_rate))
    return active


@torch.no_grad()
def record(
    state: State,
    row: int,
    loss: Loss,
    batch: Samples,
    validation: Samples,
    g_theta: Tensor,
    g_phi: Tensor,
) -> None:
    """Keep the losses (mean squared errors), theta and the norms of the applied gradients at this step."""
    theta, phi = constrained(loss.model, state)
    running = RunningStatistics(state.running)
    now = {
        "train_loss": mean_squared_error(loss, theta, phi, batch, running),
        "validation_loss": mean_squared_error(loss, theta, phi, validation, running, at_once=len(batch)),
        "theta": theta,
        "grad_norm_theta": g_theta.norm(dim=1),
        "grad_norm_phi": g_phi.norm(dim=1),
    }
    for name, value in now.items():
        state.history[name][row] = value.cpu()


def constrained(model: HybridModel, state: State) -> tuple[Tensor, Tensor]:
    """theta (member, parameter) in natural units, phi (member, n)."""
    n_theta = len(model.parameters)
    return model.parameters.constrain(state.w[:, :n_theta]), state.w[:, n_theta:]


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
        pairs = list(zip(self.names, history["theta"].tolist(), strict=False))  # a network alone has no names
        theta = ", ".join(f"{name}={value:.5g}" for name, value in pairs[:SHOWN]) + " …" * (len(pairs) > SHOWN)
        diverged = int((state.skipped >= self.training.diverged_after).sum())
        logger.info(
            f"step {state.step}/{last}  train {history['train_loss']:.3e}  "
            f"validation {history['validation_loss']:.3e}  {theta}  "
            f"{rate * len(state.w):.1f} member-iterations/s  {left}"
            + (f"  {diverged} of {len(state.w)} diverged" if diverged else "")
        )
