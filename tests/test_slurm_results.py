"""The whole workflow on a real SLURM: what goes through it, what it asks for, and the results of a local run."""

from pathlib import Path

import pytest
import xarray as xr
from helpers.on_cluster import DATASET
from helpers.project import FIGURES, Project, copy_repository

pytestmark = [pytest.mark.slurm, pytest.mark.slow]

SMALL = {"tasks": ["pendulum"], "methods": ["erm", "sam"], "rho.sam": [0.05]}
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
    """An experiment of one task and two methods, run from end to end on the cluster."""
    ours = on_cluster()
    (ours.project.root / DATASET).unlink()
    assert ours.run("all", configuration=ours.project.configure(SMALL)) == 0, ours.output
    return ours


@pytest.fixture(scope="module")
def local(tmp_path_factory):
    """The same experiment by a local run, as far as its cube."""
    project = Project(tmp_path_factory.mktemp("local") / "a project")
    copy_repository(project.root)
    targets = [f"results/test/pendulum/{name}" for name in ("cube.nc", "identifiability.csv")]
    result = project.snakemake("--cores", "2", *targets, configuration=project.configure(SMALL))
    assert result.returncode == 0, result.stdout
    return project


def test_all_jobs_but_those_of_short_rules_go_through_slurm(whole):
    submitted = {job.comment.split("_wildcards")[0] for job in whole.cluster.jobs() if whole.is_ours(job)}
    of_theta = {"rule_diagnose", "rule_ensemble", "rule_identify"}
    assert submitted == {"rule_simulate", "rule_train", "rule_collect", "rule_page"} | of_theta
    assert all(job.state == "COMPLETED" for job in whole.cluster.jobs() if whole.is_ours(job))


def test_a_job_asks_for_what_its_training_needs_and_is_charged_to_the_account(whole):
    said = whole.cluster.describe(whole.trainings()["0-1"])
    assert said["Account"] == "physics"
    assert said["NumCPUs"] == "1"
    assert said["Partition"] == "cpu"
    assert 500 < int(said["MinMemoryNode"].removesuffix("M")) < 2500
    assert said["TimeLimit"] == "00:10:00"
    assert said["Requeue"] == "0"


def test_results_are_those_of_a_local_run_to_the_bit(whole, local):
    files = sorted(path.relative_to(local.results) for path in local.results.rglob("*") if path.is_file())
    assert {path.suffix for path in files} == {".nc", ".safetensors", ".csv"} and len(files) == 7
    for name in files:
        content = numbers if name.suffix == ".nc" else Path.read_bytes
        assert content(whole.project.results / name) == content(local.results / name), name


def test_what_the_login_node_makes_of_them_is_there(whole):
    assert (whole.project.results / "report/index.html").is_file()
    assert (whole.project.results / "table.md").is_file()
    assert len(list((whole.project.results / "pendulum/figures").glob("*.png"))) == len(FIGURES)
