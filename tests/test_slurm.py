"""The real workflow on a real SLURM, as set up by tests/cluster.py: results, and what clusters do to jobs."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
import xarray as xr
import yaml
from cluster import Cluster, Job, child_of, lacks
from project import Project, copy_repository
from safetensors import safe_open

pytestmark = [pytest.mark.slurm, pytest.mark.slow, pytest.mark.xdist_group("slurm")]

ITERATIONS = 30000
LONG = {  # one task, one method and a training for each seed, long enough to be disturbed
    "tasks": ["pendulum"],
    "methods": ["erm"],
    "seeds_per_job": 1,
    "overrides.all.training": {"iterations": ITERATIONS, "record_every": 1000},
}
CUBE = "results/test/pendulum/cube.nc"
FAULTS = {
    "0-0": "cancelled",
    "1-1": "over its time limit",
    "2-2": "over its memory",
    "3-3": "its node crashed",
    "4-4": "its slurmd restarted",
}
HURT = {"0-0": "CANCELLED", "1-1": "TIMEOUT", "2-2": "FAILED", "3-3": "NODE_FAIL"}  # SLURM 22.05 without cgroups
TIMES = {"history", "seconds", "peak_memory_megabytes"}  # attributes that hold times or sizes of processes
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
            return subprocess.Popen(command, env=environment, stdout=output, stderr=subprocess.STDOUT)

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


@pytest.fixture(scope="module")
def cluster():
    if missing := lacks():
        pytest.skip(f"NO SLURM HERE, for want of {', '.join(missing)}")
    with Cluster() as cluster:
        yield cluster


@pytest.fixture(scope="module")
def on_cluster(cluster, tmp_path_factory):
    """New projects on the cluster."""

    def make():
        root = tmp_path_factory.mktemp("on cluster") / "a project"
        copy_repository(root)
        return OnCluster(Project(root), cluster)

    return make


def resumed_at(log):
    found = re.search(r"resuming at step (\d+)", log)
    return int(found[1]) if found else 0


def numbers(path):
    """All that a NetCDF file holds, to the bit, but for times."""
    with xr.open_dataset(path) as file:
        attributes = {name: value for name, value in file.attrs.items() if name not in TIMES}
        return attributes | {
            name: (variable.dims, variable.values.tolist() if variable.dtype.kind == "O" else variable.values.tobytes())
            for name, variable in file.variables.items()
            if name != "seconds"
        }


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """The cube of the long trainings, all seeds of which one local job trained."""
    project = Project(tmp_path_factory.mktemp("local") / "project")
    copy_repository(project.root)
    configuration = project.configure(LONG | {"seeds": seeds_of(FAULTS), "seeds_per_job": len(FAULTS)})
    result = project.snakemake("--cores", "1", CUBE, configuration=configuration)
    assert result.returncode == 0, result.stdout
    return project


def assert_same_runs(project, undisturbed):
    """Each run is there, and is to the bit what it would have been."""
    with xr.open_dataset(project.root / CUBE) as one, xr.open_dataset(undisturbed.root / CUBE) as other:
        other = other.sel(seed=one["seed"])
        for name in ("theta", "theta_history", "y_error", "train_loss", "grad_norm_phi", "skipped_updates"):
            assert one[name].values.tobytes() == other[name].values.tobytes(), name
        assert set(one["status"].values.ravel()) == {"completed"}


# The whole workflow


@pytest.fixture(scope="module")
def whole(on_cluster):
    """The experiment config/test.yaml, run from end to end on the cluster."""
    ours = on_cluster()
    assert ours.run("all") == 0, ours.output
    return ours


def test_all_jobs_but_those_of_short_rules_go_through_slurm(whole):
    submitted = {job.comment.split("_wildcards")[0] for job in whole.cluster.jobs() if whole.is_ours(job)}
    assert submitted == {"rule_simulate", "rule_diagnose", "rule_train", "rule_collect", "rule_page"}
    assert all(job.state == "COMPLETED" for job in whole.cluster.jobs() if whole.is_ours(job))


def test_a_job_asks_for_what_its_training_needs_and_is_charged_to_the_account(whole):
    said = whole.cluster.describe(whole.trainings()["0-1"])
    assert said["Account"] == "physics"
    assert said["NumCPUs"] == "1"
    assert said["Partition"] == "cpu"
    assert 500 < int(said["MinMemoryNode"].removesuffix("M")) < 2500
    assert said["TimeLimit"] == "00:10:00"
    assert said["Requeue"] == "0"


def test_results_are_those_of_a_local_run_to_the_bit(whole, finished):
    def files(project):
        kinds = {".nc", ".csv", ".safetensors", ".md", ".png"}
        return {path.relative_to(project.results): path for path in project.results.rglob("*") if path.suffix in kinds}

    here, local = files(whole.project), files(finished)
    assert set(here) == set(local)
    assert any(path.suffix == ".safetensors" for path in here.values())
    for name, path in here.items():
        content = numbers if path.suffix == ".nc" else Path.read_bytes
        assert content(path) == content(local[name]), name
    assert (whole.project.results / "report/index.html").exists()


# What clusters do to jobs


@pytest.fixture(scope="module")
def storm(on_cluster):
    """Trainings that each met the fault that FAULTS names, while the controller was killed and restarted as well.

    Returns what ran it, the first job of each block of seeds, and the step that all checkpoints had reached before.
    """
    ours = on_cluster()
    limit = "250 if wildcards.seeds == '2-2' and attempt == 1 else 1500"
    ours.project.append("slurm/config.yaml", f"\nset-resources:\n  train:\n    mem_mb: {limit}\n")
    configuration = ours.configure(FAULTS)
    process, cluster = ours.start(CUBE, configuration=configuration), ours.cluster
    until(lambda: len(ours.steps()) == 4 and len(ours.trainings("RUNNING")) >= 4, "four checkpoints", process)
    first, reached = ours.trainings(first=True), min(ours.steps())

    cluster.ask("scancel", str(first["0-0"].number))
    cluster.ask("scontrol", "update", f"jobid={first['1-1'].number}", "EndTime=now")
    until(
        lambda: {"0-0", "1-1"} <= set(ours.trainings("CANCELLED", "TIMEOUT", first=True)),
        "the end of two jobs",
        process,
    )
    cluster.kill(f"slurmd-{first['3-3'].node}")
    cluster.lose_processes(first["3-3"])
    cluster.begin(f"slurmd-{first['3-3'].node}")
    cluster.kill(f"slurmd-{first['4-4'].node}")
    cluster.begin(f"slurmd-{first['4-4'].node}")
    time.sleep(3)
    cluster.kill("slurmctld")
    time.sleep(15)  # longer than SLURM's own commands wait for it
    cluster.begin("slurmctld")
    assert process.wait(WAIT_SECONDS) == 0, ours.output
    return ours, first, reached


@pytest.mark.parametrize("seeds", HURT)
def test_a_job_that_was_ended_by_the_cluster_is_done_again(storm, seeds):
    ours, first, _ = storm
    states = {job.number: job.state for job in ours.cluster.jobs()}
    assert states[first[seeds].number] == HURT[seeds], FAULTS[seeds]
    assert states[ours.trainings()[seeds].number] == "COMPLETED"
    assert ours.trainings()[seeds] != first[seeds]


@pytest.mark.parametrize("seeds", ["0-0", "1-1", "3-3"])
def test_the_next_job_goes_on_from_the_checkpoint(storm, seeds):
    ours, _, reached = storm
    assert 0 < reached <= resumed_at(ours.log(seeds)) < ITERATIONS, FAULTS[seeds]


def test_the_next_job_asks_for_more_time(storm):
    ours, first, _ = storm
    before, after = (ours.cluster.describe(job)["TimeLimit"] for job in (first["0-0"], ours.trainings()["0-0"]))
    assert before < after


def test_a_job_survives_the_restart_of_slurmd_and_of_the_controller(storm):
    ours, first, _ = storm
    assert ours.trainings()["4-4"].number == first["4-4"].number
    assert resumed_at(ours.log("4-4")) == 0


def test_no_run_is_lost_and_no_number_differs_after_the_storm(storm, undisturbed):
    assert_same_runs(storm[0].project, undisturbed)


def test_after_an_interrupt_and_after_a_kill_the_same_command_goes_on(on_cluster, undisturbed):
    ours = on_cluster()
    configuration = ours.configure(["0-0", "1-1"])
    process = ours.start(CUBE, configuration=configuration)
    until(lambda: len(ours.steps()) == 2, "two checkpoints", process)
    os.kill(child_of(process.pid), signal.SIGINT)
    assert process.wait(WAIT_SECONDS) != 0
    until(lambda: {job.state for job in ours.trainings().values()} == {"CANCELLED"}, "the end of all jobs")
    reached = min(ours.steps())

    process = ours.start(CUBE, configuration=configuration)
    until(lambda: min(ours.steps()) > reached, "new checkpoints", process)
    assert [seeds for seeds in ours.trainings() if resumed_at(ours.log(seeds)) < reached] == []
    os.kill(child_of(process.pid), signal.SIGKILL)
    process.wait()
    left = ours.trainings("RUNNING")
    assert left
    # The jobs go on alone, and meet those of the next Snakemake.
    assert ours.run("--unlock", CUBE, configuration=configuration) == 0, ours.output
    assert ours.run(CUBE, configuration=configuration) == 0, ours.output
    for seeds in left:
        assert "waiting for another process" in ours.log(seeds)
        assert resumed_at(ours.log(seeds)) == ITERATIONS
    assert_same_runs(ours.project, undisturbed)


def test_what_an_orphaned_job_finished_is_not_trained_again(on_cluster, undisturbed):
    ours = on_cluster()
    configuration = ours.configure(["0-0"])
    process = ours.start(CUBE, configuration=configuration)
    until(ours.steps, "a checkpoint", process)
    os.kill(child_of(process.pid), signal.SIGKILL)
    process.wait()
    until(lambda: ours.trainings("COMPLETED"), "the end of the job")
    assert ours.run("--unlock", CUBE, configuration=configuration) == 0, ours.output
    assert ours.run(CUBE, configuration=configuration) == 0, ours.output
    assert ours.trainings() == {}
    assert_same_runs(ours.project, undisturbed)


def test_the_cause_of_a_failure_stands_in_the_output(on_cluster):
    ours = on_cluster()
    dataset, run = "results/test/pendulum/dataset.nc", "results/test/pendulum/runs/erm/rho=0/seeds=0-1.nc"
    assert ours.project.snakemake("--cores", "1", dataset).returncode == 0
    os.truncate(ours.project.root / dataset, 1000)
    assert ours.run("--retries", "0", run) == 1
    assert "log: logs/test/pendulum/erm/rho=0/seeds=0-1.log (check log file(s) for error details)" in ours.output
    assert f"hybridsam: {dataset}: not a readable NetCDF file" in ours.output
    assert "Traceback" not in ours.output


# GPUs and partitions


def test_a_job_with_a_gpu_sees_the_one_that_slurm_gave_it_in_the_partition_that_has_it(on_cluster):
    ours = on_cluster()
    gpu = "int(wildcards.method == 'sam')"
    ours.project.append("slurm/config.yaml", f"\nset-resources:\n  train:\n    gpu: {gpu}\n")
    partitions = {"partitions": {"cpu": {"max_runtime": "1d"}, "gpu": {"max_runtime": "1d", "max_gpu": 2}}}
    (ours.project.root / "slurm/partitions.yaml").write_text(yaml.safe_dump(partitions))
    configuration = ours.project.configure({"seeds_per_job": 1, "strengths.sam": [0.05], "methods": ["erm", "sam"]})
    runs = [
        f"results/test/pendulum/runs/{run}/seeds={i}-{i}.nc" for run in ("erm/rho=0", "sam/rho=0.05") for i in (0, 1)
    ]
    process, given = ours.start(*runs, configuration=configuration), {}
    while process.poll() is None:  # SLURM tells which GPUs a job has as long as it runs
        for job in ours.cluster.jobs():
            gpus = ours.cluster.describe(job).get("GRES", "") if job.state == "RUNNING" else ""
            if found := re.search(r"IDX:(\S+)\)", gpus):
                given[job.number] = found[1]
        time.sleep(0.5)
    assert process.returncode == 0, ours.output

    trainings = [job for job in ours.cluster.jobs() if ours.is_ours(job) and job.comment.startswith("rule_train")]
    assert len(trainings) == 4
    places = set()
    for job in trainings:
        on_gpu, seeds = "_sam_" in job.comment, job.comment.rpartition("_")[2]
        assert ours.cluster.describe(job)["Partition"] == ("gpu" if on_gpu else "cpu")
        seen = re.search(r"CUDA_VISIBLE_DEVICES=(\S+):", ours.log(seeds, "sam/rho=0.05" if on_gpu else "erm/rho=0"))
        assert (seen and seen[1]) == given.get(job.number)
        places |= {(job.node, seen[1])} if on_gpu else set()
    assert len(places) == 2
