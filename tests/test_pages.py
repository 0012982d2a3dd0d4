"""The pages of the tasks: what they say of every kind of result, and the notebook and the template."""

import ast
import base64
import contextlib
import io
import json
import os
import re
import shutil
import sys
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import papermill
import pytest
import xarray as xr
from bs4 import BeautifulSoup
from helpers import small
from helpers.marks import slow_but_for
from helpers.oscillator import GRID, TRUTH, results_of
from nbconvert import HTMLExporter
from PIL import Image

from hybridsam.core import records
from hybridsam.core.errors import UserError
from hybridsam.figures import registry
from hybridsam.report import fragments, table_one, task_page

sys.path.insert(0, str(small.ROOT / "benchmarks"))

import report as benchmark

from hybridsam.analysis import experiment as of_experiment
from hybridsam.analysis.cube import diverged_in_words, runs_table
from hybridsam.analysis.results import Results

NOTEBOOK = small.ROOT / "notebooks/task.ipynb"
PIXEL = base64.b64decode("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNgAAAAAgABSK+kcQAAAABJRU5ErkJggg==")
UNPAIRED = "There is no seed of which both erm and another method have a run that did not fail."
SAYS = {  # of what a case lacks, its page says
    "normal": [],
    "one_seed": ["There is one seed, so nothing says how much the results vary."],
    "some_diverged": ["5 of 21 runs diverged:"],
    "all_diverged": ["Every run of erm, sam failed: no estimate and no error.", UNPAIRED],
    "everything_diverged": [
        "Every run failed (21 diverged): there are no estimates and no errors.",
        "21 of 21 runs diverged:",
        UNPAIRED,
    ],
    "unknown_truth": ["The true θ is not known, so there is no θ-error.", "It is not known here."],
    "one_rho_without_erm": [UNPAIRED],
    "only_erm": [UNPAIRED],
    "twin": ["SYNTHETIC TWIN: Oscillator"],
    "failed": ["5 of 21 runs failed otherwise", "Failed: diverged, or completed"],
    "infinite_errors": [
        "Every run failed (3 failed): there are no estimates and no errors.",
        "Failed: diverged, or completed",
        "3 of 3 runs failed otherwise",
        UNPAIRED,
    ],
    "single_run": ["There is one seed, so nothing says how much the results vary.", UNPAIRED],
    "one_parameter_unknown": ["The true θ is not known, so there is no θ-error.", "It is not known here."],
    "long_names_diverged": [
        "Every run failed (21 diverged): there are no estimates and no errors.",
        "21 of 21 runs diverged:",
        UNPAIRED,
    ],
    "long_names_unknown": ["The true θ is not known, so there is no θ-error.", "It is not known here."],
    "decades": [],
}
TITLES = {"long_names_diverged": "Heat through", "long_names_unknown": "Heat through"}


@pytest.fixture(scope="module")
def experiment(tmp_path_factory):
    """case -> folder of an experiment with one task, oscillator, whose results are those of the case; made once."""
    made: dict[str, Path] = {}

    def make(case: str) -> Path:
        if case not in made:
            made[case] = tmp_path_factory.mktemp(case) / "results/made_up"
            write_task(made[case] / "oscillator", results_of(case, made[case] / "oscillator"))
        return made[case]

    return make


def write_task(folder: Path, results: Results) -> None:
    """All that the page of a task reads; of each figure the true table, and a pixel for the picture."""
    names = results.cube["parameter"].values.tolist()
    theta = {name: {"unit": "1", "start": 1.0} for name in names}
    results.cube.attrs["configuration"] = json.dumps({"module": "hybridsam.tasks.pendulum", "model": {"theta": theta}})
    results.cube.attrs["constants"] = json.dumps({"dt": {"value": 0.1, "unit": "s"}})
    records.write(results.cube, folder / "cube.nc", "cube", "test")
    results.selection.to_csv(folder / "selection.csv", index=False)
    table_one.table_one({folder.name: results.selection}).to_csv(folder.parent / "table.csv", index=False)
    known = {"parameter": names, "rank": len(names), "told_by_science": True, "data": results.data}
    pd.DataFrame(known).to_csv(folder / "identifiability.csv", index=False)
    (folder / "figures").mkdir()
    for name in registry.FIGURES:
        registry.tabulate(name, results).to_csv(folder / f"figures/{name}.csv", index=False)
        (folder / f"figures/{name}.png").write_bytes(PIXEL)


def shown_by(notebook: Path, folder: Path, **parameters: str) -> BeautifulSoup:
    """What the cells of a notebook show that is opened in this folder, run here instead of in a kernel."""
    namespace, page = {}, []
    with contextlib.chdir(folder):
        for cell in json.loads(notebook.read_text())["cells"]:
            if cell["cell_type"] == "code":
                *statements, last = ast.parse("".join(cell["source"])).body
                shown = isinstance(last, ast.Expr)
                exec(compile(ast.Module(statements if shown else [*statements, last], []), notebook, "exec"), namespace)
                page += [eval(ast.unparse(last), namespace).data] if shown else []
                namespace |= parameters if "parameters" in cell["metadata"].get("tags", []) else {}
    return BeautifulSoup("".join(page), "html.parser")


def rows_of(page: BeautifulSoup, column: str) -> list[list[str]]:
    """The rows of the first table that has a column of this name, the headings first."""
    for table in page.find_all("table"):
        rows = [[cell.get_text() for cell in row.find_all(["th", "td"])] for row in table.find_all("tr")]
        if column in rows[0]:
            return rows
    raise AssertionError(f"no table with a column {column}")


# The notebook


@pytest.mark.parametrize("case", slow_but_for(["normal"], SAYS))
def test_the_page_of_every_kind_of_result_is_built_and_says_what_is_missing(experiment, case):
    page = shown_by(NOTEBOOK, experiment(case), task="oscillator", experiment="made_up")
    text = page.get_text()
    assert page.h1.get_text().startswith("SYNTHETIC TWIN: " * (case == "twin") + TITLES.get(case, "Oscillator"))
    assert [words for words in SAYS[case] if words not in text] == []
    said_of_others = {words for other in SAYS.values() for words in other} - set(SAYS[case])
    assert [words for words in said_of_others if words in text] == []
    assert len(page.find_all("figure")) == len(registry.FIGURES)
    assert all(table.find("td") for table in page.find_all("table"))
    assert not {"nan", "inf", "none)", "<na>"} & set(re.findall(r"[<\w>)]+", text.lower()))
    assert "None" not in text and "Traceback" not in text


@pytest.mark.slow
def test_numbers_over_twelve_decades_share_their_style(experiment):
    """In every column of the page: all numbers have an exponent, or none has."""
    page = shown_by(NOTEBOOK, experiment("decades"), task="oscillator", experiment="made_up")
    with_exponent = 0
    for table in page.find_all("table"):
        rows = [[cell.get_text() for cell in row.find_all(["th", "td"])] for row in table.find_all("tr")]
        for *cells, heading in zip(*(row[::-1] for row in rows[::-1]), strict=False):  # a cell may span several rows
            numbers = [cell for cell in cells if re.match(r"[(+-]*\d+\.\d", cell)]
            if heading != "rho" and numbers:
                styles = {bool(re.search(r"e[+-]\d\d", number)) for number in numbers}
                assert len(styles) == 1, (heading, numbers)
                with_exponent += styles == {True}
    assert with_exponent > 5


def test_a_theta_that_did_not_arrive_is_named_on_the_page(experiment):
    text = shown_by(NOTEBOOK, experiment("normal"), task="oscillator", experiment="made_up").get_text()
    assert "theta.k has not arrived, and as much training again would add what is named, " in text
    assert "theta.mass has hardly left its start: erm in 3 of 3 runs (" in text
    assert "theta.mass changes nothing in steps of the size in which it is trained; " in text
    assert "1e-07 of the spread of the data" in text
    assert "Every θ left its start" not in text


@pytest.mark.slow
def test_why_runs_diverged_is_on_the_page(experiment):
    text = shown_by(NOTEBOOK, experiment("some_diverged"), task="oscillator", experiment="made_up").get_text()
    assert "sqrt(-0.1) at t = 3 s" in text


def test_theta_on_the_page_is_that_of_the_cube(experiment):
    """The rho with the lowest mean validation error, and theta of the runs that other seeds choose, by hand."""
    folder = experiment("normal")
    page = shown_by(NOTEBOOK, folder, task="oscillator", experiment="made_up")
    head, _, *rows = rows_of(page, "median [95 % interval]")  # below the heads stand the names of the index
    rows = [row[-len(head) + 1 :] for row in rows[: len(GRID)]]  # of k; the first row begins with it
    assert [row[0] for row in rows] == list(GRID)
    with xr.open_dataset(folder / "oscillator/cube.nc") as cube:
        for method, rho, n, median, least, most, bias, rms in rows:
            runs = cube.sel(training_method=method).isel(data=0)
            errors = runs["y_error"].sel(split="validation").to_pandas().loc[GRID[method]]  # (rho, seed)
            assert float(rho) == errors.mean(axis=1).idxmin() and n == "3"
            of_seeds = {seed: errors.drop(columns=seed).mean(axis=1).idxmin() for seed in errors}
            values = [runs["theta"].sel(rho=own, parameter="k", seed=seed).item() for seed, own in of_seeds.items()]
            written = [f"{value:.3g}" for value in (np.median(values), min(values), max(values))]
            assert [median, least, most] == [f"{float(text):.2f}" for text in written]
            off = np.array(values) - TRUTH["k"]
            half = 4.302652729911275 * off.std(ddof=1) / np.sqrt(3)
            found = [float(text) for text in re.findall(r"[-+.\d]+", bias)]
            np.testing.assert_allclose(found, off.mean() + np.array([0, -half, half]), atol=0.006)
            assert float(rms) == pytest.approx(np.sqrt(np.mean(off**2)), abs=0.006)


def test_errors_on_the_page_are_those_of_the_table(experiment, tmp_path):
    """A number that stands in table.csv alone is found on the page."""
    folder = tmp_path / "results/made_up"
    shutil.copytree(experiment("normal"), folder)
    table = pd.read_csv(folder / "table.csv")
    table.assign(y_error_centre=4321.0).to_csv(folder / "table.csv", index=False)
    page = shown_by(NOTEBOOK, folder, task="oscillator", experiment="made_up")
    head, *rows = rows_of(page, "y-error, geometric mean")
    assert [row[head.index("method")] for row in rows] == list(GRID)
    assert all(row[head.index("y-error, geometric mean")].startswith("432") for row in rows)


@pytest.mark.slow
def test_the_notebook_needs_only_task_and_experiment(experiment, tmp_path):
    """Run by Jupyter in the folder notebooks, beside results; the page made of it has no script and folds code in."""
    shutil.copytree(experiment("normal"), tmp_path / "results/made_up")
    (tmp_path / "notebooks").mkdir()
    chosen = {"task": "oscillator", "experiment": "made_up"}
    made = papermill.execute_notebook(
        NOTEBOOK, None, parameters=chosen, cwd=tmp_path / "notebooks", progress_bar=False, kernel_name="python3"
    )
    page = as_page(made)
    assert page.title.get_text() == "oscillator, made_up: hybridsam"
    assert page.body.get_text().strip().startswith("Oscillator")
    assert not page.find_all("script")
    assert len(page.find_all("figure")) == len(registry.FIGURES)
    headings = [heading.get("id") for heading in page.find_all("h2")]
    assert [link["href"] for link in page.nav.find_all("a")] == [f"#{heading}" for heading in headings]
    assert len(headings) > 5
    silent, *others = [folded.pre.get_text() for folded in page.find_all("details", class_="code")]
    assert 'experiment = "made_up"' in silent and "from hybridsam.report import" in silent
    assert "HTML(task_page.runs(cube))" in others


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"task": "pendulum", "experiment": "made_up"}, "task: 'pendulum' has no results in .*; there are oscillator$"),
        ({"task": "oscillator", "experiment": "real"}, "no folder results/real in .* above it; there are made_up$"),
    ],
)
def test_a_wrong_name_is_said_in_one_line_with_the_right_ones(experiment, parameters, words):
    with pytest.raises(UserError, match=words) as mistake:
        shown_by(NOTEBOOK, experiment("normal"), **parameters)
    assert "\n" not in str(mistake.value)


def test_what_a_page_lacks_is_named(experiment, tmp_path):
    shutil.copytree(experiment("normal"), tmp_path / "made_up")
    (tmp_path / "made_up/oscillator/selection.csv").unlink()
    with pytest.raises(UserError, match=r"has no selection\.csv; the workflow's target oscillator makes them"):
        task_page.task_folder(tmp_path / "made_up", "oscillator")


def test_the_rule_of_a_page_is_that_of_its_figures(experiment, tmp_path):
    shutil.copytree(experiment("normal"), tmp_path / "results/made_up")
    folder = tmp_path / "results/made_up/oscillator"
    figure = folder / "figures/theta_training.csv"
    pd.read_csv(figure).assign(rule="oracle").to_csv(figure, index=False)
    selection = pd.read_csv(folder / "selection.csv")
    selection.loc[(selection["rule"] == "oracle") & (selection["method"] == "sam"), "rho"] = 0.2
    selection.to_csv(folder / "selection.csv", index=False)
    page = shown_by(NOTEBOOK, tmp_path, task="oscillator", experiment="made_up")
    rows = rows_of(page, "median [95 % interval]")
    assert [row[-7] for row in rows if "sam" in row] == ["0.2", "0.2"]  # of two parameters


def test_the_newest_table_with_the_task_counts(tmp_path):
    for seconds, (name, tasks) in enumerate({"table": "ab", "table_b": "b", "table_measured": "c"}.items(), start=1000):
        pd.DataFrame({"task": list(tasks), "rho": seconds}).to_csv(tmp_path / f"{name}.csv", index=False)
        os.utime(tmp_path / f"{name}.csv", (seconds, seconds))
    assert {task: task_page.table_of(tmp_path / task)["rho"].tolist() for task in "abc"} == {
        "a": [1000], "b": [1001], "c": [1002]
    }  # fmt: skip
    with pytest.raises(UserError, match=r"'d' is in no table\*\.csv"):
        task_page.table_of(tmp_path / "d")


# What cells show


def test_the_report_finds_the_results_from_the_folders_below(tmp_path, monkeypatch):
    (tmp_path / "results" / "small").mkdir(parents=True)
    (tmp_path / "notebooks").mkdir()
    monkeypatch.chdir(tmp_path / "notebooks")
    assert fragments.experiment_folder("results", "small") == tmp_path / "results" / "small"
    with pytest.raises(UserError, match="no folder results/large"):
        fragments.experiment_folder("results", "large")


@pytest.mark.slow
def test_the_report_counts_and_pairs(results):
    """Diverged and missing runs are counted; a ratio is over the seeds of which neither run failed."""
    made, cube = results("some_diverged"), results("some_diverged").cube.copy(deep=True)
    cube["status"].loc[{"training_method": "l2reg", "rho": 1e-4, "seed": 2}] = "missing"
    assert of_experiment.ends_of_runs({"t": cube}).loc["t"].to_dict() == {
        "completed": 15, "diverged": 5, "missing": 1, "worse": 0
    }  # fmt: skip
    assert diverged_in_words(cube).startswith("5 of 20 runs diverged; ")
    assert diverged_in_words(cube).endswith(": sqrt(-0.1) at t = 3 s")
    assert diverged_in_words(results("normal").cube) == ""
    ratios = task_page.ratios(made.selection)
    assert ratios.loc[("validation", "fsam"), "n_paired"] == 2
    estimates = task_page.estimates(made.selection, "validation").loc["k (N m⁻¹)"]
    assert estimates.index.tolist() == list(GRID) and estimates["runs"].tolist() == [
        "2 (1 diverged)",
        "3",
        "2 (1 diverged)",
        "3",
    ]
    assert "q'' = -omega^2 sin q" in task_page.equations(made.cube).replace("&#x27;", "'")


@pytest.mark.parametrize("notebook", ["overview", "task"])
def test_notebooks_are_committed_clean(notebook):
    """Without outputs, with one cell that papermill fills in."""
    content = json.loads((small.ROOT / "notebooks" / f"{notebook}.ipynb").read_text())
    code = [cell for cell in content["cells"] if cell["cell_type"] == "code"]
    assert not any(cell["outputs"] or cell["execution_count"] for cell in code)
    assert [cell["metadata"].get("tags") for cell in code].count(["parameters"]) == 1


# The template


def as_page(notebook) -> BeautifulSoup:
    """A notebook through the template, as the workflow does it."""
    folders = [str(small.ROOT / "notebooks/templates")]
    text, _ = HTMLExporter(template_name="page", extra_template_basedirs=folders).from_notebook_node(notebook)
    return BeautifulSoup(text, "html.parser")


def test_code_is_escaped_and_a_notebook_that_shows_nothing_is_a_page():
    cell = nbformat.v4.new_code_cell("a < b")
    assert not as_page(nbformat.v4.new_notebook(cells=[cell])).find_all("pre")
    cell["outputs"] = [nbformat.v4.new_output("execute_result", {"text/plain": "True"}, execution_count=1)]
    page = as_page(nbformat.v4.new_notebook(cells=[cell]))
    assert page.find("details", class_="code").pre.get_text() == "a < b"
    assert page.title.get_text() == "all tasks, experiment: hybridsam"


# Parts


def about(synthetic: str, **attributes: str) -> xr.Dataset:
    return xr.Dataset(attrs={"synthetic": synthetic, "task_title": "Wind <tunnel>"} | attributes)


CREDIT = {"attribution": "Gamella & others", "licence": "CC BY 4.0"}


@pytest.mark.parametrize(("cube", "origin"), [(about("yes"), "simulated"), (about("no", **CREDIT), "measured")])
def test_the_heading_says_what_the_data_are(cube, origin):
    heading = task_page.heading(cube)
    assert heading.startswith(f"<h1>Wind &lt;tunnel&gt;</h1><p>Data: {origin}.")
    assert ("Gamella &amp; others, CC BY 4.0" in heading) == (origin == "measured")


def test_the_heading_of_a_twin_says_so_and_does_not_credit_its_numbers_to_others():
    heading = task_page.heading(about("twin", **CREDIT))
    assert heading.startswith("<h1>SYNTHETIC TWIN: Wind &lt;tunnel&gt;</h1><p>Data: SYNTHETIC TWIN.")
    assert "It imitates measurements of Gamella &amp; others, CC BY 4.0" in heading


@pytest.fixture
def identifiable(tmp_path):
    """A task's folder with an identifiability table of this rank, for three parameters."""

    def write(rank, told=(False, False, True)):
        rows = {"parameter": ["w", "t", "r"], "rank": rank, "told_by_science": list(told), "data": "simulated"}
        pd.DataFrame(rows).to_csv(tmp_path / "identifiability.csv", index=False)
        return tmp_path

    return write


def test_what_cannot_be_identified_is_named(identifiable):
    text = task_page.identified(identifiable(2))
    assert "depends on 2 of 3 directions of θ only" in text
    assert text.endswith("whatever its θ-error: w, t.</p>")


def test_full_rank_is_said_as_such(identifiable):
    text = task_page.identified(identifiable(3, (True,) * 3))
    assert text == "<p>The science alone depends on all 3 directions of θ.</p>"


def test_constants_have_a_row_a_value_and_a_unit_where_there_is_one():
    simulated = {"omega": {"value": 1.0471975511965976, "unit": "rad s-1"}, "initial": {"value": [0, 1], "unit": "rad"}}
    table = task_page.constants(xr.Dataset(attrs={"constants": json.dumps(simulated)}))
    assert table.loc["omega"].tolist() == ["1.0471975511965976", "rad s⁻¹"]
    assert table.loc["initial", "value"] == "0, 1"
    own = {"file": {"value": "a.csv"}, "split": {"value": {"by": "series", "test": ["a", "b"]}}}
    table = task_page.constants(xr.Dataset(attrs={"constants": json.dumps(own)}))
    assert table["value"].to_dict() == {"file": "a.csv", "split.by": "series", "split.test": "a, b"}
    assert list(table) == ["value"]
    assert task_page.constants(xr.Dataset()).empty


def test_a_table_has_four_digits_and_an_empty_one_is_a_sentence():
    text = fragments.shown(pd.DataFrame({"a": [1.23456, np.nan], "b": ["<", "x"]}), index=False)
    assert "<td>1.235</td><td>&lt;</td>" in text and "<td>–</td>" in text and "\n" not in text
    assert fragments.shown(pd.DataFrame(), "None < one.") == "<p>None &lt; one.</p>"


def test_a_figure_has_its_printed_size_and_a_short_text_in_its_place():
    png = io.BytesIO()
    Image.new("L", (1420, 300)).save(png, "PNG", dpi=(200, 200))  # 7.1 in wide, 1.5 in high
    figure = BeautifulSoup(fragments.embedded(png.getvalue(), 'Data <"x">. And n = 3.'), "html.parser").figure
    assert (figure.img["width"], figure.img["height"]) == (str(round(7.1 * 96)), str(round(1.5 * 96)))
    assert figure.img["alt"] == 'Data <"x">'
    assert figure.figcaption.get_text() == 'Data <"x">. And n = 3.'
    assert base64.b64decode(figure.img["src"].removeprefix("data:image/png;base64,")) == png.getvalue()


@pytest.mark.slow
def test_ten_thousand_runs_stay_small(experiment):
    with xr.open_dataset(experiment("some_diverged") / "oscillator/cube.nc") as cube:
        of_each_seed = int((cube["status"] != "missing").sum("seed").astype(bool).sum())
        seeds = -(-10000 // of_each_seed)
        large = cube.isel(seed=np.arange(seeds) % 3).assign_coords(seed=np.arange(seeds)).load()
    text = task_page.runs(large)
    assert text.count("<tr>") > 10000
    assert len(text.encode()) < 2.5e6


# The benchmark


@pytest.mark.slow
def test_the_benchmark_has_the_runs_that_it_says_and_each_differs(experiment):
    with xr.open_dataset(experiment("one_seed") / "oscillator/cube.nc") as file:
        cube = file.load()
    large = benchmark.enlarged(cube, 50, 30)
    assert large.sizes["seed"] == 50 and large.sizes["step"] == 30
    assert int((large["status"] == "completed").sum()) == 50 * int((cube["status"] == "completed").sum())
    errors = runs_table(large)["y_error"]
    assert errors.nunique() == len(errors)
    assert {name: large[name].dims for name in large} == {name: cube[name].dims for name in cube}


def test_the_benchmark_runs_nothing_but_what_it_measures():
    rules = set(re.findall(r"(?m)^rule (\w+):", (small.ROOT / "workflow/rules/report.smk").read_text()))
    assert {"page", "index"} <= rules & set(benchmark.MEASURED)
    chosen = benchmark.experiment()
    assert chosen["seeds"] == [0] and set(benchmark.TASKS) == set(chosen["tasks"])
    iterations = {task: chosen["overrides"][task]["training"]["iterations"] for task in benchmark.TASKS}
    assert set(iterations.values()) == {2}


def test_settings_of_theta_have_the_digits_of_the_task_file_and_units_are_written(experiment):
    cube = records.read(experiment("normal") / "oscillator/cube.nc", "cube")
    theta = {"k": {"unit": "m0.5 s-1", "start": 0.05, "lower": 0.0, "transform": "softplus"}}
    theta["mass"] = {"unit": "kg", "start": 123456.75}
    cube.attrs["configuration"] = json.dumps({"model": {"theta": theta}})
    table = task_page.theta(cube).drop(columns="true value")
    assert table.loc["k"].to_dict() == {"unit": "m^0.5 s⁻¹", "start": "0.05", "lower": "0", "transform": "softplus"}
    assert table.loc["mass"].to_dict() == {"unit": "kg", "start": "123456.75", "lower": "", "transform": ""}


def test_an_identifiability_table_whose_units_are_all_one_is_read(tmp_path):
    """pandas reads such a column as numbers."""
    known = {"parameter": ["w", "t"], "unit": ["1", "1"], "science_only_standard_error": [np.inf, 0.1], "rank": 1}
    known |= {"told_by_science": [False, True], "data": ["measured"] * 2}
    pd.DataFrame(known).to_csv(tmp_path / "identifiability.csv", index=False)
    head, *rows = rows_of(BeautifulSoup(task_page.known_before(tmp_path), "html.parser"), "unit")
    assert head == ["", "unit", "science_only_standard_error", "rank", "told_by_science"]
    assert rows == [["w", "", "∞", "1", "no"], ["t", "", "0.1000", "1", "yes"]]


@pytest.mark.parametrize("least_norm", [2.0, np.nan])
def test_columns_of_nothing_are_left_out_and_it_is_said_why(tmp_path, least_norm):
    """Of data whose truth, and true rates of change, nobody knows."""
    known = {"parameter": ["k"], "unit": ["m0.5 s-1"], "start": [0.05], "true": [np.nan], "science_only": [0.1736]}
    known |= {"least_norm": [least_norm], "told_by_science": [True], "rank": [1], "data": ["measured"]}
    pd.DataFrame(known).to_csv(tmp_path / "identifiability.csv", index=False)
    page = BeautifulSoup(task_page.known_before(tmp_path), "html.parser")
    head, row = rows_of(page, "science_only")
    absent = np.isnan(least_norm)
    assert head == ["", "unit", "start", "science_only", *["least_norm"] * (not absent), "told_by_science", "rank"]
    assert row == ["k", "m^0.5 s⁻¹", "0.05", "0.1736", *["2.000"] * (not absent), "yes", "1"]
    assert ("There is no least_norm" in page.p.get_text()) == absent
