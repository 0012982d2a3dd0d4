"""Jobs on a real SLURM: their scheduler interrupted and killed, the cause of a failure, GPUs and partitions."""

import os
import re
import signal

import pytest
import yaml
from helpers.cluster import child_of
from helpers.held import STEPS
from helpers.on_cluster import ALONE, BACKSTOP, CUBE, DATASET, ITERATIONS, assert_same_runs, resumed_at, seeds_of

pytestmark = [pytest.mark.slurm, pytest.mark.slow]


def test_after_an_interrupt_and_after_a_kill_the_same_command_goes_on(on_cluster, undisturbed):
    ours = on_cluster()
    ours.hold_trainings()
    configuration = ours.project.configure(ALONE | {"seeds": [0, 1]})
    process = ours.start(CUBE, configuration=configuration)
    ours.wait_for("trainings under way", lambda: ours.held() == {"0-0": STEPS, "1-1": STEPS}, process)
    os.kill(child_of(process.pid), signal.SIGINT)
    assert process.wait(BACKSTOP) != 0
    assert ours.wait_for("the end of all jobs", ours.ended) == {"CANCELLED"}

    process = ours.start(CUBE, configuration=configuration)
    ours.wait_for("trainings further on", lambda: ours.held() == {"0-0": 2 * STEPS, "1-1": 2 * STEPS}, process)
    assert [resumed_at(ours.log(seeds)) for seeds in ours.trainings()] == [STEPS, STEPS]
    os.kill(child_of(process.pid), signal.SIGKILL)
    process.wait()
    left = ours.trainings("RUNNING")
    assert len(left) == 2
    # The jobs go on alone, and meet those of the next Snakemake.
    assert ours.run("--unlock", CUBE, configuration=configuration) == 0, ours.output
    process = ours.start(CUBE, configuration=configuration)
    met = "waiting for another process"
    ours.wait_for("the jobs to meet", lambda: all(met in ours.log(seeds) for seeds in left), process)
    ours.let_go()
    assert process.wait(BACKSTOP) == 0, ours.output
    assert [resumed_at(ours.log(seeds)) for seeds in left] == [ITERATIONS, ITERATIONS]
    assert_same_runs(ours.project, undisturbed)


def test_what_an_orphaned_job_finished_is_not_trained_again(on_cluster, undisturbed):
    ours = on_cluster()
    ours.hold_trainings()
    configuration = ours.project.configure(ALONE | {"seeds": [0]})
    process = ours.start(CUBE, configuration=configuration)
    ours.wait_for("a training under way", ours.held, process)
    os.kill(child_of(process.pid), signal.SIGKILL)
    process.wait()
    ours.let_go()
    assert ours.wait_for("the end of the job", ours.ended) == {"COMPLETED"}
    assert ours.run("--unlock", CUBE, configuration=configuration) == 0, ours.output
    assert ours.run(CUBE, configuration=configuration) == 0, ours.output
    assert ours.trainings() == {}
    assert_same_runs(ours.project, undisturbed)


def test_the_cause_of_a_failure_stands_in_the_output(on_cluster):
    ours = on_cluster()
    os.truncate(ours.project.root / DATASET, 1000)
    assert ours.run("--retries", "0", "results/test/pendulum/runs/erm/rho=0/seeds=0-1.nc") == 1
    assert "log: logs/test/pendulum/erm/rho=0/seeds=0-1.log (check log file(s) for error details)" in ours.output
    assert f"hybridsam: {DATASET}: not a readable NetCDF file" in ours.output
    assert "Traceback" not in ours.output


# GPUs and partitions


def test_a_job_with_a_gpu_sees_the_one_that_slurm_gave_it_in_the_partition_that_has_it(on_cluster):
    ours = on_cluster()
    ours.hold_trainings()
    gpu = "int(wildcards.method == 'sam')"
    ours.project.append("slurm/config.yaml", f"\nset-resources:\n  train:\n    gpu: {gpu}\n")
    partitions = {"partitions": {"cpu": {"max_runtime": "1d"}, "gpu": {"max_runtime": "1d", "max_gpu": 2}}}
    (ours.project.root / "slurm/partitions.yaml").write_text(yaml.safe_dump(partitions))
    runs = {"0-0": "sam/rho=0.05", "1-1": "sam/rho=0.05", "2-2": "erm/rho=0"}
    changes = {"seeds": seeds_of(runs), "rho.sam": [0.05], "methods": ["erm", "sam"]}
    targets = [f"results/test/pendulum/runs/{run}/seeds={seeds}.nc" for seeds, run in runs.items()]
    process = ours.start(*targets, configuration=ours.project.configure(ALONE | changes))
    ours.wait_for("trainings under way", lambda: set(ours.held()) == set(runs), process)
    jobs = ours.trainings()
    said = {seeds: ours.cluster.describe(job) for seeds, job in jobs.items()}  # SLURM tells GPUs of running jobs
    ours.let_go()
    assert process.wait(BACKSTOP) == 0, ours.output

    places = set()
    for seeds, run in runs.items():
        given = re.search(r"IDX:(\S+)\)", said[seeds].get("GRES", ""))
        seen = re.search(r"CUDA_VISIBLE_DEVICES=(\S+):", ours.log(seeds, run))
        if run.startswith("sam"):
            assert said[seeds]["Partition"] == "gpu"
            assert seen[1] == given[1]
            places.add((jobs[seeds].node, seen[1]))
        else:
            assert said[seeds]["Partition"] == "cpu"
            assert seen is given is None
    assert len(places) == 2
