"""A task laid out from the template: three files that run as they are, and nothing else to be edited."""

import subprocess
import sys

import pytest
from helpers import small
from helpers.project import FIGURES

from hybridsam.core.errors import UserError
from hybridsam.template.lay_out import lay_out

FILES = {"src/hybridsam/tasks/lynx.py", "config/tasks/lynx.yaml", "workflow/rules/tasks/lynx.smk"}


@pytest.fixture
def clone(tmp_path):
    (tmp_path / "workflow").mkdir()
    (tmp_path / "workflow/Snakefile").touch()
    return tmp_path


def test_three_files_appear_that_carry_the_name(clone):
    assert {str(path.relative_to(clone)) for path in lay_out("lynx", clone)} == FILES
    for file in FILES:
        text = (clone / file).read_text()
        assert "lynx" in text and "NAME" not in text


def test_the_python_file_fits_on_a_page():
    template = small.ROOT / "src/hybridsam/template/task.py"
    assert len(template.read_text().splitlines()) < 60
    assert len((small.ROOT / "src/hybridsam/tasks/pendulum.py").read_text().splitlines()) < 100


@pytest.mark.parametrize("name", ["", "2nd", "my-model", "a b", "lambda", "../up"])
def test_a_name_that_cannot_be_one_is_refused(clone, name):
    with pytest.raises(UserError, match="no name for a task; allowed are letters"):
        lay_out(name, clone)
    assert [path for path in clone.rglob("*") if path.is_file()] == [clone / "workflow/Snakefile"]


@pytest.mark.parametrize("file", sorted(FILES))
def test_nothing_is_overwritten(clone, file):
    (clone / file).parent.mkdir(parents=True)
    (clone / file).write_text("mine")
    with pytest.raises(UserError, match=f"{file}: is there already"):
        lay_out("lynx", clone)
    assert [path.read_text() for path in clone.rglob("*") if path.is_file()].count("mine") == 1
    assert len([path for path in clone.rglob("*") if path.is_file()]) == 2


def test_another_folder_is_refused(tmp_path):
    with pytest.raises(UserError, match="not the root of a clone"):
        lay_out("lynx", tmp_path)


@pytest.mark.slow
def test_a_new_task_runs_without_an_edited_line(fresh):
    """To its selection; test_as_module.py makes the page of the same task."""
    made = fresh.hybridsam("new-task", "lynx")
    assert made.returncode == 0, made.stdout
    assert made.stdout.splitlines()[-1] == "It runs as it is: snakemake --cores 2 lynx"
    erm = fresh.configure({"methods": ["erm"]})
    needed = [f"results/test/lynx/{name}.csv" for name in ("selection", "identifiability")]
    result = fresh.snakemake("--cores", "2", *needed, configuration=erm)
    assert result.returncode == 0, result.stdout
    assert "rule lynx_data:" in result.stdout
    left = {str(job) for job in fresh.plan("lynx", configuration=erm)}
    theta = {"ensemble lynx", "identify lynx"}
    assert left == {"make_table table_lynx", "page lynx", *theta, *(f"figure lynx {name}" for name in FIGURES)}
    assert not (fresh.results / "pendulum").exists()
    everything = fresh.plan("all", configuration=erm)
    assert [job for job in everything if job.task == "lynx"] == []  # config/test.yaml does not name it


@pytest.mark.slow
def test_a_task_with_the_name_of_a_rule_is_refused(fresh):
    fresh.hybridsam("new-task", "train")
    result = fresh.snakemake("-n")
    assert result.returncode == 1
    assert "config/tasks/train.yaml: 'train' is the name of a rule of the workflow" in result.stdout
    assert "Traceback" not in result.stdout


def test_the_command_of_make_says_what_a_name_may_be():
    made = subprocess.run(
        [sys.executable, "-m", "hybridsam", "new-task", ""], capture_output=True, text=True, cwd=small.ROOT
    )
    assert made.returncode == 2
    assert made.stderr.startswith("hybridsam: name: ''")
