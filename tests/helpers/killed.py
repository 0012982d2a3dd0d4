"""A training that is killed at a step, right after its checkpoint."""

from hybridsam.training.checkpoint import Checkpoint


class Killed(Exception):
    pass


class KilledAt(Checkpoint):
    """Saves at one step, after which the training is killed."""

    def __init__(self, path, step):
        super().__init__(path)
        self.step = step

    def save_when_due(self, state):
        if state.step == self.step:
            self.save(state)
            raise Killed
