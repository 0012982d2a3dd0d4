"""Files that appear whole or not at all."""

import os
from collections.abc import Callable
from pathlib import Path

TWIN_MARK = "TWIN.json"  # lies in the folder of every synthetic twin and in no measured archive


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Let ``write`` fill a file beside ``path``, then rename: the file appears whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        write(part)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
