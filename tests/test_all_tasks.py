"""All kinds of data through the workflow: simulated, SYNTHETIC TWIN and measured; each can be told everywhere."""

import html
import json
import re
import subprocess

import numpy as np
import pandas as pd
import pytest
import xarray as xr
import yaml
from helpers.project import FIGURES, names, rules
from PIL import Image
from safetensors import safe_open

from hybridsam.core import records
from hybridsam.core.provenance import fingerprint
from hybridsam.core.settings import differences, merge, numbers, without_sources

pytestmark = pytest.mark.slow

ORIGINS = {
    "reaction_diffusion": "simulated",
    "pendulum_images": "simulated",
    "wind_tunnel": "SYNTHETIC TWIN",
    "light_tunnel": "SYNTHETIC TWIN",
    "light_sensors": "measured",
}
TWINS = {"wind_tunnel": "wt_walks_v1", "light_tunnel": "lt_camera_v1"}
METHODS = ("erm", "fsam")
COMMANDS = ("simulate", "download", "twin", "convert", "train", "collect", "select", "table", "figure", "results")
every_task = pytest.mark.parametrize("task", ORIGINS)
every_twin = pytest.mark.parametrize("task", TWINS)


def says_twin(text):
    return "SYNTHETIC TWIN" in text


def page(project, name):
    """Text of a page of the report without its style and figures, a bar between the cells of its tables."""
    text = (project.results / f"report/{name}.html").read_text().split("<body>")[1]
    text = re.sub(r"</t[dh]>\s*<t[dh][^>]*>", " | ", re.sub(r'src="data:[^"]*"', "", text))
    return html.unescape(re.sub(r"<[^>]+>", "", text))


def settings_of(project, task):
    """A task's settings in the experiment, and those of its file."""
    experiment = yaml.safe_load((project.root / "config/test.yaml").read_text())
    file = yaml.safe_load((project.root / f"config/tasks/{task}.yaml").read_text())
    chosen = file
    for name in ("all", task):
        chosen = merge(chosen, experiment["overrides"].get(name, {}))
    return numbers(without_sources(chosen)), numbers(without_sources(file))


# Marks


@every_task
def test_titles_and_attributes_of_files_say_what_the_data_are(all_tasks, task):
    files = [*(all_tasks.results / task).glob("*.nc"), *(all_tasks.results / task).glob("runs/*/*/*.nc")]
    assert len(files) == 4 + len(METHODS)  # dataset, cube, ensemble, identification
    for path in files:
        with xr.open_dataset(path) as dataset:
            assert dataset.attrs["title"].startswith("SYNTHETIC TWIN: ") == (task in TWINS), path
            synthetic = {"simulated": "yes", "SYNTHETIC TWIN": "twin", "measured": "no"}[ORIGINS[task]]
            assert dataset.attrs["synthetic"] == synthetic, path


@every_task
def test_figures_and_their_tables_say_what_the_data_are(all_tasks, task):
    for name in FIGURES:
        table = pd.read_csv(all_tasks.results / task / f"figures/{name}.csv")
        assert set(table["data"]) == {ORIGINS[task]}, name
        drawn = (all_tasks.results / task / f"figures/{name}.svg").read_text()
        assert says_twin(drawn) == (task in TWINS), name


@every_task
def test_pages_say_what_the_data_are(all_tasks, task):
    text = page(all_tasks, task)
    assert f"Data: {ORIGINS[task]}." in text
    assert says_twin(text) == (task in TWINS)
    assert text.strip().startswith("SYNTHETIC TWIN: ") == (task in TWINS)


def test_the_entry_page_says_first_which_data_are_twins(all_tasks):
    text = page(all_tasks, "index")
    assert re.match(r"\s*Experiment test\s*SYNTHETIC TWIN: wind_tunnel, light_tunnel\.", text)
    for task, origin in ORIGINS.items():
        assert re.search(rf"(?m)^\s*{task} \| .* \| {origin} \| ", text), task


def test_measured_and_twin_stand_in_tables_of_their_own(all_tasks):
    tasks = {name: set(read_table(all_tasks, name)["task"]) for name in ("table", "table_measured")}
    assert tasks == {"table": set(ORIGINS) - {"light_sensors"}, "table_measured": {"light_sensors"}}
    for name in tasks:
        table = read_table(all_tasks, name)
        assert (table["data"] == table["task"].map(ORIGINS)).all()
        assert (table["n"] + table["failed"] == 2).all()
        for suffix in ("csv", "md", "html"):
            assert says_twin((all_tasks.results / f"{name}.{suffix}").read_text()) == (name == "table")
    shown = (all_tasks.results / "table.md").read_text()
    assert {task for task in ORIGINS if f"| SYNTHETIC TWIN: {task} " in shown} == set(TWINS)


@every_task
def test_tables_and_weights_of_a_task_say_what_the_data_are(all_tasks, task):
    folder = all_tasks.results / task
    for name in ("identifiability", "selection"):
        assert set(pd.read_csv(folder / f"{name}.csv")["data"]) == {ORIGINS[task]}, name
    for path in folder.glob("runs/*/*/*.safetensors"):
        with safe_open(path, "pt") as file:
            assert json.loads(file.metadata()["run"])["data"] == ORIGINS[task]


def read_table(project, name):
    return pd.read_csv(project.results / f"{name}.csv")


@every_twin
def test_a_twin_is_marked_in_its_folder_and_in_its_dataset(all_tasks, task):
    mark = json.loads((all_tasks.results / task / "twin" / TWINS[task] / "TWIN.json").read_text())
    assert mark["synthetic"] is True
    with xr.open_dataset(all_tasks.results / task / "dataset.nc") as dataset:
        assert dataset.attrs["source"] == f"SYNTHETIC TWIN of {TWINS[task]}, simulated"


# Report


def test_the_report_lists_every_size_that_was_changed(all_tasks):
    text = page(all_tasks, "index")
    assert re.search(r"data\.train \| 100 \| 5 \| 0\.05\n", text)
    for task in ORIGINS:
        here, file = settings_of(all_tasks, task)
        changes = differences({name: file[name] for name in ("data", "model", "training")}, here)
        assert len(changes) > 5
        for key, (before, after) in changes.items():
            assert f"{key.removesuffix('.value')} | {before} | {after} | " in text, task


def test_the_report_says_whose_data_were_used_and_what_can_be_identified(all_tasks):
    text = page(all_tasks, "index")
    assert re.search(r"wind_tunnel.*light_tunnel.*light_sensors: Gamella, Peters, Bühlmann .*\(CC BY 4\.0\)", text)
    assert re.search(r"light_tunnel \|.*\| 6 of 9 \|", text)
    assert re.search(r"reaction_diffusion \|.*\| 2 of 2 \|", text)
    assert "The science alone depends on 6 of 9 directions of θ only." in page(all_tasks, "light_tunnel")


# Figures

KINDS = {
    "reaction_diffusion": "fields",
    "pendulum_images": "frames",
    "wind_tunnel": "time series",
    "light_tunnel": "images",
    "light_sensors": "readings",
}


@every_task
def test_figures_show_something(all_tasks, task):
    for name in FIGURES:
        table = pd.read_csv(all_tasks.results / task / f"figures/{name}.csv")
        if name == "landscape" and task != "reaction_diffusion":  # of which alone so few iterations make runs that fit
            assert table["reason"].notna().all()
            continue
        values = table.filter(regex="^(value|.*_error|(x|step)=.*)$").to_numpy()
        assert set(METHODS) <= set(table["method"].dropna()), name
        assert np.isfinite(values[~np.isnan(values)]).all()
        assert np.nanstd(values) > 0, name
        with Image.open(all_tasks.results / task / f"figures/{name}.png") as image:
            assert image.width > 700
            assert np.asarray(image.convert("L")).std() > 5, f"{name}: nothing but paper"
    assert set(pd.read_csv(all_tasks.results / task / "figures/predictions.csv")["kind"]) == {KINDS[task]}


# Runs


def test_a_second_run_of_all_kinds_of_data_has_nothing_to_do(all_tasks):
    assert all_tasks.plan("all") == []


def test_an_optional_task_without_its_archive_is_left_out(all_tasks, tmp_path):
    project = all_tasks.copy(tmp_path / "a project")
    without = project.configure({"offline_dir": "nowhere"})
    jobs = project.plan("all", configuration=without)
    assert rules(jobs) == {"index"}
    assert "table_measured" not in jobs[0].command
    assert "left_out='light_sensors'" in jobs[0].command
    result = project.snakemake("-n", "all", "--quiet", configuration=without, stderr=subprocess.PIPE)
    [line] = [line for line in result.stderr.splitlines() if "Left out" in line]
    assert [word for word in ("light_sensors", "lt_interventions_standard_v1", "nowhere") if word not in line] == []


def test_an_archive_that_was_downloaded_before_is_used(all_tasks, tmp_path):
    project = all_tasks.copy(tmp_path / "a project")
    (project.root / "resources").mkdir()
    (project.root / "resources/lt_interventions_standard_v1.zip").write_bytes(b"not read by a plan")
    jobs = project.plan("all", configuration=project.configure({"offline_dir": "nowhere"}))
    assert names(jobs, "convert") == {"convert light_sensors"}
    assert names(jobs, "download") == set()


# By hand


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(all_tasks, command):
    result = all_tasks.hybridsam(command, "--help")
    assert result.returncode == 0, result.stdout
    assert result.stdout.startswith(f"usage: hybridsam {command}")


@every_twin
def test_a_twin_converted_by_hand_gives_the_dataset_of_the_workflow(all_tasks, tmp_path, task):
    settings, archive, dataset = tmp_path / "task.yaml", tmp_path / TWINS[task], tmp_path / "dataset.nc"
    settings.write_text(yaml.safe_dump(settings_of(all_tasks, task)[0]))
    by_hand = [("twin", "--output", archive), ("convert", archive, "--output", dataset)]
    for command in by_hand:
        result = all_tasks.hybridsam(*command, "--settings", settings)
        assert result.returncode == 0, result.stdout
    made, expected = (records.read(path, "dataset") for path in (dataset, all_tasks.results / task / "dataset.nc"))
    assert fingerprint(made) == fingerprint(expected)
    assert made.attrs["attribution"] == expected.attrs["attribution"]
