"""Configuration, schemas, library and config/README.md say the same."""

import re
from dataclasses import MISSING, fields
from functools import cache
from pathlib import Path

import jsonschema
import pytest
import yaml

from hybridsam.evaluate import RULES
from hybridsam.integrate import ADAPTIVE, Solver
from hybridsam.methods import METHODS, PERTURBED
from hybridsam.parameters import TRANSFORMS, Parameter
from hybridsam.settings import canonical, merge, numbers, without_sources
from hybridsam.train import Training

ROOT = Path(__file__).resolve().parents[1]
EXPERIMENTS = sorted((ROOT / "config").glob("*.yaml"))
TASKS = sorted((ROOT / "config/tasks").glob("*.yaml"))
SCHEMAS = {
    name: yaml.safe_load((ROOT / f"workflow/schemas/{name}.schema.yaml").read_text()) for name in ("experiment", "task")
}

COLUMNS = ("meaning", "allowed", "default", "example")  # of the tables in config/README.md, after the key


def read(path):
    return numbers(yaml.safe_load(path.read_text()))


def complaints(values, name):
    return [error.message for error in jsonschema.Draft202012Validator(SCHEMAS[name]).iter_errors(values)]


def entries(schema, prefix=""):
    """Dotted key -> its schema, for every key of a schema; any name that the user chooses is *."""
    found = {}
    inside = dict(schema.get("properties", {}))
    if isinstance(schema.get("additionalProperties"), dict):
        inside["*"] = schema["additionalProperties"]
    for key, entry in inside.items():
        found[prefix + key] = entry | {"is_required": key in schema.get("required", ())}
        found |= entries(entry, f"{prefix}{key}.")
    return found


@cache
def documented(name):
    """Dotted key -> the other cells of its row in the tables of config/README.md that describe this kind of file."""
    section = re.search(rf"(?ms)^## The {name} file\n(.*?)(^## |\Z)", (ROOT / "config/README.md").read_text())[1]
    found = {}
    for line in re.findall(r"(?m)^\| `.*$", section):
        key_cell, *cells = [cell.strip() for cell in line.strip("|").split(" | ")]
        for key in code(key_cell):
            found[re.sub("<.*?>", "*", key)] = dict(zip(COLUMNS, cells, strict=True))
    return found


def choices(entry, name):
    """The values that a key, or an item of its list, can have; None if there is no such list."""
    entry = SCHEMAS[name]["$defs"]["source"] if "$ref" in entry else entry
    return entry.get("enum") or entry.get("items", {}).get("enum")


def code(cell):
    """What stands between backticks."""
    return re.findall("`([^`]+)`", cell)


every_schema = pytest.mark.parametrize("name", SCHEMAS)
every_experiment = pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda path: path.name)
every_task = pytest.mark.parametrize("path", TASKS, ids=lambda path: path.name)


@every_schema
def test_the_documentation_describes_exactly_the_keys_of_the_schema(name):
    assert set(documented(name)) == set(entries(SCHEMAS[name]))


@every_schema
def test_every_key_is_explained(name):
    assert [key for key, cells in documented(name).items() if not all(cells.values())] == []


@every_schema
def test_documented_values_are_those_that_are_allowed(name):
    allowed = {key: choices(entry, name) for key, entry in entries(SCHEMAS[name]).items() if choices(entry, name)}
    assert {key: code(documented(name)[key]["allowed"]) for key in allowed} == allowed


@every_schema
def test_required_keys_are_documented_as_such(name):
    required = {key for key, entry in entries(SCHEMAS[name]).items() if entry["is_required"]}
    assert {key for key, cells in documented(name).items() if cells["default"] == "required"} == required


def test_documented_defaults_are_those_of_the_schema():
    schema = entries(SCHEMAS["experiment"])
    defaults = {key: entry["default"] for key, entry in schema.items() if "default" in entry}
    assert {key: yaml.safe_load(code(documented("experiment")[key]["default"])[0]) for key in defaults} == defaults


@every_schema
def test_every_documented_example_is_valid(name):
    wrong = {}
    for key, entry in entries(SCHEMAS[name]).items():
        [example] = code(documented(name)[key]["example"])
        schema = jsonschema.Draft202012Validator(entry | {"$defs": SCHEMAS[name].get("$defs", {})})
        if not schema.is_valid(numbers(yaml.safe_load(example))):
            wrong[key] = example
    assert wrong == {}


@pytest.mark.parametrize(("cls", "prefix"), [(Solver, "model.solver."), (Parameter, "model.theta.*.")])
def test_documented_defaults_are_those_of_the_library(cls, prefix):
    documents = documented("task")
    for field in fields(cls):
        if field.default is not MISSING and f"{prefix}{field.name}" in documents:
            stated = numbers(yaml.safe_load(code(documents[f"{prefix}{field.name}"]["default"])[0]))
            assert stated == field.default, field.name


@pytest.mark.parametrize("path", [*EXPERIMENTS, *TASKS], ids=lambda path: path.name)
def test_every_shipped_file_is_mentioned_in_the_documentation(path):
    assert path.name in (ROOT / "config/README.md").read_text()


@every_experiment
def test_shipped_experiments_are_valid(path):
    assert complaints(read(path), "experiment") == []


@every_experiment
def test_shipped_experiments_stand_alone(path):
    assert {"tasks", "methods", "seeds"} <= set(read(path))


@every_experiment
def test_every_method_of_a_shipped_experiment_has_its_strengths(path):
    experiment = read(path)
    assert set(experiment["strengths"]) == set(experiment["methods"]) - {"erm"}
    for grid in experiment["strengths"].values():
        assert len({canonical(rho) for rho in grid}) == len(grid)


@every_experiment
def test_tasks_stay_valid_under_the_overrides_of_shipped_experiments(path):
    experiment = read(path)
    overrides = experiment.get("overrides", {})
    for task in experiment["tasks"]:
        settings = read(ROOT / f"config/tasks/{task}.yaml")
        for name in ("all", task):
            settings = merge(settings, overrides.get(name, {}))
        assert complaints(settings, "task") == [], task


@every_task
def test_shipped_tasks_are_valid(path):
    assert complaints(read(path), "task") == []


@every_task
def test_every_constant_has_a_unit_and_a_source(path):
    task = read(path)
    for name, entry in (task["data"] | task["model"]["theta"]).items():
        assert str(entry["unit"]).strip(), name
        assert entry["source"] in SCHEMAS["task"]["$defs"]["source"]["enum"], name


@every_task
def test_the_library_accepts_the_training_and_solver_of_shipped_tasks(path):
    task = without_sources(read(path))
    assert Training(**task["training"]).iterations > 0
    assert Solver(**task["model"]["solver"]).step > 0


def test_methods_are_those_of_the_library():
    methods = entries(SCHEMAS["experiment"])["methods"]["items"]["enum"]
    assert methods == list(METHODS)
    assert set(entries(SCHEMAS["experiment"])["strengths"]["properties"]) == set(METHODS) - {"erm"}


def test_selection_rules_are_those_of_the_library():
    assert entries(SCHEMAS["experiment"])["selection_rule"]["enum"] == list(RULES)


def test_training_keys_are_those_of_the_library():
    training = entries(SCHEMAS["task"])["training"]
    assert set(training["properties"]) == {field.name for field in fields(Training)}
    assert set(training["required"]) == {field.name for field in fields(Training) if field.default is MISSING}
    assert training["properties"]["perturb"]["enum"] == list(PERTURBED)


def test_solver_keys_and_methods_are_those_of_the_library():
    solver = entries(SCHEMAS["task"])["model.solver"]["properties"]
    assert set(solver) == {field.name for field in fields(Solver)}
    assert solver["method"]["enum"] == ["rk4", *ADAPTIVE]


def test_keys_and_transforms_of_theta_are_those_of_the_library():
    row = entries(SCHEMAS["task"])["model.theta.*"]
    documentation_only = {"source", "note"}
    assert set(row["properties"]) - documentation_only == {field.name for field in fields(Parameter)} - {"name"}
    assert set(row["required"]) - documentation_only == {
        field.name for field in fields(Parameter) if field.default is MISSING and field.name != "name"
    }
    assert row["properties"]["transform"]["enum"] == list(TRANSFORMS)
