"""One variant in a process of its own, driven by compare.py.

Announces itself with a line of JSON once its first iterations are done; then, for each number n on standard input, runs
n iterations and answers with their seconds. With --check, instead writes the loss and gradient at the initial weights
and the first losses, and ends.
"""

import argparse
import json
import os
import re
import resource
import sys
import time
from pathlib import Path
from typing import Protocol

import numpy as np

WARM_UP, LONG_SECONDS = 2, 3.0  # iterations after the first one, unless that took long


class Variant(Protocol):
    """What a variant offers. compile_seconds: of what is compiled before the first iteration."""

    members: int
    compile_seconds: float

    def iterate(self, n: int) -> None:
        """Run n iterations of all members; return when they are done."""

    def gradient(self) -> tuple[float, np.ndarray]:
        """Loss and gradient for (theta, phi) of the first member, before any iteration."""

    def losses(self, n: int) -> list[float]:
        """The first member's losses at the first n iterations."""


def build(name: str, folder: Path, members: int, device: str) -> Variant:
    """A variant by name. Imports only what that variant needs, so that its memory is its own."""
    from problems import load

    problem = load(folder)
    if name in ("ours", "ours_pytorch"):
        from ours import Ours

        return Ours(problem, members, device, compiled=name == "ours")
    if name.startswith("torch"):
        from peer_torch import TorchPeer

        return TorchPeer(problem, device, name.removeprefix("torch").removeprefix("_"))
    from peer_jax import JaxPeer

    return JaxPeer(problem, members, device, name)


def serve(variant: Variant, setup_seconds: float, answer) -> None:
    """Answer requests until there are no more."""
    started = time.perf_counter()
    variant.iterate(1)
    first_seconds = time.perf_counter() - started
    if first_seconds < LONG_SECONDS:
        variant.iterate(WARM_UP)
    answer(setup_seconds=setup_seconds, compile_seconds=variant.compile_seconds, first_seconds=first_seconds)
    for line in sys.stdin:
        started = time.perf_counter()
        variant.iterate(int(line))
        answer(seconds=time.perf_counter() - started, peak_megabytes=peak_megabytes())


def peak_megabytes() -> float:
    """Peak memory of this process. What getrusage says begins with the memory of the process that started this one."""
    status = Path("/proc/self/status")
    if status.exists():
        return int(re.search(r"VmHWM:\s*(\d+) kB", status.read_text(encoding="utf-8"))[1]) / 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("variant")
    parser.add_argument("problem", type=Path, help="folder written by problems.prepare")
    parser.add_argument("--members", type=int, default=1)
    parser.add_argument("--core", type=int, help="processor core to stay on")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--check", type=int, metavar="N", help="write loss, gradient and N losses, and end")
    options = parser.parse_args()
    if options.core is not None and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {options.core})
    lines = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a library prints is no answer

    def answer(**values) -> None:
        print(json.dumps(values), file=lines, flush=True)

    started = time.perf_counter()
    variant = build(options.variant, options.problem, options.members, options.device)
    if options.check is None:
        serve(variant, time.perf_counter() - started, answer)
    else:
        loss, gradient = variant.gradient()
        answer(loss=loss, gradient=gradient.tolist(), losses=variant.losses(options.check))


if __name__ == "__main__":
    main()
