"""Synthetic twins: simulated archives with the layout of the measured ones, for work offline and for tests.

Each module has ``simulate(constants, folder)``. Its simulator knows more than the science that is fitted to the data.
"""

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from hybridsam.errors import UserError

MARK = "TWIN.json"  # lies in the folder of every twin and in no measured archive


def write_twin(folder: Path, what: str, constants: Mapping[str, Any], fill: Callable[[Path], None]) -> None:
    """Let ``fill`` write a twin's files into a folder, which appears whole, with its mark, or not at all.

    An older twin is replaced; measurements are not: UserError.
    """
    if folder.exists() and any(folder.iterdir()) and not (folder / MARK).is_file():
        raise UserError(f"{folder}: is there and no synthetic twin (no {MARK} in it); not replaced by one")
    part = folder.with_name(f".{folder.name}.part")  # one name: what a killed simulation left is replaced, not joined
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    try:
        fill(part)
        mark = {"synthetic": True, "what": f"SYNTHETIC TWIN, not measured: {what}", "constants": dict(constants)}
        (part / MARK).write_text(json.dumps(mark, indent=1) + "\n", encoding="utf-8")
        if folder.exists():
            shutil.rmtree(folder)
        part.rename(folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)
