"""Data of the user's own, from a table to the report: models on irregular times, and results without a known theta."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from helpers import small
from helpers.oscillator import make_identification
from helpers.project import Project, assert_refused, copy_repository, executed_by, names
from helpers.tables import IRREGULAR, LAW, SITES, changed, growth

from hybridsam.analysis.collect import collect
from hybridsam.analysis.cube import THETA_ERROR, metrics_of
from hybridsam.analysis.identifiability import as_table
from hybridsam.analysis.results import load
from hybridsam.analysis.selection import select
from hybridsam.core import modules, records
from hybridsam.core.blocks import blocks_of
from hybridsam.core.errors import UserError
from hybridsam.core.settings import without_sources
from hybridsam.data.table import dataset_of
from hybridsam.figures import registry
from hybridsam.models.law import HybridMap
from hybridsam.models.networks import MLP
from hybridsam.models.ode import HybridODE
from hybridsam.models.parameters import Parameters
from hybridsam.models.solver import Solver
from hybridsam.report import captions, fragments, index_page, markdown_page, table_one, task_page
from hybridsam.training.block import train_task, write_runs
from hybridsam.training.compiled import CompiledODE
from hybridsam.training.loss import Loss

TASK = {
    "title": "Hares and lynx",
    "module": str(small.ROOT / "tests/helpers/predator_prey.py"),
    "table": SITES,
    "model": {
        "theta": {
            "a": {"unit": "year-1", "start": 0.1, "transform": "softplus", "lower": 0.0, "source": "O"},
            "c": {"unit": "year-1", "start": 0.1, "transform": "softplus", "lower": 0.0, "source": "O"},
        },
        "hidden": [8, 8],
        "solver": {"method": "rk4", "step": 0.25},
    },
    "training": {
        "iterations": 4,
        "learning_rate": 1e-3,
        "learning_rate_final": 1e-5,
        "theta_rate_factor": 10,
        "clip_norm": 10,
        "perturb": "network",
        "record_every": 2,
        "diverged_after": 3,
        "dtype": "float64",
    },
}
HALVES = {"train": 0.5, "validation": 0.25, "test": 0.25}
CHOSEN = without_sources(TASK)
METHODS = {"erm": ["0"], "sam": ["0.05", "0.1"]}


@pytest.fixture(scope="module")
def model():
    return modules.load(CHOSEN["module"]).build(CHOSEN["model"])


def test_the_science_follows_the_closed_form_at_irregular_times(model):
    data = model.data(dataset_of(growth(), SITES), "train", torch.float64)
    prediction = model.predict_science(torch.tensor([[0.3, 0.2]], dtype=torch.float64), None, data)
    torch.testing.assert_close(data.in_units(prediction), data.in_units(data.targets), rtol=1e-6, atol=0.0)


def test_compiled_code_and_pytorch_agree_at_irregular_times(model):
    data = model.data(dataset_of(growth(), SITES), "train", torch.float64)
    theta = torch.tensor([[0.5, 0.1], [0.2, 0.4]], dtype=torch.float64, requires_grad=True)
    draw = torch.Generator().manual_seed(1)
    phi = torch.stack([model.network.initial(draw) for _ in range(2)]).double().requires_grad_()
    rho = torch.tensor([0.1, 0.2], dtype=torch.float64)
    slow = Loss(model)(theta, phi, data, rho=rho)
    fast = CompiledODE(model, data)(theta, phi, data, rho=rho)
    torch.testing.assert_close(fast, slow, rtol=1e-9, atol=1e-12)
    for one, other in zip(
        torch.autograd.grad(slow.sum(), (theta, phi)), torch.autograd.grad(fast.sum(), (theta, phi)), strict=True
    ):
        torch.testing.assert_close(other, one, rtol=1e-7, atol=1e-10)


def test_an_adaptive_solver_sees_irregular_times(model):
    settings = CHOSEN["model"] | {"solver": {"method": "dopri5"}}
    adaptive = modules.load(CHOSEN["module"]).build(settings)
    data = model.data(dataset_of(growth(), SITES), "test", torch.float64)
    theta = torch.tensor([[0.3, 0.2]], dtype=torch.float64)
    torch.testing.assert_close(adaptive.predict_science(theta, None, data), data.targets, rtol=1e-5, atol=0.0)


def test_a_law_is_learnt_from_a_table(tmp_path):
    """Fitted by the science alone, which is the law; its network then has nothing to add."""
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(rng.uniform(1, 2, (12, 3)), columns=["pressure", "red", "blue"])
    frame["ir"], frame["vis"] = 3 * frame["red"] * frame["pressure"], 3 * frame["blue"]

    def science(theta, u):
        red, blue = u["light"].unbind(-1)
        return torch.stack([theta["gain"] * red * u["pressure"], theta["gain"] * blue], -1)

    gain = {"gain": {"unit": "counts W-1", "start": 1.0}}
    model = HybridMap(
        science, Parameters.from_settings(gain), MLP((4, 8, 2)), "target", ("pressure", "light"), {"light": 0.5}, True
    )
    dataset = dataset_of(frame, LAW)
    data = model.data(dataset, "train", torch.float64)
    prediction = model.predict_science(torch.tensor([[3.0]], dtype=torch.float64), None, data)
    torch.testing.assert_close(prediction, data.targets)
    phi = model.network.initial(torch.Generator().manual_seed(0)).double()[None]
    assert model.predict(torch.ones(1, 1).double(), phi, data).shape == data.targets.shape == (1, 6, 2)
    assert as_table(model, dataset)["science_only"].item() == pytest.approx(3.0)


@pytest.mark.slow
def test_a_start_from_which_the_science_runs_away_is_named(model):
    theta = {name: row | {"start": 2000.0} for name, row in CHOSEN["model"]["theta"].items()}
    far = modules.load(TASK["module"]).build(CHOSEN["model"] | {"theta": theta})
    frame = growth(np.arange(6) * 100.0)
    said = r"^model\.theta: at a = 2000, c = 2000 the science alone is not finite: .* at t = .* where hare = "
    with pytest.raises(UserError, match=said):
        as_table(far, dataset_of(frame, SITES))


def test_a_science_that_is_not_defined_where_it_leads_is_named_with_what_fails():
    """A tank that is empty after a while, by a science that takes the root of its level all the same."""

    def science(theta, x):
        return -theta["k"][..., None] * torch.sqrt(x - 0.2)

    rows = [(tank, t, 1.0 + tank / 4 - t / 40) for tank in range(4) for t in range(0, 40, 2)]
    frame = pd.DataFrame(rows, columns=["tank", "t", "level"])
    split = {"by": "series", "train": [0, 1], "validation": [2], "test": [3]}
    levels = {"time": {"column": "t", "unit": "s"}, "series": "tank", "state": {"level": "m"}, "split": split}
    theta = Parameters.from_settings({"k": {"unit": "m0.5 s-1", "start": 0.1}})
    model = HybridODE(science, theta, MLP((1, 8, 1)), Solver(step=1.0))
    with pytest.raises(
        UserError, match=r"at k = 0.1 the science alone is not finite: sqrt\(-0\.\d+\) \(test_own_data.py, l"
    ):
        as_table(model, dataset_of(frame, levels))


@pytest.fixture(scope="module")
def without_truth(tmp_path_factory):
    """The files of a task whose theta is not known, as the workflow makes them, in a folder called sites."""
    folder = tmp_path_factory.mktemp("experiment") / "sites"
    dataset = dataset_of(growth(), SITES).assign_attrs(constants=json.dumps({"file": {"value": "sites.csv"}}))
    records.write(dataset, folder / "dataset.nc", "dataset", "Data")
    dataset = records.read(folder / "dataset.nc", "dataset")
    study = blocks_of(METHODS, [0, 1], 2)
    for block in study:
        write_runs(*train_task(CHOSEN, dataset, block, "cpu"), folder / "runs" / block.path)
    cube = collect(CHOSEN, dataset, [folder / "runs" / block.path for block in study], folder)
    records.write(cube, folder / "cube.nc", "cube", "Cube")
    records.write(make_identification(cube), folder / "identification.nc", "identification", "Identification")
    select(cube).to_csv(folder / "selection.csv", index=False)
    as_table(modules.load(CHOSEN["module"]).build(CHOSEN["model"]), dataset).to_csv(
        folder / "identifiability.csv", index=False
    )
    return folder


@pytest.mark.slow
def test_an_error_of_an_unknown_theta_is_absent_and_there_is_no_oracle(without_truth):
    cube = records.read(without_truth / "cube.nc", "cube")
    assert metrics_of(cube) == ["y_error"]
    selection = pd.read_csv(without_truth / "selection.csv")
    assert set(selection["rule"]) == {"validation", "one_standard_error"}
    assert not [name for name in selection if "theta_" in name or "noise" in name]
    assert set(selection["data"]) == {"measured"}


def test_what_the_science_alone_can_tell_needs_no_truth(without_truth):
    table = fragments.identifiability(without_truth)
    assert table["rank"].tolist() == [2, 2]
    np.testing.assert_allclose(table["science_only"], [0.3, 0.2], rtol=1e-5)  # whose closed form the data are
    assert not {"true", "least_norm"} & set(table)  # which nobody knows


@pytest.mark.slow
@pytest.mark.parametrize("name", registry.FIGURES)
def test_every_figure_is_drawn_without_truth_at_irregular_times(without_truth, name, tmp_path):
    files = [without_truth / file for file in ("dataset.nc", "cube.nc", "selection.csv")]
    results = load(*files, "validation")
    registry.write(name, results, [tmp_path / f"{name}.png", tmp_path / f"{name}.csv"])
    table = pd.read_csv(tmp_path / f"{name}.csv")
    assert "measured" in captions.caption(name, table) or name in ("theta_training", "losses")
    if name == "predictions":
        assert "truth" not in set(table["series"])
        assert sorted(table["time"].unique()) == IRREGULAR and set(table["time_unit"]) == {"year"}
    if name == "errors_rho":
        assert set(table["metric"]) == {"y_error"}


def test_tables_and_pages_say_that_theta_is_not_known(without_truth):
    cubes = {"sites": records.read(without_truth / "cube.nc", "cube")}
    table = table_one.table_one({"sites": pd.read_csv(without_truth / "selection.csv")})
    for text in (table_one.as_markdown(table), table_one.as_html(table)):
        assert "No θ-error of sites: the true θ is not known." in text
    page = markdown_page.as_page(
        table, cubes, {"sites": pd.read_csv(without_truth / "identifiability.csv")}, "snakemake"
    )
    assert "The true θ is not known, so there is no θ-error." in page and "nan >" not in page
    assert "No task has a known θ" in index_page.theta_summary(table, cubes)
    assert index_page.attribution(cubes) == "<ul><li>sites: data of your own, sites.csv</li></ul>"
    assert list(task_page.theta_metrics(cubes["sites"], table, "validation")) == []
    assert list(task_page.ratios(table))[-1] == "y-error / that of erm"
    assert task_page.estimates(table, "validation").notna().all(axis=None)
    assert task_page.heading(cubes["sites"]).startswith("<h1>Hares and lynx</h1><p>Data: measured.")


def test_a_known_theta_of_another_task_does_not_make_this_one_known(without_truth):
    own = pd.read_csv(without_truth / "selection.csv")
    numbers = {"rms": 0.12, "centre": 0.1, "low": 0.09, "high": 0.11, "ratio": np.nan, "ratio_low": np.nan}
    known = own.assign(**{f"theta_error_{name}": value for name, value in numbers.items()})
    known = known.assign(theta_error_ratio_high=np.nan, theta_error_standing="", theta_error_meaning=THETA_ERROR)
    bias = {"true": 1.0, "bias": 0.2, "bias_low": 0.1, "bias_high": 0.3}
    known["theta"] = [json.dumps([row | bias for row in json.loads(text)]) for text in own["theta"]]
    table = table_one.table_one({"sites": own, "pendulum": known.assign(data="simulated")})
    notes = table_one.notes(table)
    assert any(line.startswith("No θ-error of sites: the true θ is not known.") for line in notes)
    assert not any("pendulum" in line for line in notes)
    formatted = table_one.formatted(table, "validation")
    assert formatted.loc["sites", "θ"].str.startswith("a ").all() and (formatted.loc["pendulum", "θ"] == "–").all()
    assert (formatted.loc["pendulum", "θ-error, median"] == "0.100<br>[0.0900, 0.110]").all()
    assert formatted.loc["pendulum", "bias of θ"].str.startswith("a +0.20 [+0.10, +0.30]").all()
    assert (formatted.loc["sites", "θ-error, median":"θ-error against the best"] == "–").all(axis=None)


# From a table to the report, under Snakemake


@pytest.fixture(scope="module")
def with_table(tmp_path_factory):
    """A project with one task on a table, data/hare.csv; run to its tables and its page."""
    project = Project(tmp_path_factory.mktemp("own") / "a project")
    copy_repository(project.root)
    (project.root / "data").mkdir()
    shutil.copy(small.ROOT / "tests/helpers/predator_prey.py", project.root / "predator_prey.py")
    table = changed(SITES, file="data/hare.csv", series=None, window=5, stride=1, split={"by": "time"} | HALVES)
    growth(np.arange(24) / 2, "a").to_csv(project.root / table["file"], index=False)
    task = TASK | {"module": "predator_prey.py", "table": table}
    (project.root / "config/tasks/hares.yaml").write_text(yaml.safe_dump(task))
    changes = {"tasks": ["hares"], "methods": list(METHODS), "rho": {"sam": [0.05]}, "overrides": None}
    project.configure(changes)
    shutil.move(project.root / "changed.yaml", project.root / "config/test.yaml")
    result = project.snakemake("--cores", "2", "results/test/hares/selection.csv", "table", "report")
    assert result.returncode == 0, result.stdout
    return project


@pytest.mark.slow
def test_a_csv_file_and_a_file_of_python_give_a_report(with_table):
    selection = pd.read_csv(with_table.results / "hares/selection.csv")
    assert set(selection["method"]) == set(METHODS) and "theta_error_mean" not in selection
    dataset = records.read(with_table.results / "hares/dataset.nc", "dataset")
    assert dataset["start"].values[dataset["split"] == "test"].tolist() == [9.0, 9.5]
    page = (with_table.results / "report/hares.html").read_text()
    assert "Data: measured." in page and "data/hare.csv" in page
    assert "the true θ is not known" in (with_table.results / "table.md").read_text()
    assert with_table.plan("results/test/hares/selection.csv", "table", "report") == []


@pytest.mark.slow
def test_changed_data_are_read_and_learnt_from_again(with_table, tmp_path):
    project = with_table.copy(tmp_path / "a copy")
    project.append("data/hare.csv", "a,12.0,30.0,1.0\n")
    jobs = project.plan("table")
    assert names(jobs, "tabulate") == {"tabulate hares"}
    assert names(jobs, "train") == {"train hares erm 0 0-1", "train hares sam 0.05 0-1"}


@pytest.mark.slow
def test_what_the_section_says_is_learnt_from_again_and_code_of_tables_leaves_others_alone(with_table, tmp_path):
    project = with_table.copy(tmp_path / "a copy")
    changed_split = project.configure({"overrides": {"hares": {"table": {"stride": 2}}}})
    assert "tabulate" in {job.rule for job in project.plan("table", configuration=changed_split)}
    simulated = project.plan("table", configuration=project.configure({"tasks": ["pendulum"]}))
    assert not any("src/hybridsam/data/table.py" in job.inputs for job in simulated)


WRONG = {
    "a missing file": ({"file": "data/hares.csv"}, ["table.file", "'data/hares.csv'", "no such file"]),
    "a unit left out": ({"state": {"lynx": None}}, ["table.state.lynx", "None is not of type 'string'", "1"]),
    "an unknown split": ({"split": {"by": "site"}}, ["table.split.by", "'site'", "time", "series", "sample"]),
    "an unknown key": ({"windows": 3}, ["table", "windows", "allowed are file, dialect, time"]),
    "a label without quotes": (
        {"split": {"train": [False]}},
        ["table.split.train.0: False", "a series, in quotes unless"],
    ),
    "a column called source": ({"state": {"source": "1"}}, ["table.state", "source and note are for remarks"]),
}


@pytest.mark.slow
@pytest.mark.parametrize(("changes", "words"), WRONG.values(), ids=WRONG)
def test_a_mistake_in_the_section_stops_before_anything_runs(with_table, tmp_path, changes, words):
    assert_refused(with_table.copy(tmp_path / "a copy"), {"overrides": {"hares": {"table": changes}}}, words)


@pytest.mark.slow
def test_a_table_takes_the_place_of_an_archive_and_of_constants(with_table, tmp_path):
    project = with_table.copy(tmp_path / "a copy")
    constants = {"data": {"dt": {"value": 1, "unit": "s", "source": "O"}}}
    assert_refused(project, {"overrides": {"hares": constants}}, ["data: there is a table too"])


@pytest.mark.slow
def test_a_fault_in_the_data_is_one_line_in_the_log(with_table, tmp_path):
    project = with_table.copy(tmp_path / "a copy")
    project.append("data/hare.csv", "a,12.0,,1.0\n")
    assert project.snakemake("--cores", "1", "table").returncode != 0
    [line] = (project.root / "logs/test/hares/tabulate.log").read_text().splitlines()
    assert line.startswith("hybridsam: data/hare.csv: row 25, column hare: no value (1 of 25 rows have none); remove")


@pytest.mark.slow
def test_every_file_of_code_that_reads_a_table_is_an_input(with_table, tmp_path):
    project = with_table.copy(tmp_path / "a copy")
    [job] = [job for job in project.plan("--forceall", "table") if job.rule == "tabulate"]
    executed = executed_by(project, job, tmp_path)
    assert {"src/hybridsam/data/table.py", "src/hybridsam/data/columns.py"} <= executed <= set(job.inputs)
