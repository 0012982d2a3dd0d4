"""docs/tutorial.md, followed to the letter: every file is written, every command run, all Python executed.

Only what would run is planned for the study as it is written; what then runs is a smaller one, of fewer steps.
"""

import os
import re
import sys
from pathlib import Path

import pandas as pd
import pytest
from helpers import small
from helpers.project import Project, copy_repository

pytestmark = pytest.mark.slow

TUTORIAL = (small.ROOT / "docs/tutorial.md").read_text()
SMALLER = {  # file -> what stands there, and what in its place once the study has been planned
    "lynx.yaml": [("[erm, l2reg, sam, fsam]", "[erm, sam]"), ("sam: [0.05, 0.2]", "sam: [0.2]")],
    "config/tasks/lynx.yaml": [("iterations: 1500", "iterations: 100")],
}
BLOCK = re.compile(r"(?P<before>[^\n]*)\n\n```(?P<language>\w+)\n(?P<code>.*?)```", re.DOTALL)


def blocks():
    """(language, file that the text before names, code) of every block."""
    for found in BLOCK.finditer(TUTORIAL):
        named = re.search(r"`([\w/.]+)`:$", found["before"])
        yield found["language"], named and named[1], found["code"]


@pytest.fixture(scope="module")
def followed(tmp_path_factory):
    """The project after the tutorial, what would have run, and what its pieces of Python printed."""
    project = Project(tmp_path_factory.mktemp("tutorial") / "hybridsam")
    copy_repository(project.root)
    folders = [str(Path(sys.executable).parent), os.environ["PATH"]]
    environment = project.environment | {"PATH": os.pathsep.join(folders)}
    python = planned = ""
    for language, file, code in blocks():
        if file:
            (project.root / file).parent.mkdir(parents=True, exist_ok=True)
            (project.root / file).write_text(code)
        elif language == "sh":
            for command in code.splitlines():
                result = project.run("bash", "-ec", command, env=environment)
                assert result.returncode == 0, result.stdout
                if command.startswith("snakemake -n"):
                    planned = result.stdout
                    make_smaller(project)
        else:
            assert language == "python"
            python += code
    result = project.run(sys.executable, "-c", python, env=environment)
    assert result.returncode == 0, result.stdout
    return project, planned, result.stdout


def make_smaller(project):
    for file, changes in SMALLER.items():
        for old, new in changes:
            project.edit(file, old, new)


def test_every_block_is_a_file_a_command_or_python():
    assert TUTORIAL.count("```") == 2 * len(list(blocks()))
    assert [file for _, file, _ in blocks() if file] == [
        "data/lynx.csv",
        "src/hybridsam/tasks/lynx.py",
        "config/tasks/lynx.yaml",
        "lynx.yaml",
    ]


def test_the_study_as_it_is_written_is_planned(followed):
    _, planned, _ = followed
    assert re.search(r"Training: 21 runs in 7 jobs, about \d+ s", planned)
    assert planned.count("rule train:") == 7


def test_the_report_is_there_and_says_that_theta_is_not_known(followed):
    project, _, _ = followed
    report = project.root / "results/lynx/report"
    assert "Hare and lynx" in (report / "lynx.html").read_text()
    assert "the true θ is not known" in (report / "index.html").read_text()


def test_all_methods_are_selected_by_rules_that_need_no_truth(followed):
    project, _, _ = followed
    selection = pd.read_csv(project.root / "results/lynx/lynx/selection.csv")
    assert set(selection["method"]) == {"erm", "sam"}
    assert set(selection["rule"]) == {"validation", "one_standard_error"}
    assert (selection["n"] + selection["failed"] == 3).all()
    assert not [name for name in selection if name.startswith("theta_error")]


def test_the_notebook_part_prints_theta_and_ten_years_ahead(followed):
    _, _, printed = followed
    assert re.search(r"parameter +a +m\n", printed)
    assert re.search(r"(?m)^10(\.0)? ", printed)


def test_the_model_taken_away_starts_where_it_is_told_and_has_its_table(followed):
    project, _, printed = followed
    assert re.search(r"parameterId +parameterScale|parameterId +\.\.\.", printed)
    folder = project.root / "results/lynx/lynx/models"
    assert {path.name for path in folder.iterdir()} == {"erm", "sam"}
    table = pd.read_csv(folder / "sam/parameters.tsv", sep="\t")
    assert table["parameterId"].tolist() == ["a", "m"] and (table["completedRuns"] == 3).all()
