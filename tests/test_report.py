"""What the report says of origins of data, changed sizes and what can be known, from small tables and cubes."""

import ast
import html
import json
import re

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from helpers.geometry import faults
from helpers.oscillator import diverging, make_dataset, make_results, results_of
from helpers.small import ROOT

from hybridsam.analysis.cube import THETA_ERROR
from hybridsam.analysis.experiment import elapsed_seconds
from hybridsam.core import records
from hybridsam.core.methods import in_order
from hybridsam.figures.summary import draw_theta_summary
from hybridsam.report import index_page, markdown_page, table_one
from hybridsam.report.numbers import duration, number

NOTEBOOK = ROOT / "notebooks/overview.ipynb"
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
    head = index_page.head("<my> experiment", CUBES, "sensors heat")
    assert "<h1>Experiment &lt;my&gt; experiment</h1>" in head
    assert "<strong>SYNTHETIC TWIN: wind, light.</strong>" in head
    assert "Left out, for want of their measured data: sensors, heat." in head


def test_the_head_says_nothing_about_what_there_is_not():
    head = index_page.head("laptop", {name: CUBES[name] for name in ("pendulum", "sensors")}, "")
    assert head == "<h1>Experiment laptop</h1>"


def test_the_attribution_tells_what_is_imitated_from_what_is_used():
    text = index_page.attribution(CUBES)
    twins = "wind (imitated by a SYNTHETIC TWIN), light (imitated by a SYNTHETIC TWIN)"
    assert text == f"<ul><li>{twins}, sensors: Gamella &amp; others (CC BY 4.0)</li></ul>"
    assert index_page.attribution({"pendulum": CUBES["pendulum"]}) == "<p>All data are simulated.</p>"


# Sizes

CHANGES = {
    "data.train.value": [200, 100],
    "data.split_by.value": ["window", "run"],
    "model.hidden": [[128, 128], [64]],
    "training.iterations": [20000, 100],
}


def test_changes_have_a_row_each_with_their_ratio():
    table = index_page.changes({"wind": cube(changes=CHANGES), "pendulum": cube()})
    assert list(table.index) == [
        ("wind", name) for name in ("data.train", "data.split_by", "model.hidden", "training.iterations")
    ]
    assert table["task file"].tolist() == [200, "window", [128, 128], 20000]
    assert table["here"].tolist() == [100, "run", [64], 100]
    assert table["ratio"].tolist() == ["0.5", "", "", "0.005"]


def test_a_reduction_is_stated_in_words():
    text = index_page.reduction({"wind": cube(changes=CHANGES), "pendulum": cube()})
    assert "iterations are 0.5 % to 100 % and training samples are 50 % to 100 % of those in the task files" in text
    other = cube(changes={"training.iterations": [20000, 1000]})
    assert "iterations are 0.5 % and training samples are 50 % of" in index_page.reduction(
        {"wind": cube(changes=CHANGES)}
    )
    assert "iterations are 0.5 % to 5 % and" in index_page.reduction({"wind": cube(changes=CHANGES), "other": other})


@pytest.mark.parametrize("changes", [{}, {"training.iterations": [100, 200]}, {"model.hidden": [[8], [4]]}])
def test_no_reduction_is_claimed_where_there_is_none(changes):
    text = index_page.reduction({"wind": cube(changes=changes)})
    assert "Sizes are reduced" not in text
    assert ("So are all other settings." in text) == ("<table" not in text) == (not changes)


# Figure of theta errors


def errors(centre, **columns):
    table = pd.DataFrame({"task": ["wind", "wind"], "method": ["erm", "sam"], "rule": "validation", "n": [2, 2]})
    table = table.assign(rho=[0, 0.05], failed=0, diverged=0, theta_error_meaning="distance")
    for end, factor in {"centre": 1.0, "low": 0.8, "high": 1.2}.items():
        table[f"theta_relative_error_{end}"] = factor * np.array(centre)
    return table.assign(**columns)


@pytest.mark.slow
def test_a_figure_of_theta_errors_counts_its_runs_and_names_its_interval():
    text = index_page.theta_summary(errors([0.5, 0.2], n=[5, 7]), {"wind": CUBES["wind"]})
    assert "median of the runs that did not fail (n = 5 to 7; none failed), at the ρ that other seeds choose." in text
    assert "Bars: its 95 % interval over seeds, and datasets where there are several, by the bootstrap (5 or" in text
    assert "Not shown" not in text and "Failed: " not in text
    few = errors([0.5, 0.2], theta_relative_error_low=np.nan, theta_relative_error_high=np.nan, failed=[1, 0])
    text = index_page.theta_summary(few, CUBES)
    assert "(n = 2; 1 failed)" in text and "interval" not in text and "Failed: diverged, or completed with an" in text


def test_the_figure_of_theta_errors_counts_the_runs_that_each_rule_chooses():
    """Rules may choose the same runs, so that a sum over rules would count them twice; what has no error counts too."""
    table = pd.concat([errors([0.5, np.nan], failed=[1, 2], diverged=[1, 2]).assign(rule=r) for r in ("a", "b")])
    assert "(n = 2; 3 diverged)" in index_page.theta_summary(table, {"wind": CUBES["wind"]})
    table.loc[table["rule"] == "b", ["failed", "diverged"]] = [3, 0]
    assert "(n = 2; a: 3 diverged; b: 6 failed)" in index_page.theta_summary(table, {"wind": CUBES["wind"]})


def test_the_figure_of_theta_errors_says_why_a_task_is_not_in_it():
    absent = pd.DataFrame({"task": ["lynx", "light"], "method": "erm", "theta_error_meaning": [np.nan, "distance"]})
    text = index_page.theta_summary(pd.concat([errors([0.5, 0.5]), absent]), CUBES)
    assert "Not shown, as θ is not known: lynx. Not shown, as all runs failed: light." in text


def test_a_table_whose_runs_all_failed_has_no_figure_of_theta_errors():
    """As the table of measured data may be, with its one task."""
    text = index_page.theta_summary(errors([np.nan, np.nan]), {"wind": CUBES["wind"]})
    assert text == "<p>No run of these tasks ended with a θ-error: wind.</p>"


def test_a_table_without_known_theta_has_no_figure_of_theta_errors():
    table = errors([1.0, 1.0]).drop(columns=[f"theta_relative_error_{end}" for end in ("centre", "low", "high")])
    assert index_page.theta_summary(table, {}) == "<p>No task has a known θ, so there is no θ-error.</p>"


# Times


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "0 s"),
        (0.057, "0.057 s"),
        (9.96, "10 s"),
        (20.5, "20 s"),
        (99.6, "100 s"),
        (101, "1.7 min"),
        (5999, "100 min"),
        (6001, "1.7 h"),
        (71.9 * 3600, "72 h"),
        (12.4 * 86400, "12 days"),
        (np.nan, "unknown"),
    ],
)
def test_times_have_a_unit_that_suits_them(seconds, words):
    assert duration(seconds) == words


def test_elapsed_time_is_from_the_first_start_to_the_last_end():
    """Whatever the offset from UTC that the times are written with."""
    one = cube(runs_started="2026-11-01T23:59:30+00:00", runs_ended="2026-11-02T00:00:30+00:00")
    other = cube(runs_started="2026-11-02T01:00:10.500+01:00", runs_ended="2026-11-02T00:01:00+00:00")
    assert elapsed_seconds([one]) == 60
    assert elapsed_seconds([one, other]) == 90
    assert elapsed_seconds([other]) == 49.5
    assert np.isnan(elapsed_seconds([one, cube()]))  # made by an older version


# The entry page

TASKS = ("normal", "one_seed", "some_diverged", "everything_diverged", "unknown_truth", "only_erm", "twin")
HARD = ("failed", "infinite_errors", "single_run", "one_parameter", "decades", "long_names_unknown")


def write_experiment(folder, tasks):
    """The files of an experiment with a task for each of these cases of test_plots."""
    selections = {}
    for task in tasks:
        results = results_of(task, folder / task)
        settings = {"training": {"iterations": 100}, "model": {}, "module": "hybridsam.tasks.pendulum"}
        results.cube.attrs["configuration"] = json.dumps(settings)
        if task != "one_seed":
            results.cube.attrs |= {"runs_started": "2026-11-01T10:00:00Z", "runs_ended": "2026-11-01T10:03:00Z"}
        records.write(results.cube, folder / task / "cube.nc", "cube", "test")
        n = results.cube.sizes["parameter"]
        known = {"parameter": results.cube["parameter"].values, "rank": n - (task == "twin"), "data": results.data}
        known |= {"science_only": np.logspace(-6, 5, n), "least_norm": np.nan}
        pd.DataFrame(known).to_csv(folder / task / "identifiability.csv", index=False)
        (folder / task / "figures").mkdir()
        pd.DataFrame({"rule": ["validation"]}).to_csv(folder / task / "figures/theta_training.csv", index=False)
        selections[task] = results.selection
    table_one.table_one(selections).to_csv(folder / "table.csv", index=False)
    return folder


@pytest.fixture(scope="module")
def experiment(tmp_path_factory):
    """The files of an experiment with a task for each of TASKS."""
    return write_experiment(tmp_path_factory.mktemp("entry page") / "results/made_up", TASKS)


def read(folder):
    """The tables and cubes of an experiment."""
    found = index_page.tables(folder, "table table_measured")
    return found, index_page.cubes(folder, found)


def rows_of(table):
    """The rows of tables in HTML, heading -> text, by their first cell, or by number where that is empty."""
    found = {}
    for part in table.split("</table>"):
        rows = [re.findall("<t[hd][^>]*>(.*?)</t[hd]>", row, re.DOTALL) for row in part.split("</tr>")]
        texts = [
            [html.unescape(re.sub("<[^>]*>", "", cell)).replace("\xa0", " ") for cell in row] for row in rows if row
        ]
        found |= {row[0] or len(found) + i: dict(zip(texts[0], row, strict=True)) for i, row in enumerate(texts[1:])}
    return found


@pytest.fixture(scope="module")
def verdict(experiment):
    """task -> its row in the table of what came out."""
    rows = rows_of(index_page.verdict(experiment, *read(experiment)))
    assert {name for name in rows if isinstance(name, str)} == {*TASKS[:-1], "SYNTHETIC TWIN: twin"}
    return rows


def chosen(table, task):
    """The rows of a task in Table 1 by the rule of the figures."""
    return table[(table["task"] == task) & (table["rule"] == "validation")].set_index("method")


@pytest.mark.slow
@pytest.mark.parametrize("task", ["normal", "some_diverged"])
def test_the_verdict_has_the_numbers_of_table_1(experiment, verdict, task):
    """The nearest to the truth, its error in percent, how the others compare, and what it costs in prediction.

    By hand: the method with the fewest failed runs and, of those, the lowest error.
    """
    rows = chosen(pd.read_csv(experiment / "table.csv"), task)
    nearest, lowest = (rows.sort_values(["failed", name]).index[0] for name in ("theta_error_rms", "y_error_centre"))
    percent = number(100 * rows.loc[nearest, "theta_relative_error_rms"], 2)
    assert verdict[task]["nearest to the true θ"] == f"{nearest}: {percent} %, n = {rows.loc[nearest, 'n']}"
    others = in_order(set(rows.index) - {nearest})
    ratios = [f"{name} × {number(rows.loc[name, 'theta_error_ratio'], 2)}" for name in others]
    assert verdict[task]["the others"] == f"cannot be told: {', '.join(ratios)}"
    ratio = number(rows.loc[nearest, "y_error_ratio"], 2)
    cost = "the lowest" if nearest == lowest else f"cannot be told from that of {lowest}, × {ratio}"
    assert verdict[task]["y-error"] == cost
    assert "<strong>" not in index_page.verdict(experiment, *read(experiment)).replace("<strong>1 of 2</strong>", "")


def compared(experiment, standings):
    """The row of the entry page of the first task, with these standings: method -> of θ, its ratio, of y, its ratio."""
    found, cubes = read(experiment)
    for name, values in standings.items():
        of_method = (found["table"]["task"] == "normal") & (found["table"]["method"] == name)
        for column, value in zip(("theta_error", "y_error"), (values[:2], values[2:]), strict=True):
            found["table"].loc[of_method, [f"{column}_standing", f"{column}_ratio"]] = value
    page = index_page.verdict(experiment, found, cubes)
    return rows_of(page)["normal"], "<strong>sam</strong>" in page


@pytest.mark.slow
def test_the_verdict_says_in_words_how_methods_compare(experiment):
    best = ("best", np.nan)
    standings = {"erm": ("worse", 18.4, *best), "l2reg": ("failed", np.nan, "failed", np.nan)}
    standings |= {"sam": (*best, "worse", 1.84), "fsam": ("equivalent", 1.04, "inconclusive", 1.2)}
    row, bold = compared(experiment, standings)
    assert bold and row["the others"] == "equivalent: fsam × 1.0; worse: erm × 18; every run failed: l2reg"
    assert row["y-error"] == "worse than that of erm, × 1.8"
    row, bold = compared(experiment, standings | {"fsam": ("inconclusive", 1.2, *best), "erm": ("worse", np.nan) * 2})
    assert not bold and row["the others"] == "worse: erm; cannot be told: fsam × 1.2; every run failed: l2reg"
    row, bold = compared(experiment, standings | {"sam": (*best, "inconclusive", np.nan)})
    assert row["y-error"] == "cannot be told from that of erm"
    row, bold = compared(experiment, {name: ("equivalent", 1.0, "equivalent", 1.1) for name in standings} | {
        "sam": (*best, "equivalent", 1.1), "fsam": ("equivalent", 1.0, *best)})  # fmt: skip
    assert not bold and row["y-error"] == "equivalent to that of fsam, × 1.1"  # of equal methods none stands out


def best_of(standings, ratio=1.3):
    """A row of the table of what came out, where the others compare so with erm."""
    methods = ["erm", *standings]
    rows = {"method": methods, "n": 10, "theta_error_rms": 0.1, "theta_relative_error_rms": 0.016}
    for name in ("theta_error", "y_error"):
        rows |= {
            f"{name}_standing": ["best", *standings.values()],
            f"{name}_ratio": [np.nan] + [ratio] * len(standings),
        }
    cube = xr.Dataset({"theta_error": ((), 0.0, {"long_name": THETA_ERROR})}, attrs={"synthetic": "yes"})
    return index_page._theta_verdict(pd.DataFrame(rows).set_index("method"), cube)


@pytest.mark.parametrize(
    ("standings", "bold", "others"),
    [
        ({"sam": "worse", "fsam": "equivalent"}, True, "equivalent: fsam × 1.3; worse: sam × 1.3"),
        ({"sam": "worse", "fsam": "inconclusive"}, False, "worse: sam × 1.3; cannot be told: fsam × 1.3"),
        ({"sam": "equivalent"}, False, "equivalent: sam × 1.3"),
    ],
)
def test_a_method_is_bold_where_the_runs_show_that_it_is_the_best(standings, bold, others):
    found = best_of(standings)
    assert (
        found["nearest to the true θ"].replace("\xa0", " ")
        == f"{'<strong>erm</strong>' if bold else 'erm'}: 1.6 %, n = 10"
    )
    assert found["the others"].replace("\xa0", " ") == others


@pytest.mark.slow
def test_the_verdict_says_what_is_not_known(verdict):
    unknown, diverged, single = (verdict[task] for task in ("unknown_truth", "everything_diverged", "one_seed"))
    assert "nearest to the true θ" not in unknown and unknown["y-error"].startswith("lowest: ")
    assert diverged["nearest to the true θ"] == diverged["y-error"] == "every run failed"
    assert single["the others"].startswith("cannot be told: erm × ")
    alone = verdict["only_erm"]
    assert re.fullmatch(r"erm: [0-9.]+ %, n = 3", alone["nearest to the true θ"])
    assert alone["the others"] == "none to compare" and alone["y-error"] == "–"
    ranks = {name: row["directions of θ in the science"] for name, row in verdict.items() if isinstance(name, str)}
    assert ranks == dict.fromkeys(TASKS[:-1], "2 of 2") | {"SYNTHETIC TWIN: twin": "1 of 2"}


@pytest.mark.slow
def test_without_truth_the_verdict_has_theta_itself_and_what_can_be_said_of_it(experiment, verdict):
    """By hand from the cube: the method by its validation error, the ends over its seeds and over methods' medians.

    Every seed is taken at the rho that the other two have the lowest mean validation error at. All numbers have an
    exponent, as the science alone gives 1e-6.
    """
    row, table = verdict["unknown_truth"], chosen(pd.read_csv(experiment / "table.csv"), "unknown_truth")
    with xr.open_dataset(experiment / "unknown_truth/cube.nc") as cube:
        errors, k = cube["y_error"].sel(split="validation").isel(data=0), cube["theta"].isel(data=0, parameter=0)
        theta, mean_error = {}, {}
        for name in table.index:
            own = errors.sel(training_method=name).dropna("rho", how="all")
            rhos = [own.drop_sel(seed=seed).mean("seed").idxmin("rho").item() for seed in range(3)]
            runs = {"rho": xr.DataArray(rhos, dims="run"), "seed": xr.DataArray(range(3), dims="run")}
            theta[name] = k.sel(training_method=name).sel(runs).values
            mean_error[name] = np.log(own.sel(runs)).mean().item()
    method, medians = min(mean_error, key=mean_error.get), {name: np.median(own) for name, own in theta.items()}
    own = theta[method]
    assert row["θ"] == f"k = {np.median(own):.2e} N m⁻¹"
    assert row["spread over seeds"] == f"{own.min():.2e} to {own.max():.2e} ({method}, n = 3)"
    low, high = min(medians, key=medians.get), max(medians, key=medians.get)
    assert row["methods"] == f"{medians[low]:.2e} ({low}) to {medians[high]:.2e} ({high})"
    assert float(row["science alone"]) == 1e-6
    assert row["arrived"] == "in 0 of 12 runs"
    [mass] = [row for name, row in verdict.items() if not isinstance(name, str)]  # the row below
    assert mass["θ"].startswith("mass = ") and mass["arrived"] == "in 0 of 12 runs, hardly left its start in 12"
    assert (
        "–" not in {*row.values(), *mass.values()} and mass["y-error"] == mass["directions of θ in the science"] == ""
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("how", "texts"),
    [
        ({"seeds": 1, "grid": {"sam": [0.05]}}, {"spread over seeds": "(sam, n = 1)", "methods": "–"}),
        ({"diverged": diverging(0, 1, 2)}, {"θ": "every run failed", "y-error": "every run failed", "arrived": ""}),
        ({"diverged": diverging(0)}, {"arrived": "in 0 of 8 runs"}),
    ],
    ids=["one run", "all diverged", "one diverged each"],
)
def test_without_truth_and_without_runs_the_verdict_says_so(how, texts, tmp_path):
    results = make_results(tmp_path / "a", dataset=make_dataset(truth=False), **how)
    table = table_one.table_one({"a": results.selection})
    (tmp_path / "a/figures").mkdir()
    pd.DataFrame({"rule": ["validation"]}).to_csv(tmp_path / "a/figures/theta_training.csv", index=False)
    known = {"parameter": ["k", "mass"], "rank": 2, "data": "measured", "science_only": [1.0, 5.0]}
    known["science_only_at_bound"] = [np.nan, 5.0]
    pd.DataFrame(known).to_csv(tmp_path / "a/identifiability.csv", index=False)
    page = index_page.verdict(tmp_path, {"table": table}, {"a": results.cube})
    first, *others = rows_of(page).values()
    assert {name: first.get(name, "") for name in texts} == texts
    assert [row["science alone"] for row in others] == ["5.00, its bound"] * (first["θ"] != "every run failed")
    assert "Nearest to the true θ" not in page and "no interval for the truth" in page


@pytest.mark.slow
def test_the_verdict_of_a_theta_error_of_another_kind_says_which(experiment):
    found, cubes = read(experiment)
    own = cubes["normal"]["theta_error"].assign_attrs(long_name="1 − cosine")
    cubes["normal"] = cubes["normal"].assign(theta_error=own)
    row = rows_of(index_page.verdict(experiment, found, cubes))["normal"]
    rows = chosen(found["table"], "normal")
    nearest = rows["theta_error_rms"].idxmin()
    error = number(rows.loc[nearest, "theta_error_rms"], 2)
    assert row["nearest to the true θ"] == f"{nearest}: {error} (1 − cosine), n = 3"


@pytest.mark.slow
def test_sizes_and_times_of_what_was_run(experiment):
    _, cubes = read(experiment)
    sizes = index_page.sizes(cubes)
    expected = ["Oscillator", "simulated", "2, 2, 2", 100, "3", "21 completed", "7 s (3 min)"]
    assert sizes.loc["normal"].tolist() == expected
    assert sizes.loc["one_seed"].iloc[-1] == "7 s (unknown)"
    assert sizes.loc["some_diverged", "runs"] == "16 completed, 5 diverged"
    assert sizes.loc["everything_diverged", "runs"] == "21 diverged"
    assert "to the end of the last one: unknown, as some run files" in index_page.in_all(cubes)
    assert "to the end of the last one: 3 min. " in index_page.in_all({"normal": cubes["normal"]})


@pytest.mark.slow
def test_what_tasks_have_in_common_is_said_once(experiment):
    _, cubes = read(experiment)
    assert list(index_page.provenance(cubes)) == ["all tasks"]
    rhos = index_page.rhos(cubes)
    same = ", ".join(task for task in TASKS if task != "only_erm")
    assert rhos[same].to_dict() == {"erm": "0", "l2reg": "1e-4", "sam": "0.02, 0.05, 0.2", "fsam": "0.05, 0.1"}
    assert rhos["only_erm"].to_dict() == {"erm": "0", "l2reg": "–", "sam": "–", "fsam": "–"}


def entry_page(folder, monkeypatch):
    """Every cell of the notebook, opened in a folder below the results; only the experiment's name is filled in."""
    monkeypatch.chdir(folder)
    code = [cell for cell in json.loads(NOTEBOOK.read_text())["cells"] if cell["cell_type"] == "code"]
    names, page = {}, ""
    for cell in code:
        *statements, last = ast.parse("".join(cell["source"])).body
        if isinstance(last, ast.Expr):
            exec(compile(ast.Module(statements, []), str(NOTEBOOK), "exec"), names)
            page += eval(ast.unparse(last), names).data
        else:  # the cell of parameters
            exec("".join(cell["source"]), names)
            names["experiment"] = "made_up"
    text = re.sub('src="[^"]*"', "", page)
    assert {"nan", "inf", "<na>"} & set(re.findall(r"[<\w>]+", text.lower())) == set()
    assert ">None<" not in text and "<tbody>\n  </tbody>" not in text
    return page


@pytest.mark.slow
def test_the_entry_page_shows_every_kind_of_result(experiment, monkeypatch):
    page = entry_page(experiment, monkeypatch)
    assert page.startswith("<h1>Experiment made_up</h1>") and "SYNTHETIC TWIN: twin" in page
    assert {f"<a href='{task}.html'>" for task in TASKS} <= set(re.findall("<a href=[^>]*>", page))
    assert "none: 3 diverged" in page and "No θ-error of unknown_truth" in page


@pytest.mark.slow
@pytest.mark.parametrize("tasks", [HARD, ("everything_diverged",), ("long_names_unknown",)], ids=" ".join)
def test_hard_cases_are_written_without_holes(tasks, tmp_path, monkeypatch):
    """On the entry page and in Markdown: no NaN, no empty table; what failed is counted, and ranks last."""
    folder = write_experiment(tmp_path / "results/made_up", tasks)
    page = entry_page(folder, monkeypatch)
    found, cubes = read(folder)
    diagnoses = {task: pd.read_csv(folder / task / "identifiability.csv") for task in tasks}
    markdown = markdown_page.as_page(found["table"], cubes, diagnoses, "snakemake")
    words = re.sub("none(?=: | is inconclusive| is the lowest)", "", markdown).lower()
    assert not {"nan", "inf", "none"} & set(re.findall(r"[\w]+", words))
    assert "| 1.000e-06 " in markdown or "long_names_unknown" not in tasks
    rows = rows_of(index_page.verdict(folder, found, cubes))
    assert ("heat_transfer_coefficient_of_wall_3 = " in page) == ("long_names_unknown" in tasks)
    assert ("heat_transfer_coefficient_of_wall_3 " in markdown) == ("long_names_unknown" in tasks)
    for text in (page, markdown):
        assert ("2 (1 failed)" in text) == ("1 (2 failed, 1 of them diverged)" in text) == ("failed" in tasks)
    if "failed" in tasks:
        assert rows["failed"]["nearest to the true θ"].startswith("l2reg")  # of which alone no run failed
        assert rows["infinite_errors"]["y-error"] == "every run failed"
        assert index_page.sizes(cubes).loc["failed", "runs"] == "19 completed (5 of them failed), 2 diverged"
        some = {task: cubes[task] for task in ("failed", "infinite_errors")}
        assert "22 runs completed and 2 diverged, 0 are missing; 10 failed, 2 of them div" in index_page.in_all(some)


@pytest.mark.slow
@pytest.mark.parametrize("tasks", [["a"], ["wind"] * 3, ["heat_through_the_wall_of_a_furnace\n(SYNTHETIC TWIN)"] * 7])
@pytest.mark.parametrize("errors_of", [[0.1, 0.2], [1e-9, 1e3]], ids=str)
def test_the_figure_of_theta_errors_has_room_for_long_names_and_many_decades(tasks, errors_of):
    tasks = [f"{number}_{task}" for number, task in enumerate(tasks)]
    methods = ["erm", "l2reg", "freg", "sam", "asam", "a_method_of_my_own"]
    index = pd.MultiIndex.from_product([["validation", "oracle"], tasks, methods], names=["rule", "task", "method"])
    centres = np.geomspace(*errors_of, len(index))
    table = pd.DataFrame({"centre": centres, "low": centres / 2, "high": 2 * centres}, index).reset_index()
    assert faults(draw_theta_summary(table, "Error of θ at the ρ that each rule chooses")) == []
