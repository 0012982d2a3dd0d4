"""What training changes, the file from which a killed training goes on, and a lock against training twice at once."""

import errno
import fcntl
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from hybridsam.core.files import write_whole

logger = logging.getLogger(__name__)


@dataclass
class State:
    """Everything that training changes; saved whole, it resumes to the same bits.

    w, m, v: (member, n) unconstrained theta followed by phi, and Adam's two moments. updates: (member,) updates done.
    skipped: (member,) updates skipped because a loss or gradient was not finite. running: (member, n) running
    statistics of the network's BatchNorm layers.
    """

    w: Tensor
    m: Tensor
    v: Tensor
    updates: Tensor
    skipped: Tensor
    running: Tensor
    step: int = 0
    seconds: float = 0.0
    history: dict[str, Tensor] = field(default_factory=dict)


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


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Wait until no other process, on any machine that sees this file system, holds the lock ``path``; then hold it.

    A job can outlive the scheduler that submitted it, and meet the job that replaces it. This is a record lock, which
    works over NFS and ends with the process, however that ends. The file stays: to remove it would undo the lock of
    whoever waits for it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in (errno.EACCES, errno.EAGAIN):
                logger.warning(f"{path}: this file system has no locks ({error.strerror}); going on without")
            else:
                logger.info(f"waiting for another process that trains the same runs ({path})")
                fcntl.lockf(file, fcntl.LOCK_EX)
        yield
