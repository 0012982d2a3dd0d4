"""What jobs are told: settings as files, which may be of any length, and the run files that they read."""

import json
import os
import signal
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import xarray as xr
import yaml
from helpers.project import TASKS, TRAINED, Project, assert_refused, copy_repository, names

LONGEST_ARGUMENT = 131072  # bytes, of Linux
COLUMNS = [f"reading_of_channel_{i:04}" for i in range(8000)]
MODULE = """
from hybridsam import MLP, HybridMap, Parameters


def science(theta, u):
    return theta["gain"].unsqueeze(-1) * u["readings"].sum(-1, keepdim=True)


def build(model):
    theta, network = Parameters.from_settings(model["theta"]), MLP((8001, *model["hidden"], 1))
    return HybridMap(science, theta, network, "target", ("readings",), {"readings": 1.0}, True)
"""
TABLE = {
    "file": "wide.csv",
    "inputs": {"readings": dict.fromkeys(COLUMNS, "V")},
    "target": {"flow": "l"},
    "split": {"by": "sample", "train": 4, "validation": 2, "test": 2},
}
TASK = {
    "title": "Many channels",
    "module": "wide.py",
    "table": TABLE,
    "model": {"theta": {"gain": {"unit": "l V-1", "start": 1.0, "source": "O"}}, "hidden": [2]},
    "training": {
        "iterations": 2,
        "learning_rate": 1e-3,
        "learning_rate_final": 1e-5,
        "theta_rate_factor": 10,
        "clip_norm": 10,
        "perturb": "network",
        "record_every": 1,
        "diverged_after": 3,
        "dtype": "float64",
    },
}
DATASET = "results/test/wide/dataset.nc"


@pytest.fixture(scope="module")
def with_table(tmp_path_factory):
    """A project with a task on a table of 8,000 columns, whose dataset is there; its experiment is of another task."""
    project = Project(tmp_path_factory.mktemp("wide") / "a project")
    copy_repository(project.root)
    (project.root / "wide.py").write_text(MODULE)
    readings = np.arange(8 * len(COLUMNS), dtype=float).reshape(8, -1)
    pd.DataFrame(readings, columns=COLUMNS).assign(flow=range(8)).to_csv(project.root / "wide.csv", index=False)
    (project.root / "config/tasks/wide.yaml").write_text(yaml.safe_dump(TASK))
    (project.root / project.configure({"tasks": ["pendulum"], "overrides": None})).replace(
        project.root / "config/test.yaml"
    )
    result = project.snakemake("--cores", "1", "-p", DATASET)
    assert result.returncode == 0, result.stdout
    assert max(map(len, result.stdout.splitlines())) < 2000
    assert project.plan(DATASET) == []
    return project


@pytest.fixture
def wide(with_table, tmp_path):
    return with_table.copy(tmp_path / "a copy")


def settings_files(project):
    return {path.name: path.stat().st_mtime_ns for path in (project.root / ".snakemake/settings").iterdir()}


def settings_of(job):
    """The name of the file in which a job finds its settings."""
    return job.command.split("--settings ")[1].split()[0].rpartition("/")[2]


@pytest.mark.slow
def test_a_table_of_thousands_of_columns_is_read(wide):
    assert len(json.dumps(TABLE)) > LONGEST_ARGUMENT
    with xr.open_dataset(wide.root / DATASET) as dataset:
        assert dataset["readings_column"].values.tolist() == COLUMNS
        np.testing.assert_array_equal(dataset["readings"][:, -1], len(COLUMNS) * np.arange(1, 9) - 1)
    [job] = wide.plan(DATASET, "--forcerun", "tabulate")
    assert job.rule == "tabulate" and len(job.command) < 500
    assert json.loads((wide.root / ".snakemake/settings" / settings_of(job)).read_text())["table"] == TABLE


@pytest.mark.slow
def test_the_training_on_thousands_of_columns_is_planned_and_estimated(wide):
    changes = {"tasks": ["wide"], "methods": ["erm"], "rho": {}, "overrides": None}
    result = wide.snakemake("-n", "-p", "table", configuration=wide.configure(changes))
    assert result.returncode == 0, result.stdout
    assert "Training: 2 runs in 1 jobs, about " in result.stdout and "rule train:" in result.stdout
    assert max(map(len, result.stdout.splitlines())) < 2000


@pytest.mark.slow
def test_an_unchanged_configuration_has_the_same_files_and_runs_nothing(wide):
    before = settings_files(wide)
    text = (wide.root / "config/tasks/wide.yaml").read_text()
    assert before and wide.plan(DATASET) == []
    task = yaml.safe_load(text)
    notes = task["model"]["theta"]["gain"] | {"source": "S", "note": "in other words"}
    task["model"]["theta"]["gain"] = notes
    (wide.root / "config/tasks/wide.yaml").write_text("# a comment\n" + yaml.safe_dump(task))
    assert wide.plan(DATASET) == []
    after = settings_files(wide)
    assert {name: after[name] for name in before} == before


@pytest.mark.slow
@pytest.mark.parametrize(
    "change",
    [
        lambda table: table["split"].update(seed=1),
        lambda table: table["inputs"]["readings"].update({COLUMNS[4000]: "mV"}),
        lambda table: table["inputs"].update(readings=dict(reversed(table["inputs"]["readings"].items()))),
    ],
    ids=["the seed", "one unit", "the order of columns"],
)
def test_a_changed_configuration_has_another_file_and_reads_the_table_again(wide, change):
    before = settings_files(wide)
    task = yaml.safe_load((wide.root / "config/tasks/wide.yaml").read_text())
    change(task["table"])
    (wide.root / "config/tasks/wide.yaml").write_text(yaml.safe_dump(task, sort_keys=False))
    [after] = wide.plan(DATASET)
    assert after.rule == "tabulate" and settings_of(after) not in before
    told = json.loads((wide.root / ".snakemake/settings" / settings_of(after)).read_text())["table"]
    assert json.dumps(told) == json.dumps(task["table"])


@pytest.mark.slow
def test_the_order_of_theta_trains_again(project):
    """It is that of the parameters in every result."""
    file = project.root / "config/tasks/duffing.yaml"
    task = yaml.safe_load(file.read_text())
    theta = task["model"]["theta"]
    assert len(theta) > 1
    file.write_text(yaml.safe_dump(task | {"model": task["model"] | {"theta": theta}}, sort_keys=False))
    assert project.plan("all") == []  # written in another way
    reversed_theta = dict(reversed(theta.items()))
    file.write_text(yaml.safe_dump(task | {"model": task["model"] | {"theta": reversed_theta}}, sort_keys=False))
    jobs = project.plan("all")
    assert names(jobs, "train") == {f"train duffing {run} 0-1" for run in TRAINED}
    assert names(jobs, "simulate") == set()


KILLED = """
import os, signal, sys
from pathlib import Path
from hybridsam.core.files import write_whole

def write(part):
    with open(part, "w") as file:
        file.write('{"module": "half of it')
        file.flush()
        os.kill(os.getpid(), signal.SIGKILL)

write_whole(Path(sys.argv[1]), write)
"""


@pytest.mark.parametrize("earlier", [None, '{"module": "m"}\n'], ids=["no file", "an earlier file"])
def test_a_writer_that_is_killed_leaves_no_half_file(tmp_path, earlier):
    path = tmp_path / "settings/a.json"
    path.parent.mkdir()
    if earlier:
        path.write_text(earlier)
    killed = subprocess.run([sys.executable, "-c", KILLED, str(path)], env=os.environ, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert [file.read_text() for file in path.parent.glob("*.json")] == ([earlier] if earlier else [])
    assert len(list(path.parent.glob(".*.part"))) == 1  # the half, which nothing reads


# Run files


@pytest.mark.slow
def test_jobs_that_read_run_files_have_them_among_their_inputs(fresh):
    """Also through the cube, which leads to them."""
    jobs = {str(job): job for job in fresh.plan("all", "models")}
    for task in TASKS:
        runs = {f"results/test/{task}/runs/{run.replace(' ', '/rho=')}/seeds=0-1.nc" for run in TRAINED}
        assert runs <= set(jobs[f"collect {task}"].inputs)
        for name in ("predictions", "residuals"):
            assert runs <= set(jobs[f"figure {task} {name}"].inputs)
        for name in ("theta_training", "errors_rho", "tradeoff", "losses", "landscape"):
            inputs = jobs[f"figure {task} {name}"].inputs
            assert not [path for path in inputs if "/runs/" in path]
            assert (f"results/test/{task}/identification.nc" in inputs) == (name == "landscape")
        for method in {run.split()[0] for run in TRAINED}:
            own = {path for path in runs if f"/runs/{method}/" in path}
            weights = {path.replace(".nc", ".safetensors") for path in own}
            found = {path for path in jobs[f"export_model {task} {method}"].inputs if "/runs/" in path}
            assert own and found == own | weights


# What experiments said before


@pytest.mark.slow
@pytest.mark.parametrize("with_rho", [True, False], ids=["beside rho", "in its place"])
def test_an_experiment_that_still_says_strengths_is_told_to_say_rho(fresh, with_rho):
    changes = {"strengths": {"sam": [0.05]}} | ({} if with_rho else {"rho": None})
    assert_refused(fresh, changes, ["experiment configuration: strengths", "rho"])
