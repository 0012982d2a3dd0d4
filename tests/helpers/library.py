"""The modules of the library and what each imports, read from its file."""

import ast
from pathlib import Path

import hybridsam

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "src/hybridsam"


def imports(file):
    """Dotted names of what a file imports: modules, and of ``from`` the names with their module in front."""
    found = []
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            found += [f"{'.' * node.level}{node.module or ''}.{alias.name}" for alias in node.names]
    return found


def name_of(file):
    """Dotted name of a module without the package's, such as models.hybrid; a room's __init__ has that of the room."""
    parts = file.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name_of(file): file for file in sorted(PACKAGE.rglob("*.py")) if file != PACKAGE / "__init__.py"}


def module_of(name):
    """The module that the name of something in hybridsam, without the package's, leads to."""
    name = hybridsam.PUBLIC.get(name, name)
    return name if name in MODULES or "." not in name else name.rpartition(".")[0]


def modules_in(names):
    """Those modules of the library that imported names lead to."""
    return {module_of(name.removeprefix("hybridsam.")) for name in names if name.startswith("hybridsam.")}


GRAPH = {module: modules_in(imports(file)) for module, file in MODULES.items()}


def all_imports(module):
    """The module, and those that it imports, directly or not."""
    found, waiting = set(), {module}
    while waiting:
        found.add(one := waiting.pop())
        waiting |= GRAPH[one] - found
    return found
