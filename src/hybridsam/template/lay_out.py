"""A task of one's own, laid out from files that already run: `make new-task NAME=…`."""

import keyword
import re
from pathlib import Path

from hybridsam.core.errors import UserError
from hybridsam.core.files import write_whole

PLACES = {
    "task.py": "src/hybridsam/tasks/{}.py",
    "task.yaml": "config/tasks/{}.yaml",
    "task.smk": "workflow/rules/tasks/{}.smk",
}


def lay_out(name: str, repository: Path) -> list[Path]:
    """Write the three files of a new task into a clone of the repository; returns their paths.

    Raises UserError if the name cannot be one of a Python module, or if one of the files is there already.
    """
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", name) or keyword.iskeyword(name):
        raise UserError(f"name: {name!r} is no name for a task; allowed are letters, digits and _, a letter first")
    if not (repository / "workflow/Snakefile").is_file():
        raise UserError(f"{repository}: not the root of a clone of hybridsam, which has workflow/Snakefile")
    paths = {file: repository / place.format(name) for file, place in PLACES.items()}
    for path in paths.values():
        if path.exists():
            raise UserError(f"{path}: is there already; choose another name or remove it")
    for file, path in paths.items():
        text = Path(__file__).with_name(file).read_text(encoding="utf-8").replace("NAME", name)
        write_whole(path, lambda part: part.write_text(text, encoding="utf-8"))  # noqa: B023  used at once
    return list(paths.values())
