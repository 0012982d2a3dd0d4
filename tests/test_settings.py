"""Settings: reading from files, merging, typed values."""

import json
from dataclasses import dataclass

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from hybridsam.core import modules
from hybridsam.core.errors import UserError
from hybridsam.core.settings import digest, load, may_mean, merge, parse_yaml, typed, values_of, without_sources


@dataclass(frozen=True)
class Car:
    wheels: int
    weight: float
    name: str = "none"
    electric: bool = False


def test_values_become_typed():
    assert typed(Car, {"wheels": 4, "weight": "1e-4"}, "car") == Car(4, 1e-4, "none", False)
    assert typed(Car, {"wheels": 4, "weight": 1, "electric": True}, "car").electric is True
    assert isinstance(typed(Car, {"wheels": 4, "weight": 1}, "car").weight, float)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"wheels": 4, "weight": 1.0, "colour": "red"},
            r"car\.colour: unknown key; allowed are wheels, weight, name, e",
        ),
        ({"wheels": 4}, r"car\.weight: missing"),
        ({"wheels": 4.5, "weight": 1.0}, r"car\.wheels: 4\.5 is not of type int"),
        ({"wheels": "4", "weight": 1.0}, r"car\.wheels: '4' is not of type int"),
        ({"wheels": True, "weight": 1.0}, r"car\.wheels: True is not of type int"),
        ({"wheels": 4, "weight": "heavy"}, r"car\.weight: 'heavy' is not of type float"),
        ({"wheels": 4, "weight": None}, r"car\.weight: None is not of type float"),
        ({"wheels": 4, "weight": [1.0]}, r"car\.weight: \[1\.0\] is not of type float"),
        ({"wheels": 4, "weight": False}, r"car\.weight: False is not of type float"),
        ({"wheels": 4, "weight": 1.0, "name": 7}, r"car\.name: 7 is not of type str"),
        ({"wheels": 4, "weight": 1.0, "electric": 1}, r"car\.electric: 1 is not of type bool"),
        ({"wheels": 4, "weight": 1.0, "electric": "yes"}, r"car\.electric: 'yes' is not of type bool"),
    ],
)
def test_unknown_and_missing_keys_and_wrong_types_are_refused(values, message):
    with pytest.raises(UserError, match=message):
        typed(Car, values, "car")


def test_merge_joins_mappings_and_replaces_everything_else():
    base = {"a": {"x": 1, "y": [1, 2]}, "b": 1, "c": {"z": 1}}
    over = {"a": {"y": [3], "w": {"v": 2}}, "b": {"u": 1}, "c": 5}
    assert merge(base, over) == {"a": {"x": 1, "y": [3], "w": {"v": 2}}, "b": {"u": 1}, "c": 5}
    assert base == {"a": {"x": 1, "y": [1, 2]}, "b": 1, "c": {"z": 1}}


def test_sources_and_notes_are_left_out_at_every_depth():
    settings = {"source": "P", "omega": {"value": 1.0, "source": "S", "deep": {"note": "why", "unit": "1"}}}
    assert without_sources(settings) == {"omega": {"value": 1.0, "deep": {"unit": "1"}}}


def test_constants_are_the_values_of_their_entries():
    assert values_of({"omega": {"value": 1.0, "unit": "s-1"}, "seed": {"value": 0}}) == {"omega": 1.0, "seed": 0}


def test_missing_key_is_named_with_its_place(tmp_path):
    (tmp_path / "a.yaml").write_text("model: {hidden: [8]}")
    settings = load(tmp_path / "a.yaml")
    assert settings["model"]["hidden"] == [8]
    with pytest.raises(UserError, match=r"settings\.model\.theta: missing"):
        settings["model"]["theta"]


BUILD = """
def build(model):
    return {}
"""


@pytest.mark.parametrize(
    ("what_it_makes", "unread"),
    [
        ("model['hidden']", ["width"]),
        ("model.get('hidden', 8), model.get('width')", []),
        ("dict(model)", []),
        ("{**model}", []),
        ("list(model.items())", []),
        ("[value for value in model.values()]", []),
        ("model | {}", []),
        ("'width' in model", ["hidden", "width"]),
    ],
)
def test_keys_of_a_model_that_its_module_does_not_read_are_named(tmp_path, caplog, what_it_makes, unread):
    module = tmp_path / "mine.py"
    module.write_text(BUILD.format(what_it_makes))
    assert modules.build({"module": str(module), "model": {"hidden": [8], "width": 3}}) is not None
    said = [f"model.{key}: {module} does not read this key; it is misspelt, or of no use" for key in unread]
    assert caplog.messages == said


def test_settings_are_read_from_yaml_and_from_json_without_what_only_documents(tmp_path):
    (tmp_path / "a.yaml").write_text("rate: 0.1\nfinal: 1e-4\nnote: small\n")
    (tmp_path / "a.json").write_text('{"rate": 0.1, "final": 1e-4, "source": "P"}')
    for file in (tmp_path / "a.yaml", tmp_path / "a.json"):
        assert load(file) == load(str(file)) == {"rate": 0.1, "final": 1e-4}


@given(st.dictionaries(st.text(), st.none() | st.booleans() | st.floats(allow_nan=False) | st.lists(st.integers())))
def test_what_is_written_as_json_is_read_as_it_was(tmp_path_factory, content):
    """As between the workflow and its jobs: keys may be any names of columns, and no number is rounded."""
    file = tmp_path_factory.getbasetemp() / "settings.json"
    file.write_text(json.dumps({"table": {"columns": content}}))
    assert load(file)["table"] == {"columns": without_sources(content)}


AS_IT_LOOKS = {
    "1e-4": 1e-4,
    "-2E+3": -2000.0,
    "'1e3'": "1e3",
    '"001"': "001",
    "20_000": 20000,
    "1_000_000": 1000000,
    "0x1F": 31,
    ".inf": float("inf"),
    "0": 0,
    "0.5": 0.5,
    "1.2.3e4": "1.2.3e4",
    "5: a": {5: "a"},
    "'NO': 1": {"NO": 1},
}


@pytest.mark.parametrize(("text", "value"), AS_IT_LOOKS.items())
def test_yaml_is_what_it_looks_like(text, value):
    assert parse_yaml(text) == value and type(parse_yaml(text)) is type(value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: 1\nNO: 2", "the key NO in line 2 is read as true or false; write it in quotes, 'NO', if it is a text"),
        ("{on: V}", "the key on in line 1 is read as true or false"),
        ("~: 1", "the key ~ in line 1 is read as nothing"),
        ("1.5: 1", "the key 1.5 in line 1 is read as a number"),
        ("2001-01-01: 1", "the key 2001-01-01 in line 1 is read as a date"),
        ("- 001", "the value 001 in line 1 is read as 1; write it in quotes, '001', if it is a text"),
        ("seed: 010", "the value 010 in line 1 is read as 8"),
        ("at: 12:30", "the value 12:30 in line 1 is read as 750"),
        ("at: 12:30:00.5", "the value 12:30:00.5 in line 1 is read as 45000.5"),
        ("- a\n- 1_5", "the value 1_5 in line 2 is read as 15"),
        ("0777: a", "the value 0777 in line 1 is read as 511"),
    ],
)
def test_yaml_that_is_read_as_something_else_than_it_looks_is_refused(tmp_path, text, said):
    (tmp_path / "a.yaml").write_text(text)
    with pytest.raises(UserError) as refused:
        load(tmp_path / "a.yaml")
    assert str(refused.value).startswith(f"{tmp_path / 'a.yaml'}: not valid YAML: {said}")


@given(st.floats(allow_nan=False) | st.integers() | st.booleans() | st.text())
def test_what_yaml_writes_is_read_as_it_was(value):
    assert parse_yaml(yaml.safe_dump({"a": [value]}, allow_unicode=True)) == {"a": [value]}


@pytest.mark.parametrize(
    ("value", "text"), [(False, "NO"), (True, "on"), (1, "001"), (1000.0, "1e3"), (15, "1_5"), (None, "~"), (1.0, "1")]
)
def test_a_value_tells_which_text_was_meant(value, text):
    assert may_mean(value, text) and not may_mean(value, "north")
    assert not may_mean(False, "0") and not may_mean(1, "yes") and not may_mean(1, "[")


MISTAKES = {
    "no file": ("a.yaml", None, "no such file"),
    "an open list": ("a.yaml", b"rate: [1, 2", "not valid YAML"),
    "a key twice": ("a.yaml", b"a: 1\nb:\n  c: 2\n  c: 3\n", "not valid YAML: the key c stands twice, again in line 4"),
    "nothing": ("a.yaml", b"", "expected a mapping"),
    "a list": ("a.yaml", b"- 1\n- 2\n", "expected a mapping"),
    "no text": ("a.yaml", b"\x89HDF\r\n\x1a\n\x00\x00", "not valid"),
    "no file of JSON": ("a.json", None, "no such file"),
    "half of JSON": ("a.json", b'{"rate": ', "not valid JSON"),
    "YAML as JSON": ("a.json", b"rate: 0.1", "not valid JSON"),
    "nothing as JSON": ("a.json", b"", "not valid JSON"),
    "a list of JSON": ("a.json", b"[1, 2]", "expected a mapping"),
    "no text as JSON": ("a.json", b"\x89HDF\r\n\x1a\n\x00\x00", "not valid JSON"),
}


@pytest.mark.parametrize(("name", "content", "message"), MISTAKES.values(), ids=MISTAKES)
def test_settings_that_cannot_be_read_are_refused_with_their_path(tmp_path, name, content, message):
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError) as refused:
        load(path)
    assert str(refused.value).startswith(f"{path}: {message}")


@pytest.mark.parametrize("text", ['{"rate": 0.1}', ' {"rate": ', '{"columns": "' + 100_000 * "x" + '"}'])
def test_settings_as_text_are_refused_in_a_short_line(text):
    """As rules of users that are older may still pass them."""
    with pytest.raises(UserError, match=r"^settings: text is not allowed; allowed is a YAML or JSON file.{,50}$"):
        load(text)


def test_digest_depends_on_content_and_not_on_order():
    assert digest({"a": 1, "b": {"c": 2}}) == digest({"b": {"c": 2}, "a": 1})
    assert digest({"a": 1}) != digest({"a": 2})
