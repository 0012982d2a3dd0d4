"""Jobs on a real SLURM: their scheduler interrupted and killed, the cause of a failure, GPUs and partitions."""

import os
import re
import signal
import time

import pytest
import yaml
from helpers.cluster import child_of
from helpers.on_cluster import CUBE, ITERATIONS, WAIT_SECONDS, assert_same_runs, resumed_at, until

pytestmark = [pytest.mark.slurm, pytest.mark.slow]


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
