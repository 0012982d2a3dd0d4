"""Settings: reading, merging, typed values, and the one way to write a strength."""

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybridsam.core.blocks import canonical
from hybridsam.core.errors import UserError
from hybridsam.core.provenance import digest
from hybridsam.core.settings import load, merge, typed, values_of, without_sources


@dataclass(frozen=True)
class Car:
    wheels: int
    weight: float
    name: str = "none"


def test_build_makes_the_values_typed():
    assert typed(Car, {"wheels": 4, "weight": "1e-4"}, "car") == Car(4, 1e-4, "none")
    assert isinstance(typed(Car, {"wheels": 4, "weight": 1}, "car").weight, float)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"wheels": 4, "weight": 1.0, "colour": "red"}, r"car\.colour: unknown key; allowed are wheels, weight, name"),
        ({"wheels": 4}, r"car\.weight: missing"),
        ({"wheels": 4.5, "weight": 1.0}, r"car\.wheels: 4\.5 is not of type int"),
        ({"wheels": "4", "weight": 1.0}, r"car\.wheels: '4' is not of type int"),
        ({"wheels": True, "weight": 1.0}, r"car\.wheels: True is not of type int"),
        ({"wheels": 4, "weight": "heavy"}, r"car\.weight: 'heavy' is not of type float"),
        ({"wheels": 4, "weight": None}, r"car\.weight: None is not of type float"),
        ({"wheels": 4, "weight": [1.0]}, r"car\.weight: \[1\.0\] is not of type float"),
        ({"wheels": 4, "weight": False}, r"car\.weight: False is not of type float"),
        ({"wheels": 4, "weight": 1.0, "name": 7}, r"car\.name: 7 is not of type str"),
    ],
)
def test_build_refuses_unknown_and_missing_keys_and_wrong_types(values, message):
    with pytest.raises(UserError, match=message):
        typed(Car, values, "car")


@pytest.mark.parametrize(
    ("rho", "text"),
    [(0, "0"), (0.0, "0"), (-0.0, "0"), (0.05, "0.05"), (1e-4, "1e-4"), ("1e-4", "1e-4"), (1, "1"), ("0.50", "0.5")],
)
def test_strengths_are_written_in_one_way(rho, text):
    assert canonical(rho) == text


@given(rho=st.floats(0, allow_infinity=False))
def test_written_strength_reads_back_as_the_same_number(rho):
    text = canonical(rho)
    assert float(text) == rho
    assert canonical(text) == text


@pytest.mark.parametrize("rho", [-0.1, float("nan"), float("inf"), "large", "", None, [0.1]])
def test_what_is_no_strength_is_refused(rho):
    with pytest.raises(UserError, match=r"rho: .* is not a number that is zero or larger"):
        canonical(rho)


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


def test_missing_key_is_named_with_its_place():
    settings = load('{"model": {"hidden": [8]}}')
    assert settings["model"]["hidden"] == [8]
    with pytest.raises(UserError, match=r"settings\.model\.theta: missing"):
        settings["model"]["theta"]


def test_settings_are_read_from_yaml_json_and_json_text(tmp_path):
    (tmp_path / "a.yaml").write_text("rate: 0.1\nnote: small\n")
    (tmp_path / "a.json").write_text('{"rate": 0.1}')
    for written in (str(tmp_path / "a.yaml"), str(tmp_path / "a.json"), ' {"rate": 0.1, "source": "P"}'):
        assert load(written) == {"rate": 0.1}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no such file"),
        (b"rate: [1, 2", "not valid YAML"),
        (b"a: 1\nb:\n  c: 2\n  c: 3\n", "broken.yaml: not valid YAML: the key c stands twice, again in line 4"),
        (b"", "expected a mapping"),
        (b"- 1\n- 2\n", "expected a mapping"),
        (b"\x89HDF\r\n\x1a\n\x00\x00", "not valid"),
    ],
)
def test_settings_that_cannot_be_read_are_refused_with_their_path(tmp_path, content, message):
    path = tmp_path / "broken.yaml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError) as refused:
        load(str(path))
    assert str(path) in str(refused.value) and message in str(refused.value)


def test_broken_json_text_is_refused():
    with pytest.raises(UserError, match="settings: not valid"):
        load('{"rate": ')


def test_digest_depends_on_content_and_not_on_order():
    assert digest({"a": 1, "b": {"c": 2}}) == digest({"b": {"c": 2}, "a": 1})
    assert digest({"a": 1}) != digest({"a": 2})
