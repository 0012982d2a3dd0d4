"""Where results come from: commit, package versions, hashes of data and settings, and the code that they depend on."""

import ast
import hashlib
import importlib.metadata
import subprocess
import sys
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hybridsam.core.errors import UserError
from hybridsam.core.modules import PACKAGE, moved, source

if TYPE_CHECKING:
    import xarray as xr

VERSIONED = ("torch", "numpy", "scipy", "xarray", "torchdiffeq")


def fingerprint(dataset: "xr.Dataset") -> str:
    """A hash of the numbers and labels, whatever the attributes say (they hold timestamps) and samples are called."""
    state = hashlib.sha256()
    for name in sorted({*map(str, dataset.variables)} - {"sample_label"}):  # which is for readers: no run depends on it
        variable = dataset[name]
        state.update(f"{name} {variable.dims} {variable.shape}".encode())
        text = variable.dtype.kind in "OU"
        values = np.ascontiguousarray(variable.values)
        state.update("\0".join(map(str, values.ravel())).encode() if text else values.data)
    return state.hexdigest()[:16]


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that results depend on."""
    python = ".".join(map(str, sys.version_info[:3]))
    return {"python": python} | {name: importlib.metadata.version(name) for name in VERSIONED}


def git_commit(*modules: str) -> str:
    """Commit of the source tree, and what is not as in it of the files that these modules consist of.

    ``<commit> with local changes: mine/tank.py (not in git), hybridsam/core/scales.py (changed)``. Without modules,
    all files of hybridsam count. 'unknown' outside a repository.
    """
    library = [file for file in sorted(PACKAGE.rglob("*")) if file.suffix in (".py", ".cpp")]
    commit = _git(PACKAGE, "rev-parse", "HEAD")
    if not commit or not _git(PACKAGE, "ls-files", "--", *map(str, library)):  # installed in a folder of something else
        return "unknown"
    try:
        files = closure(*modules) or library
    except (UserError, OSError):  # what is written now must not be lost because a file has changed meanwhile
        files = library
    changes = ", ".join(_not_as_in(commit, files))
    return commit + f" with local changes: {changes}" * bool(changes)


def _not_as_in(commit: str, files: Sequence[Path]) -> Iterator[str]:
    """Of these files those that the commit does not hold as they are, and why it does not."""
    for folder in dict.fromkeys(file.resolve().parent for file in files):
        held = _git(folder, "ls-files", "-z", "--", ".").split("\0")
        changed = _git(folder, "diff", "--name-only", "--relative", "-z", "HEAD", "--", ".").split("\0")
        here = _git(folder, "rev-parse", "HEAD")
        for file in (file for file in files if file.resolve().parent == folder):
            if file.name not in held:
                yield f"{_shown(file)} (not in git)"
            elif file.name in changed:
                yield f"{_shown(file)} (changed)"
            elif here != commit:
                yield f"{_shown(file)} (of commit {here})"


def _shown(file: Path) -> str:
    """A path as seen from the present folder; of hybridsam, from the folder that it is in."""
    root = PACKAGE.parent if PACKAGE in file.parents else Path.cwd()
    return str(file.absolute().relative_to(root) if root in file.absolute().parents else file)


def _git(folder: Path, *command: str) -> str:
    """What git says in a folder; nothing where it fails."""
    try:
        said = subprocess.run(["git", "-C", str(folder), *command], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return ""
    return said.stdout.strip().strip("\0")


# Code


def closure(*modules: str) -> list[Path]:
    """The files that these modules consist of: their own, and all that they import, directly or not, in turn.

    modules: as for :func:`hybridsam.core.modules.source`. Followed is what ``import`` statements name, wherever in a
    file they stand: modules of hybridsam, what they compile, public names, relative names, and a user's own modules in
    the present folder, from which Python imports them. The __init__ files of hybridsam hold no code that a result
    depends on. Raises UserError for a module, and for an import, that hybridsam does not have, for the import of all of
    a room at once, and for a file that is not Python.
    """
    found: set[Path] = set()
    waiting = []
    for module in modules:
        if file := source(module):
            waiting.append(file)
        elif module.startswith("hybridsam."):
            advice = moved(module.removeprefix("hybridsam."))
            raise UserError(f"{module}: no such module{advice and f'; {advice}'}")
    while waiting:
        file = waiting.pop()
        if file not in found:
            found |= {file, *file.parent.glob(f"{file.stem}.cpp")}  # what a module compiles lies beside it
            waiting += imported(file)
    return sorted(found)


def code_hash(*modules: str) -> str:
    """Hash of the text of their :func:`closure`."""
    return hashlib.sha256(b"".join(file.read_bytes() for file in closure(*modules))).hexdigest()[:16]


@cache
def imported(file: Path) -> frozenset[Path]:
    """The files that a Python file imports directly, but for those of other packages; see :func:`closure`."""
    found: set[Path | None] = set()
    for name in _names(file):
        if name.split(".")[0] == "hybridsam":
            found.add(_of_hybridsam(name, file))
        else:  # a package runs its __init__ files too
            parts = name.split(".")
            found |= {source(".".join(parts[:n]), Path.cwd()) for n in range(1, len(parts) + 1)}
    return frozenset(path for path in found if path and not (path.name == "__init__.py" and PACKAGE in path.parents))


def _names(file: Path) -> Iterator[str]:
    """Dotted names that a file's ``import`` statements name, and its uses of what hybridsam has: ``hybridsam.MLP``."""
    try:
        tree = ast.parse(file.read_bytes())
    except SyntaxError as error:
        raise UserError(f"{file}: line {error.lineno}: {error.msg}") from error
    package = set()  # what hybridsam is called in this file
    for node in _statements(tree):
        if isinstance(node, ast.Import):
            ours = [alias for alias in node.names if alias.name.split(".")[0] == "hybridsam"]
            package |= {alias.asname or "hybridsam" for alias in ours}
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = ".".join([*_package(file, node.level), *([node.module] if node.module else [])])
            yield from (f"{base}.{alias.name}" for alias in node.names)
    if not package:
        return
    attributes = [node for node in ast.walk(tree) if isinstance(node, ast.Attribute)]
    inner = {id(node.value) for node in attributes}  # as hybridsam.models is in hybridsam.models.hybrid
    for node in attributes:
        top, *names = _dotted(node)
        if top in package and id(node) not in inner:
            yield ".".join(["hybridsam", *(names if (PACKAGE / names[0]).is_dir() else names[:1])])


def _statements(tree: ast.Module) -> Iterator[ast.AST]:
    """All statements of a file, wherever in it; without what is in them, in a tenth of the time of ``ast.walk``."""
    waiting: list[ast.AST] = [tree]
    while waiting:
        node = waiting.pop()
        yield node
        for part in ("body", "orelse", "finalbody", "handlers", "cases"):
            waiting += getattr(node, part, [])


def _dotted(node: ast.expr) -> list[str]:
    """``a.b.c`` -> a, b, c; an empty name where something else than a name has the attributes."""
    if isinstance(node, ast.Attribute):
        return [*_dotted(node.value), node.attr]
    return [node.id if isinstance(node, ast.Name) else ""]


def _package(file: Path, level: int) -> tuple[str, ...]:
    """The package from which so many dots lead, of a file of hybridsam or of a user's package in the present folder."""
    root = PACKAGE.parent if PACKAGE in file.parents else Path.cwd()
    within = level and root in file.absolute().parents
    return file.absolute().relative_to(root).parts[:-level] if within else ()


def _of_hybridsam(name: str, file: Path) -> Path | None:
    """The file of a module of hybridsam, or of that which a name is in; None for what hybridsam itself holds."""
    below = name.removeprefix("hybridsam").lstrip(".")
    module = _public().get(name, name)
    while not (there := source(module)):
        module = module.rpartition(".")[0]
    if there.name != "__init__.py" or (module == "hybridsam" and (not below or below.startswith("__"))):
        return there
    all_of_it = f"{name}: name what is needed of it, so that it is known what depends on it"
    problem = all_of_it if name in (module, "hybridsam.*") else f"hybridsam has no {below}"
    own, advice = name.rpartition(".")[2], moved(below)
    if advice and f"hybridsam.{own}" in _public():
        advice += f"; better write: from hybridsam import {own}"
    raise UserError(f"{file}: {problem}{advice and f'; {advice}'}")


@cache
def _public() -> dict[str, str]:
    """What can be imported from hybridsam itself, as its __init__ tells type checkers -> the module that it is in."""
    imports = ast.walk(ast.parse((PACKAGE / "__init__.py").read_text(encoding="utf-8")))
    pairs = [(alias.name, node.module) for node in imports if isinstance(node, ast.ImportFrom) for alias in node.names]
    ours = [(name, module) for name, module in pairs if module and module.startswith("hybridsam.")]
    modules = {name: f"{module}.{name}" for name, module in ours if source(f"{module}.{name}")}  # such as chambers
    return {f"hybridsam.{name}": modules.get(name, module) for name, module in ours}
