"""What a real SLURM does to jobs: each training meets a fault, and all end at the numbers they would have had."""

import pytest
from helpers.held import STEPS
from helpers.on_cluster import ALONE, BACKSTOP, CUBE, assert_same_runs, resumed_at, seeds_of

pytestmark = [pytest.mark.slurm, pytest.mark.slow]

FAULTS = {
    "0-0": "cancelled",
    "1-1": "over its time limit",
    "2-2": "over its memory",
    "3-3": "its node crashed",
    "4-4": "its slurmd restarted",
}
HURT = {"0-0": "CANCELLED", "1-1": "TIMEOUT", "2-2": "FAILED", "3-3": "NODE_FAIL"}  # SLURM 22.05 without cgroups
MISSED_FROM = 20  # s: BatchStartTimeout and MessageTimeout of SLURM


@pytest.fixture(scope="module")
def storm(on_cluster):
    """Trainings that each met the fault that FAULTS names, while the controller was restarted as well.

    Returns what ran it, and the first job of each block of seeds.
    """
    ours = on_cluster()
    ours.hold_trainings()
    limit = "250 if wildcards.seeds == '2-2' and attempt == 1 else 1500"
    ours.project.append("slurm/config.yaml", f"\nset-resources:\n  train:\n    mem_mb: {limit}\n")
    configuration = ours.project.configure(ALONE | {"seeds": seeds_of(FAULTS)})
    process, cluster = ours.start(CUBE, configuration=configuration), ours.cluster
    ours.wait_for("trainings under way", lambda: set(FAULTS) - {"2-2"} <= set(ours.held()), process)
    first = ours.trainings(first=True)

    def are_in(*states):
        return lambda: {seeds for seeds in HURT if HURT[seeds] in states} <= set(ours.trainings(*states, first=True))

    # A node that comes back is not asked for jobs of which it may not have heard yet, and then not for minutes.
    ours.wait_for("an age at which a job can be missed", lambda: cluster.age(first["3-3"]) > MISSED_FROM, process)
    cluster.lose_processes(first["3-3"])
    cluster.ask("scancel", str(first["0-0"].number))
    end_now = (
        "scontrol",
        "update",
        f"jobid={first['1-1'].number}",
        "EndTime=now",
    )  # refused in the first moments of a job
    ours.wait_for("the end of the time limit", lambda: cluster.run(*end_now).returncode == 0, process)
    ours.wait_for("the end of three jobs", are_in("CANCELLED", "TIMEOUT", "FAILED"), process)
    for seeds in ("3-3", "4-4"):
        cluster.kill(f"slurmd-{first[seeds].node}")
        cluster.begin(f"slurmd-{first[seeds].node}")
    ours.wait_for("what became of the crashed node", are_in("NODE_FAIL"), process)
    ours.wait_for("new jobs", lambda: all(ours.trainings()[seeds] != first[seeds] for seeds in HURT), process)
    cluster.stop("slurmctld")  # no job is to be submitted now: sbatch would fail (docs/cluster.md)
    cluster.wait_for_commands_to_fail()
    cluster.begin("slurmctld")
    ours.let_go()
    assert process.wait(BACKSTOP) == 0, ours.output
    return ours, first


@pytest.mark.parametrize("seeds", HURT)
def test_a_job_that_was_ended_by_the_cluster_is_done_again(storm, seeds):
    ours, first = storm
    states = {job.number: job.state for job in ours.cluster.jobs()}
    assert states[first[seeds].number] == HURT[seeds], FAULTS[seeds]
    assert states[ours.trainings()[seeds].number] == "COMPLETED"
    assert ours.trainings()[seeds] != first[seeds]


@pytest.mark.parametrize("seeds", ["0-0", "1-1", "3-3"])
def test_the_next_job_goes_on_from_the_checkpoint(storm, seeds):
    assert resumed_at(storm[0].log(seeds)) == STEPS, FAULTS[seeds]


def test_the_next_job_asks_for_more_time(storm):
    ours, first = storm
    before, after = (ours.cluster.describe(job)["TimeLimit"] for job in (first["0-0"], ours.trainings()["0-0"]))
    assert before < after


def test_a_job_survives_the_restart_of_slurmd_and_of_the_controller(storm):
    ours, first = storm
    assert ours.trainings()["4-4"].number == first["4-4"].number
    assert resumed_at(ours.log("4-4")) == 0


def test_no_run_is_lost_and_no_number_differs_after_the_storm(storm, undisturbed):
    assert_same_runs(storm[0].project, undisturbed)
