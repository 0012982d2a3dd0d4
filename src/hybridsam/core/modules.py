"""Modules by name: those of the library, such as tasks, and a user's own by the path of a Python file."""

import importlib
import importlib.util
from pathlib import Path
from types import ModuleType

from hybridsam.core.errors import UserError


def load(module: str) -> ModuleType:
    """A task by its dotted name (``hybridsam.tasks.pendulum``) or by the path of a Python file."""
    if not module.endswith(".py"):
        try:
            return importlib.import_module(module)
        except ModuleNotFoundError as error:
            raise UserError(f"module: cannot import {module!r} ({error})") from error
    path = Path(module)
    if not path.is_file():
        raise UserError(f"module: {module}: no such file")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec and spec.loader  # there is always a loader for a .py file
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded
