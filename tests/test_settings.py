"""Settings: reading from files, merging, typed values."""

import json
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybridsam.core.errors import UserError
from hybridsam.core.settings import digest, load, merge, typed, values_of, without_sources


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
