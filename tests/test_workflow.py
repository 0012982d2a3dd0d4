"""The workflow under the real Snakemake: what one experiment, run from end to end, makes; the SLURM profile."""

import re
import sys

import pandas as pd
import pytest
import xarray as xr
from helpers.project import FIGURES, TASKS, TRAINED

pytestmark = pytest.mark.slow


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


def test_lint_has_no_findings(fresh):
    result = fresh.snakemake("--lint")
    assert result.returncode == 0, result.stdout
    assert "Lints for" not in result.stdout


def test_the_list_of_rules_names_the_targets(fresh):
    result = fresh.snakemake("--list")
    assert result.returncode == 0, result.stdout
    listed = {line.split()[0] for line in result.stdout.splitlines() if line.strip()}
    assert {"all", "figures", "table", "report", *TASKS} <= listed


# SLURM


def test_a_training_asks_for_the_memory_and_time_that_it_needs(fresh):
    def asked(changes):
        result = fresh.snakemake("-n", "all", configuration=fresh.configure({"tasks": ["pendulum"]} | changes))
        found = re.findall(r"wildcards: .*method=erm, .*\n +resources: .*runtime=(\d+), mem_mb=(\d+)", result.stdout)
        assert len(set(found)) == 1, result.stdout
        return [int(number) for number in found[0]]

    (minutes, megabytes), (longer, larger) = (
        asked({}),
        asked({"overrides.all.model.hidden": [2000, 2000], "overrides.all.training.iterations": 2000}),
    )
    assert minutes == 10
    assert 900 < megabytes < 2500
    assert minutes < longer
    assert megabytes + 500 < larger
    assert asked({"overrides.all.training.iterations": 10**9})[0] == 24 * 60


def test_the_slurm_profile_works_in_a_fresh_clone(fresh):
    result = fresh.run(sys.executable, "-m", "snakemake", "--profile", "slurm", "all", "-n")
    assert result.returncode == 0, result.stdout
    assert "mem_mb=2000" in result.stdout and "runtime=60" in result.stdout  # for what says nothing itself


@pytest.mark.parametrize("variable", ["account", "partition"])
def test_account_and_partition_come_from_the_environment(fresh, variable):
    command = [sys.executable, "-m", "snakemake", "--profile", "slurm", "-n", "all"]
    environment = {name: value for name, value in fresh.environment.items() if not name.startswith("SBATCH_")}
    without = fresh.run(*command, env=environment)
    given = fresh.run(*command, env=environment | {f"SBATCH_{variable.upper()}": "ours"})
    assert f"slurm_{variable}" not in without.stdout
    assert f"slurm_{variable}=ours" in given.stdout
