"""How many runs a task has: seeds by task, and what an experiment without them for some task is told."""

import pytest
from helpers.project import TRAINED, assert_refused, names, trainings

pytestmark = pytest.mark.slow

MISTAKES = {
    "seeds of an unknown task": ({"seeds": {"all": [0], "pendulun": [1]}}, ["seeds", "'pendulun'", "pendulum"]),
    "a task without seeds": ({"seeds": {"pendulum": [0, 1]}}, ["seeds: none for duffing", "under all"]),
    "seeds of no task": ({"seeds": {}}, ["seeds: none for pendulum"]),
    "no list of seeds": ({"seeds": {"all": 3}}, ["seeds.all", "3", "list of seeds"]),
    "a seed of a task given twice": ({"seeds": {"all": [0], "duffing": [4, 4]}}, ["seeds.duffing", "[4, 4]"]),
}


@pytest.mark.parametrize(("changes", "words"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_in_seeds_stops_before_anything_runs(fresh, changes, words):
    assert_refused(fresh, changes, words)


def test_seeds_may_differ_by_task(fresh):
    seeds = fresh.configure({"seeds": {"all": [1, 0], "duffing": [0, 1, 2, 7]}})
    result = fresh.snakemake("-n", "table", configuration=seeds)
    assert f"Training: {len(TRAINED) * 6} runs in {len(TRAINED) * 4} jobs, " in result.stdout
    jobs = fresh.plan("table", configuration=seeds)
    expected = trainings("pendulum") | trainings("duffing", blocks=["0-1", "2-2", "7-7"])
    assert names(jobs, "train") == expected
    collects = {job.task: job.command for job in jobs if job.rule == "collect"}
    assert "--seeds 0-1 --seeds-per-job 2 " in collects["pendulum"]
    assert "--seeds 0-2 7-7 --seeds-per-job 2 " in collects["duffing"]


def test_all_is_not_needed_where_every_task_that_runs_is_named(fresh):
    seeds = fresh.configure({"seeds": {"pendulum": [3]}, "tasks": ["pendulum"]})
    assert names(fresh.plan("table", configuration=seeds), "train") == trainings("pendulum", blocks=["3-3"])
