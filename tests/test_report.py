"""What the report says of origins of data, changed sizes and what can be known, from small tables and cubes."""

import json

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from hybridsam import overview, pages

CREDIT = {"attribution": "Gamella & others", "licence": "CC BY 4.0"}


def cube(synthetic="yes", title="Wind <tunnel>", changes=None, **attributes):
    """The attributes of a cube that the entry page reads."""
    about = {"synthetic": synthetic, "task_title": title, "changes": json.dumps(changes or {})}
    return xr.Dataset(attrs=about | attributes)


CUBES = {
    "pendulum": cube(title="Pendulum"),
    "wind": cube("twin", **CREDIT),
    "light": cube("twin", "Light", **CREDIT),
    "sensors": cube("no", "Sensors", **CREDIT),
}


def test_the_head_names_the_twins_and_what_was_left_out():
    head = overview.head("<my> experiment", CUBES, "sensors heat")
    assert "<h1>Experiment &lt;my&gt; experiment</h1>" in head
    assert "<strong>SYNTHETIC TWIN: wind, light.</strong>" in head
    assert "Left out, for want of their measured data: sensors, heat." in head


def test_the_head_says_nothing_about_what_there_is_not():
    head = overview.head("laptop", {name: CUBES[name] for name in ("pendulum", "sensors")}, "")
    assert head == "<h1>Experiment laptop</h1>"


@pytest.mark.parametrize(("task", "origin"), [("pendulum", "simulated"), ("sensors", "measured")])
def test_heading_and_link_of_a_task_say_what_its_data_are(task, origin):
    heading = pages.heading(CUBES[task])
    assert f"<p>Data: {origin}." in heading
    assert "SYNTHETIC TWIN" not in heading
    assert ("Gamella &amp; others, CC BY 4.0" in heading) == (task == "sensors")
    assert f"({origin})" in overview.links({task: CUBES[task]})


def test_heading_and_link_of_a_twin_say_so_and_do_not_credit_its_numbers_to_others():
    heading = pages.heading(CUBES["wind"])
    assert heading.startswith("<h1>SYNTHETIC TWIN: Wind &lt;tunnel&gt;</h1><p>Data: SYNTHETIC TWIN.")
    assert "It imitates measurements of Gamella &amp; others, CC BY 4.0" in heading
    assert "<a href='wind.html'>Wind &lt;tunnel&gt;</a> (SYNTHETIC TWIN)" in overview.links({"wind": CUBES["wind"]})


def test_the_attribution_tells_what_is_imitated_from_what_is_used():
    text = overview.attribution(CUBES)
    twins = "wind (imitated by a SYNTHETIC TWIN), light (imitated by a SYNTHETIC TWIN)"
    assert text == f"<ul><li>{twins}, sensors: Gamella &amp; others (CC BY 4.0)</li></ul>"
    assert overview.attribution({"pendulum": CUBES["pendulum"]}) == "<p>All data are simulated.</p>"


# Sizes

CHANGES = {
    "data.train.value": [200, 100],
    "data.split_by.value": ["window", "run"],
    "model.hidden": [[128, 128], [64]],
    "training.iterations": [20000, 100],
}


def test_changes_have_a_row_each_with_their_ratio():
    table = overview.changes({"wind": cube(changes=CHANGES), "pendulum": cube()})
    assert list(table.index) == [
        ("wind", name) for name in ("data.train", "data.split_by", "model.hidden", "training.iterations")
    ]
    assert table["task file"].tolist() == [200, "window", [128, 128], 20000]
    assert table["here"].tolist() == [100, "run", [64], 100]
    assert table["ratio"].tolist() == ["0.5", "", "", "0.005"]


def test_a_reduction_is_stated_in_words():
    text = overview.reduction({"wind": cube(changes=CHANGES), "pendulum": cube()})
    assert "iterations are 0.5 % to 100 % and training samples are 50 % to 100 % of those in the task files" in text
    other = cube(changes={"training.iterations": [20000, 1000]})
    assert "iterations are 0.5 % to 5 % and" in overview.reduction({"wind": cube(changes=CHANGES), "other": other})


@pytest.mark.parametrize("changes", [{}, {"training.iterations": [100, 200]}, {"model.hidden": [[8], [4]]}])
def test_no_reduction_is_claimed_where_there_is_none(changes):
    assert "Sizes are reduced" not in overview.reduction({"wind": cube(changes=changes)})


# What can be known about theta


@pytest.fixture
def folder(tmp_path):
    """A task's folder with an identifiability table of this rank, for three parameters."""

    def write(rank, identifiable=(False, False, True)):
        rows = {"parameter": ["w", "t", "r"], "rank": rank, "identifiable": list(identifiable), "data": "simulated"}
        pd.DataFrame(rows).to_csv(tmp_path / "identifiability.csv", index=False)
        return tmp_path

    return write


def test_what_cannot_be_identified_is_named(folder):
    text = pages.identified(folder(2))
    assert "depends on 2 of 3 directions of θ only" in text
    assert text.endswith("whatever its θ-error: w, t.</p>")


def test_full_rank_is_said_as_such(folder):
    assert pages.identified(folder(3, (True,) * 3)) == "<p>The science alone depends on all 3 directions of θ.</p>"


# Figure of theta errors


def errors(mean, **columns):
    table = pd.DataFrame({"task": ["wind", "wind"], "method": ["erm", "sam"], "rule": "validation", "n": [2, 2]})
    return table.assign(theta_relative_error_mean=mean, theta_relative_error_sd=0.1, **columns)


def test_a_figure_of_theta_errors_counts_its_runs():
    text = overview.theta_summary(errors([0.5, 0.2]), {"wind": CUBES["wind"]})
    assert "(n = 2)" in text
    assert "Without a known θ" not in text


def test_a_table_whose_runs_all_diverged_has_no_figure_of_theta_errors():
    """As the table of measured data may be, with its one task."""
    text = overview.theta_summary(errors(np.nan), {"wind": CUBES["wind"]})
    assert text == "<p>No run of these tasks ended with a θ-error: wind.</p>"


def test_a_table_without_known_theta_has_no_figure_of_theta_errors():
    table = errors(1.0).drop(columns=["theta_relative_error_mean", "theta_relative_error_sd"])
    assert overview.theta_summary(table, {}) == "<p>No task has a known θ, so there is no θ-error.</p>"
