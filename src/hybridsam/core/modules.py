"""Modules by name: those of the library, such as tasks, and a user's own by the path of a Python file."""

import importlib
import importlib.util
import re
from pathlib import Path
from types import ModuleType

from hybridsam.core.errors import UserError

PACKAGE = Path(__file__).parents[1]

# Where modules were that users' files import: what is public comes from hybridsam itself, the rest from a room.
MOVED = {
    "block": "training.block",
    "chambers": "data.chambers",
    "check": "models.check",
    "columns": "data.columns",
    "data": "models.samples",
    "errors": "core.errors",
    "hybrid": "models.ode for HybridODE, hybridsam.models.law for the others",
    "integrate": "models.solver",
    "methods": "training.methods",
    "modules": "models.torch_module",
    "networks": "models.networks, those of grids and images hybridsam.models.convolutions",
    "observed": "data.table",
    "parameters": "models.parameters",
    "records": "core.records",
    "settings": "core.settings",
    "simulate": "data.simulate",
    "splits": "data.splits",
    "symbolic": "models.symbolic",
    "tasks.load": "core.modules.load",
    "train": "training.loop",
}
REPLACED = {  # functions that such files called
    "settings.build": 'from_settings of the class, such as Solver.from_settings(model["solver"])',
    "settings.constants": "from hybridsam import values_of",
}


def source(module: str, *folders: Path) -> Path | None:
    """File of a module, or None.

    module: dotted name of one of hybridsam, path of a Python file, or dotted name of one in ``folders``, of which the
    first that has it counts.
    """
    if module.endswith(".py"):
        return Path(module)
    top, *names = module.split(".")
    places = [PACKAGE.joinpath(*names)] if top == "hybridsam" else [folder.joinpath(top, *names) for folder in folders]
    files = [file for place in places for file in (place.with_suffix(".py"), place / "__init__.py")]
    return next((file for file in files if file.is_file()), None)


def load(module: str) -> ModuleType:
    """A module by its dotted name (``hybridsam.tasks.pendulum``) or by the path of a Python file.

    Raises UserError for one that is not there, and for one that imports what hybridsam does not have.
    """
    if not module.endswith(".py"):
        try:
            return importlib.import_module(module)
        except ImportError as error:
            raise _cannot_import(module, error) from error
    path = Path(module)
    if not path.is_file():
        raise UserError(f"module: {module}: no such file")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec and spec.loader  # there is always a loader for a .py file
    loaded = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(loaded)
    except ImportError as error:
        if not (error.name or "").startswith("hybridsam"):
            raise
        raise _cannot_import(module, error) from error
    return loaded


def _cannot_import(module: str, error: ImportError) -> UserError:
    lacking = re.match(r"cannot import name '(\w+)'", str(error))  # what a module lacks only the message says
    absent = ".".join([error.name or "", *(lacking.groups() if lacking else ())]).removeprefix("hybridsam.")
    advice = moved(absent) if absent != module.removeprefix("hybridsam.") else ""
    return UserError(f"module: cannot import {module!r} ({error}){advice and f'; {advice}'}")


def moved(name: str) -> str:
    """Where something is now that users' files import as hybridsam.<name>, in words; empty if it never was there."""
    if name in REPLACED:
        return f"hybridsam.{name} is now {REPLACED[name]}"
    top = name.split(".")[0]
    where = MOVED.get(name) or MOVED.get(top)
    said = [f"hybridsam.{name if name in MOVED else top} is now hybridsam.{where}"] if where else []
    return ", ".join([*said, *(moved(function) for function in REPLACED if function.startswith(f"{name}."))])
