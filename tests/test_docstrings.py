"""The docstrings of everything public: numpydoc sections that say what the code says, and an example that runs."""

import ast
import inspect
import re
import textwrap

import pytest

import hybridsam
from hybridsam import api

ORDER = ["Parameters", "Attributes", "Returns", "Yields", "Raises", "Notes", "References", "Examples"]
OF_CHAMBERS = ["open_archive", "is_twin", "read_table", "read_images"]  # the rest is the workflow's own


def public_things():
    """name -> every public class and function, and the public methods and properties that public classes define."""
    found = {}
    for name in hybridsam.__all__:
        thing = getattr(hybridsam, name)
        if inspect.ismodule(thing):
            own = {key: f for key, f in vars(thing).items() if inspect.isfunction(f) and f.__module__ == thing.__name__}
            own = {key: own[key] for key in OF_CHAMBERS} if name == "chambers" else own
        else:
            found[name] = thing
            own = vars(thing) if inspect.isclass(thing) else {}
        for key, member in own.items():
            member = getattr(member, "__func__", member)  # of a class method
            if not key.startswith("_") and (inspect.isfunction(member) or isinstance(member, property)):
                found[f"{name}.{key}"] = member
    return found


PUBLIC = public_things()
each = pytest.mark.parametrize("name", PUBLIC)


def sections(thing):
    """Title -> text of each section of a docstring."""
    parts = re.split(r"^(\w+)\n-{3,}\n", inspect.getdoc(thing), flags=re.M)[1:]
    return dict(zip(parts[::2], parts[1::2], strict=True))


def entries(section):
    """The names that a section explains: of ``mean, scale : float`` both."""
    heads = [line.split(" : ")[0] for line in section.splitlines() if line and not line.startswith(" ")]
    return [name.lstrip("*") for head in heads for name in head.split(", ")]


def overrides(name):
    """Whether a method replaces one of a base of its class, which says what there is to say."""
    cls, _, method = name.partition(".")
    bases = getattr(getattr(hybridsam, cls), "__mro__", ())[1:]
    return any(method in vars(base) for base in bases if base.__module__.startswith("hybridsam"))


def raises_user_error(thing):
    """Whether a function, or the constructor of a class, has ``raise UserError`` in its own body."""
    [tree] = ast.parse(textwrap.dedent(inspect.getsource(thing))).body
    if isinstance(tree, ast.ClassDef):
        tree = [node for node in tree.body if getattr(node, "name", "") in ("__init__", "__post_init__")]
    nodes = [node for part in ([tree] if isinstance(tree, ast.AST) else tree) for node in ast.walk(part)]
    raised = [node.exc.func for node in nodes if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call)]
    return any(getattr(function, "id", "") == "UserError" for function in raised)


@each
def test_a_docstring_has_a_summary_and_known_sections_in_their_order(name):
    thing = PUBLIC[name]
    assert thing.__doc__  # its own, not inherited
    assert inspect.getdoc(thing).splitlines()[0].endswith(".")
    titles = list(sections(thing))
    assert titles == sorted(titles, key=ORDER.index)
    assert set(re.findall(r"\[(\d+)\]_", thing.__doc__)) == set(re.findall(r"^ *\.\. \[(\d+)\]", thing.__doc__, re.M))


@each
def test_parameters_are_those_of_the_signature(name):
    thing = PUBLIC[name]
    if isinstance(thing, property) or thing is hybridsam.UserError:
        return
    parameters = [key for key in inspect.signature(thing).parameters if key not in ("self", "cls")]
    found = sections(thing)
    if "Parameters" in found or (len(parameters) > 2 and not overrides(name)):
        assert entries(found["Parameters"]) == parameters


@each
def test_what_comes_back_is_said(name):
    thing = PUBLIC[name]
    if inspect.isfunction(thing) and not overrides(name):
        says = bool({"Returns", "Yields"} & set(sections(thing)))
        assert says == (inspect.signature(thing).return_annotation is not None)


@each
def test_an_error_for_the_user_is_said(name):
    thing = PUBLIC[name]
    if not isinstance(thing, property) and raises_user_error(thing):
        assert "UserError" in entries(sections(thing)["Raises"])


def test_the_example_of_the_package_runs(monkeypatch):
    monkeypatch.setitem(api.TRAINING, "iterations", 4)
    lines = [line for line in hybridsam.__doc__.splitlines() if not line or line.startswith("    ")]
    there = {}
    exec(textwrap.dedent("\n".join(lines)), there)
    assert there["fsam"]["status"].values.tolist() == ["completed"] * 3
    assert "theta_error" in there["runs"]
