"""README.md runs as it stands, and the files, names and commands that the documents name are there."""

import ast
import os
import re
import shlex
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from hybridsam.cli import main  # noqa: F401  which declares all commands
from hybridsam.cli.command import parser

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = [
    "README.md",
    "CONTRIBUTING.md",
    "config/README.md",
    "examples/README.md",
    "benchmarks/README.md",
    *sorted(str(path.relative_to(ROOT)) for path in (ROOT / "docs").glob("*.md")),
]
MAPS = ["docs/architecture.md", "CONTRIBUTING.md"]
PLACES = [ROOT, ROOT / "src/hybridsam", ROOT / "workflow"]  # from which the maps name files
COMMAND = re.compile(r"(?m)^ *(?:python -m )?hybridsam ((?:.*\\\n)*.*)$")
STATION = re.compile(r"`([\w./-]+\.(?:py|cpp|smk|yaml|md|rst|ipynb|toml|txt))(?::([\w.]+))?`")

every_document = pytest.mark.parametrize("document", DOCUMENTS)
every_map = pytest.mark.parametrize("document", MAPS)


@cache
def text(document):
    return (ROOT / document).read_text(encoding="utf-8")


def found(name):
    """The file that a map means, or None."""
    return next((place / name for place in PLACES if (place / name).is_file()), None)


@cache
def names_in(file):
    """What a file of Python or Snakemake defines outside of functions; of a class also ``Class.name``."""
    code = file.read_text(encoding="utf-8")
    if file.suffix == ".smk":
        return set(re.findall(r"(?m)^(?:def|rule) (\w+)", code) + re.findall(r"(?m)^(\w+) = ", code))
    return set(defined(ast.parse(code).body)) if file.suffix == ".py" else set()


def defined(statements, prefix=""):
    for statement in statements:
        if isinstance(statement, ast.FunctionDef | ast.ClassDef):
            yield prefix + statement.name
        if isinstance(statement, ast.ClassDef):
            yield from defined(statement.body, f"{prefix}{statement.name}.")
        if isinstance(statement, ast.Assign | ast.AnnAssign):
            targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
            yield from (
                prefix + node.id for target in targets for node in ast.walk(target) if isinstance(node, ast.Name)
            )


@pytest.fixture(scope="module")
def printed(tmp_path_factory):
    """What the Python of README.md prints, in a folder in which nothing is."""
    code = "\n".join(re.findall(r"(?s)```python\n(.*?)```", text("README.md")))
    here = tmp_path_factory.mktemp("readme")
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"}
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=here, env=environment, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    assert list(here.iterdir()) == []
    return result.stdout


@pytest.mark.slow
def test_k_comes_out_nearer_to_the_truth_by_fsam_than_by_erm(printed):
    k = {method: [float(v) for v in re.findall(r"k +([\d.]+)$", rows, re.M)] for method, rows in of_methods(printed)}
    assert {method: len(values) for method, values in k.items()} == {"erm": 2, "fsam": 2}
    assert max(k["erm"]) < min(k["fsam"]) < max(k["fsam"]) < 4


def of_methods(printed):
    """(method, rows) of the printed series of theta."""
    series = printed.split("Name: theta")[0]
    return re.findall(r"(?ms)^(erm|fsam)( .*?)(?=^\w|\Z)", series)


@pytest.mark.slow
def test_the_prediction_goes_on_beyond_the_times_of_training(printed):
    times = [float(time) for time in re.findall(r"(?m)^(\d+\.\d) +-?\d", printed)]
    assert times == [float(time) for time in range(1, 10)]  # 3 s were trained on


@pytest.mark.slow
def test_the_network_that_is_taken_away_brakes(printed):
    [force] = re.findall(r"tensor\(\[\[.*, (.*?)\]\]", printed)  # on the velocity, where that is 1
    assert float(force) < 0


@every_document
def test_links_lead_to_files_that_are_there(document):
    targets = re.findall(r"\]\((?!https?:)([^)#]+)\)", text(document))
    missing = [target for target in targets if not (ROOT / document).parent.joinpath(target).exists()]
    assert missing == []


@every_document
def test_commands_are_ones_that_the_command_line_takes(document):
    for line in COMMAND.findall(text(document)):
        words = shlex.split(line.replace("\\\n", " "), comments=True)
        if words != ["--help"]:
            parser().parse_args(words)  # exits otherwise


def test_commands_are_found_where_they_are():
    lines = [line for document in DOCUMENTS for line in COMMAND.findall(text(document))]
    assert {line.split()[0] for line in lines} >= {"simulate", "train", "tabulate", "diagnose", "--help"}


@every_document
def test_targets_of_make_are_in_the_makefile(document):
    named = re.findall(r"(?m)(?:^ +|`)make ([a-z][a-z-]*)", text(document))
    assert set(named) <= set(re.findall(r"(?m)^([a-z-]+):", text("Makefile")))


@every_map
def test_files_on_the_map_are_there(document):
    files = {file for file, _ in STATION.findall(text(document))}
    assert len(files) > 20
    assert {file for file in files if not found(file)} == set()


@every_map
def test_names_on_the_map_are_in_their_files(document):
    stations = [(found(file), name) for file, name in STATION.findall(text(document)) if name and found(file)]
    assert len(stations) > 20
    assert [f"{file}: {name}" for file, name in stations if name not in names_in(file)] == []


def test_names_are_those_that_a_file_defines_and_no_other():
    methods = names_in(ROOT / "src/hybridsam/training/methods.py")
    assert {"sam", "PERTURBATIONS"} <= methods and not {"rho", "gradients", "torch"} & methods
    assert {"State", "State.w"} <= names_in(ROOT / "src/hybridsam/training/checkpoint.py")
    rules = names_in(ROOT / "workflow/rules/figures.smk")
    assert {"figure", "FIGURES"} <= rules and "input" not in rules
