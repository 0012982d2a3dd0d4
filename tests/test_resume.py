"""A training that is killed at any moment resumes from its checkpoint and ends at the same bits; none runs twice."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import xarray as xr
from safetensors import safe_open

import hybridsam
from hybridsam.core import records
from hybridsam.core.files import write_whole
from hybridsam.core.provenance import fingerprint

pytestmark = pytest.mark.slow

SETTINGS = {
    "module": "hybridsam.tasks.pendulum",
    "model": {
        "theta": {"omega": {"unit": "rad s-1", "start": 0.5, "transform": "softplus", "lower": 0.0}},
        "hidden": [8, 8],
        "solver": {"method": "rk4", "step": 0.5},
    },
    "training": {
        "iterations": 300,
        "learning_rate": 1e-3,
        "learning_rate_final": 1e-5,
        "theta_rate_factor": 10.0,
        "clip_norm": 10.0,
        "perturb": "network",
        "record_every": 10,
        "diverged_after": 20,
        "dtype": "float32",
    },
}


@dataclass(frozen=True)
class Training:
    """The training of two seeds by sam, by the command line in a folder with a dataset, with a checkpoint each step."""

    folder: Path
    source: Path

    @property
    def run(self):
        return self.folder / "runs/seeds=0-1.nc"

    @property
    def weights(self):
        return self.run.with_suffix(".safetensors")

    @property
    def checkpoints(self):
        return self.folder / "checkpoints"

    def start(self, checkpoint_seconds=0, **changes):
        settings = self.folder / "settings.json"
        content = json.dumps(SETTINGS | {"training": SETTINGS["training"] | changes})
        write_whole(settings, lambda part: part.write_text(content))
        command = [sys.executable, "-m", "hybridsam", "train", str(self.folder / "dataset.nc")]
        command += ["--settings", str(settings), "--method", "sam", "--rho", "0.05"]
        command += ["--seeds", "0-1", "--device", "cpu", "--output", str(self.run)]
        command += ["--checkpoints", str(self.checkpoints), "--checkpoint-seconds", str(checkpoint_seconds)]
        environment = os.environ | {"PYTHONPATH": str(self.source)}
        return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)

    def finish(self, *how_often, **changes):
        """Train to the end; return the log."""
        process = self.start(*how_often, **changes)
        log = process.communicate()[1]
        assert process.returncode == 0, log
        return log

    def kill(self, step):
        """Start and kill the training after that step, while no file is half written."""
        process = self.start()
        self.stop(process, step)
        process.kill()
        process.communicate()
        assert process.returncode == -signal.SIGKILL

    def stop(self, process, step):
        """Stop the process after that step, while no file is half written."""
        while self.step() < step or self.is_writing(process):
            assert process.poll() is None, process.stderr.read()
            time.sleep(0.001)

    def is_writing(self, process):
        """Whether a file is half written; if not, the process is left stopped."""
        process.send_signal(signal.SIGSTOP)
        os.waitpid(process.pid, os.WUNTRACED)
        writing = bool(list(self.checkpoints.glob(".*.part")))
        if writing:
            process.send_signal(signal.SIGCONT)
        return writing

    def step(self):
        """The step of the checkpoint; 0 if there is none."""
        for path in self.checkpoints.glob("*.safetensors"):
            with safe_open(path, "pt") as file:
                return int(file.metadata()["step"])
        return 0

    def copy(self, folder):
        return replace(self, folder=shutil.copytree(self.folder, folder))


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A copy of the library, which stays the same also while somebody edits the original."""
    source = tmp_path_factory.mktemp("src")
    package = Path(hybridsam.__file__).parent
    shutil.copytree(package, source / "hybridsam", ignore=shutil.ignore_patterns("__pycache__"))
    return source


@pytest.fixture(scope="module")
def new_training(dataset, source, tmp_path_factory):
    """A training that has not begun."""

    def make():
        folder = tmp_path_factory.mktemp("training")
        records.write(dataset, folder / "dataset.nc", "dataset", "pendulum")
        return Training(folder, source)

    return make


@pytest.fixture(scope="module")
def undisturbed(new_training):
    """A finished training that nothing has disturbed."""
    training = new_training()
    assert resumed_at(training.finish()) == 0
    return training


@pytest.fixture(scope="module")
def killed(new_training):
    """A training that was killed on its way; to be copied."""
    training = new_training()
    training.kill(40)
    return training


def resumed_at(log):
    found = re.search(r"resuming at step (\d+)", log)
    return int(found[1]) if found else 0


def same_bits(one, other):
    if one.dtype.kind == "O":  # text
        return one.equals(other)
    return one.dtype == other.dtype and one.values.tobytes() == other.values.tobytes()


def assert_same_results(one, other):
    assert one.weights.read_bytes() == other.weights.read_bytes()
    with xr.open_dataset(one.run) as one, xr.open_dataset(other.run) as other:
        assert set(one.variables) == set(other.variables)
        assert [name for name in one.variables if not same_bits(one[name], other[name])] == []
        assert fingerprint(one) == fingerprint(other)
        assert one.attrs["configuration_hash"] == other.attrs["configuration_hash"]


def assert_has_the_checkpoint_of(training, killed):
    [checkpoint] = killed.checkpoints.glob("*.safetensors")
    assert (training.checkpoints / checkpoint.name).read_bytes() == checkpoint.read_bytes()


def test_a_killed_training_resumes_and_ends_at_the_same_bits(killed, undisturbed, tmp_path):
    training = killed.copy(tmp_path / "copy")
    first = training.step()
    training.kill(first + 40)  # what has resumed is killed again
    last = training.step()
    assert resumed_at(training.finish()) == last > first
    assert_same_results(training, undisturbed)


def test_a_killed_training_leaves_nothing_but_its_checkpoint(killed):
    assert killed.step() >= 40
    assert {path.name for path in killed.folder.iterdir()} == {"dataset.nc", "settings.json", "checkpoints"}
    # A file that is being written, and that a kill cuts off, is hidden.
    whole = [path for path in killed.checkpoints.iterdir() if not path.name.startswith(".")]
    assert sorted(path.suffix for path in whole) == [".lock", ".safetensors"]


def test_a_finished_training_whose_result_is_lost_is_not_done_again(killed, undisturbed, tmp_path):
    training = killed.copy(tmp_path / "copy")
    training.finish(1e9)  # no checkpoint is due but the last one
    training.run.unlink()
    log = training.finish(1e9)
    assert resumed_at(log) == SETTINGS["training"]["iterations"]
    assert_same_results(training, undisturbed)


def test_of_two_processes_with_the_same_runs_one_trains_and_the_other_waits(new_training, undisturbed):
    shared = new_training()
    first = shared.start()
    shared.stop(first, 40)
    second = shared.start()
    assert any("waiting for another process that trains the same runs" in line for line in second.stderr)
    first.send_signal(signal.SIGCONT)
    logs = [process.communicate()[1] for process in (first, second)]
    assert [process.returncode for process in (first, second)] == [0, 0], logs
    assert list(map(resumed_at, logs)) == [0, SETTINGS["training"]["iterations"]]
    assert_same_results(shared, undisturbed)


def test_a_checkpoint_of_other_settings_is_left_alone(killed, tmp_path):
    training = killed.copy(tmp_path / "copy")
    log = training.finish(learning_rate=2e-3, iterations=20)
    assert "resuming" not in log
    assert "step 0/20" in log
    assert_has_the_checkpoint_of(training, killed)


def test_a_checkpoint_of_other_code_is_left_alone(killed, tmp_path):
    training = replace(killed.copy(tmp_path / "copy"), source=shutil.copytree(killed.source, tmp_path / "src"))
    with open(training.source / "hybridsam/training/methods.py", "a") as file:
        file.write("\n# changed\n")
    log = training.finish()
    assert "resuming" not in log
    assert "step 0/300" in log
    assert_has_the_checkpoint_of(training, killed)


def test_what_a_kill_left_half_written_disturbs_nothing(killed, tmp_path):
    training = killed.copy(tmp_path / "copy")
    [checkpoint] = training.checkpoints.glob("*.safetensors")
    checkpoint.with_name(f".{checkpoint.name}.12345.part").write_bytes(checkpoint.read_bytes()[:100])
    assert resumed_at(training.finish()) == killed.step()


def test_a_result_that_cannot_be_written_leaves_the_checkpoint(killed, tmp_path):
    training = killed.copy(tmp_path / "copy")
    training.run.parent.write_text("a file in the place of the folder for the runs")
    process = training.start()
    log = process.communicate()[1]
    assert process.returncode == 1
    assert f"hybridsam: File exists: {training.run.parent}" in log
    assert training.step() >= killed.step()
