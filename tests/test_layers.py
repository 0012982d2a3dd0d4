"""The rooms of the library: who may import whom, read from the import statements, wherever in a file they stand."""

import ast
from graphlib import CycleError, TopologicalSorter

import pytest
from helpers.library import GRAPH, MODULES, PACKAGE, ROOT, imports, module_of, modules_in

import hybridsam

LEVELS = [  # a room imports from those above it in this list, and from itself
    {"core"},
    {"models"},
    {"data"},
    {"tasks", "twins", "template"},
    {"training"},
    {"analysis"},
    {"figures"},
    {"report"},
    {"api"},
    {"export"},
    {"cli"},
    {"__main__"},
]
LEVEL = {room: level for level, rooms in enumerate(LEVELS) for room in rooms}


def room(module):
    return module.partition(".")[0]


def upwards(module, imported):
    """Those of the imported modules that stand in a room from which this one may not import."""
    own = room(module)
    return {other for other in imported if room(other) != own and LEVEL[room(other)] >= LEVEL[own]}


IMPORTS = {module: imports(file) for module, file in MODULES.items()}


def of_each(found):
    """module -> what a look at its imports found, where there is something."""
    return {module: those for module in MODULES if (those := found(module))}


def test_the_rooms_are_those_that_are_ordered_here():
    assert {room(module) for module in MODULES} == set(LEVEL)


def test_what_a_module_imports_of_the_library_is_there():
    assert of_each(lambda module: GRAPH[module] - set(MODULES)) == {}
    assert sum(map(len, GRAPH.values())) > 2 * len(MODULES)


def test_no_room_imports_from_one_above_it():
    assert of_each(lambda module: upwards(module, GRAPH[module])) == {}


def test_an_import_upwards_is_seen_wherever_it_stands(tmp_path):
    file = tmp_path / "module.py"
    file.write_text(
        "import hybridsam.analysis.cube\n"
        "from typing import TYPE_CHECKING\n"
        "if TYPE_CHECKING:\n    from hybridsam import fit, Samples\n"
        "def late():\n    from hybridsam.report import task_page\n    from hybridsam.core.errors import UserError\n"
    )
    found = modules_in(imports(file))
    assert found == {"analysis.cube", "api", "models.samples", "report.task_page", "core.errors"}
    assert upwards("training.loop", found) == {"analysis.cube", "api", "report.task_page"}
    assert upwards("tasks.one", {"twins.one", "tasks.other", "data.splits"}) == {"twins.one"}


def test_no_modules_import_each_other_in_a_circle():
    circle = []
    try:
        TopologicalSorter(GRAPH).prepare()
    except CycleError as error:
        circle = error.args[1]
    assert circle == []


def test_no_import_is_relative_or_of_everything():
    assert of_each(lambda module: [name for name in IMPORTS[module] if name[0] == "." or name[-1] == "*"]) == {}


def test_the_library_never_imports_snakemake():
    assert of_each(lambda module: [name for name in IMPORTS[module] if name.startswith("snakemake")]) == {}


def test_a_room_has_a_docstring_and_nothing_else_in_its_init():
    rooms = {file.parent for file in MODULES.values()} - {PACKAGE}
    trees = {folder.name: ast.parse((folder / "__init__.py").read_text(encoding="utf-8")) for folder in rooms}
    assert [name for name, tree in trees.items() if len(tree.body) != 1 or not ast.get_docstring(tree)] == []


def test_the_package_can_be_taken_in_at_a_glance():
    assert len([path for path in PACKAGE.iterdir() if path.name != "__pycache__"]) < 25


# The public names


def test_type_checkers_see_the_public_names_where_they_are():
    tree = ast.parse((PACKAGE / "__init__.py").read_text(encoding="utf-8"))
    [block] = [node for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"]
    found = {alias.name: (node.module, alias.asname) for node in block.body for alias in node.names}
    places = {name: module_of(f"{module}.{name}".removeprefix("hybridsam.")) for name, (module, _) in found.items()}
    assert places == hybridsam.PUBLIC
    assert all(name == asname for name, (_, asname) in found.items())  # or type checkers take it for an inner name


def test_the_package_imports_nothing_of_the_library_until_it_is_asked_for():
    tree = ast.parse((PACKAGE / "__init__.py").read_text(encoding="utf-8"))
    at_once = {node.module for node in tree.body if isinstance(node, ast.ImportFrom)}
    at_once |= {alias.name for node in tree.body if isinstance(node, ast.Import) for alias in node.names}
    assert at_once == {"importlib", "typing"}


@pytest.mark.parametrize("name", hybridsam.PUBLIC)
def test_a_public_name_is_what_its_module_has(name):
    found, where = getattr(hybridsam, name), f"hybridsam.{hybridsam.PUBLIC[name]}"
    assert where in (getattr(found, "__module__", None), getattr(found, "__name__", None))
    assert name in dir(hybridsam) and name in hybridsam.__all__


def test_tasks_import_only_public_names_and_other_tasks():
    """As users' own files should, which begin as copies of these."""
    files = [*(PACKAGE / "tasks").glob("*.py"), *(ROOT / "examples").glob("*.py"), PACKAGE / "template/task.py"]

    def allowed(name):
        below = name.removeprefix("hybridsam.")
        return room(name) != "hybridsam" or name == "hybridsam" or below in hybridsam.PUBLIC or room(below) == "tasks"

    wrong = {file.name: [name for name in imports(file) if not allowed(name)] for file in files}
    assert len(wrong) > 10 and {file: names for file, names in wrong.items() if names} == {}
