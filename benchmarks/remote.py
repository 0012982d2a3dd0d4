"""Workers seen from the controller: started, asked, ended; and the agreement of what they compute."""

import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from problems import IMAGES

WORKER = Path(__file__).with_name("worker.py")
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
LOSS_TOLERANCE, GRADIENT_TOLERANCE = 1e-4, 1e-3  # relative
OTHER_SOLVER = 20  # times these for another method than the classical Runge-Kutta method at the same steps
LOSSES_TOLERANCE = 1e-2  # relative, over the first iterations
CHECKED, CHECKED_OF_IMAGES = 10, 3  # iterations whose losses are compared


class Failed(Exception):
    """A worker ended without an answer; the message is its last line."""


class Worker:
    """A process that runs iterations of one variant on request. Raises Failed where the variant does not work."""

    def __init__(self, folder: Path, name: str, members: int, core: int | None, device: str, *more: str) -> None:
        command = [sys.executable, str(WORKER), name, str(folder), "--members", str(members), "--device", device, *more]
        command += ["--core", str(core)] if core is not None else []
        self.errors = tempfile.TemporaryFile("w+", encoding="utf-8")  # noqa: SIM115  lives as long as the worker
        self.cache = tempfile.TemporaryDirectory()  # an empty one, so that what is compiled is compiled here
        environment = os.environ | ONE_THREAD | {"XDG_CACHE_HOME": self.cache.name}
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": self.errors}
        self.process = subprocess.Popen(command, text=True, env=environment, **pipes)
        self.peak_megabytes = 0.0

    def answer(self) -> dict:
        """The next line that the worker writes."""
        line = self.process.stdout.readline()
        if not line:
            self.end()
            self.errors.seek(0)
            lines = [text.strip() for text in self.errors if text.strip()]
            raise Failed(lines[-1] if lines else f"exit status {self.process.returncode}")
        return json.loads(line)

    def ask(self, iterations: int) -> None:
        """Have it run some iterations; :meth:`seconds` waits for them."""
        with contextlib.suppress(BrokenPipeError):  # that it has ended is seen when it does not answer
            self.process.stdin.write(f"{iterations}\n")
            self.process.stdin.flush()

    def seconds(self) -> float:
        """How long the iterations took that were asked for."""
        answer = self.answer()
        self.peak_megabytes = answer["peak_megabytes"]
        return answer["seconds"]

    def iterate(self, iterations: int) -> float:
        """Run some iterations; their seconds."""
        self.ask(iterations)
        return self.seconds()

    def end(self) -> None:
        """Have it end, and wait for that."""
        with contextlib.suppress(BrokenPipeError):  # it has ended by itself
            self.process.stdin.close()
        self.process.stdout.close()
        self.process.wait()
        self.cache.cleanup()


class Job:
    """One variant at one number of members, in one process on each of some cores.

    Starts, warms up and finds how many iterations take about ``seconds``. Raises Failed.
    """

    def __init__(
        self, folder: Path, name: str, members: int, cores: Sequence[int | None], device: str, seconds: float
    ) -> None:
        self.members = members
        self.workers = [Worker(folder, name, members, core, device) for core in cores]
        self.ready, *_ = [worker.answer() for worker in self.workers]
        once = self.workers[0].iterate(1)
        if once < seconds:
            once = min(once, self.workers[0].iterate(1))
        self.iterations = max(1, round(seconds / once))

    def rate(self, processes: int) -> float:
        """Member-iterations per second of that many processes at once."""
        busy = self.workers[:processes]
        for worker in busy:
            worker.ask(self.iterations)
        return sum(self.members * self.iterations / worker.seconds() for worker in busy)

    def end(self) -> None:
        for worker in self.workers:
            worker.end()


def check(folder: Path, task: str, name: str, core: int | None, device: str) -> dict:
    """What a variant computes at and from the initial weights of the first member."""
    iterations = CHECKED_OF_IMAGES if task in IMAGES else CHECKED
    worker = Worker(folder, name, 1, core, device, "--check", str(iterations))
    answer = worker.answer()
    worker.end()
    return answer


def difference(name: str, ours: dict, theirs: dict) -> dict:
    """How far a variant is from ours, relatively, and whether that is near enough."""
    gradients = np.array(ours["gradient"]), np.array(theirs["gradient"])
    losses = np.array(ours["losses"]), np.array(theirs["losses"])
    found = {
        "loss": abs(theirs["loss"] / ours["loss"] - 1),
        "gradient": float(np.linalg.norm(gradients[1] - gradients[0]) / np.linalg.norm(gradients[0])),
        "losses": float(np.abs(losses[1] / losses[0] - 1).max()),
        "iterations": len(losses[0]),
    }
    factor = OTHER_SOLVER if name.startswith("torch") else 1  # torchdiffeq's rk4 is the 3/8 rule
    limits = {"loss": LOSS_TOLERANCE * factor, "gradient": GRADIENT_TOLERANCE * factor, "losses": LOSSES_TOLERANCE}
    return found | {"agrees": all(found[key] < limit for key, limit in limits.items())}
