"""hybridsam's own trainer, timed in its own loop: nothing of it is copied here."""

import time
from contextlib import ExitStack
from dataclasses import replace

import numpy as np
import torch
from problems import LEARNING_RATE, RHO, Problem

from hybridsam.core import modules
from hybridsam.core.methods import get_method
from hybridsam.core.settings import typed
from hybridsam.models.networks import RunningStatistics
from hybridsam.models.samples import Samples
from hybridsam.training.checkpoint import State
from hybridsam.training.compiled import faster_loss
from hybridsam.training.devices import arithmetic, keep_freed_memory, without_old_garbage
from hybridsam.training.loop import BatchOrder, Training, initial_state, train
from hybridsam.training.loss import Loss, objective
from hybridsam.training.methods import gradient

NEVER = 10**9  # iterations: beyond any measurement, so that nothing is recorded after step 0


class Stop(Exception):
    """Enough iterations."""


class Pacer:
    """In the place of a checkpoint: hands ``train`` the state to go on from, and ends it after some iterations."""

    def __init__(self, state: State) -> None:
        self.state, self.left = state, 0

    def load(self, device: torch.device | str) -> State:
        return self.state

    def save_when_due(self, state: State) -> None:
        self.left -= 1
        if not self.left:
            raise Stop


class Ours:
    """Members trained together by :func:`hybridsam.training.loop.train`.

    compiled: whether the library may take its compiled path; compile_seconds: what finding it took.
    """

    def __init__(self, problem: Problem, members: int, device: str, compiled: bool) -> None:
        torch.set_num_threads(1)
        keep_freed_memory()  # and the rest, as hybridsam.training.block trains
        self.context = ExitStack()
        self.context.enter_context(arithmetic(tf32=False))
        self.context.enter_context(without_old_garbage())
        model = modules.load(problem.settings["module"]).build(problem.settings["model"])
        self.data = samples(problem, device)
        started = time.perf_counter()
        self.loss = (compiled and faster_loss(model, self.data)) or Loss(model)
        self.compile_seconds = time.perf_counter() - started
        self.members, self.seeds, self.device = members, range(members), device
        task_training = typed(Training, problem.settings["training"], "training")
        self.training = replace(task_training, iterations=NEVER, record_every=NEVER)
        self.pacer = Pacer(initial_state(model, self.seeds, self.training, device))

    def iterate(self, n: int) -> None:
        """Go on by n iterations."""
        self.pacer.left = n
        try:
            self._train(self.training, self.pacer)
        except Stop:
            if self.device.startswith("cuda"):
                torch.cuda.synchronize()

    def gradient(self) -> tuple[float, np.ndarray]:
        """Loss and gradient for (theta, phi) of the first member at the initial weights."""
        state, batch = self.pacer.state, self.data
        if self.training.batch_size:
            batch = self.data.batch(BatchOrder(self.seeds, len(self.data), self.training.batch_size).at(0))
        running = RunningStatistics(state.running, training=True)
        n = len(self.loss.model.parameters)
        minimized = objective(self.loss, get_method("sam"), torch.tensor([RHO]).to(state.w), batch, running)
        values, *parts = gradient(minimized, state.w[:, :n], state.w[:, n:])
        return float(values[0]), torch.cat(parts, 1)[0].cpu().numpy()

    def losses(self, n: int) -> list[float]:
        """Losses at the first n iterations, trained from the initial weights as the peers train."""
        rates = {"learning_rate": LEARNING_RATE, "learning_rate_final": LEARNING_RATE, "theta_rate_factor": 1.0}
        training = replace(self.training, iterations=n, record_every=1, clip_norm=float("inf"), **rates)
        return self._train(training).history["train_loss"][:n, 0].tolist()

    def _train(self, training: Training, pacer: Pacer | None = None) -> State:
        validation = next(self.data.chunks(1))
        rho = [RHO] * self.members
        return train(self.loss, get_method("sam"), rho, self.seeds, self.data, validation, training, pacer)


def samples(problem: Problem, device: str) -> Samples:
    """The training data as the library holds it."""

    def tensor(values: np.ndarray | float) -> torch.Tensor:
        return torch.as_tensor(values, dtype=torch.float32, device=device).unsqueeze(0)

    inputs = {name: tensor(values) for name, values in problem.inputs.items()}
    units = {"mean": tensor(problem.mean), "scale": tensor(problem.scale)}
    return Samples(inputs, tensor(problem.targets), tuple(problem.times.tolist()), **units)
