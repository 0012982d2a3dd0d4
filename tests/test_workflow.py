"""The workflow under the real Snakemake: what it makes, what a change makes it do again, and what it refuses.

One experiment is run from end to end; every test that changes something works in its own copy of that project.
"""

import ctypes
import fcntl
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pandas as pd
import pytest
import xarray as xr
import yaml

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[1]
PARTS = ("Snakefile", "workflow", "config", "src", "envs", "notebooks", "slurm", "pyproject.toml")
TASKS = ("pendulum", "duffing")
TRAINED = ("erm 0", "l2reg 1e-4", "freg 0.1", "sam 0.05", "sam 0.1", "asam 0.1", "fsam 0.05")  # by config/test.yaml
FIGURES = {"predictions", "theta_training", "errors_rho", "losses"}
RECORD_WHAT_IS_EXECUTED = """
import os, sys

def hook(event, arguments):
    file = getattr(arguments[0], "co_filename", "") if event == "exec" else ""
    if os.path.join("src", "hybridsam", "") in file and "site-packages" not in file:
        with open(os.environ["EXECUTED"], "a") as record:
            record.write(file + "\\n")

sys.addaudithook(hook)
"""


@dataclass(frozen=True)
class Job:
    """A job that Snakemake plans: rule, wildcards without the experiment, inputs and shell command."""

    rule: str
    wildcards: dict
    inputs: list
    command: str

    def __str__(self):
        return " ".join([self.rule, *self.wildcards.values()])

    @property
    def task(self):
        return self.wildcards.get("task")

    @classmethod
    def parse(cls, text):
        """From what ``snakemake -n -p`` prints about a job."""

        def entry(name):
            found = re.search(rf"(?m)^ *{name}: (.*)$", text)
            return found[1] if found else ""

        wildcards = dict(pair.split("=", 1) for pair in entry("wildcards").split(", ") if pair)
        wildcards.pop("experiment", None)
        return cls(text.split(":")[0], wildcards, entry("input").split(", "), entry("Shell command"))


@dataclass(frozen=True)
class Project:
    """A copy of the repository in which Snakemake runs."""

    root: Path

    @property
    def results(self):
        return self.root / "results/test"

    @cached_property
    def environment(self):
        """As without activation of the environment that Snakemake is installed in."""
        ours = str(Path(sys.executable).parent)
        path = os.pathsep.join(folder for folder in os.environ["PATH"].split(os.pathsep) if folder != ours)
        return os.environ | {"PYTHONPATH": str(self.root / "src"), "PATH": path}

    def run(self, *command, **options):
        """Run a command in the project; stdout holds what it wrote to stderr as well."""
        options = {"env": self.environment, "cwd": self.root, "text": True} | options
        return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False, **options)

    def snakemake(self, *arguments, configuration="config/test.yaml"):
        return self.run(sys.executable, "-m", "snakemake", *arguments, "--configfile", configuration)

    def hybridsam(self, *arguments, **options):
        return self.run(sys.executable, "-m", "hybridsam", *map(str, arguments), **options)

    def plan(self, *arguments, **options):
        """The jobs that Snakemake would run, but for the targets that only name files."""
        result = self.snakemake("-n", "-p", *arguments, **options)
        assert result.returncode == 0, result.stdout
        jobs = [Job.parse(text) for text in re.split(r"(?m)^(?:local)?rule (?=\w+:$)", result.stdout)[1:]]
        return [job for job in jobs if job.command not in ("", "None")]

    def configure(self, changes):
        """Write config/test.yaml with changes, dotted key -> value (None removes the key), to a new file; its name."""
        experiment = yaml.safe_load((self.root / "config/test.yaml").read_text())
        for key, value in changes.items():
            *parents, last = key.split(".")
            mapping = experiment
            for name in parents:
                mapping = mapping.setdefault(name, {})
            mapping[last] = value
            if value is None:
                del mapping[last]
        (self.root / "changed.yaml").write_text(yaml.safe_dump(experiment))
        return "changed.yaml"

    def edit(self, file, old, new):
        path = self.root / file
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new, 1))

    def append(self, file, text):
        path = self.root / file
        path.write_text(path.read_text() + text)

    def listing(self):
        files = [path for path in (self.root / "results").rglob("*") if path.is_file()]
        return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}

    def copy(self, root):
        return Project(Path(shutil.copytree(self.root, root, symlinks=True)))


@pytest.fixture(scope="session")
def finished(tmp_path_factory):
    """The project of config/test.yaml, run from end to end once for all processes of pytest; to be left as it is."""
    base = tmp_path_factory.getbasetemp()
    base = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    project, log = Project(base / "a finished project"), base / "a finished project.log"
    with open(base / "a finished project.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not log.exists():
            copy_repository(project.root)
            result = project.snakemake("--cores", "2", "all")
            log.write_text(f"{result.stdout}\nexit code {result.returncode}")
    assert log.read_text().endswith("exit code 0"), log.read_text()[-5000:]
    return project


def copy_repository(root):
    root.mkdir()
    for part in PARTS:
        source, ignore = ROOT / part, shutil.ignore_patterns("__pycache__", "*.egg-info", ".ipynb_checkpoints")
        if source.is_dir() and not source.is_symlink():
            shutil.copytree(source, root / part, symlinks=True, ignore=ignore)
        else:
            shutil.copy2(source, root / part, follow_symlinks=False)


@pytest.fixture
def project(finished, tmp_path):
    """A copy of the finished project, to be changed."""
    return finished.copy(tmp_path / "a project")


@pytest.fixture
def fresh(tmp_path):
    """A copy of the repository in which nothing has run."""
    project = Project(tmp_path / "a fresh project")
    copy_repository(project.root)
    return project


def names(jobs, rule):
    return {str(job) for job in jobs if job.rule == rule}


def rules(jobs):
    return {job.rule for job in jobs}


def trainings(*tasks, runs=TRAINED, blocks=("0-1",)):
    return {f"train {task} {run} {block}" for task in tasks for run in runs for block in blocks}


# From end to end


def test_an_experiment_gives_its_tables_figures_and_report(finished):
    expected = {"table.csv", "table.md", "table.html", "report/index.html", "report/index.ipynb"}
    for task in TASKS:
        expected |= {f"{task}/{name}" for name in ("dataset.nc", "cube.nc", "selection.csv", "identifiability.csv")}
        expected |= {f"report/{task}.{suffix}" for suffix in ("html", "ipynb")}
        expected |= {f"{task}/figures/{name}.{suffix}" for name in FIGURES for suffix in ("pdf", "svg", "png", "csv")}
        for run in TRAINED:
            method, rho = run.split()
            expected |= {f"{task}/runs/{method}/rho={rho}/seeds=0-1.{suffix}" for suffix in ("nc", "safetensors")}
    files = {str(path.relative_to(finished.results)): path for path in finished.results.rglob("*") if path.is_file()}
    assert expected - set(files) == set()
    assert [name for name in files if not files[name].stat().st_size] == []
    assert [name for name in files if name.endswith(".part") or "checkpoints" in name] == []


def test_every_figure_comes_in_all_formats_with_its_numbers(finished):
    for folder in finished.results.glob("*/figures"):
        formats = {}
        for path in folder.iterdir():
            formats.setdefault(path.stem, set()).add(path.suffix)
        assert set(formats) >= FIGURES
        assert [name for name, found in formats.items() if found != {".pdf", ".svg", ".png", ".csv"}] == []


def test_every_configured_run_is_in_the_cube_and_in_the_table(finished):
    for task in TASKS:
        with xr.open_dataset(finished.results / task / "cube.nc") as cube:
            assert int((cube["status"] != "missing").sum()) == 2 * len(TRAINED)
    table = pd.read_csv(finished.results / "table.csv")
    assert set(table["task"]) == set(TASKS)
    assert (table["n"] + table["diverged"] == 2).all()


def test_a_second_run_has_nothing_to_do(finished):
    assert finished.plan("all") == []


def test_everything_is_made_when_no_target_is_named(fresh):
    without, everything = fresh.plan(), fresh.plan("all")
    assert everything
    assert sorted(map(str, without)) == sorted(map(str, everything))


def test_snakemakes_own_report_holds_the_figures_and_the_table(project):
    result = project.snakemake("--report", "report.html")
    assert result.returncode == 0, result.stdout
    report = (project.root / "report.html").read_text()
    assert [name for name in (*FIGURES, "table.html") if name not in report] == []


def test_lint_has_no_findings(fresh):
    result = fresh.snakemake("--lint")
    assert result.returncode == 0, result.stdout
    assert "Lints for" not in result.stdout


def test_the_list_of_rules_names_the_targets(fresh):
    result = fresh.snakemake("--list")
    assert result.returncode == 0, result.stdout
    listed = {line.split()[0] for line in result.stdout.splitlines() if line.strip()}
    assert {"all", "figures", "table", "report", *TASKS} <= listed


# What a change runs again


def test_files_that_are_only_touched_run_nothing(project):
    for folder in ("src", "config", "notebooks", "workflow"):
        for path in (project.root / folder).rglob("*"):
            path.touch()
    assert project.plan("all") == []


def test_a_changed_plot_redraws_the_figures_and_the_report_only(project):
    project.append("src/hybridsam/plots.py", "\nCHANGED = True\n")
    jobs = project.plan("all")
    assert rules(jobs) == {"figure", "page", "index"}
    assert names(jobs, "figure") == {f"figure {task} {name}" for task in TASKS for name in FIGURES}


def test_the_code_of_a_task_runs_that_task_again_and_no_other(project):
    project.append("src/hybridsam/tasks/pendulum.py", "\nCHANGED = True\n")
    jobs = project.plan("all")
    assert names(jobs, "simulate") == {"simulate pendulum"}
    assert names(jobs, "train") == trainings("pendulum")
    assert rules(job for job in jobs if job.task == "duffing") <= {"page"}  # which shows the table of all tasks


def test_the_code_of_the_methods_trains_everything_and_simulates_nothing(project):
    project.append("src/hybridsam/methods.py", "\nCHANGED = True\n")
    jobs = project.plan("all")
    assert names(jobs, "simulate") == set()
    assert names(jobs, "train") == trainings(*TASKS)


def test_a_new_version_number_trains_nothing(project):
    project.edit("src/hybridsam/__init__.py", '__version__ = "', '__version__ = "1')
    assert {"simulate", "train"} & rules(project.plan("all")) == set()


def test_a_constant_of_the_data_runs_its_task_again(project):
    project.edit("config/tasks/pendulum.yaml", "omega: {value: 1.0471975511965976", "omega: {value: 1.25")
    jobs = project.plan("all")
    assert names(jobs, "simulate") == {"simulate pendulum"}
    assert names(jobs, "train") == trainings("pendulum")
    assert rules(job for job in jobs if job.task == "duffing") <= {"page"}  # which shows the table of all tasks


def test_notes_sources_and_comments_run_nothing(project):
    project.edit("config/tasks/pendulum.yaml", 'source: S, note: "', 'source: O, note: "in other words, ')
    project.append("config/tasks/duffing.yaml", "# a comment\n")
    project.append("config/test.yaml", "# a comment\n")
    assert project.plan("all") == []


def test_a_setting_of_the_training_trains_its_task_and_simulates_nothing(project):
    changed = project.configure({"overrides.duffing.training.learning_rate": 2e-3})
    jobs = project.plan("all", configuration=changed)
    assert names(jobs, "simulate") == set()
    assert names(jobs, "train") == trainings("duffing")


def test_a_new_seed_trains_its_own_block_only(project):
    jobs = project.plan("all", configuration=project.configure({"seeds": [0, 1, 2]}))
    assert names(jobs, "simulate") == set()
    assert names(jobs, "train") == trainings(*TASKS, blocks=["2-2"])
    assert names(jobs, "collect") == {f"collect {task}" for task in TASKS}


def test_a_new_strength_trains_its_own_blocks_only(project):
    jobs = project.plan("all", configuration=project.configure({"strengths.sam": [0.05, 0.1, 0.2]}))
    assert names(jobs, "simulate") == set()
    assert names(jobs, "train") == trainings(*TASKS, runs=["sam 0.2"])


def test_blocks_have_no_gaps_and_at_most_the_configured_size(fresh):
    seeds = fresh.configure({"seeds": [6, 0, 5, 2, 1], "seeds_per_job": 2})
    assert names(fresh.plan("table", configuration=seeds), "train") == trainings(*TASKS, blocks=["0-1", "2-2", "5-6"])


def test_an_incomplete_experiment_is_laid_over_the_default_one(fresh):
    (fresh.root / "partial.yaml").write_text("experiment: partial\nmethods: [erm, sam]\nstrengths: {sam: [0.3]}\n")
    expected = trainings(*TASKS, runs=["erm 0", "sam 0.3"], blocks=["0-2"])
    assert names(fresh.plan("table", configuration="partial.yaml"), "train") == expected


def test_a_task_in_a_file_of_ones_own_is_an_input_of_its_jobs(fresh):
    shutil.copy(fresh.root / "src/hybridsam/tasks/pendulum.py", fresh.root / "my_pendulum.py")
    jobs = fresh.plan("all", configuration=fresh.configure({"overrides.pendulum.module": "my_pendulum.py"}))
    with_my_code = {str(job) for job in jobs if {"my_pendulum.py", "src/hybridsam/hybrid.py"} <= set(job.inputs)}
    assert with_my_code >= {"simulate pendulum", "diagnose pendulum", *trainings("pendulum")}


def test_every_file_of_code_that_a_job_executes_is_among_its_inputs(project, tmp_path):
    (tmp_path / "sitecustomize.py").write_text(RECORD_WHAT_IS_EXECUTED)
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    first = {job.rule: job for job in reversed(project.plan("--forceall", "all", "docs/results.md"))}
    assert set(first) >= {"simulate", "diagnose", "train", "collect", "select", "make_table", "figure", "page", "index"}
    undeclared = {}
    for rule, job in first.items():
        record = tmp_path / f"{rule}.txt"
        tracing = {"PYTHONPATH": f"{tmp_path}{os.pathsep}{project.root / 'src'}", "EXECUTED": str(record), "PATH": path}
        result = project.run("bash", "-c", job.command, env=os.environ | tracing)
        assert result.returncode == 0, f"{rule}: {result.stdout}"
        executed = {os.path.relpath(file, project.root) for file in record.read_text().splitlines()}
        assert executed, rule
        undeclared[rule] = {
            file for file in executed - set(job.inputs) if Path(file).stem not in ("__init__", "__main__")
        }
    assert {rule: files for rule, files in undeclared.items() if files} == {}


# SLURM


def test_the_slurm_profile_works_in_a_fresh_clone(fresh):
    result = fresh.run(sys.executable, "-m", "snakemake", "--profile", "slurm", "all", "-n")
    assert result.returncode == 0, result.stdout
    assert "runtime=480" in result.stdout


@pytest.mark.parametrize("variable", ["account", "partition"])
def test_account_and_partition_come_from_the_environment(fresh, variable):
    command = [sys.executable, "-m", "snakemake", "--profile", "slurm", "-n", "all"]
    environment = {name: value for name, value in fresh.environment.items() if not name.startswith("SBATCH_")}
    without = fresh.run(*command, env=environment)
    given = fresh.run(*command, env=environment | {f"SBATCH_{variable.upper()}": "ours"})
    assert f"slurm_{variable}" not in without.stdout
    assert f"slurm_{variable}=ours" in given.stdout


# What is refused

MISTAKES = {
    "unknown key": ("colour", "blue", ["colour", "allowed are", "selection_rule"]),
    "unknown method": ("methods", ["erm", "adam"], ["methods", "'adam'", "fsam"]),
    "unknown task": ("tasks", [*TASKS, "pendulun"], ["tasks", "'pendulun'", "pendulum", "duffing"]),
    "negative rho": ("strengths.sam", [-0.1], ["strengths.sam", "-0.1", "minimum of 0"]),
    "rho in words": ("strengths.sam", ["much"], ["strengths.sam", "'much'", "number"]),
    "rho that is no number": ("strengths.sam", [float("nan")], ["strengths.sam", "nan", "zero or larger"]),
    "seed given twice": ("seeds", [0, 0], ["seeds", "[0, 0]", "unique"]),
    "no seeds": ("seeds", [], ["seeds", "[]", "non-empty"]),
    "no iterations": ("overrides.all.training.iterations", 0, ["training.iterations", "0", "minimum of 1"]),
    "method without strengths": ("strengths.sam", None, ["strengths.sam", "missing"]),
    "override of an unknown task": ("overrides.wind", {"training": {}}, ["overrides", "'wind'", *TASKS]),
    "unknown key of the training": ("overrides.all.training.momentum", 0.9, ["training", "momentum", "clip_norm"]),
    "constant without a unit": ("overrides.duffing.data.g", {"value": 9.81, "source": "O"}, ["data.g", "unit"]),
    "unknown module": ("overrides.pendulum.module", "hybridsam.tasks.pendel", ["module", "hybridsam.tasks.pendel"]),
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
    before = project.listing()
    result = project.snakemake("--cores", "1", "all", configuration=project.configure({key: value}))
    assert result.returncode != 0
    assert any(all(word in line for word in words) for line in result.stdout.splitlines()), result.stdout
    assert "Traceback" not in result.stdout
    assert project.listing() == before


def test_a_truncated_dataset_stops_the_training_and_is_named(project):
    dataset = project.results / "pendulum/dataset.nc"
    dataset.write_bytes(dataset.read_bytes()[:1000])
    run = "results/test/pendulum/runs/erm/rho=0/seeds=0-1.nc"
    result = project.snakemake("--cores", "1", "--show-failed-logs", run)
    assert result.returncode != 0
    log = (project.root / "logs/test/pendulum/erm/rho=0/seeds=0-1.log").read_text()
    assert "hybridsam: results/test/pendulum/dataset.nc: not a readable NetCDF file" in log
    assert "Traceback" not in log


def test_a_run_file_of_another_configuration_is_refused(project):
    run, cube = project.results / "pendulum/runs/erm/rho=0/seeds=0-1.nc", project.results / "pendulum/cube.nc"
    with xr.open_dataset(run) as block:
        settings = json.loads(block.attrs["configuration"])
    before, other = cube.read_bytes(), json.dumps(settings | {"training": settings["training"] | {"iterations": 2}})
    training = project.hybridsam(
        *("train", project.results / "pendulum/dataset.nc", "--settings", other, "--method", "erm", "--rho", "0"),
        *("--seeds", "0-1", "--output", run),
    )
    assert training.returncode == 0, training.stdout

    collecting = project.hybridsam(
        *("collect", project.results / "pendulum/runs", "--dataset", project.results / "pendulum/dataset.nc"),
        *("--settings", json.dumps(settings), "--output", cube),
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
    result = finished.hybridsam(
        *("train", finished.results / "pendulum/dataset.nc", "--settings", json.dumps(settings), "--method", "erm"),
        *("--rho", "0", "--seeds", "0", "--output", tmp_path / "run.nc"),
    )
    assert result.returncode == 2
    [line] = result.stdout.splitlines()
    assert line.startswith("hybridsam: theta.omega.upper: ")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_may_not_be_written_is_named_and_left_empty(fresh, tmp_path):
    folder = tmp_path / "read only"
    folder.mkdir(mode=0o555)
    settings = {"module": "hybridsam.tasks.pendulum", "data": small_pendulum_data(fresh)}
    result = fresh.hybridsam(
        *("simulate", "--settings", json.dumps(settings), "--output", folder / "dataset.nc"), preexec_fn=obey_modes
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
