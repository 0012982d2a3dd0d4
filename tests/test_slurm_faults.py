"""What a real SLURM does to jobs: each training meets a fault, and all end at the numbers they would have had."""

import time

import pytest
from helpers.on_cluster import CUBE, ITERATIONS, WAIT_SECONDS, assert_same_runs, resumed_at, until

pytestmark = [pytest.mark.slurm, pytest.mark.slow]

FAULTS = {
    "0-0": "cancelled",
    "1-1": "over its time limit",
    "2-2": "over its memory",
    "3-3": "its node crashed",
    "4-4": "its slurmd restarted",
}
HURT = {"0-0": "CANCELLED", "1-1": "TIMEOUT", "2-2": "FAILED", "3-3": "NODE_FAIL"}  # SLURM 22.05 without cgroups


@pytest.fixture(scope="module")
def storm(on_cluster):
    """Trainings that each met the fault that FAULTS names, while the controller was restarted as well.

    Returns what ran it, the first job of each block of seeds, and the step that all checkpoints had reached before.
    """
    ours = on_cluster()
    limit = "250 if wildcards.seeds == '2-2' and attempt == 1 else 1500"
    ours.project.append("slurm/config.yaml", f"\nset-resources:\n  train:\n    mem_mb: {limit}\n")
    configuration = ours.configure(FAULTS)
    process, cluster = ours.start(CUBE, configuration=configuration), ours.cluster
    until(lambda: len(ours.steps()) == 4 and len(ours.trainings("RUNNING")) >= 4, "four checkpoints", process)
    first, reached = ours.trainings(first=True), min(ours.steps())

    cluster.lose_processes(first["3-3"])  # at once: no training waits for the storm
    cluster.ask("scancel", str(first["0-0"].number))
    cluster.ask("scontrol", "update", f"jobid={first['1-1'].number}", "EndTime=now")
    until(
        lambda: {"0-0", "1-1"} <= set(ours.trainings("CANCELLED", "TIMEOUT", first=True)),
        "the end of two jobs",
        process,
    )
    cluster.kill(f"slurmd-{first['3-3'].node}")
    cluster.begin(f"slurmd-{first['3-3'].node}")
    cluster.kill(f"slurmd-{first['4-4'].node}")
    cluster.begin(f"slurmd-{first['4-4'].node}")
    time.sleep(3)
    cluster.stop("slurmctld")
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
