"""Configuration, schemas, library and config/README.md say the same."""

import re
from dataclasses import MISSING, fields
from functools import cache, reduce
from operator import getitem
from pathlib import Path

import jsonschema
import pytest
import yaml

from hybridsam.analysis.selection import RULES
from hybridsam.core import modules
from hybridsam.core.blocks import canonical
from hybridsam.core.methods import METHODS, has_rho
from hybridsam.core.settings import merge, numbers, without_sources
from hybridsam.data.chambers import archives
from hybridsam.models.parameters import TRANSFORMS, Parameter
from hybridsam.models.solver import ADAPTIVE, Solver
from hybridsam.training.loop import Training
from hybridsam.training.methods import PERTURBED

ROOT = Path(__file__).resolve().parents[1]
ARCHIVES = ROOT / "config/archives.yaml"
EXPERIMENTS = sorted(set((ROOT / "config").glob("*.yaml")) - {ARCHIVES})
TASKS = sorted((ROOT / "config/tasks").glob("*.yaml"))
SCHEMAS = {
    name: yaml.safe_load((ROOT / f"workflow/schemas/{name}.schema.yaml").read_text()) for name in ("experiment", "task")
}

COLUMNS = ("meaning", "allowed", "default", "example")  # of the tables in config/README.md, after the key


def read(path):
    return numbers(yaml.safe_load(path.read_text()))


def complaints(values, name):
    return [error.message for error in jsonschema.Draft202012Validator(SCHEMAS[name]).iter_errors(values)]


def entries(schema, prefix="", whole=None):
    """Dotted key -> its schema, for every key of a schema (any name that the user chooses is *); whole: for $ref."""
    whole = whole or schema
    found = {}
    inside = dict(schema.get("properties", {}))
    if isinstance(schema.get("additionalProperties"), dict):
        inside["*"] = schema["additionalProperties"]
    for key, entry in inside.items():
        if "$ref" in entry:
            entry = reduce(getitem, entry["$ref"].removeprefix("#/").split("/"), whole)
        found[prefix + key] = entry | {"is_required": key in schema.get("required", ())}
        found |= entries(entry, f"{prefix}{key}.", whole)
    return found


@cache
def readme():
    return (ROOT / "config/README.md").read_text()


@cache
def documented(name):
    """Dotted key -> the other cells of its row in the tables of config/README.md that describe this kind of file."""
    section = re.search(rf"(?ms)^## The {name} file\n(.*?)(^## |\Z)", readme())[1]
    found = {}
    for line in re.findall(r"(?m)^\| `.*$", section):
        key_cell, *cells = [cell.strip() for cell in line.strip("|").split(" | ")]
        for key in code(key_cell):
            found[re.sub("<.*?>", "*", key)] = dict(zip(COLUMNS, cells, strict=True))
    return found


def tasks_of(path):
    """task -> its settings with the overrides of an experiment, for the tasks that it may run."""
    experiment, found = read(path), {}
    for task in [*experiment["tasks"], *experiment.get("optional_tasks", [])]:
        found[task] = read(ROOT / f"config/tasks/{task}.yaml")
        for name in ("all", task):
            found[task] = merge(found[task], experiment.get("overrides", {}).get(name, {}))
    return found


def flat(mapping, prefix=""):
    """Dotted keys of all values of a nested mapping."""
    found = []
    for key, value in mapping.items():
        found += flat(value, f"{prefix}{key}.") if isinstance(value, dict) else [prefix + key]
    return found


def choices(entry):
    """The values that a key, or an item of its list, can have; None if there is no such list."""
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
    allowed = {key: choices(entry) for key, entry in entries(SCHEMAS[name]).items() if choices(entry)}
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


@pytest.mark.parametrize(
    ("cls", "prefix"), [(Solver, "model.solver."), (Parameter, "model.theta.*."), (Training, "training.")]
)
def test_documented_defaults_are_those_of_the_library(cls, prefix):
    documents = documented("task")
    for field in fields(cls):
        stated = field.default not in (MISSING, None)  # None: found out otherwise, in the document in words
        if stated and f"{prefix}{field.name}" in documents:
            stated = numbers(yaml.safe_load(code(documents[f"{prefix}{field.name}"]["default"])[0]))
            assert stated == field.default, field.name


@pytest.mark.parametrize("path", [*EXPERIMENTS, *TASKS, ARCHIVES], ids=lambda path: path.name)
def test_every_shipped_file_is_mentioned_in_the_documentation(path):
    assert path.name in readme()


@every_experiment
def test_shipped_experiments_are_valid(path):
    assert complaints(read(path), "experiment") == []


@every_experiment
def test_shipped_experiments_stand_alone(path):
    assert {"tasks", "methods", "seeds"} <= set(read(path))


@every_experiment
def test_every_method_of_a_shipped_experiment_has_its_rhos(path):
    experiment = read(path)
    assert set(experiment["rho"]) == set(filter(has_rho, experiment["methods"]))
    for grid in experiment["rho"].values():
        assert len({canonical(rho) for rho in grid}) == len(grid)


@every_experiment
def test_tasks_stay_valid_under_the_overrides_of_shipped_experiments(path):
    assert {task: found for task, settings in tasks_of(path).items() if (found := complaints(settings, "task"))} == {}


@every_experiment
def test_shipped_experiments_change_only_keys_that_their_tasks_have(path):
    """A misspelt size would leave the paper's, or be an error when the experiment runs."""
    experiment = read(path)
    unknown = set()
    for task in [*experiment["tasks"], *experiment.get("optional_tasks", [])]:
        file = flat(read(ROOT / f"config/tasks/{task}.yaml"))
        for name in ("all", task):
            unknown |= {
                f"{task}: {key}" for key in flat(experiment.get("overrides", {}).get(name, {})) if key not in file
            }
    assert unknown == set()


@every_experiment
def test_shipped_experiments_choose_between_measurements_and_twins(path):
    experiment = read(path)
    with_twin = [name for name, settings in tasks_of(path).items() if "twin_module" in settings]
    assert ("data" in experiment) == bool(with_twin)


@pytest.mark.parametrize("path", [*EXPERIMENTS, None], ids=lambda path: path.name if path else "task files")
def test_sizes_that_stand_in_two_places_agree(path):
    settings = tasks_of(path) if path else {task.stem: read(task) for task in TASKS}
    for task, chosen in settings.items():
        data, twin = ({name: entry["value"] for name, entry in chosen.get(k, {}).items()} for k in ("data", "twin"))
        model = chosen["model"]
        same = [(data[name], twin[name], name) for name in ("runs", "rows", "images", "image_size") if name in twin]
        same += [(data[name], model[name], name) for name in ("window", "side") if name in model]
        if "image_size" in model:
            same.append((data["image_size"], model["image_size"] * data["coarsen"], "image_size"))
            assert model["image_size"] % 2 ** (len(model["channels"]) - 1) == 0, f"{task}: levels"
        if "decoder" in model:
            same.append((data["pixels"], 3 * 2 ** len(model["decoder"]), "pixels"))
        assert [f"{task}: {name}" for one, other, name in same if one != other] == []


@every_task
def test_shipped_tasks_are_valid(path):
    assert complaints(read(path), "task") == []


@every_task
def test_every_constant_has_a_unit_and_a_source(path):
    task = read(path)
    for table in (task["data"], task["model"]["theta"], task["model"].get("constants", {}), task.get("twin", {})):
        for name, entry in table.items():
            assert str(entry["unit"]).strip(), name
            assert entry["source"] in SCHEMAS["task"]["$defs"]["source"]["enum"], name


def comments(path, section):
    """Key -> the comment behind it, of the keys of a section that stand on a line of their own."""
    lines = re.search(rf"(?ms)^{section}:.*?\n(.*?)(^\S|\Z)", path.read_text())[1]
    return dict(re.findall(r"(?m)^  (\w+):(?:[^#\n]*# )?(.*)$", lines))


@every_task
def test_every_plain_setting_has_the_tag_of_its_source_last_in_its_comment(path):
    """Beside theta and constants, whose entries have a key for it."""
    tags = SCHEMAS["task"]["$defs"]["source"]["enum"]
    for section, tabled in (("training", set()), ("model", {"theta", "constants"})):
        behind = comments(path, section)
        assert set(behind) == set(read(path)[section])
        untagged = [key for key in set(behind) - tabled if behind[key].split("; ")[-1] not in tags]
        assert untagged == []


@every_task
def test_the_library_accepts_the_training_and_solver_of_shipped_tasks(path):
    task = without_sources(read(path))
    assert Training(**task["training"]).iterations > 0
    assert Solver(**task["model"].get("solver", {})).step > 0


@every_task
def test_the_modules_of_shipped_tasks_offer_what_the_workflow_calls(path):
    task = read(path)
    wanted = {"module": {"build", "convert" if "archive" in task else "simulate"}, "twin_module": {"simulate"}}
    for key in {"module", "twin_module"} & set(task):
        assert wanted[key] <= set(vars(modules.load(task[key]))), key
    assert task.get("archive", "wt_walks_v1") in read(ARCHIVES)


def test_a_twin_needs_an_archive_and_constants():
    task = read(ROOT / "config/tasks/wind_tunnel.yaml")
    assert complaints({name: task[name] for name in task if name != "archive"}, "task")
    assert complaints({name: task[name] for name in task if name != "twin"}, "task")


def test_the_file_of_archives_is_one_that_the_library_accepts():
    assert set(archives(read(ARCHIVES))) == {"wt_walks_v1", "lt_camera_v1", "lt_interventions_standard_v1"}
    rows = re.findall(r"(?m)^\| (`.*?) \|", readme().split("**The file of archives**")[1])
    assert set(code(" ".join(rows))) == {key for entry in read(ARCHIVES).values() for key in entry}


def test_the_documentation_has_the_keys_that_a_task_has_of_its_own():
    rows = re.findall(r"(?m)^\| (\w+) \| `(\w+)` \|.*\| `(.*)` \|$", readme())
    assert rows
    stated = {(task, key): yaml.safe_load(value) for task, key, value in rows}
    common = set(SCHEMAS["task"]["properties"]["model"]["properties"])
    models = {path.stem: read(path)["model"] for path in TASKS}
    assert stated == {(task, key): model[key] for task, model in models.items() for key in model if key not in common}


def test_the_documented_split_by_run_uses_every_window():
    [example] = re.findall(r"(?s)```\n(overrides:\n  wind_tunnel:.*?)```", readme())
    task = merge(read(ROOT / "config/tasks/wind_tunnel.yaml"), yaml.safe_load(example)["overrides"]["wind_tunnel"])
    data = {name: entry["value"] for name, entry in task["data"].items()}
    windows = (data["rows"] - data["window"]) // data["stride"] + 1
    possible = [windows * len(runs) for runs in data["run_splits"]]
    assert data["split_by"] == "run"
    assert [data[name] for name in ("train", "validation", "test")] == possible


def test_methods_are_those_of_the_library():
    methods = entries(SCHEMAS["experiment"])["methods"]["items"]["enum"]
    assert methods == [name for name in METHODS if name != "refit"]  # whose theta the user gives, by hand
    assert set(entries(SCHEMAS["experiment"])["rho"]["properties"]) == set(filter(has_rho, METHODS))


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
