"""Projects whose Snakemake runs on a real SLURM, and trainings on it that are long enough to be disturbed."""

import contextlib
import re
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import xarray as xr
from safetensors import safe_open

from helpers.cluster import Cluster, Job
from helpers.project import Project, copy_repository

ITERATIONS = 30000
LONG = {  # one task, one method and a training for each seed, long enough to be disturbed
    "tasks": ["pendulum"],
    "methods": ["erm"],
    "seeds_per_job": 1,
    "overrides.all.training": {"iterations": ITERATIONS, "record_every": 1000},
}
CUBE = "results/test/pendulum/cube.nc"
SEEDS = range(5)
WAIT_SECONDS = 400


def seeds_of(blocks):
    return [int(block.split("-")[0]) for block in blocks]


def until(true, what, process=None):
    """Wait for something to become true."""
    end = time.monotonic() + WAIT_SECONDS
    while not (found := true()):
        assert time.monotonic() < end, f"waited in vain for {what}"
        assert process is None or process.poll() is None, f"snakemake ended before {what}"
        time.sleep(0.2)
    return found


@dataclass(frozen=True)
class OnCluster:
    """A project whose Snakemake runs on the cluster's login node."""

    project: Project
    cluster: Cluster

    @property
    def output(self):
        """What the last Snakemake printed."""
        return (self.project.root / "output.txt").read_text()

    def configure(self, blocks):
        """LONG with these seeds, and checkpoints twice a second."""
        self.project.edit("workflow/rules/train.smk", "--checkpoints", "--checkpoint-seconds 0.5 --checkpoints")
        return self.project.configure(LONG | {"seeds": seeds_of(blocks)})

    def start(self, *arguments, configuration="config/test.yaml"):
        """Start Snakemake with the SLURM profile, in a hurry but for that as a user does; returns its process."""
        hurry = ["--slurm-init-seconds-before-status-checks=1", "--max-status-checks-per-second=5", "--latency-wait=10"]
        command = [sys.executable, str(Path(__file__).with_name("impatient.py")), "--profile", "slurm", *hurry]
        command = self.cluster.inside(*command, *arguments, "--configfile", configuration, folder=self.project.root)
        environment = self.project.environment | {"SBATCH_ACCOUNT": "physics"}
        with (self.project.root / "output.txt").open("w") as output:
            streams = {"stdout": output, "stderr": subprocess.STDOUT}
            return subprocess.Popen(command, env=environment, preexec_fn=heed_interrupts, **streams)

    def run(self, *arguments, **options):
        """Run Snakemake to its end; returns its exit status."""
        return self.start(*arguments, **options).wait(WAIT_SECONDS)

    def log(self, seeds, run="erm/rho=0"):
        return (self.project.root / f"logs/test/pendulum/{run}/seeds={seeds}.log").read_text()

    def trainings(self, *states, first=False):
        """The last job, or the first, of each block that is trained, by seeds; of those states if any are named."""
        jobs = [job for job in self.cluster.jobs() if job.comment.startswith("rule_train") and self.is_ours(job)]
        jobs = [job for job in jobs if not states or job.state in states]
        return {job.comment.rpartition("_")[2]: job for job in (reversed(jobs) if first else jobs)}

    def is_ours(self, job: Job):
        """Whether this project's last Snakemake submitted it."""
        return f"SLURM jobid {job.number} " in self.output

    def steps(self):
        """Steps of all checkpoints that are there."""
        found = []
        for path in (self.project.results / "pendulum/checkpoints").glob("*.safetensors"):
            with contextlib.suppress(OSError), safe_open(path, "pt") as file:
                found.append(int(file.metadata()["step"]))
        return found


def heed_interrupts():
    """As in a terminal: what a shell without job control runs in the background ignores them, and so its children."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def copy_undisturbed(root):
    """A project with config/test.yaml for LONG with all SEEDS in one job, as a local Snakemake trains them."""
    copy_repository(root)
    project = Project(root)
    changed = project.configure(LONG | {"seeds": list(SEEDS), "seeds_per_job": len(SEEDS)})
    (root / changed).rename(root / "config/test.yaml")


def resumed_at(log):
    found = re.search(r"resuming at step (\d+)", log)
    return int(found[1]) if found else 0


def assert_same_runs(project, undisturbed):
    """Each run is there, and is to the bit what it would have been."""
    with xr.open_dataset(project.root / CUBE) as one, xr.open_dataset(undisturbed.root / CUBE) as other:
        other = other.sel(seed=one["seed"])
        for name in ("theta", "theta_history", "y_error", "train_loss", "grad_norm_phi", "skipped_updates"):
            assert one[name].values.tobytes() == other[name].values.tobytes(), name
        assert set(one["status"].values.ravel()) == {"completed"}
