"""The folder of a synthetic twin: written whole, marked, and never in the place of measurements."""

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from hybridsam.core import modules
from hybridsam.core.errors import UserError
from hybridsam.core.files import TWIN_MARK
from hybridsam.core.settings import values_of


def simulate_twin(task: Mapping, folder: Path) -> None:
    """Let a task's ``twin_module`` simulate its archive; raises UserError unless the folder has the archive's name."""
    if folder.name != task["archive"]:
        raise UserError(f"output: {folder} must be called {task['archive']}, as the archive that it stands for")
    modules.call(task["twin_module"], "simulate", values_of(task["twin"]), folder)


def write_twin(folder: Path, what: str, constants: Mapping[str, Any], fill: Callable[[Path], None]) -> None:
    """Let ``fill`` write a twin's files into a folder, which appears whole, with its mark, or not at all.

    An older twin is replaced; measurements are not: UserError.
    """
    if folder.exists() and any(folder.iterdir()) and not (folder / TWIN_MARK).is_file():
        raise UserError(f"{folder}: is there and no synthetic twin (no {TWIN_MARK} in it); not replaced by one")
    part = folder.with_name(f".{folder.name}.part")  # one name: what a killed simulation left is replaced, not joined
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    try:
        fill(part)
        mark = {"synthetic": True, "what": f"SYNTHETIC TWIN, not measured: {what}", "constants": dict(constants)}
        (part / TWIN_MARK).write_text(json.dumps(mark, indent=1) + "\n", encoding="utf-8")
        if folder.exists():
            shutil.rmtree(folder)
        part.rename(folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)
