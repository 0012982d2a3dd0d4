"""The cube, the errors, the selection rules and Table 1, against numbers worked out by hand."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

from hybridsam.errors import UserError
from hybridsam.evaluate import (
    RULES,
    collect,
    interval,
    runs_table,
    select,
    strengths,
)
from hybridsam.records import RUN
from hybridsam.tables import as_html, as_markdown, formatted, table_one

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
    return xr.Dataset(attrs={"truth": json.dumps(TRUTH), "noise": 0.1} | attrs)


def cube_of(*blocks, data=None):
    paths = {Path(f"task/runs/{i}.nc"): one for i, one in enumerate(blocks)}
    return collect(paths, dict.fromkeys(paths, "h"), dataset() if data is None else data, Path("task"))


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
    assert "–" in as_markdown(table_one({"task": selection}))


def test_a_block_of_another_configuration_is_refused_by_name():
    paths = {Path("task/runs/0.nc"): ERM}
    with pytest.raises(UserError, match=r"task/runs/0\.nc.*another configuration"):
        collect(paths, {Path("task/runs/0.nc"): "other"}, dataset(), Path("task"))
    with pytest.raises(UserError, match="no run files"):
        collect({}, {}, dataset(), Path("task"))


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
    assert "2 (1 diverged)" in as_markdown(table_one({"task": select(cube)}))


def test_a_method_of_which_all_runs_diverged_is_still_reported():
    cube = cube_of(ERM, runs_with("sam", 0.1, [9.0, 9.0, 9.0], [0, 0, 0], status="diverged"))
    row = select(cube).query("method == 'sam' and rule == 'validation'").iloc[0]
    assert (row["n"], row["diverged"]) == (0, 3)
    assert np.isnan(row["theta_error_mean"])
    table = table_one({"task": select(cube)})
    assert formatted(table, "validation").loc[("task", "sam"), "θ-error"] == "–"


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
    assert np.isnan(interval([1.0]))


def test_table_one_has_a_row_a_method_and_states_mean_and_spread():
    selection = select(cube_of(ERM, runs_with("sam", 0.1, [2.0, 2.5, 3.0], [0.1, 0.3, 0.5])))
    table = table_one({"first": selection, "second": selection})
    frame = formatted(table, "validation")
    assert frame.index.tolist() == [("first", "erm"), ("first", "sam"), ("second", "erm"), ("second", "sam")]
    assert frame.loc[("second", "sam"), "θ-error"] == "0.3 ± 0.2"
    assert frame.loc[("first", "sam"), "rho"] == "0.1"
    for rendered in (as_markdown(table), as_html(table)):
        assert rendered.count("0.3 ± 0.2") == 2 * 3
        assert "oracle" in rendered


def of_origin(synthetic):
    """The selection of a task whose data are of that origin."""
    return select(cube_of(ERM.assign_attrs(synthetic=synthetic)))


def test_twins_and_measured_data_are_refused_in_one_table():
    mixed = {"wind": of_origin("twin"), "light": of_origin("no"), "pendulum": of_origin("yes")}
    with pytest.raises(UserError, match=r"synthetic twins \(wind\) and measured data \(light\)"):
        table_one(mixed)
    for left_out in ("wind", "light"):
        assert len(table_one({task: frame for task, frame in mixed.items() if task != left_out}))


def test_a_table_with_a_twin_says_so_in_every_row_of_it_and_in_its_head():
    table = table_one({"wind": of_origin("twin"), "pendulum": of_origin("yes")})
    assert table.set_index("task").loc["wind", "data"].unique().tolist() == ["SYNTHETIC TWIN"]
    assert formatted(table, "validation").index.get_level_values("task").tolist() == [
        "SYNTHETIC TWIN: wind",
        "pendulum",
    ]
    for rendered in (as_markdown(table), as_html(table)):
        assert rendered.index("SYNTHETIC TWIN: the data of wind") < rendered.index("SYNTHETIC TWIN: wind")
    assert "SYNTHETIC" not in as_markdown(table_one({"light": of_origin("no")}))


def test_a_task_measures_errors_of_theta_in_its_own_way():
    def theta_metrics(theta, truth):
        return {"theta_error": (theta["a"] - truth["a"], "signed"), "theta_ratio": (theta["b"] / truth["b"], "ratio")}

    paths = {Path("task/runs/0.nc"): ERM}
    cube = collect(paths, {Path("task/runs/0.nc"): "h"}, dataset(), Path("task"), theta_metrics)
    theta = cube["theta"].sel({"method": "erm", "rho": 0.0})
    np.testing.assert_allclose(cube["theta_error"].values[0, 0], theta.sel(parameter="a") - 1.0)
    runs, row = runs_table(cube), select(cube).iloc[0]
    np.testing.assert_allclose(runs["theta_ratio"], theta.sel(parameter="b") / 2.0)
    assert row["theta_ratio_mean"] == pytest.approx(runs["theta_ratio"].mean())
    assert row["theta_error_meaning"] == "signed"
    assert "θ-error of task: signed." in as_markdown(table_one({"task": select(cube)}))
