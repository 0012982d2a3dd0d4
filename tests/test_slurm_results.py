"""The whole workflow on a real SLURM: what goes through it, what it asks for, and the results of a local run."""

from pathlib import Path

import pytest
import xarray as xr

pytestmark = [pytest.mark.slurm, pytest.mark.slow]

PERIODS = {"started", "ended", "runs_started", "runs_ended"}
TIMES = {"history", "seconds", "peak_memory_megabytes", *PERIODS}  # attributes that hold times or sizes of processes


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
