"""Measured data and twins in the workflow: what is refused, and what runs again after a change."""

import json
import shutil

import pytest
import yaml
from helpers.project import assert_refused, executed_by, names, rules

from hybridsam.core import records

pytestmark = pytest.mark.slow

RUNS = ("erm 0", "fsam 0.05")
MISTAKES = {
    "no choice between measurements and twins": ("data", None, ["data: missing", "wind_tunnel", "real", "twin"]),
    "unknown choice": ("data", "synthetic", ["data", "'synthetic'", "'real'", "'twin'"]),
    "unknown archive": ("overrides.wind_tunnel.archive", "wt_walk", ["archive", "'wt_walk'", "wt_walks_v1"]),
    "unknown optional task": (
        "optional_tasks",
        ["light_sensor"],
        ["optional_tasks", "'light_sensor'", "light_sensors"],
    ),
    "unknown key of the model": ("overrides.light_tunnel.model.image_sise", 8, ["model.image_sise", "image_size"]),
    "unknown constant of the model": (
        "overrides.wind_tunnel.model.constants.smax",
        {"value": 70.0},
        ["model.constants.smax", "unit"],
    ),
    "a twin of nothing": (
        "overrides.reaction_diffusion.twin_module",
        "hybridsam.twins.wind_tunnel",
        ["twin_module", "archive"],
    ),
    "no file of archives": ("archives", "nowhere.yaml", ["archives", "nowhere.yaml"]),
}


@pytest.fixture
def project(all_tasks, tmp_path):
    """A copy of the finished project of all tasks, to be changed."""
    return all_tasks.copy(tmp_path / "a project")


def trainings(task):
    return {f"train {task} {run} 0-1" for run in RUNS}


@pytest.mark.parametrize(("key", "value", "words"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_about_data_stops_before_anything_runs(project, key, value, words):
    assert_refused(project, {key: value}, words)


def test_a_twin_in_the_place_of_measurements_is_refused(project):
    twin = project.results / "wind_tunnel/twin/wt_walks_v1"
    shutil.copytree(twin, project.root / "offline/wt_walks_v1")
    assert project.plan("all") == []  # data: twin makes its own
    assert_refused(project, {"data": "real"}, ["offline_dir", "offline/wt_walks_v1", "SYNTHETIC TWIN"])


def test_a_damaged_archive_is_refused_in_one_line(project):
    dataset = project.results / "light_sensors/dataset.nc"
    dataset.unlink()
    shutil.rmtree(project.root / "offline/lt_interventions_standard_v1")
    (project.root / "offline/lt_interventions_standard_v1.zip").write_bytes(b"half of it")
    result = project.snakemake("--cores", "1", "results/test/light_sensors/dataset.nc")
    assert result.returncode != 0
    [line] = (project.root / "logs/test/light_sensors/convert.log").read_text().splitlines()
    assert line.startswith("hybridsam: offline/lt_interventions_standard_v1.zip: wrong length: expected 3909455 bytes")
    assert not dataset.exists()


def test_a_table_of_twins_and_measurements_is_refused(all_tasks, tmp_path):
    selections = [all_tasks.results / task / "selection.csv" for task in ("wind_tunnel", "light_sensors")]
    result = all_tasks.hybridsam("table", *selections, "--output", tmp_path / "table.csv")
    assert result.returncode == 2
    [line] = result.stdout.splitlines()
    assert line.startswith("hybridsam: table: synthetic twins (wind_tunnel) and measured data (light_sensors)")
    assert list(tmp_path.iterdir()) == []


def test_a_changed_constant_of_a_twin_runs_its_task_alone(project):
    jobs = project.plan("all", configuration=project.configure({"overrides.wind_tunnel.twin.S_max": {"value": 70.0}}))
    assert names(jobs, "twin") == {"twin wind_tunnel wt_walks_v1"}
    assert names(jobs, "convert") == {"convert wind_tunnel"}
    assert names(jobs, "train") == trainings("wind_tunnel")


def test_a_changed_twin_module_runs_its_task_alone(project):
    project.append("src/hybridsam/twins/light_tunnel.py", "\n# changed\n")
    jobs = project.plan("all")
    assert names(jobs, "twin") == {"twin light_tunnel lt_camera_v1"}
    assert names(jobs, "train") == trainings("light_tunnel")


def test_changed_reading_of_archives_leaves_simulated_tasks_alone(project):
    project.append("src/hybridsam/data/chambers.py", "\n# changed\n")
    jobs = project.plan("all")
    measured = {"wind_tunnel", "light_tunnel", "light_sensors"}
    assert names(jobs, "convert") == {f"convert {task}" for task in measured}
    assert names(jobs, "simulate") == names(jobs, "twin") == set()
    assert {job.task for job in jobs if job.rule == "train"} == measured


def test_a_changed_attribution_converts_again_and_fetches_nothing(project):
    project.edit("config/archives.yaml", "doi:10.1038", "https://doi.org/10.1038")
    jobs = project.plan("all")
    assert names(jobs, "convert") == {"convert wind_tunnel", "convert light_tunnel", "convert light_sensors"}
    assert not rules(jobs) & {"download", "twin", "simulate"}


def test_measurements_instead_of_twins_run_the_tasks_that_have_twins(project):
    real = project.configure({"data": "real"})
    jobs = project.plan("all", configuration=real)
    assert names(jobs, "download") == {"download wt_walks_v1", "download lt_camera_v1"}
    assert names(jobs, "convert") == {"convert wind_tunnel", "convert light_tunnel"}
    assert {job.task for job in jobs if job.rule == "train"} == {"wind_tunnel", "light_tunnel"}
    assert names(jobs, "make_table") == {"make_table table"}
    for archive in ("wt_walks_v1", "lt_camera_v1"):
        (project.root / f"offline/{archive}.zip").write_bytes(b"not read by a plan")
    assert "download" not in rules(project.plan("all", configuration=real))


def test_every_file_of_code_that_a_job_on_archives_executes_is_among_its_inputs(project, tmp_path):
    jobs = {job.rule: job for job in project.plan("--forceall", "all") if job.task == "light_tunnel"}
    executed = {rule: executed_by(project, jobs[rule], tmp_path) for rule in ("twin", "convert", "diagnose", "collect")}
    undeclared = {rule: files - set(jobs[rule].inputs) for rule, files in executed.items()}
    assert {rule: files for rule, files in undeclared.items() if files} == {}
    assert all(any("light_tunnel" in file for file in files) for files in executed.values())


def test_a_measured_dataset_says_whose_it_is(all_tasks):
    archives = yaml.safe_load((all_tasks.root / "config/archives.yaml").read_text())
    dataset = records.read(all_tasks.results / "light_sensors/dataset.nc", "dataset")
    archive = archives["lt_interventions_standard_v1"]
    assert {name: dataset.attrs[name] for name in ("attribution", "licence")} == {
        name: archive[name] for name in ("attribution", "licence")
    }
    assert dataset.attrs["source"] == f"measured, {archive['url']}"
    assert json.loads(dataset.attrs["constants"])["rows"]["value"] == 20
