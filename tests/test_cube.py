"""The cube of all runs: its numbers worked out by hand, and as it is collected from run files."""

import dataclasses
import gc
import json
import weakref
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from helpers import small
from helpers.blocks import ERM, block, cube_of, dataset, runs_with

from hybridsam.analysis.collect import collect
from hybridsam.analysis.cube import FINAL, combine, runs_table
from hybridsam.analysis.selection import select
from hybridsam.cli.main import main
from hybridsam.core import records
from hybridsam.core.blocks import Block
from hybridsam.core.errors import UserError
from hybridsam.core.provenance import fingerprint
from hybridsam.core.records import RUN
from hybridsam.training.block import train_task
from hybridsam.training.checkpoint import Checkpoint


def test_cube_holds_every_run_at_its_place_and_marks_the_missing():
    cube = cube_of(ERM, runs_with("sam", 0.1, [4.0], [0.1]), runs_with("sam", 0.05, [5.0], [0.2]))
    assert cube["rho"].values.tolist() == [0.0, 0.05, 0.1]
    assert cube["theta"].sel(training_method="sam", rho=0.05, seed=0, parameter="a").item() == 1.2
    assert cube["status"].sel(training_method="sam", rho=0.05, seed=1).item() == "missing"
    assert cube["status"].sel(training_method="erm", rho=0.1, seed=0).item() == "missing"
    assert np.isnan(cube["theta"].sel(training_method="erm", rho=0.1)).all()
    assert cube["seconds"].sel(training_method="erm", rho=0.0).values.tolist() == [[2.0, 2.0, 2.0]]
    assert "prediction" not in cube and "file" not in cube
    assert cube["samples"].to_series().to_dict() == {"train": 2, "validation": 2, "test": 2}
    assert len(runs_table(cube)) == 5


def test_blocks_of_one_rho_join_along_seeds():
    later = block("erm", 0.0, [3, 4], [[1, 2], [1, 2]], np.ones((2, 3)))
    cube = cube_of(ERM, later)
    assert cube["seed"].values.tolist() == [0, 1, 2, 3, 4]
    assert (cube["status"] == "completed").all()


def test_errors_are_norm_relative_mean_and_multiples_of_the_noise():
    cube = cube_of(block("erm", 0.0, [0], [[1.3, 2.4]], [[0.04, 0.04, 0.09]]))
    assert cube["theta_error"].item() == pytest.approx(0.5)
    assert cube["theta_relative_error"].item() == pytest.approx((0.3 + 0.2) / 2)
    assert cube["y_error_over_noise"].sel(split="test").item() == pytest.approx(3.0)


def test_without_known_truth_the_theta_error_is_absent_and_there_is_no_oracle():
    cube = cube_of(ERM, runs_with("sam", 0.1, [4.0, 4.0, 4.0], [0, 0, 0]), data=dataset(truth="{}", noise=0.0))
    assert "theta_error" not in cube
    assert "y_error_over_noise" not in cube
    selection = select(cube)
    assert set(selection["rule"]) == {"validation", "one_standard_error"}
    assert not any(name.startswith("theta_") for name in selection)


def test_a_task_measures_errors_of_theta_in_its_own_way():
    def theta_metrics(theta, truth):
        return {"theta_error": (theta["a"] - truth["a"], "signed"), "theta_ratio": (theta["b"] / truth["b"], "ratio")}

    cube = cube_of(ERM, theta_metrics=theta_metrics)
    theta = cube["theta"].sel(training_method="erm", rho=0.0).isel(data=0)
    np.testing.assert_allclose(cube["theta_error"].values[0, 0, 0], theta.sel(parameter="a") - 1.0)
    runs, row = runs_table(cube), select(cube).iloc[0]
    np.testing.assert_allclose(runs["theta_ratio"], theta.sel(parameter="b") / 2.0)
    assert row["theta_ratio_centre"] == pytest.approx(runs["theta_ratio"].median())
    assert row["theta_error_meaning"] == "signed"


def test_what_the_blocks_have_of_each_run_is_in_the_cube_too():
    """Such as the files that they were read from, and what a task or a later version adds."""
    names = ERM.assign(file=(RUN, np.array([[["a.nc", "a.nc", "b.nc"]]], dtype=object)), more=(RUN, [[[1, 2, 3]]]))
    cube = cube_of(names, names.assign_coords(training_method=["sam"]).isel(seed=[1]))
    assert cube["file"].values[:, 0, 0].tolist() == [["a.nc", "a.nc", "b.nc"], ["", "a.nc", ""]]
    np.testing.assert_array_equal(cube["more"][:, 0, 0], [[1, 2, 3], [np.nan, 2, np.nan]])


def with_validation_errors(made):
    """The block with errors of three samples, those numbered 4, 7 and 8 in the dataset."""
    errors = np.random.default_rng(1).exponential(size=(1, 1, made.sizes["seed"], 3)).astype(np.float32)
    made = made.assign(validation_errors=((*RUN, "validation_sample"), errors, {"units": "m2"}))
    return made.assign_coords(validation_sample=[4, 7, 8])


def test_the_cube_has_the_errors_of_validation_samples_of_runs_that_completed():
    erm = with_validation_errors(ERM)
    sam = with_validation_errors(runs_with("sam", 0.1, [4.0], [0.1], "diverged"))
    found = cube_of(erm, sam)["validation_errors"]
    assert found["validation_sample"].values.tolist() == [4, 7, 8] and found.attrs["units"] == "m2"
    np.testing.assert_array_equal(
        found.sel(training_method="erm", rho=0.0).isel(data=0), erm["validation_errors"][0, 0]
    )
    assert found.sel(training_method="sam").isnull().all() and found.sel(rho=0.1).isnull().all()


@pytest.mark.parametrize("older", [[0], [1], [0, 1]])
def test_without_errors_of_validation_samples_in_every_block_the_cube_has_none(older):
    """Older versions did not write them."""
    blocks = [ERM, runs_with("sam", 0.1, [4.0], [0.1])]
    without = [one.drop_vars("validation_errors") for one in blocks]
    some = [without[i] if i in older else with_validation_errors(one) for i, one in enumerate(blocks)]
    assert cube_of(*some).identical(cube_of(*without))
    assert "validation_errors" not in cube_of(*without)


@pytest.mark.slow
def test_blocks_need_not_be_in_memory_together():
    given = []

    def blocks():
        for seed in range(20):
            gc.collect()
            assert sum(one() is not None for one in given) <= 1  # the last
            one = block("erm", 0.0, [seed], [[1.0, 2.0]], [[1.0, 1.0, 1.0]])
            given.append(weakref.ref(one))
            yield one

    cube = combine(blocks(), ERM, dataset())
    assert cube["seed"].values.tolist() == list(range(20))


PERIODS = [("2026-11-01T10:00:05", "2026-11-01T10:00:50"), ("2026-11-01T09:59:58", "2026-11-01T10:00:07")]


@pytest.mark.parametrize("without", [None, 0, 1])
def test_the_cube_says_when_the_first_training_began_and_the_last_one_ended(without):
    """Not where a run file of an older version does not say it."""
    blocks = [ERM, runs_with("sam", 0.1, [4.0], [0.1])]
    for i, (one, (started, ended)) in enumerate(zip(blocks, PERIODS, strict=True)):
        blocks[i] = one if i == without else one.assign_attrs(started=started, ended=ended)
    found = {name: text for name, text in cube_of(*blocks).attrs.items() if name in ("runs_started", "runs_ended")}
    known = {"runs_started": "2026-11-01T09:59:58", "runs_ended": "2026-11-01T10:00:50"}
    assert found == (known if without is None else {})


def test_a_run_file_says_when_training_began_and_ended_leaving_out_the_pause_of_a_resumed_one(tmp_path):
    settings, data = small.settings_of("pendulum"), small.dataset_of("pendulum", tmp_path)
    checkpoint = Checkpoint(tmp_path / "checkpoint.safetensors", every_seconds=0)

    def period():
        before = datetime.now(UTC)
        made, _ = train_task(settings, data, Block("erm", 0.0, [0]), "cpu", checkpoint)
        started, ended = (datetime.fromisoformat(made.attrs[name]) for name in ("started", "ended"))
        assert before - timedelta(milliseconds=1) <= ended <= datetime.now(UTC)
        return before, started, ended, made.attrs["seconds"]

    before, started, ended, seconds = period()
    assert before - timedelta(milliseconds=1) <= started <= ended
    checkpoint.save(dataclasses.replace(checkpoint.load("cpu"), seconds=3600.0))
    before, started, ended, seconds = period()
    assert seconds >= 3600 and (ended - started).total_seconds() == pytest.approx(seconds, abs=0.002)


# From run files


@pytest.fixture
def runs(tmp_path):
    """The run files of erm and sam at two rhos, seeds 0 to 2, 5 and 6, beside dataset.nc and settings.json."""
    settings = small.settings_of("pendulum")
    (tmp_path / "settings.json").write_text(json.dumps(settings))
    records.write(dataset(synthetic="yes"), tmp_path / "dataset.nc", "dataset", "Data")
    data = fingerprint(records.read(tmp_path / "dataset.nc", "dataset"))
    rng, paths = np.random.default_rng(0), []
    for method, rho in (("erm", 0), ("sam", 0.05), ("sam", 0.1)):
        for seeds in ([0, 1], [2], [5, 6]):
            theta, y_error = rng.normal(size=(len(seeds), 2)), rng.exponential(size=(len(seeds), 3))
            made = block(method, float(rho), seeds, theta, y_error, ["completed", "diverged"][: len(seeds)])
            made["grad_norm_phi"] = (*RUN, "step"), rng.exponential(size=(1, 1, len(seeds), 1)).astype(np.float32)
            made.attrs |= {
                "configuration_hash": Block(method, rho, seeds).hash(settings, data),
                "seconds": rng.exponential(),
                "device": "GPU" if rho else "cpu",
            }
            path = tmp_path / f"runs/{method}/rho={rho}/seeds={seeds[0]}-{seeds[-1]}.nc"
            records.write(made, path, "runs", "Runs")
            paths.append(path)
    return paths


GRID = ["--grid", '{"erm": ["0"], "sam": ["0.05", "0.1"]}', "--seeds", "0-2", "5-6", "--seeds-per-job", "2"]


@pytest.fixture
def collected(runs, tmp_path):
    """Run the command on these files; returns its exit code."""

    def run(*arguments):
        files = ["--dataset", tmp_path / "dataset.nc", "--settings", tmp_path / "settings.json"]
        return main([*map(str, ["collect", tmp_path / "runs", *files, "--output", tmp_path / "cube.nc"]), *arguments])

    return run


@pytest.mark.slow
@pytest.mark.parametrize(
    "arguments", [GRID, [], [*GRID, "--threads", "2"]], ids=["of a grid", "all that are found", "by two processes"]
)
def test_the_cube_holds_the_numbers_of_the_files_to_the_bit(runs, collected, tmp_path, arguments):
    assert collected(*arguments) == 0
    cube = records.read(tmp_path / "cube.nc", "cube")
    of_a_run = {"parameter": 2, "split": 3, "step": 1, "validation_sample": 2}
    assert cube.sizes == {"training_method": 2, "rho": 3, "data": 1, "seed": 5} | of_a_run
    assert int((cube["status"] != "missing").sum()) == 3 * 5
    assert cube.attrs["runs_device"] == "GPU | cpu"
    cube = cube.isel(data=0)
    for path in runs:
        made = xr.load_dataset(path)
        for seed in made["seed"].values:
            run = {"training_method": made["training_method"].item(), "rho": made["rho"].item(), "seed": seed}
            for name in (*FINAL, "skipped_updates", "theta_history", "grad_norm_phi", "status"):
                if name in FINAL and made["status"].sel(run) == "diverged":
                    assert cube[name].sel(run).isnull().all()
                    continue
                np.testing.assert_array_equal(cube[name].sel(run).values, made[name].sel(run).values, strict=False)
                assert cube[name].attrs == made[name].attrs
            assert tmp_path / cube["file"].sel(run).item() == path
            assert cube["seconds"].sel(run).item() == made.attrs["seconds"] / made.sizes["seed"]
    for name in ("parameter", "parameter_units", "split", "step", "learning_rate"):
        xr.testing.assert_identical(cube[name].variable, made[name].variable)
    missing = cube.where(cube["status"] == "missing", drop=True)
    assert missing.sizes["training_method"] and np.isnan(missing["theta"].sel(training_method="erm", rho=0.1)).all()


@pytest.mark.slow
def test_only_what_is_configured_is_collected(runs, collected, tmp_path):
    assert collected("--grid", '{"sam": ["0.1"]}', "--seeds", "0-1", "5-6", "--seeds-per-job", "2") == 0
    cube = records.read(tmp_path / "cube.nc", "cube")
    assert [cube[name].values.tolist() for name in RUN] == [["sam"], [0.1], [0, 1, 5, 6]]


def damage(path):
    path.write_bytes(path.read_bytes()[:5000])


def replace(path):
    path.write_text("some other file")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (damage, "not a readable NetCDF file (truncated or foreign)"),
        (replace, "not a readable NetCDF file (truncated or foreign)"),
        (Path.unlink, "no such file"),
        (lambda path: xr.Dataset().to_netcdf(path), "expected a hybridsam runs file, found some other NetCDF file"),
    ],
    ids=["truncated", "foreign", "missing", "not ours"],
)
@pytest.mark.parametrize(("number", "threads"), [(0, 1), (4, 2), (8, 1)])
def test_one_bad_file_among_many_is_named_and_no_cube_is_made(
    runs, collected, tmp_path, capsys, number, threads, change, message
):
    path = runs[number]
    change(path)
    assert collected(*GRID, "--threads", str(threads)) == 2
    assert capsys.readouterr().err.startswith(f"hybridsam: {path}: {message}")
    assert not (tmp_path / "cube.nc").exists()


def test_a_file_of_other_seeds_than_its_name_says_is_refused(runs, collected, capsys):
    first, second = runs[0], runs[2]
    second.write_bytes(first.read_bytes())
    assert collected(*GRID) == 2
    assert capsys.readouterr().err.startswith(f"hybridsam: {second}: this run file was made with another configuration")


@pytest.mark.slow
def test_run_files_of_another_configuration_or_of_other_data_are_refused_by_name(runs, tmp_path):
    settings, data = small.settings_of("pendulum"), records.read(tmp_path / "dataset.nc", "dataset")
    assert collect(settings, data, runs, tmp_path).sizes["seed"] == 5
    other_data = data.assign(other=("sample", np.zeros(data.sizes["sample"])))
    for task, own in ((small.settings_of("pendulum", model={"hidden": [9]}), data), (settings, other_data)):
        with pytest.raises(UserError, match=r"erm/rho=0/seeds=0-1\.nc: this run file was made with another config"):
            collect(task, own, runs, tmp_path)


@pytest.mark.slow
def test_the_cube_leads_to_the_run_files_from_where_it_lies(runs, tmp_path):
    settings, data = small.settings_of("pendulum"), records.read(tmp_path / "dataset.nc", "dataset")
    for folder, before in ((tmp_path, "runs"), (tmp_path / "runs/erm", ".."), (tmp_path / "elsewhere", "../runs")):
        files = collect(settings, data, runs, folder)["file"]
        found = files.sel(training_method="sam", rho=0.1, seed=6).item()
        assert found == f"{before}/sam/rho=0.1/seeds=5-6.nc"
        assert files.sel(training_method="erm", rho=0.1, seed=6).item() == ""


def test_without_run_files_there_is_no_cube(collected, runs, capsys):
    for path in runs:
        path.unlink()
    assert collected() == 2
    assert capsys.readouterr().err == "hybridsam: collect: no run files were found\n"


@pytest.mark.slow
def test_the_command_of_many_seeds_fits_on_a_line(fresh):
    """Linux refuses a shell command of 128 KiB or more."""

    def command(seeds):
        configuration = fresh.configure({"tasks": ["pendulum"], "seeds": list(range(seeds)), "seeds_per_job": 1})
        [job] = [
            job
            for job in fresh.plan("results/test/pendulum/cube.nc", configuration=configuration)
            if job.rule == "collect"
        ]
        return job.command

    assert len(command(100)) == len(command(10)) + len("99") - len("9")
