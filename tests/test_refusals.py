"""Mistakes in configuration and files: one clear message, and nothing is lost."""

import ctypes
import json
import os
import sys

import pytest
import xarray as xr
import yaml
from helpers.project import TASKS, assert_refused

pytestmark = pytest.mark.slow

MISTAKES = {
    "unknown key": ("colour", "blue", ["colour", "allowed are", "selection_rule"]),
    "unknown method": ("methods", ["erm", "adam"], ["methods", "'adam'", "fsam"]),
    "unknown task": ("tasks", [*TASKS, "pendulun"], ["tasks", "'pendulun'", "pendulum", "duffing"]),
    "negative rho": ("rho.sam", [-0.1], ["rho.sam", "-0.1", "minimum of 0"]),
    "rho in words": ("rho.sam", ["much"], ["rho.sam", "'much'", "number"]),
    "rho that is no number": ("rho.sam", [float("nan")], ["rho.sam", "nan", "zero or larger"]),
    "seed given twice": ("seeds", [0, 0], ["seeds", "[0, 0]", "unique"]),
    "no seeds": ("seeds", [], ["seeds", "[]", "non-empty"]),
    "no iterations": ("overrides.all.training.iterations", 0, ["training.iterations", "0", "minimum of 1"]),
    "method without rho": ("rho.sam", None, ["rho.sam", "missing"]),
    "override of an unknown task": ("overrides.wind", {"training": {}}, ["overrides", "'wind'", *TASKS]),
    "unknown key of the training": ("overrides.all.training.momentum", 0.9, ["training", "momentum", "clip_norm"]),
    "constant without a unit": ("overrides.duffing.data.g", {"value": 9.81, "source": "O"}, ["data.g", "unit"]),
    "unknown module": (
        "overrides.pendulum.module",
        "hybridsam.tasks.pendel",
        ["module", "hybridsam.tasks.pendel"],
    ),
    "module without its package": ("overrides.pendulum.module", "pendulum", ["module", "'pendulum'"]),
    "unknown key of the model": ("overrides.all.model.hiden", [8], ["overrides.all.model.hiden", "hidden"]),
    "sigmoid without an upper bound": (
        "overrides.pendulum.model.theta.omega.transform",
        "sigmoid",
        ["theta.omega", "upper"],
    ),
    "rising learning rate": (
        "overrides.all.training.learning_rate_final",
        1.0,
        ["training.learning_rate_final", "1.0", "learning_rate"],
    ),
}


@pytest.mark.parametrize(("key", "value", "words"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_in_the_configuration_stops_before_anything_runs(project, key, value, words):
    assert_refused(project, {key: value}, words)


@pytest.mark.parametrize("file", ["config/test.yaml", "config/tasks/pendulum.yaml"])
def test_a_key_that_stands_twice_stops_before_anything_runs(project, file):
    project.append(file, "training: {}\ntraining: {}\n")
    result = project.snakemake("-n")
    assert result.returncode != 0
    assert f"{file}: not valid YAML: the key training stands twice, again in line" in result.stdout


RULE = '"""Own."""\n\n\nrule own:\n    output:\n        expand("a", b={})\n    shell:\n        "true"\n'
FAULTS = {  # file, what is written at its end, and what is said of which of these lines
    "default experiment": ("config/config.yaml", "last: [1, 2\nmore: 3\n", 2, "config.yaml: not valid YAML: line {}: "),
    "task": ("config/tasks/pendulum.yaml", "last: {a: 1\nmore: 3\n", 2, "pendulum.yaml: not valid YAML: line {}: "),
    "tab": ("config/tasks/pendulum.yaml", "more:\n\ta: 3\n", 2, "pendulum.yaml: not valid YAML: line {}: found char"),
    "module": ("src/hybridsam/tasks/duffing.py", "more = (1,\n", 1, "duffing.py: line {}: '(' was never closed"),
    "rule": ("workflow/rules/tasks/own.smk", RULE.format("[1"), 6, "own.smk: line {}: ')' closes no bracket"),
    "open rule": ("workflow/rules/tasks/own.smk", RULE.format("[(1]"), 6, "own.smk: line {}: ']' closes no"),
    "rule to the end": ("workflow/rules/tasks/own.smk", RULE.format("(1"), 6, "own.smk: line {}: '(' was never closed"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_bracket_without_its_partner_is_named_with_file_and_line(unused, name):
    file, end, line, expected = FAULTS[name]
    path = unused.root / file
    path.parent.mkdir(exist_ok=True)
    text = path.read_text() if path.exists() else ""
    path.write_text(text + end)
    configuration = "config/test.yaml"
    if name == "default experiment":
        (unused.root / "laid_over_it.yaml").write_text("experiment: other\n")
        configuration = "laid_over_it.yaml"
    result = unused.snakemake("-n", configuration=configuration)
    assert result.returncode != 0
    words = expected.format(len(text.splitlines()) + line)
    assert len([said for said in result.stdout.splitlines() if words in said]) == 1, result.stdout
    assert "Traceback" not in result.stdout


@pytest.mark.parametrize("end", [b"last: {a: 1\nmore: 3\n", b"title: \xb0C\n"], ids=["bracket", "not in UTF-8"])
def test_a_file_of_a_task_that_the_experiment_does_not_name_stops_nothing_and_is_named(fresh, end):
    (fresh.root / "config/tasks/mine.yaml").write_bytes(end)
    result = fresh.snakemake("-n")
    assert result.returncode == 0, result.stdout
    [line] = [said for said in result.stdout.splitlines() if said.startswith("Left out, as no experiment can use it: ")]
    assert "config/tasks/mine.yaml: not valid YAML: " in line
    assert_refused(fresh, {"tasks": ["mine"]}, ["config/tasks/mine.yaml: not valid YAML"])


def test_the_message_of_a_failed_job_stands_on_the_terminal_and_its_status_is_kept(fresh):
    [simulation] = fresh.plan("results/test/pendulum/dataset.nc")
    end = simulation.command.partition("2> ")[2].partition(" ")[2]

    def ended_by(command):
        result = fresh.run("bash", "-c", f"set -euo pipefail; ({command}) 2> log {end.replace(log, 'log')}")
        return result.returncode, result.stdout

    log = "logs/test/pendulum/simulate.log"
    assert end.startswith("|| ")
    assert ended_by("echo fine >&2") == (0, "")
    assert ended_by("echo some >&2; echo 'hybridsam: the cause' >&2; exit 2") == (2, "hybridsam: the cause\n")
    status, said = ended_by("echo some >&2; kill -TERM $BASHPID")
    assert status == 128 + 15 and "some" not in said


def test_a_truncated_dataset_stops_the_training_and_is_named(project):
    dataset = project.results / "pendulum/dataset.nc"
    dataset.write_bytes(dataset.read_bytes()[:1000])
    run = "results/test/pendulum/runs/erm/rho=0/seeds=0-1.nc"
    result = project.snakemake("--cores", "1", run)
    assert result.returncode != 0
    assert "hybridsam: results/test/pendulum/dataset.nc: not a readable NetCDF file" in result.stdout
    log = (project.root / "logs/test/pendulum/erm/rho=0/seeds=0-1.log").read_text()
    assert "hybridsam: results/test/pendulum/dataset.nc: not a readable NetCDF file" in log
    assert "Traceback" not in log


def test_a_run_file_of_another_configuration_is_refused(project):
    run, cube = project.results / "pendulum/runs/erm/rho=0/seeds=0-1.nc", project.results / "pendulum/cube.nc"
    with xr.open_dataset(run) as block:
        settings = json.loads(block.attrs["configuration"])
    other = settings | {"training": settings["training"] | {"iterations": 2}}
    before, given = cube.read_bytes(), project.root / "settings.json"
    given.write_text(json.dumps(other))
    training = project.hybridsam(
        *("train", project.results / "pendulum/dataset.nc", "--settings", given, "--method", "erm", "--rho", "0"),
        *("--seeds", "0-1", "--output", run),
    )
    assert training.returncode == 0, training.stdout

    given.write_text(json.dumps(settings))
    collecting = project.hybridsam(
        *("collect", project.results / "pendulum/runs", "--dataset", project.results / "pendulum/dataset.nc"),
        *("--settings", given, "--output", cube),
    )
    assert collecting.returncode == 2
    assert collecting.stdout.startswith(f"hybridsam: {run}: this run file was made with another configuration")
    assert len(collecting.stdout.splitlines()) == 1
    assert cube.read_bytes() == before


def test_settings_that_make_no_sense_train_nothing(finished, tmp_path):
    theta = {"omega": {"unit": "rad s-1", "start": 0.5, "transform": "sigmoid", "lower": 0.0}}
    with xr.open_dataset(finished.results / "pendulum/runs/erm/rho=0/seeds=0-1.nc") as block:
        settings = json.loads(block.attrs["configuration"])
    settings["model"]["theta"] = theta
    (tmp_path / "settings.json").write_text(json.dumps(settings))
    result = finished.hybridsam(
        *("train", finished.results / "pendulum/dataset.nc", "--settings", tmp_path / "settings.json"),
        *("--method", "erm", "--rho", "0", "--seeds", "0", "--output", tmp_path / "run.nc"),
    )
    assert result.returncode == 2
    [line] = result.stdout.splitlines()
    assert line.startswith("hybridsam: theta.omega.upper: ")
    assert [path.name for path in tmp_path.iterdir()] == ["settings.json"]


def test_a_folder_that_may_not_be_written_is_named_and_left_empty(fresh, tmp_path):
    folder = tmp_path / "read only"
    folder.mkdir(mode=0o555)
    settings = {"module": "hybridsam.tasks.pendulum", "data": small_pendulum_data(fresh)}
    (tmp_path / "settings.json").write_text(json.dumps(settings))
    result = fresh.run(
        *(sys.executable, "-m", "hybridsam", "simulate"),
        *("--settings", tmp_path / "settings.json", "--output", folder / "dataset.nc"),
        preexec_fn=obey_modes,
    )
    assert result.returncode == 1
    [line] = result.stdout.splitlines()
    assert line.startswith("hybridsam: Permission denied: ")
    assert str(folder) in line
    assert list(folder.iterdir()) == []


def small_pendulum_data(project):
    data = yaml.safe_load((project.root / "config/tasks/pendulum.yaml").read_text())["data"]
    return data | {name: {"value": 2} for name in ("train", "validation", "test", "steps")}


def obey_modes():
    """Let permissions hold for root as for everyone else: give up the right to write anywhere (CAP_DAC_OVERRIDE)."""
    drop_from_bounding_set, write_anywhere = 24, 1
    if os.geteuid() == 0:
        ctypes.CDLL(None).prctl(drop_from_bounding_set, write_anywhere, 0, 0, 0)
