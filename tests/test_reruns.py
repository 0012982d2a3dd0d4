"""What a change makes the workflow run again: what depends on it, and nothing else."""

import shutil

import pytest
import yaml
from helpers.project import FIGURES, TASKS, executed_by, names, rules, trainings

pytestmark = pytest.mark.slow


def test_files_that_are_only_touched_run_nothing(project):
    for folder in ("src", "config", "notebooks", "workflow"):
        for path in (project.root / folder).rglob("*"):
            path.touch()
    assert project.plan("all") == []


def test_a_changed_plot_redraws_the_figures_and_the_report_only(project):
    project.append("src/hybridsam/figures/histories.py", "\nCHANGED = True\n")
    jobs = project.plan("all")
    assert rules(jobs) == {"figure", "page", "index"}
    assert names(jobs, "figure") == {f"figure {task} {name}" for task in TASKS for name in FIGURES}


def test_a_changed_caption_draws_nothing_again(project):
    project.append("workflow/report/figure.rst", "\nChanged.\n")  # of the report that Snakemake itself makes
    assert project.plan("all") == []
    project.append("src/hybridsam/report/captions.py", "\nCHANGED = True\n")  # of the pages, which contain it
    assert rules(project.plan("all")) == {"page", "index"}


def test_the_code_of_a_task_runs_that_task_again_and_no_other(project):
    project.append("src/hybridsam/tasks/pendulum.py", "\nCHANGED = True\n")
    jobs = project.plan("all")
    assert names(jobs, "simulate") == {"simulate pendulum"}
    assert names(jobs, "train") == trainings("pendulum")
    assert rules(job for job in jobs if job.task == "duffing") <= {"page"}  # which shows the table of all tasks


def test_the_code_of_the_methods_trains_everything_and_simulates_nothing(project):
    project.append("src/hybridsam/training/methods.py", "\nCHANGED = True\n")
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


def test_a_new_rho_trains_its_own_blocks_only(project):
    jobs = project.plan("all", configuration=project.configure({"rho.sam": [0.05, 0.1, 0.2]}))
    assert names(jobs, "simulate") == set()
    assert names(jobs, "train") == trainings(*TASKS, runs=["sam 0.2"])


def test_blocks_have_no_gaps_and_at_most_the_configured_size(fresh):
    seeds = fresh.configure({"seeds": [6, 0, 5, 2, 1], "seeds_per_job": 2})
    assert names(fresh.plan("table", configuration=seeds), "train") == trainings(*TASKS, blocks=["0-1", "2-2", "5-6"])


def test_blocks_may_differ_by_task(project):
    jobs = project.plan("all", configuration=project.configure({"seeds_per_job": {"all": 2, "duffing": 1}}))
    assert names(jobs, "train") == trainings("duffing", blocks=["0-0", "1-1"])
    [collect] = [job for job in jobs if job.rule == "collect"]
    assert {path for path in collect.inputs if "/runs/erm/" in path} == {
        f"results/test/duffing/runs/erm/rho=0/seeds={block}.nc" for block in ("0-0", "1-1")
    }
    assert "--seeds 0-1 --seeds-per-job 1 " in collect.command


def test_an_incomplete_experiment_is_laid_over_the_default_one(fresh):
    without_seeds = {"experiment": "partial", "tasks": ["pendulum"], "methods": ["erm", "sam"], "rho": {"sam": [0.3]}}
    (fresh.root / "partial.yaml").write_text(yaml.safe_dump(without_seeds))
    expected = trainings("pendulum", runs=["erm 0", "sam 0.3"], blocks=["0-9"])
    assert names(fresh.plan("table", configuration="partial.yaml"), "train") == expected


def test_a_task_in_a_file_of_ones_own_is_an_input_of_its_jobs(fresh):
    shutil.copy(fresh.root / "src/hybridsam/tasks/pendulum.py", fresh.root / "my_pendulum.py")
    jobs = fresh.plan("all", configuration=fresh.configure({"overrides.pendulum.module": "my_pendulum.py"}))
    with_my_code = {str(job) for job in jobs if {"my_pendulum.py", "src/hybridsam/models/hybrid.py"} <= set(job.inputs)}
    assert with_my_code >= {"simulate pendulum", "diagnose pendulum", *trainings("pendulum")}


def test_every_file_of_code_that_a_job_executes_is_among_its_inputs(project, tmp_path):
    first = {job.rule: job for job in reversed(project.plan("--forceall", "all", "models", "docs/results.md"))}
    assert set(first) >= {
        "simulate",
        "diagnose",
        "train",
        "collect",
        "select",
        "make_table",
        "figure",
        "page",
        "index",
        "export_model",
    }
    executed = {rule: executed_by(project, job, tmp_path) for rule, job in first.items()}
    assert all(executed.values())
    # No result depends on what these say:
    of_time = {f"src/hybridsam/training/{name}.py" for name in ("cost", "estimate")}
    undeclared = {rule: files - set(first[rule].inputs) - of_time for rule, files in executed.items()}
    assert {rule: files for rule, files in undeclared.items() if files} == {}
    assert "src/hybridsam/training/compiled.cpp" in first["train"].inputs and not of_time & set(first["train"].inputs)


def test_results_that_were_copied_alone_are_taken_over_and_the_runs_among_them_compared(project, fresh):
    """By the commands of docs/cluster.md; a clone is younger than the results, and knows nothing of them."""
    shutil.copytree(project.root / "results", fresh.root / "results")
    for path in (fresh.root / "src").rglob("*.py"):
        path.touch()
    assert names(fresh.plan("all"), "train") == trainings(*TASKS)
    assert fresh.snakemake("--touch", "--cores", "2", "all").returncode == 0
    assert fresh.plan("all") == []
    jobs = fresh.plan("all", "--forcerun", "collect")
    assert rules(jobs) == {"collect", "select", "figure", "make_table", "page", "index"}
    cubes = ["results/test/pendulum/cube.nc"]
    assert fresh.snakemake(*cubes, "--cores", "2", "--forcerun", "collect").returncode == 0

    fresh.edit("config/tasks/pendulum.yaml", "clip_norm: 10", "clip_norm: 9")
    assert fresh.snakemake("--touch", "--cores", "2", "all").returncode == 0
    result = fresh.snakemake(*cubes, "--cores", "2", "--forcerun", "collect")
    assert result.returncode != 0
    assert "hybridsam: results/test/pendulum/runs/erm/rho=0/seeds=0-1.nc: this run file was made with" in result.stdout
