"""The cube, the errors and the selection rules, against numbers worked out by hand."""

import dataclasses
import gc
import json
import sys
import weakref
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from helpers import small
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from hybridsam.__main__ import main
from hybridsam.analysis.cube import collect, runs_table
from hybridsam.analysis.selection import RULES, select, strengths
from hybridsam.analysis.significance import interval
from hybridsam.core import records
from hybridsam.core.errors import UserError
from hybridsam.core.provenance import configuration_hash
from hybridsam.core.records import RUN
from hybridsam.training.block import train_task
from hybridsam.training.checkpoint import Checkpoint

TRUTH = {"a": 1.0, "b": 2.0}
SPLITS = ["train", "validation", "test"]


def block(method, rho, seeds, theta, y_error, status="completed", configuration_hash="h"):
    """A block of runs with theta (seed, 2) and y_error (seed, 3)."""
    n = len(seeds)
    theta, y_error = np.reshape(theta, (1, 1, n, 2)), np.reshape(y_error, (1, 1, n, 3))
    return xr.Dataset(
        {
            "theta": ((*RUN, "parameter"), theta),
            "y_error": ((*RUN, "split"), y_error),
            "status": (RUN, np.full((1, 1, n), status, dtype=object)),
            "skipped_updates": (RUN, np.zeros((1, 1, n), dtype=int)),
            "theta_history": ((*RUN, "step", "parameter"), theta[..., None, :]),
            "learning_rate": ("step", [1e-3]),
            "prediction": ((*RUN, "example"), np.ones((1, 1, n, 1))),
        },
        coords={
            "method": [method],
            "rho": [rho],
            "seed": list(seeds),
            "parameter": ["a", "b"],
            "parameter_units": ("parameter", ["m", "s"]),
            "split": SPLITS,
            "step": [0],
        },
        attrs={
            "synthetic": "yes",
            "source": "test",
            "configuration": "{}",
            "configuration_hash": configuration_hash,
            "git_commit": "c",
            "device": "cpu",
            "versions": "{}",
            "seconds": 6.0,
        },
    )


def dataset(**attrs):
    """Two samples to train on, one for validation and one for the test."""
    split = ("sample", ["train", "test", "train", "validation"])
    return xr.Dataset({"split": split}, attrs={"truth": json.dumps(TRUTH), "noise": 0.1} | attrs)


def cube_of(*blocks, data=None):
    paths = {Path(f"task/runs/{i}.nc"): one for i, one in enumerate(blocks)}
    data = dataset() if data is None else data
    return collect(paths.items(), dict.fromkeys(paths, "h"), blocks[0], data, Path("task"))


def runs_with(method, rho, validation, theta_errors, status="completed"):
    """A block whose seeds have these validation errors and theta errors (test error = 2 x validation error)."""
    theta = [[1.0 + error, 2.0] for error in theta_errors]
    return block(method, rho, range(len(validation)), theta, [[0.0, v, 2 * v] for v in validation], status)


ERM = runs_with("erm", 0.0, [1.0, 2.0, 3.0], [0.5, 0.6, 0.7])


def chosen(cube, method="sam"):
    """rule -> rho."""
    selection = select(cube)
    return selection[selection["method"] == method].set_index("rule")["rho"].to_dict()


def test_cube_holds_every_run_at_its_place_and_marks_the_missing():
    cube = cube_of(ERM, runs_with("sam", 0.1, [4.0], [0.1]), runs_with("sam", 0.05, [5.0], [0.2]))
    assert cube["rho"].values.tolist() == [0.0, 0.05, 0.1]
    assert cube["theta"].sel({"method": "sam", "rho": 0.05, "seed": 0, "parameter": "a"}).item() == 1.2
    assert cube["status"].sel({"method": "sam", "rho": 0.05, "seed": 1}).item() == "missing"
    assert cube["status"].sel({"method": "erm", "rho": 0.1, "seed": 0}).item() == "missing"
    assert np.isnan(cube["theta"].sel({"method": "erm", "rho": 0.1})).all()
    assert cube["file"].sel({"method": "sam", "rho": 0.1, "seed": 0}).item() == "runs/1.nc"
    assert cube["seconds"].sel({"method": "erm", "rho": 0.0}).values.tolist() == [2.0, 2.0, 2.0]
    assert "prediction" not in cube
    assert cube["samples"].to_series().to_dict() == {"train": 2, "validation": 1, "test": 1}
    assert len(runs_table(cube)) == 5


def test_blocks_of_one_strength_join_along_seeds():
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
    assert not any(name.startswith("theta") for name in selection)


def test_a_block_of_another_configuration_is_refused_by_name():
    paths = {Path("task/runs/0.nc"): ERM}
    with pytest.raises(UserError, match=r"task/runs/0\.nc.*another configuration"):
        collect(paths.items(), {Path("task/runs/0.nc"): "other"}, ERM, dataset(), Path("task"))


def test_blocks_need_not_be_in_memory_together():
    given = []

    def blocks():
        for seed in range(20):
            gc.collect()
            assert sum(one() is not None for one in given) <= 1  # the last
            one = block("erm", 0.0, [seed], [[1.0, 2.0]], [[1.0, 1.0, 1.0]])
            given.append(weakref.ref(one))
            yield Path(f"task/runs/{seed}.nc"), one

    expected = {Path(f"task/runs/{seed}.nc"): "h" for seed in range(20)}
    cube = collect(blocks(), expected, ERM, dataset(), Path("task"))
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
        made, _ = train_task(settings, data, "erm", 0.0, [0], "cpu", checkpoint)
        started, ended = (datetime.fromisoformat(made.attrs[name]) for name in ("started", "ended"))
        assert before - timedelta(milliseconds=1) <= ended <= datetime.now(UTC)
        return before, started, ended, made.attrs["seconds"]

    before, started, ended, seconds = period()
    assert before - timedelta(milliseconds=1) <= started <= ended
    checkpoint.save(dataclasses.replace(checkpoint.load("cpu"), seconds=3600.0))
    before, started, ended, seconds = period()
    assert seconds >= 3600 and (ended - started).total_seconds() == pytest.approx(seconds, abs=0.002)


# The command


@pytest.fixture
def runs(tmp_path):
    """Settings, the dataset's path and the run files of erm and sam at two strengths, seeds 0 to 2, 5 and 6."""
    settings = small.settings_of("pendulum")
    data = dataset(synthetic="yes")
    records.write(data, tmp_path / "dataset.nc", "dataset", "Data")
    data = records.read(tmp_path / "dataset.nc", "dataset")
    rng, paths = np.random.default_rng(0), []
    for method, rho in (("erm", 0), ("sam", 0.05), ("sam", 0.1)):
        for seeds in ([0, 1], [2], [5, 6]):
            theta, y_error = rng.normal(size=(len(seeds), 2)), rng.exponential(size=(len(seeds), 3))
            made = block(method, float(rho), seeds, theta, y_error, ["completed", "diverged"][: len(seeds)])
            made["grad_norm_phi"] = (*RUN, "step"), rng.exponential(size=(1, 1, len(seeds), 1)).astype(np.float32)
            made.attrs |= {
                "configuration_hash": configuration_hash(settings, data, method, rho, seeds),
                "seconds": rng.exponential(),
                "device": "GPU" if rho else "cpu",
            }
            path = tmp_path / f"runs/{method}/rho={rho}/seeds={seeds[0]}-{seeds[-1]}.nc"
            records.write(made, path, "runs", "Runs")
            paths.append(path)
    return json.dumps(settings), tmp_path / "dataset.nc", paths


GRID = ["--grid", '{"erm": ["0"], "sam": ["0.05", "0.1"]}', "--seeds", "0-2", "5-6", "--seeds-per-job", "2"]


@pytest.fixture
def collected(runs, tmp_path, monkeypatch):
    """Run the command on these files; returns its exit code."""

    def run(*arguments):
        settings, data, _ = runs
        command = ["collect", tmp_path / "runs", "--dataset", data, "--settings", settings, *arguments]
        monkeypatch.setattr(sys, "argv", ["hybridsam", *map(str, command), "--output", str(tmp_path / "cube.nc")])
        return main()

    return run


@pytest.mark.parametrize(
    "arguments", [GRID, [], [*GRID, "--threads", "2"]], ids=["of a grid", "all that are found", "by two processes"]
)
def test_the_cube_holds_the_numbers_of_the_files_to_the_bit(runs, collected, tmp_path, arguments):
    assert collected(*arguments) == 0
    cube = records.read(tmp_path / "cube.nc", "cube")
    assert cube.sizes == {"method": 2, "rho": 3, "seed": 5, "parameter": 2, "split": 3, "step": 1}
    assert int((cube["status"] != "missing").sum()) == 3 * 5
    assert cube.attrs["runs_device"] == "GPU | cpu"
    for path in runs[2]:
        made = xr.load_dataset(path)
        for seed in made["seed"].values:
            run = {"method": made["method"].item(), "rho": made["rho"].item(), "seed": seed}
            for name in ("theta", "y_error", "skipped_updates", "theta_history", "grad_norm_phi", "status"):
                np.testing.assert_array_equal(cube[name].sel(run).values, made[name].sel(run).values, strict=False)
                assert cube[name].attrs == made[name].attrs
            assert tmp_path / cube["file"].sel(run).item() == path
            assert cube["seconds"].sel(run).item() == made.attrs["seconds"] / made.sizes["seed"]
    for name in ("parameter", "parameter_units", "split", "step", "learning_rate"):
        xr.testing.assert_identical(cube[name].variable, made[name].variable)
    missing = cube.where(cube["status"] == "missing", drop=True)
    assert missing.sizes["method"] and np.isnan(missing["theta"].sel({"method": "erm", "rho": 0.1})).all()


def test_only_what_is_configured_is_collected(runs, collected, tmp_path):
    assert collected("--grid", '{"sam": ["0.1"]}', "--seeds", "0-1", "5-6", "--seeds-per-job", "2") == 0
    cube = records.read(tmp_path / "cube.nc", "cube")
    assert [cube[name].values.tolist() for name in RUN] == [["sam"], [0.1], [0, 1, 5, 6]]


def damage(path):
    path.write_bytes(path.read_bytes()[:5000])


def replace(path):
    path.write_text("some other file")


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
@pytest.mark.parametrize("number", [0, 4, 8])
def test_one_bad_file_among_many_is_named_and_no_cube_is_made(
    runs, collected, tmp_path, capsys, number, change, message
):
    path = runs[2][number]
    change(path)
    for threads in (1, 2):
        assert collected(*GRID, "--threads", threads) == 2
        assert capsys.readouterr().err.startswith(f"hybridsam: {path}: {message}")
    assert not (tmp_path / "cube.nc").exists()


def test_a_file_of_other_seeds_than_its_name_says_is_refused(runs, collected, capsys):
    first, second = runs[2][0], runs[2][2]
    second.write_bytes(first.read_bytes())
    assert collected(*GRID) == 2
    assert capsys.readouterr().err.startswith(f"hybridsam: {second}: this run file was made with another configuration")


def test_without_run_files_there_is_no_cube(collected, runs, capsys):
    for path in runs[2]:
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


# Selection


def test_rules_choose_lowest_validation_error_occam_and_oracle():
    cube = cube_of(
        ERM,
        runs_with("sam", 0.02, [1.0, 1.2, 1.4], [0.9, 0.9, 0.9]),  # best validation: mean 1.2, standard error 0.115
        runs_with("sam", 0.05, [1.2, 1.3, 1.4], [0.5, 0.5, 0.5]),  # mean 1.3: within one standard error
        runs_with("sam", 0.1, [1.5, 1.5, 1.5], [0.1, 0.1, 0.1]),  # outside, but nearest to the truth
    )
    assert chosen(cube) == {"validation": 0.02, "one_standard_error": 0.05, "oracle": 0.1}


def test_one_seed_has_no_standard_error_and_all_rules_still_choose():
    cube = cube_of(ERM, runs_with("sam", 0.02, [1.0], [0.9]), runs_with("sam", 0.05, [1.1], [0.5]))
    assert chosen(cube) == {"validation": 0.02, "one_standard_error": 0.02, "oracle": 0.05}
    row = select(cube).query("method == 'sam' and rule == 'validation'").iloc[0]
    assert row["n"] == 1
    assert np.isnan(row["theta_error_sd"])


def test_diverged_runs_are_counted_and_never_make_a_strength_look_better():
    bad = runs_with("sam", 0.1, [0.1, 0.1, 0.1], [0.0, 0.0, 0.0])
    bad["status"][0, 0, 1] = "diverged"
    cube = cube_of(ERM, runs_with("sam", 0.02, [1.0, 1.0, 1.0], [0.9, 0.9, 0.9]), bad)
    assert set(chosen(cube).values()) == {0.02}
    cube = cube_of(ERM, bad)
    row = select(cube).query("method == 'sam' and rule == 'oracle'").iloc[0]
    assert (row["n"], row["diverged"], row["n_paired"]) == (2, 1, 2)


def test_a_method_of_which_all_runs_diverged_is_still_reported():
    cube = cube_of(ERM, runs_with("sam", 0.1, [9.0, 9.0, 9.0], [0, 0, 0], status="diverged"))
    row = select(cube).query("method == 'sam' and rule == 'validation'").iloc[0]
    assert (row["n"], row["diverged"]) == (0, 3)
    assert np.isnan(row[["theta_error_mean", "theta_error_interval", "theta_error_p"]].astype(float)).all()
    assert (select(cube)["theta_error_standing"] == "").all()


def test_a_prediction_that_ran_away_on_validation_or_test_data_is_an_infinite_error():
    """Not one that is left out of the mean, which would make the strength look better than the others."""
    away = runs_with("sam", 0.1, [0.1, np.nan, 0.1], [0.1, 0.1, 0.1])
    cube = cube_of(ERM, away, runs_with("sam", 0.02, [0.5, 0.5, 0.5], [0.9, 0.9, 0.9]))
    assert runs_table(cube).query("rho == 0.1")["y_error"].tolist() == [0.2, np.inf, 0.2]
    assert chosen(cube) == {"validation": 0.02, "one_standard_error": 0.02, "oracle": 0.1}
    row = select(cube).query("method == 'sam' and rule == 'oracle'").iloc[0]
    assert row["y_error_mean"] == np.inf and np.isnan(row["y_error_interval"])
    assert row["y_error_standing"] == "untested" and row["theta_error_standing"] == "best"


def test_every_rule_compares_the_methods_at_its_own_strengths():
    """Against scipy, by the seeds: sam is best by the oracle, at rho = 0.1, and erm by the validation error."""
    small, large = [0.8, 0.9, 1.2], [0.1, 0.2, 0.1]
    cube = cube_of(ERM, runs_with("sam", 0.02, [1.0, 1.1, 1.2], small), runs_with("sam", 0.1, [5.0, 5.1, 5.2], large))
    selection = select(cube).set_index(["rule", "method"])
    of_rule = {rule: selection.loc[rule, "theta_error_standing"].to_dict() for rule in RULES}
    p = selection["theta_error_p"]
    assert of_rule["validation"]["erm"] == "best" and of_rule["oracle"] == {"erm": "worse", "sam": "best"}
    erm = [0.5, 0.6, 0.7]
    assert p["validation", "sam"] == pytest.approx(stats.ttest_rel(small, erm).pvalue)
    assert p["oracle", "erm"] == pytest.approx(stats.ttest_rel(erm, large).pvalue)
    assert np.isnan(p["oracle", "sam"])
    y = selection.loc["oracle", ["y_error_p", "y_error_standing"]]
    assert y.loc["erm", "y_error_standing"] == "best"
    assert y.loc["sam", "y_error_p"] == pytest.approx(stats.ttest_rel([10.0, 10.2, 10.4], [2.0, 4.0, 6.0]).pvalue)
    assert not [name for name in selection if name.startswith("theta_relative") and name.endswith(("_p", "_standing"))]


def test_the_selection_has_the_interval_of_every_mean():
    selection = select(cube_of(ERM, runs_with("sam", 0.1, [2.0, 2.5, 3.0], [0.1, 0.3, 0.5])))
    assert {name.removesuffix("_mean") for name in selection if name.endswith("_mean")} == {
        name.removesuffix("_interval") for name in selection if name.endswith("_interval")
    }
    row = selection.query("method == 'sam' and rule == 'validation'").iloc[0]
    assert row["theta_error_interval"] == pytest.approx(interval([0.1, 0.3, 0.5]))
    assert row["theta_error_interval"] == pytest.approx(row["theta_error_sd"] * 4.302653 / np.sqrt(3))


def test_differences_to_erm_are_paired_by_seed():
    cube = cube_of(ERM, runs_with("sam", 0.1, [2.0, 2.5, 3.0], [0.1, 0.3, 0.5]))
    row = select(cube).query("method == 'sam' and rule == 'validation'").iloc[0]
    assert row["theta_error_minus_erm"] == pytest.approx(-0.3)
    assert row["theta_error_minus_erm_sd"] == pytest.approx(0.1)
    assert row["y_error_minus_erm"] == pytest.approx(2 * 0.5)
    assert row["n_paired"] == 3
    fewer = select(cube_of(ERM, runs_with("sam", 0.1, [2.0, 2.5], [0.1, 0.3])))
    assert fewer.query("method == 'sam'")["n_paired"].tolist() == [2, 2, 2]


def test_without_erm_there_is_nothing_to_pair_with():
    selection = select(cube_of(runs_with("sam", 0.1, [2.0, 2.5], [0.1, 0.3])))
    assert selection["n_paired"].tolist() == [0, 0, 0]
    assert selection["theta_error_minus_erm"].isna().all()


@given(st.lists(st.floats(0.1, 10), min_size=1, max_size=6, unique=True), st.integers(0, 2**32 - 1))
def test_occam_never_chooses_a_weaker_strength_than_the_validation_rule(rhos, seed):
    rng = np.random.default_rng(seed)
    runs = pd.DataFrame(
        [
            {"rho": rho, "status": "completed", "validation_error": rng.exponential(), "theta_error": rng.exponential()}
            for rho in rhos
            for _ in range(3)
        ]
    )
    table = strengths(runs)
    best, occam = RULES["validation"](table), RULES["one_standard_error"](table)
    assert occam >= best
    assert table.loc[occam, "validation_error"] <= table.loc[best, ["validation_error", "standard_error"]].sum()
    assert table.loc[RULES["oracle"](table), "theta_error"] == runs.groupby("rho")["theta_error"].mean().min()


def test_interval_is_students():
    assert interval([1.0, 2.0, 3.0]) == pytest.approx(4.302653 / np.sqrt(3), rel=1e-6)
    assert np.isnan(interval([1.0])) and np.isnan(interval([1.0, np.inf]))


def test_a_task_measures_errors_of_theta_in_its_own_way():
    def theta_metrics(theta, truth):
        return {"theta_error": (theta["a"] - truth["a"], "signed"), "theta_ratio": (theta["b"] / truth["b"], "ratio")}

    paths = {Path("task/runs/0.nc"): ERM}
    cube = collect(paths.items(), {Path("task/runs/0.nc"): "h"}, ERM, dataset(), Path("task"), theta_metrics)
    theta = cube["theta"].sel({"method": "erm", "rho": 0.0})
    np.testing.assert_allclose(cube["theta_error"].values[0, 0], theta.sel(parameter="a") - 1.0)
    runs, row = runs_table(cube), select(cube).iloc[0]
    np.testing.assert_allclose(runs["theta_ratio"], theta.sel(parameter="b") / 2.0)
    assert row["theta_ratio_mean"] == pytest.approx(runs["theta_ratio"].mean())
    assert row["theta_error_meaning"] == "signed"
