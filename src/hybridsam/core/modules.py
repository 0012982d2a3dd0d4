"""Modules by name: those of the library, such as tasks, and a user's own by the path of a Python file."""

import importlib
import importlib.util
import logging
import re
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from hybridsam.core.errors import UserError
from hybridsam.core.settings import Settings

logger = logging.getLogger(__name__)

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

    Raises UserError for one that is not there, and for whatever goes wrong when its file runs, with file and line.
    """
    if not module.endswith(".py"):
        try:
            with _in_a_line(module):
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
        with _in_a_line(module):
            spec.loader.exec_module(loaded)
    except ImportError as error:
        raise _cannot_import(module, error) from error
    return loaded


def call(module: str, function: str, *arguments: Any) -> Any:
    """What a function of a module returns, such as ``build`` of a task.

    Raises UserError where there is none, and for whatever goes wrong in it, with file and line.
    """
    chosen = getattr(load(module), function, None)
    if not callable(chosen):
        raise UserError(f"module: {module} has no function {function}")
    with _in_a_line(module):
        return chosen(*arguments)


def build(settings: Mapping) -> Any:
    """The model of a task's settings; the log names keys of the section ``model`` that its module does not read.

    Raises UserError as :func:`call` does.
    """
    chosen = Settings(settings["model"], "model")
    model = call(settings["module"], "build", chosen)
    for key in chosen.unread:
        logger.warning(f"model.{key}: {settings['module']} does not read this key; it is misspelt, or of no use")
    return model


@contextmanager
def _in_a_line(module: str) -> Iterator[None]:
    """Turn whatever goes wrong in a module into a UserError that says where; of imports and files more can be said."""
    try:
        yield
    except (UserError, ImportError, OSError):
        raise
    except Exception as error:
        file = source(module)
        if isinstance(error, SyntaxError):
            place, what = f"{error.filename}, line {error.lineno}", error.msg
        else:
            frames = traceback.extract_tb(error.__traceback__)
            lines = [frame.lineno for frame in frames if file and Path(frame.filename) == file.absolute()]
            place, what = f"{file}, line {lines[-1]}" if lines else str(file), f"{type(error).__name__}: {error}"
        raise UserError(f"module: {place}: {' '.join(what.split())}") from error


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
