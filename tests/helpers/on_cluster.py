"""Projects whose Snakemake runs on a real SLURM, and trainings on it that last until they have been disturbed."""

import re
import shlex
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import xarray as xr

from helpers.cluster import Cluster, Job
from helpers.held import GO
from helpers.project import Project, copy_repository
from helpers.waiting import BACKSTOP, until

ALONE = {"tasks": ["pendulum"], "methods": ["erm"], "seeds_per_job": 1}  # a training for each seed
DATASET, CUBE = "results/test/pendulum/dataset.nc", "results/test/pendulum/cube.nc"
ITERATIONS = 20  # by config/test.yaml
SEEDS = range(5)
UNDER_WAY = {"PENDING", "CONFIGURING", "RUNNING", "COMPLETING"}  # states of a job


@dataclass(frozen=True)
class OnCluster:
    """A project whose Snakemake runs on the cluster's login node."""

    project: Project
    cluster: Cluster

    @property
    def output(self):
        """What the last Snakemake printed."""
        return (self.project.root / "output.txt").read_text()

    def hold_trainings(self):
        """From now on a training waits after a few steps until it is let go."""
        held = shlex.quote(str(Path(__file__).with_name("held.py")))
        self.project.edit("workflow/rules/train.smk", "python -m hybridsam", f"python {held}")

    def held(self):
        """The steps at which trainings wait, by seeds."""
        logs = {path.stem.removeprefix("seeds="): text_of(path) for path in self.project.root.glob("logs/*/*/*/*/*")}
        found = {seeds: re.search(r"held at step (\d+)", log) for seeds, log in logs.items()}
        return {seeds: int(match[1]) for seeds, match in found.items() if match}

    def let_go(self):
        (self.project.root / GO).touch()

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
        return self.start(*arguments, **options).wait(BACKSTOP)

    def wait_for(self, what, true, process=None):
        """Wait for something to become true, as long as this Snakemake runs; returns what it became."""
        return until(what, true, process, lambda: self.output)

    def log(self, seeds, run="erm/rho=0"):
        return text_of(self.project.root / f"logs/test/pendulum/{run}/seeds={seeds}.log")

    def trainings(self, *states, first=False):
        """The last job, or the first, of each block that is trained, by seeds; of those states if any are named."""
        jobs = [job for job in self.cluster.jobs() if job.comment.startswith("rule_train") and self.is_ours(job)]
        jobs = [job for job in jobs if not states or job.state in states]
        return {job.comment.rpartition("_")[2]: job for job in (reversed(jobs) if first else jobs)}

    def ended(self):
        """The states of all trainings, once the last has ended."""
        states = {job.state for job in self.trainings().values()}
        return states if not states & UNDER_WAY else None

    def is_ours(self, job: Job):
        """Whether this project's last Snakemake submitted it."""
        return f"SLURM jobid {job.number} " in self.output


def text_of(log):
    """What a log says; nothing where Snakemake has just taken it away, as it does before a job starts anew."""
    try:
        return log.read_text()
    except FileNotFoundError:
        return ""


def heed_interrupts():
    """As in a terminal: what a shell without job control runs in the background ignores them, and so its children."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def copy_with_dataset(root, simulated):
    """A copy of the repository with the dataset of another project."""
    copy_repository(root)
    (root / DATASET).parent.mkdir(parents=True)
    shutil.copy(simulated.root / DATASET, root / DATASET)


def copy_undisturbed(root):
    """A project with config/test.yaml for ALONE with all SEEDS in one job, as a local Snakemake trains them."""
    copy_repository(root)
    project = Project(root)
    changed = project.configure(ALONE | {"seeds": list(SEEDS), "seeds_per_job": len(SEEDS)})
    (root / changed).rename(root / "config/test.yaml")


def seeds_of(blocks):
    return [int(block.split("-")[0]) for block in blocks]


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
