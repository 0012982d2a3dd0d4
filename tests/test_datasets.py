"""Several simulated datasets of a task: their axis of the cube, what is said of them, and the jobs that make them."""

import json
import re

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from helpers.blocks import ERM, block, dataset, runs_with
from helpers.project import TASKS, assert_refused, names, trainings

from hybridsam.analysis.cube import combine, diverged_in_words, runs_table, together
from hybridsam.analysis.experiment import ends_of_runs
from hybridsam.analysis.selection import select
from hybridsam.core import records
from hybridsam.core.errors import UserError
from hybridsam.report import task_page
from hybridsam.report.table_one import notes, table_one

SAM = runs_with("sam", 0.1, [4.0, 3.0, 2.0], [0.1, 0.2, 0.3])


def on(seed, *blocks):
    """The cube of blocks on a dataset of this seed."""
    return combine(blocks, blocks[0], dataset(constants=json.dumps({"seed": {"value": seed}})))


def two():
    """erm and sam on the datasets 7 and 2; on 7 the errors are ten times as large."""
    large = [made.assign(y_error=10 * made["y_error"]) for made in (ERM, SAM)]
    return [on(7, *large), on(2, ERM, SAM)]


def test_a_cube_has_the_seed_of_its_dataset_and_0_where_none_is_known():
    assert on(7, ERM)["data"].values.tolist() == [7]
    assert combine([ERM], ERM, dataset())["data"].values.tolist() == [0]
    assert on(7, ERM)["theta"].dims == (*records.CUBE, "parameter")


def test_cubes_of_several_datasets_are_one_in_whatever_order():
    cube = together(two())
    xr.testing.assert_identical(cube, together(two()[::-1]))
    assert cube["data"].values.tolist() == [2, 7]
    for own in two():
        for name in ("theta", "y_error", "status", "theta_error", "seconds"):
            np.testing.assert_array_equal(cube[name].sel(data=own["data"]).values, own[name].values)
    assert list(runs_table(cube))[:4] == ["method", "rho", "data", "seed"]
    assert len(runs_table(cube)) == 12


def test_what_one_dataset_lacks_is_missing():
    later = block("sam", 0.2, [5], [[1, 2]], np.ones((1, 3)))
    cube = together([on(0, ERM), on(1, ERM, later)])
    run = {"training_method": "sam", "rho": 0.2, "seed": 5}
    assert cube["status"].sel(run).values.tolist() == ["missing", "completed"]
    assert ends_of_runs({"t": cube}).loc["t", "completed"] == 7


def test_two_datasets_of_one_seed_are_refused():
    with pytest.raises(UserError, match=r"data.seed, are 7, 7; they must be different"):
        together([on(7, ERM), on(7, SAM)])


def test_methods_are_compared_on_equal_data_and_seed():
    selection = select(together(two())).set_index(["method", "rule"])
    row = selection.loc["sam", "validation"]
    assert (row["n"], row["n_paired"], row["datasets"]) == (6, 6, 2)
    ratio = np.array([8 / 2, 6 / 4, 4 / 6])  # of the test errors, by seed, on either dataset
    assert row["y_error_over_erm"] == pytest.approx(np.exp(np.log(ratio).mean()))
    [theta, _] = json.loads(row["theta"])
    assert theta["median"] == pytest.approx(1.2)


def test_a_cube_of_an_older_version_gets_the_axis(tmp_path):
    cube = on(7, ERM, SAM)
    records.write(cube.isel(data=0, drop=True), tmp_path / "old.nc", "cube", "all runs")
    old = records.read(tmp_path / "old.nc", "cube")
    xr.testing.assert_equal(old, cube)
    pd.testing.assert_frame_equal(runs_table(old), runs_table(cube))


def test_words_say_how_many_datasets_there_are():
    gone = runs_with("sam", 0.1, [1.0, 1.0, 1.0], [0, 0, 0], "diverged")
    cube = together([on(2, ERM, SAM), on(7, ERM, gone)])
    assert "sam, rho = 0.1, seed 0, data seed 7" in diverged_in_words(cube)
    assert "There are 2 datasets of so many samples, which differ in their seed (2, 7)" in task_page.samples(cube)
    assert "<td>sam</td><td>0.1</td><td>7</td><td>0, 1, 2</td>" in task_page.runs(cube)
    assert [line for line in notes(table_one({"t": select(cube)})) if line.startswith("Runs of t are on 2 simulated")]
    alone = on(2, ERM)
    assert "datasets" not in task_page.samples(alone) and "<th>data</th>" not in task_page.runs(alone)


# The workflow


MISTAKES = {
    "an unknown task": ({"data_seeds": {"pendulun": [0]}}, ["data_seeds", "'pendulun'", "pendulum"]),
    "no list": ({"data_seeds": 3}, ["data_seeds", "3"]),
    "measured data": (
        {"data_seeds": {"light_sensors": [0, 1]}, "tasks": ["light_sensors"]},
        ["data_seeds.light_sensors: its data are measured, so there is one dataset"],
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize(("changes", "words"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_in_data_seeds_stops_before_anything_runs(fresh, changes, words):
    assert_refused(fresh, changes, words)


def runs_on(data, *tasks):
    return {run.replace(task, f"{task} data={data}/") for task in tasks for run in trainings(task)}


@pytest.mark.slow
def test_each_dataset_is_simulated_and_trained_and_samples_shown_are_of_the_first(fresh):
    both = fresh.configure({"data_seeds": {"all": [0, 4], "duffing": [3, 1]}})
    jobs = fresh.plan("all", configuration=both)
    expected = {
        "simulate pendulum",
        "simulate pendulum data=4/",
        "simulate duffing data=1/",
        "simulate duffing data=3/",
    }
    assert names(jobs, "simulate") == expected
    duffing = runs_on(1, "duffing") | runs_on(3, "duffing")
    assert names(jobs, "train") == trainings("pendulum") | runs_on(4, "pendulum") | duffing
    first = {"pendulum": "results/test/pendulum", "duffing": "results/test/duffing/data=1"}
    for job in jobs:
        if job.rule in ("figure", "diagnose"):
            assert [path for path in job.inputs if path.endswith("dataset.nc")] == [f"{first[job.task]}/dataset.nc"]
            runs = [path for path in job.inputs if "/runs/" in path]
            assert all(path.startswith(f"{first[job.task]}/runs/") for path in runs)
    collects = {job.task: set(job.inputs) for job in jobs if job.rule == "collect"}
    for seed in (1, 3):
        folder = f"results/test/duffing/data={seed}"
        assert {f"{folder}/dataset.nc", f"{folder}/runs/erm/rho=0/seeds=0-1.nc"} <= collects["duffing"]
    reordered = fresh.configure({"data_seeds": {"all": [4, 0], "duffing": [1, 3]}})
    assert {str(job): job.command for job in fresh.plan("all", configuration=reordered)} == {
        str(job): job.command for job in jobs
    }


@pytest.mark.slow
def test_a_new_data_seed_trains_on_its_own_dataset_only(project):
    jobs = project.plan("all", configuration=project.configure({"data_seeds": [0, 5]}))
    assert names(jobs, "simulate") == {f"simulate {task} data=5/" for task in TASKS}
    assert names(jobs, "train") == runs_on(5, *TASKS)
    assert names(jobs, "diagnose") == set()


@pytest.mark.slow
def test_of_measured_data_and_twins_the_ones_that_are_simulated_have_several(fresh):
    changes = {"tasks": ["pendulum", "wind_tunnel"], "data": "twin", "data_seeds": [0, 2], "overrides": {}}
    jobs = fresh.plan("table", configuration=fresh.configure(changes))
    assert {str(job) for job in jobs if job.rule in ("twin", "convert")} == {
        "twin wind_tunnel wt_walks_v1",
        "twin wind_tunnel data=2/ wt_walks_v1",
        "convert wind_tunnel",
        "convert wind_tunnel data=2/",
    }
    [twin, converted] = [job for job in jobs if job.rule in ("twin", "convert") and job.wildcards["data"]]
    for job, section in ((twin, "twin"), (converted, "data")):
        file = re.search(r"--settings (\S+)", job.command)[1]
        assert json.loads((fresh.root / file).read_text())[section]["seed"]["value"] == 2


@pytest.mark.slow
def test_two_datasets_and_two_seeds_run_to_their_page(project):
    """The second is new; the runs on the first are taken as they are."""
    changes = {"tasks": ["pendulum"], "methods": ["erm", "sam"], "data_seeds": [3, 0]}
    result = project.snakemake("--cores", "2", "all", "models", configuration=project.configure(changes))
    assert result.returncode == 0, result.stdout
    folder = project.results / "pendulum"
    cube = records.read(folder / "cube.nc", "cube")
    assert cube["data"].values.tolist() == [0, 3] and int((cube["status"] == "completed").sum()) == 3 * 4
    for seed, where in ((0, ""), (3, "data=3/")):
        made = records.read(folder / f"{where}runs/erm/rho=0/seeds=0-1.nc", "runs")
        own = cube.sel(training_method="erm", rho=0.0, data=seed)
        np.testing.assert_array_equal(own["y_error"].values, made["y_error"].values[0, 0])
        assert records.seed_of_data(records.read(folder / f"{where}dataset.nc", "dataset")) == seed
    selection = pd.read_csv(folder / "selection.csv")
    assert (selection["n"] + selection["failed"] == 4).all()
    page = (project.results / "report/pendulum.html").read_text()
    assert "There are 2 datasets of so many samples" in page and re.search(r"n = \d( to \d)? on 2 datasets", page)
    assert "2 on each of 2 datasets" in (project.results / "report/index.html").read_text()
    jobs = project.plan("all", configuration=project.configure(changes | {"data_seeds": [9, 3, 0]}))
    assert names(jobs, "simulate") == {"simulate pendulum data=9/"}
    assert {name.split()[2] for name in names(jobs, "train")} == {"data=9/"}
