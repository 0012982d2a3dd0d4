"""The code that results depend on, file by file."""

import shutil
from pathlib import Path

import pytest
from helpers.library import MODULES, all_imports
from helpers.project import TASKS, assert_refused, names, rules, trainings
from helpers.refusals import refused

import hybridsam
from hybridsam.core import modules, provenance
from hybridsam.core.errors import UserError
from hybridsam.core.provenance import closure, code_hash

PACKAGE = provenance.PACKAGE


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty folder, which is the present one; write a file of the user's there with ``here(name, text)``."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))  # as `python -m hybridsam` does
    provenance.imported.cache_clear()  # in which files of other tests have the same names

    def write(name, text=""):
        file = tmp_path / name
        if file.exists():
            provenance.imported.cache_clear()
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        return name

    return write


def files(*names):
    """The closure: of hybridsam as models/hybrid.py, of the user as seen from the present folder."""
    found = closure(*names)
    assert found == sorted(set(found)) and all(file.is_file() for file in found)
    return {seen_from_here(file.absolute()) for file in found}


def seen_from_here(file):
    return str(file.relative_to(PACKAGE if PACKAGE in file.parents else Path.cwd()))


def of_user(*names):
    """Those of the closure that are the user's own."""
    return {file for file in files(*names) if (Path.cwd() / file).exists()}


def sources_of(module):
    """The files of a module of hybridsam and of all that it imports, found in another way than by closure."""
    paths = {PACKAGE / f"{name.replace('.', '/')}.py" for name in all_imports(module)}
    compiled = {path.with_suffix(".cpp") for path in paths if path.with_suffix(".cpp").exists()}
    return {str(path.relative_to(PACKAGE)) for path in paths | compiled}


# Public names

FORMS = (
    "from hybridsam import {name}\n",
    "from hybridsam import MLP, {name} as own\n",
    "import hybridsam\n\nvalue = [hybridsam.{name}]\n",
    "import hybridsam as hs\n\ndef build(model):\n    return hs.{name}(hs)\n",
    "def build(model):\n    if model:\n        from hybridsam import {name}\n        return {name}\n",
    "from typing import TYPE_CHECKING\n\nif TYPE_CHECKING:\n    from hybridsam import {name}\n",
)


@pytest.mark.parametrize("name", hybridsam.PUBLIC)
def test_what_uses_a_public_name_depends_on_its_file_and_on_all_that_this_imports(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    expected = sources_of(hybridsam.PUBLIC[name])
    assert f"{hybridsam.PUBLIC[name].replace('.', '/')}.py" in expected
    for number, form in enumerate(FORMS):
        task = tmp_path / f"task{number}.py"
        task.write_text(form.format(name=name))
        more = sources_of("models.networks") if "MLP" in form else set()
        assert files(str(task)) == {task.name} | expected | more, form


def test_every_module_of_the_library_depends_on_all_that_it_imports():
    modules_of_rooms = [name for name, file in MODULES.items() if file.name != "__init__.py"]
    assert {name: found for name in modules_of_rooms if (found := files(f"hybridsam.{name}")) != sources_of(name)} == {}


def test_a_file_of_the_library_may_import_from_the_present_folder_too(here):
    """As a task laid out by new-task does; that a package's name is taken there is the shortest case of it."""
    here("scipy/__init__.py", "")
    here("scipy/integrate.py", "import rates\n")
    here("rates.py", "")
    assert {"scipy/__init__.py", "scipy/integrate.py", "rates.py"} <= files("hybridsam.data.simulate")


def test_a_task_depends_on_what_it_names_and_not_on_the_rest(here):
    found = files(here("task.py", "from hybridsam import simulate_ode, TorchModule\n"))
    assert {"data/simulate.py", "data/splits.py", "models/torch_module.py", "models/networks.py"} <= found
    assert not {"models/hybrid.py", "models/solver.py", "data/chambers.py", "api.py", "training/loop.py"} & found


def test_what_several_modules_depend_on_is_all_of_it_once(here):
    one, other = here("one.py", "from hybridsam import MLP\n"), here("other.py", "from hybridsam import UserError\n")
    assert files(one, other, one) == files(one) | files(other)
    assert files(other) == {"other.py", "core/errors.py"}


def test_another_task_and_what_it_imports_count(here):
    own = here("task.py", "from hybridsam.tasks import pendulum\nfrom hybridsam.tasks.duffing import science\n")
    assert files(own) == {"task.py"} | sources_of("tasks.pendulum") | sources_of("tasks.duffing")


def test_what_a_module_compiles_counts(here):
    assert {"training/compiled.py", "training/compiled.cpp"} <= files("hybridsam.training.block")
    here("fast.cpp", "int main() {}")
    here("other.cpp", "int main() {}")
    here("fast.py", "import torch\n")
    assert files(here("task.py", "import fast\n")) == {"task.py", "fast.py", "fast.cpp"}


def test_rooms_and_the_package_itself_hold_no_code_that_counts(here):
    every = files("hybridsam.cli.main", "hybridsam.training.block", "hybridsam.tasks.pendulum")
    assert len(every) > 40 and not [file for file in every if file.endswith("__init__.py")]
    assert files(here("task.py", "import hybridsam\n\nprint(hybridsam.__version__)\n")) == {"task.py"}


# The user's own files


def test_modules_of_ones_own_count_with_what_they_import(here):
    here("laws.py", "import numpy\nfrom hybridsam import UserError\nfrom growth import rate\n")
    here("growth.py", "import task\n\ndef rate():\n    import late\n")  # in a circle
    here("late.py")
    here("unused.py")
    assert files(here("task.py", "import laws\n")) == {"task.py", "laws.py", "growth.py", "late.py", "core/errors.py"}


def test_a_task_in_a_folder_imports_from_the_present_one_as_python_does(here):
    here("laws_here.py", "value = 'present'\n")
    here("mine/laws_here.py", "value = 'beside'\n")
    task = here("mine/task.py", "from laws_here import value\n")
    assert of_user(task) == {"mine/task.py", "laws_here.py"}
    assert modules.load(task).value == "present"


def test_a_package_of_ones_own_counts_with_its_init_files(here):
    here("pack/__init__.py", "from hybridsam import UserError\n")
    here("pack/deep/__init__.py")
    here("pack/deep/law.py")
    here("pack/deep/other.py")
    for text in ("import pack.deep.law\n", "from pack.deep import law\n", "from pack.deep.law import science\n"):
        found = files(here("task.py", text))
        assert found == {"task.py", "core/errors.py", *(f"pack/{name}.py" for name in PACK)}
    here("plain/law.py")  # a folder without __init__.py is a package too
    assert files(here("task.py", "import plain.law\n")) == {"task.py", "plain/law.py"}


PACK = ("__init__", "deep/__init__", "deep/law")


def test_relative_imports_in_a_package_of_ones_own_are_followed(here):
    here("pack/__init__.py")
    here("pack/other.py")
    here("pack/last.py")
    here("pack/deep/__init__.py")
    here("pack/deep/law.py", "from . import beside\nfrom .. import other\nfrom ..last import value\n")
    here("pack/deep/beside.py", "from .further import value\n")
    here("pack/deep/further.py")
    here("beside.py")  # which is not meant
    names = {"__init__", "other", "last", "deep/__init__", "deep/law", "deep/beside", "deep/further"}
    task = here("task.py", "from pack.deep.law import science\n")
    assert of_user(task) == {"task.py", *(f"pack/{name}.py" for name in names)}


def test_relative_imports_in_the_library_are_followed(here, monkeypatch, tmp_path):
    """It has none, but a task of one's own may lie in its folder of tasks."""
    package = tmp_path / "elsewhere/hybridsam"
    for module in (modules, provenance):
        monkeypatch.setattr(module, "PACKAGE", package)
    here("elsewhere/hybridsam/__init__.py")
    here("elsewhere/hybridsam/tasks/one.py", "from . import two\nfrom ..models.law import science\n")
    here("elsewhere/hybridsam/tasks/two.py")
    here("elsewhere/hybridsam/models/law.py", "from .more import *\n")
    here("elsewhere/hybridsam/models/more.py")
    found = {str(file.relative_to(package)) for file in closure("hybridsam.tasks.one")}
    assert found == {"tasks/one.py", "tasks/two.py", "models/law.py", "models/more.py"}


def test_packages_that_are_installed_are_left_out(here):
    task = here("task.py", "import json, torch.nn.functional as F\nfrom scipy.integrate import solve_ivp\n")
    assert files(task) == {"task.py"}


def test_what_is_no_module_of_hybridsam_has_no_code():
    assert closure("numpy") == []


def test_a_module_of_hybridsam_that_is_not_there_is_refused_and_an_old_name_gets_the_new_one():
    assert refused(closure, "hybridsam.no.such.module") == "hybridsam.no.such.module: no such module"
    expected = "hybridsam.records: no such module; hybridsam.records is now hybridsam.core.records"
    assert refused(closure, "hybridsam.records") == expected


# What is not there


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("from hybridsam import *\n", "hybridsam.*"),
        ("from hybridsam import models\n\nvalue = models.networks.MLP\n", "hybridsam.models"),
        ("import hybridsam.models\n", "hybridsam.models"),
        ("import hybridsam as hs\n\nroom = hs.models\n", "hybridsam.models"),
        ("from hybridsam import data\n", "hybridsam.data"),  # which was a module
    ],
)
def test_everything_at_once_is_refused(here, text, name):
    line = refused(closure, here("task.py", text))
    advice = "; hybridsam.data is now hybridsam.models.samples" * (name == "hybridsam.data")
    assert line == f"task.py: {name}: name what is needed of it, so that it is known what depends on it{advice}"


def test_what_is_reached_through_a_room_counts(here):
    """As it can be, wherever something else has imported that module."""
    deep = here("deep.py", "import hybridsam as hs\n\nvalue = hs.models.networks.MLP((2, 2)).shapes\n")
    named = here("named.py", "import hybridsam.models.networks\n\nvalue = hybridsam.models.networks.MLP\n")
    within = here("within.py", "from hybridsam.models.networks import *\n")
    room = here("room.py", "from hybridsam.models import networks\n")
    for file in (deep, named, within, room):
        assert files(file) == {file} | sources_of("models.networks")


@pytest.mark.parametrize(
    ("text", "absent"),
    [
        ("from hybridsam import MPL\n", "MPL"),
        ("import hybridsam as hs\n\nvalue = hs.MPL((2, 2))\n", "MPL"),
        ("import hybridsam\n\nvalue = hybridsam.MPL\n", "MPL"),
        ("import hybridsam.networking\n", "networking"),
        ("from hybridsam.networking import MLP\n", "networking.MLP"),
        ("from hybridsam.models import netwroks\n", "models.netwroks"),
        ("def build(model):\n    from hybridsam.models.netwroks import MLP\n", "models.netwroks.MLP"),
    ],
)
def test_a_name_that_hybridsam_does_not_have_is_refused(here, text, absent):
    assert refused(closure, here("task.py", text)) == f"task.py: hybridsam has no {absent}"


def test_the_file_with_the_wrong_name_is_named_however_it_is_reached(here):
    here("laws.py", "from hybridsam import MPL\n")
    found = refused(closure, here("task.py", "import laws\n"))
    assert found == f"{Path.cwd() / 'laws.py'}: hybridsam has no MPL"


def test_a_name_that_hybridsam_does_not_have_is_refused_where_a_module_is_loaded(here):
    line = refused(modules.load, here("task.py", "from hybridsam import MPL\n"))
    assert line.startswith("module: cannot import 'task.py' (cannot import name 'MPL' from 'hybridsam'")
    assert not line.endswith(";") and " is now " not in line


def test_a_file_that_is_not_python_is_refused_with_the_line(here):
    """Of another error Snakemake would conclude that a rule does not apply, and do nothing."""
    here("laws.py", "import torch\n\ndef build(model:\n")
    found = refused(closure, here("task.py", "import laws\n"))
    assert found == f"{Path.cwd() / 'laws.py'}: line 3: '(' was never closed"


def test_a_file_may_have_another_encoding(here):
    text = "# -*- coding: latin-1 -*-\n# Größe\nfrom hybridsam import UserError\n"
    Path(here("task.py")).write_bytes(text.encode("latin-1"))
    assert files("task.py") == {"task.py", "core/errors.py"}


def test_an_import_that_has_nothing_to_do_with_hybridsam_is_named_in_a_line(here):
    with pytest.raises(UserError, match=r"^module: cannot import '.*task.py' \(No module named 'no_such_package'\)$"):
        modules.load(here("task.py", "import no_such_package\n"))


# What has another place now: imports that files of users have, and where each is

OLD = {
    "from hybridsam.hybrid import HybridODE": "models.ode",
    "from hybridsam.integrate import Solver": "models.solver",
    "from hybridsam.networks import MLP": "models.networks",
    "from hybridsam.parameters import Parameters": "models.parameters",
    "from hybridsam.modules import TorchModule": "models.torch_module",
    "from hybridsam.symbolic import Symbolic": "models.symbolic",
    "from hybridsam.check import check": "models.check",
    "from hybridsam.data import Samples": "models.samples",
    "from hybridsam.errors import UserError": "core.errors",
    "from hybridsam.simulate import simulate_ode": "data.simulate",
    "from hybridsam.chambers import read_table": "data.chambers",
    "from hybridsam.splits import at_random": "data.splits",
    "from hybridsam.columns import numbers": "data.columns",
    "from hybridsam.observed import dataset_of": "data.table",
    "from hybridsam.settings import merge": "core.settings",
    "from hybridsam.records import write_whole": "core.records",
    "from hybridsam.methods import get_method": "training.methods",
    "from hybridsam.train import Training": "training.loop",
    "from hybridsam.block import train_task": "training.block",
    "import hybridsam.hybrid": "models.ode",
    "import hybridsam.networks as networks": "models.networks",
    "from hybridsam import hybrid": "models.ode",
    "from hybridsam import records, settings": "core.records",
    "from hybridsam.tasks import load": "core.modules.load",
}


@pytest.mark.parametrize(("statement", "place"), OLD.items())
@pytest.mark.parametrize("form", ["{}\n", "def build(model):\n    {}\n"], ids=["at the top", "in a function"])
def test_an_import_from_an_old_place_is_told_the_new_one(here, statement, place, form):
    line = refused(closure, here("task.py", form.format(statement)))
    assert line.startswith("task.py: hybridsam has no ")
    old = line.removeprefix("task.py: hybridsam has no ").partition(";")[0].split(".")
    short = ".".join(old[:2]) if old[0] == "tasks" else old[0]
    assert f"hybridsam.{short} is now hybridsam.{place}" in line
    assert (PACKAGE / f"{place.removesuffix('.load').replace('.', '/')}.py").is_file()
    if form == "{}\n":
        line = refused(modules.load, "task.py")
        assert line.startswith("module: cannot import 'task.py' (")
        assert f"; hybridsam.{short} is now hybridsam.{place}" in line


@pytest.mark.parametrize(
    ("function", "now"), [("build", "Solver.from_settings("), ("constants", "from hybridsam import values_of")]
)
def test_functions_of_the_settings_that_have_other_names_are_told(here, function, now):
    statement = f"from hybridsam.settings import {function} as own\n"
    for action in (closure, modules.load):
        line = refused(action, here("task.py", statement))
        assert f"hybridsam.settings.{function} is now " in line and now in line


def test_a_module_that_was_never_there_gets_no_advice():
    assert modules.moved("analysis.cube") == modules.moved("nothing") == modules.moved("MLP") == ""
    line = refused(modules.load, "hybridsam.tasks.no_such_task")
    assert line.endswith(" (No module named 'hybridsam.tasks.no_such_task')")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "from hybridsam.networks import MLP\n",
            "laws.py: hybridsam has no networks.MLP; hybridsam.networks is now hybridsam.models.networks",
        ),
        ("def build(model:\n", "laws.py: line 1: '(' was never closed"),
    ],
    ids=["an old import", "not Python"],
)
def test_the_workflow_says_so_before_anything_runs(fresh, text, said):
    (fresh.root / "laws.py").write_text(text)
    (fresh.root / "own.py").write_text("from laws import MLP\n")
    assert_refused(fresh, {"overrides.pendulum.module": "own.py"}, [said])


# The hash of code


def test_the_hash_of_code_changes_with_every_file_of_it_and_with_no_other(here):
    task, laws = here("task.py", "import laws\n"), here("laws.py", "rate = 1\n")
    here("unused.py", "rate = 1\n")
    before = code_hash(task)
    assert code_hash(task) == before
    here("unused.py", "rate = 2\n")
    assert code_hash(task) == before
    here(laws, "rate = 2\n")
    changed = code_hash(task)
    here(task, "import laws  # changed\n")
    assert len({before, changed, code_hash(task), code_hash(task, "hybridsam.core.errors")}) == 4


# What the workflow runs again


@pytest.fixture
def with_own_task(project):
    """The finished project, whose results of the pendulum count as made by a file of the user's; configuration."""
    shutil.copy(project.root / "src/hybridsam/tasks/pendulum.py", project.root / "own.py")
    project.edit("own.py", "import MLP, HybridODE,", "import HybridODE,")
    project.edit("own.py", "import torch\n", "import torch\nimport laws\n")
    project.edit("own.py", 'MLP((2, *model["hidden"], 2))', "hs.TorchModule(lambda: torch.nn.Linear(2, 2))")
    project.edit("own.py", "    return HybridODE(", "    import hybridsam as hs\n\n    return HybridODE(")
    (project.root / "laws.py").write_text("rate = 1\n")
    configuration = project.configure({"overrides.pendulum.module": "own.py"})
    assert names(project.plan("all", configuration=configuration), "train") == trainings("pendulum")
    touched = project.snakemake("--touch", "--cores", "1", "all", configuration=configuration)
    assert touched.returncode == 0, touched.stdout
    return project, configuration


@pytest.mark.slow
def test_a_file_of_a_public_name_runs_again_what_uses_it_and_nothing_else(with_own_task):
    project, configuration = with_own_task

    def after_editing(*edited):
        """The jobs that the edits make necessary; the files are then as they were."""
        before = {file: (project.root / file).read_text() for file in edited}
        for file in edited:
            project.append(file, "\nCHANGED = True\n")
        jobs = project.plan("all", configuration=configuration)
        for file, text in before.items():
            (project.root / file).write_text(text)
        return jobs

    def of(name):
        return f"src/hybridsam/{hybridsam.PUBLIC[name].replace('.', '/')}.py"

    assert after_editing(*map(of, ("chambers", "dataset_of", "fit", "to_module"))) == []  # which no task here uses
    for file in (of("TorchModule"), "laws.py"):  # which this task uses alone
        jobs = after_editing(file)
        assert names(jobs, "train") == trainings("pendulum")
        assert names(jobs, "simulate") == {"simulate pendulum"} and names(jobs, "diagnose") == {"diagnose pendulum"}
        assert rules(job for job in jobs if job.task == "duffing") <= {"page"}  # which shows the table of all tasks
    for name in ("simulate_ode", "MLP"):  # which all use, or what they import
        jobs = after_editing(of(name))
        assert names(jobs, "train") == trainings(*TASKS)
        for rule in ("simulate", "diagnose"):
            assert names(jobs, rule) == {f"{rule} {task}" for task in TASKS}
