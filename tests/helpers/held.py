"""hybridsam, for tests: a training saves its state after each step, and after a few waits for the file ``go``.

It lasts until it has been disturbed, on a machine however slow, and computes no more than a short one.
"""

import sys
import time
from pathlib import Path

from hybridsam.cli.main import main
from hybridsam.training.checkpoint import Checkpoint

STEPS = 5  # of this process, until it waits
GO = Path("go")  # in the folder of the project


def save_when_due(self, state):
    self.save(state)
    self.saves = getattr(self, "saves", 0) + 1
    if self.saves == STEPS and not GO.exists():
        print(f"held at step {state.step}", file=sys.stderr, flush=True)
        while not GO.exists():
            time.sleep(0.2)


if __name__ == "__main__":
    Checkpoint.save_when_due = save_when_due
    sys.exit(main())
