"""A copy of the repository in which Snakemake runs, and the jobs that it plans there."""

import hashlib
import os
import random
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import yaml

from helpers import forked

ROOT = Path(__file__).resolve().parents[2]
PARTS = ("Snakefile", "workflow", "config", "src", "envs", "notebooks", "slurm", "pyproject.toml")
TASKS = ("pendulum", "duffing")
TRAINED = ("erm 0", "l2reg 1e-4", "freg 0.1", "sam 0.05", "sam 0.1", "asam 0.1", "fsam 0.05")  # by config/test.yaml
FIGURES = {"predictions", "residuals", "theta_training", "errors_rho", "tradeoff", "losses", "landscape"}
LIGHT_SENSOR_COLUMNS = (
    "timestamp,config,counter,flag,intervention,red,green,blue,osr_c,v_c,current,pol_1,pol_2,osr_angle_1,osr_angle_2,"
    "v_angle_1,v_angle_2,angle_1,angle_2,ir_1,vis_1,ir_2,vis_2,ir_3,vis_3,l_11,l_12,l_21,l_22,l_31,l_32,diode_ir_1,"
    "diode_vis_1,diode_ir_2,diode_vis_2,diode_ir_3,diode_vis_3,t_ir_1,t_vis_1,t_ir_2,t_vis_2,t_ir_3,t_vis_3,camera,"
    "v_board,v_reg"
)

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
        return " ".join([self.rule, *filter(None, self.wildcards.values())])

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
        """Run a command in the project; stdout holds what it wrote to stderr as well, unless options say otherwise."""
        options = {"env": self.environment, "cwd": self.root, "text": True, "stderr": subprocess.STDOUT} | options
        return subprocess.run(command, stdout=subprocess.PIPE, check=False, **options)

    def snakemake(self, *arguments, configuration="config/test.yaml", env=None, stderr=subprocess.STDOUT):
        command = [forked.executable(), "-m", "snakemake", *arguments, "--configfile", configuration]
        return self.run(*command, env=env or self.environment, stderr=stderr)

    def hybridsam(self, *arguments, **options):
        return self.run(forked.executable(), "-m", "hybridsam", *map(str, arguments), **options)

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


def copy_repository(root):
    root.mkdir()
    for part in PARTS:
        source, ignore = ROOT / part, shutil.ignore_patterns("__pycache__", "*.egg-info", ".ipynb_checkpoints")
        if source.is_dir() and not source.is_symlink():
            shutil.copytree(source, root / part, symlinks=True, ignore=ignore)
        else:
            shutil.copy2(source, root / part, follow_symlinks=False)


def copy_with_all_tasks(root):
    """As copy_repository, with all_tasks.yaml as config/test.yaml, and readings of the light sensors at hand."""
    copy_repository(root)
    shutil.copy(ROOT / "tests/helpers/all_tasks.yaml", root / "config/test.yaml")
    write_light_sensors(root / "offline/lt_interventions_standard_v1")


def write_light_sensors(archive, rows=20):
    """A made-up archive of the light sensors, with the columns of the real one."""
    made_up, lines = random.Random(0), [LIGHT_SENSOR_COLUMNS]
    for _ in range(rows):
        row = {name: made_up.randint(0, 255) for name in LIGHT_SENSOR_COLUMNS.split(",")}
        light = row["red"] + row["green"] + row["blue"] + 1
        row |= {name: 0 for name in row if name.startswith(("diode_", "t_"))} | {"config": "made up"}
        row |= {name: round(light * made_up.uniform(1, 2)) for name in row if name.startswith(("ir_", "vis_"))}
        lines.append(",".join(map(str, row.values())))
    archive.mkdir(parents=True)
    (archive / "uniform_reference.csv").write_text("\n".join(lines) + "\n")


def names(jobs, rule):
    return {str(job) for job in jobs if job.rule == rule}


def rules(jobs):
    return {job.rule for job in jobs}


def trainings(*tasks, runs=TRAINED, blocks=("0-1",)):
    return {f"train {task} {run} {block}" for task in tasks for run in runs for block in blocks}


def assert_refused(project, changes, words):
    """config/test.yaml with these changes stops Snakemake with a line that has all the words; nothing is lost."""
    before = project.listing()
    result = project.snakemake("--cores", "1", "all", configuration=project.configure(changes))
    assert result.returncode != 0
    assert any(all(word in line for word in words) for line in result.stdout.splitlines()), result.stdout
    assert "Traceback" not in result.stdout
    assert project.listing() == before


def executed_by(project, job, tmp_path):
    """Files of the library whose code the job executes, but for those that only lead to others, as the command line."""
    (tmp_path / "sitecustomize.py").write_text(RECORD_WHAT_IS_EXECUTED)
    record = tmp_path / f"{job.rule}.txt"
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    tracing = {"PYTHONPATH": f"{tmp_path}{os.pathsep}{project.root / 'src'}", "EXECUTED": str(record), "PATH": path}
    for log in re.findall(r"2> (\S+)", job.command):  # whose folder Snakemake makes
        (project.root / log).parent.mkdir(parents=True, exist_ok=True)
    result = project.run("bash", "-c", job.command, env=os.environ | tracing)
    assert result.returncode == 0, f"{job.rule}: {result.stdout}"
    files = {os.path.relpath(file, project.root) for file in record.read_text().splitlines()}
    return {file for file in files if Path(file).stem not in ("__init__", "__main__") and "/cli/" not in file}
