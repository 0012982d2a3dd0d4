"""The workflow under the real Snakemake: what one experiment, run from end to end, makes; the SLURM profile."""

import json
import re
import shutil

import pandas as pd
import pytest
import xarray as xr
from helpers.project import FIGURES, TASKS, TRAINED, Project, copy_repository

pytestmark = pytest.mark.slow


def test_an_experiment_gives_its_tables_figures_and_report(finished):
    expected = {"table.csv", "table.md", "table.html", "report/index.html", "report/index.ipynb"}
    for task in TASKS:
        expected |= {f"{task}/{name}" for name in ("dataset.nc", "cube.nc", "selection.csv", "identifiability.csv")}
        expected |= {f"{task}/{name}" for name in ("ensemble.nc", "ensemble.safetensors", "identification.nc")}
        expected |= {f"{task}/{name}.csv" for name in ("identification", "verdict")}
        expected |= {f"report/{task}.{suffix}" for suffix in ("html", "ipynb")}
        expected |= {f"{task}/figures/{name}.{suffix}" for name in FIGURES for suffix in ("pdf", "svg", "png", "csv")}
        for run in TRAINED:
            method, rho = run.split()
            expected |= {f"{task}/runs/{method}/rho={rho}/seeds=0-1.{suffix}" for suffix in ("nc", "safetensors")}
    files = {str(path.relative_to(finished.results)): path for path in finished.results.rglob("*") if path.is_file()}
    assert expected - set(files) == set()
    assert [name for name in files if not files[name].stat().st_size] == []
    assert [name for name in files if name.endswith(".part") or "checkpoints" in name] == []


def test_pages_run_in_this_python_whatever_kernel_the_environment_offers(project):
    """Such as that of another Python, by a module of a cluster."""
    kernel = project.root / "of a cluster/kernels/python3/kernel.json"
    kernel.parent.mkdir(parents=True)
    kernel.write_text(json.dumps({"argv": ["false"], "display_name": "Python 3", "language": "python"}))
    page = project.results / "report/pendulum.html"
    page.unlink()
    environment = project.environment | {"JUPYTER_PATH": str(kernel.parents[2])}
    result = project.snakemake(f"results/test/report/{page.name}", "--cores", "2", env=environment)
    assert result.returncode == 0, result.stdout
    assert page.is_file()


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
    assert (table["n"] + table["failed"] == 2).all()


def test_a_second_run_has_nothing_to_do(finished):
    assert finished.plan("all") == []


def test_everything_is_made_when_no_target_is_named(finished):
    without, everything = finished.plan("--forceall"), finished.plan("--forceall", "all")
    assert everything
    assert sorted(map(str, without)) == sorted(map(str, everything))


def test_an_experiment_may_be_called_by_a_number(project):
    (project.root / "results/test").rename(project.root / "results/2024")
    page = project.root / "results/2024/report/index.html"
    page.unlink()
    configuration = project.configure({"experiment": "2024"})
    result = project.snakemake("--cores", "1", "results/2024/report/index.html", configuration=configuration)
    assert result.returncode == 0, result.stdout
    assert "Experiment 2024" in page.read_text()


def test_snakemakes_own_report_holds_the_figures_and_the_table(project):
    result = project.snakemake("--report", "report.html")
    assert result.returncode == 0, result.stdout
    report = (project.root / "report.html").read_text()
    assert [name for name in (*FIGURES, "table.html") if name not in report] == []


def test_the_list_of_rules_names_the_targets(fresh):
    result = fresh.snakemake("--list")
    assert result.returncode == 0, result.stdout
    listed = {line.split()[0] for line in result.stdout.splitlines() if line.strip()}
    assert {"all", "figures", "table", "report", *TASKS} <= listed


# SLURM


def test_a_training_asks_for_the_memory_and_time_that_it_needs(fresh):
    tasks, file = ["pendulum", "larger", "endless"], fresh.root / "config/tasks/pendulum.yaml"
    for task in tasks[1:]:
        shutil.copy(file, file.with_stem(task))
    large = {"model": {"hidden": [2000, 2000]}, "training": {"iterations": 2000}}
    changes = {"overrides.larger": large, "overrides.endless.training.iterations": 10**9, "methods": ["erm"]}
    result = fresh.snakemake("-n", "all", configuration=fresh.configure({"tasks": tasks} | changes))
    found = re.findall(r"task=(\w+), data=, method=erm, .*\n +resources: .*runtime=(\d+), mem_mb=(\d+)", result.stdout)
    assert len(found) == len(tasks), result.stdout
    asked = {task: (int(minutes), int(megabytes)) for task, minutes, megabytes in found}
    (minutes, megabytes), (longer, larger), (longest, _) = map(asked.get, tasks)
    assert minutes == 10
    assert 900 < megabytes < 2500
    assert minutes < longer
    assert megabytes + 500 < larger
    assert longest == 24 * 60


def test_an_ensemble_asks_for_its_own_runs_and_a_profile_for_its_own(fresh):
    many = fresh.configure({"overrides.pendulum.profile": {"values": 200}})
    result = fresh.snakemake("-n", "results/test/pendulum/profile.nc", configuration=many)
    asked = dict(re.findall(r"(?s)rule (ensemble|profile):.*?mem_mb=(\d+)", result.stdout))
    assert int(asked["profile"]) > 2 * int(asked["ensemble"]), result.stdout


@pytest.fixture(scope="module")
def planned(tmp_path_factory):
    """What Snakemake with the SLURM profile would do in a fresh clone, with these variables in its environment."""
    project = Project(tmp_path_factory.mktemp("a clone") / "hybridsam")
    copy_repository(project.root)
    environment = {name: value for name, value in project.environment.items() if not name.startswith("SBATCH_")}
    target = "results/test/pendulum/dataset.nc"

    def plan(**variables):
        result = project.snakemake("--profile", "slurm", "-n", target, env=environment | variables)
        assert result.returncode == 0, result.stdout
        return result.stdout

    return plan


def test_the_slurm_profile_works_in_a_fresh_clone(planned):
    output = planned()
    assert "mem_mb=2000" in output and "runtime=60" in output  # for what says nothing itself
    assert "slurm_account" not in output and "slurm_partition" not in output


@pytest.mark.parametrize(("variable", "other"), [("account", "partition"), ("partition", "account")])
def test_account_and_partition_come_from_the_environment(planned, variable, other):
    output = planned(**{f"SBATCH_{variable.upper()}": "ours"})
    assert f"slurm_{variable}=ours" in output and f"slurm_{other}" not in output
