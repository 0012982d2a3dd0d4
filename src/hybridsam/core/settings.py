"""Settings: read from YAML or JSON, stripped of their sources, turned into typed values with clear errors."""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, fields
from numbers import Real
from pathlib import Path
from types import UnionType
from typing import Any, get_args

import yaml

from hybridsam.core.errors import UserError

NOT_VALUES = ("source", "note")  # documentation beside a constant; changing it changes no result


class Settings(dict):
    """Nested settings in which a missing key is the user's mistake, reported with its place.

    They know which of their keys nothing has read: one that is misspelt, perhaps.
    """

    def __init__(self, values: Mapping, where: str) -> None:
        super().__init__({k: Settings(v, f"{where}.{k}") if isinstance(v, Mapping) else v for k, v in values.items()})
        self.where = where
        self.unread = dict.fromkeys(self)

    def __getitem__(self, key: str) -> Any:
        self.unread.pop(key, None)
        return super().__getitem__(key)

    def __missing__(self, key: str) -> None:
        raise UserError(f"{self.where}.{key}: missing")

    def get(self, key: str, default: Any = None) -> Any:
        self.unread.pop(key, None)
        return super().get(key, default)

    def items(self) -> Any:
        self.unread.clear()
        return super().items()

    def values(self) -> Any:
        self.unread.clear()
        return super().values()

    def __iter__(self) -> Iterator:  # so that dict(settings) and {**settings} read one key after the other
        return super().__iter__()


class _AsItLooks(yaml.CSafeLoader):
    """YAML that is what it looks like, or refused; PyYAML reads some of it as something else, without a word.

    Of a key that stands twice in a mapping it takes the last. The key NO it reads as false, 010 as 8, 12:30 as 750, 1_5
    as 15, and 1e-4, which is a number in YAML 1.2, as text.
    """

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        seen: set = set()
        for key, _ in node.value:
            if key.value in seen:
                raise yaml.YAMLError(f"the key {key.value} stands twice, again in line {key.start_mark.line + 1}")
            if key.tag in NOT_KEYS:
                raise yaml.YAMLError(_quote("key", key, NOT_KEYS[key.tag]))
            seen.add(key.value)
        return super().construct_mapping(node, deep)

    def construct_number(self, node: yaml.ScalarNode) -> int | float:
        whole = node.tag.endswith(":int")
        if not PLAIN_NUMBER.fullmatch(node.value):
            read_as = self.construct_yaml_int(node) if whole else self.construct_yaml_float(node)
            raise yaml.YAMLError(_quote("value", node, str(read_as)))
        return self.construct_yaml_int(node) if whole else self.construct_yaml_float(node)


NOT_KEYS = {
    f"tag:yaml.org,2002:{name}": meaning
    for name, meaning in {
        "bool": "true or false",
        "null": "nothing",
        "float": "a number",
        "timestamp": "a date",
    }.items()
}
SCIENTIFIC = re.compile(r"[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)[eE][-+]?[0-9]+")
PLAIN_NUMBER = re.compile(  # 20_000, 0x1F and .inf are, 010, 12:30 and 1_5 are not
    r"[-+]?(0|[1-9][0-9]*|[1-9][0-9]{0,2}(_[0-9]{3})+|0[xb][0-9a-fA-F]+|\.(inf|Inf|INF))|\.(nan|NaN|NAN)"
    rf"|[-+]?([0-9]+\.[0-9]*|\.[0-9]+)|{SCIENTIFIC.pattern}"
)
_AsItLooks.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(f"^(?:{SCIENTIFIC.pattern})$"), list("-+.0123456789")
)
for _name in ("int", "float"):
    _AsItLooks.add_constructor(f"tag:yaml.org,2002:{_name}", _AsItLooks.construct_number)


def _quote(what: str, node: yaml.ScalarNode, read_as: str) -> str:
    place = f"the {what} {node.value} in line {node.start_mark.line + 1}"
    return f"{place} is read as {read_as}; write it in quotes, '{node.value}', if it is a text"


def parse_yaml(text: str | bytes) -> Any:
    """The content of YAML or JSON text; raises yaml.YAMLError, also for what it would read as it does not look."""
    return yaml.load(text, _AsItLooks)


def may_mean(value: Any, text: str) -> bool:
    """Whether plain YAML makes this value, which is no text, of a text without quotes: False of NO, 1 of 001."""
    try:
        read_as = numbers(yaml.load(text, yaml.CSafeLoader))
    except (yaml.YAMLError, ValueError):
        return False
    return read_as == value and isinstance(read_as, bool) == isinstance(value, bool)


def yaml_fault(error: yaml.YAMLError) -> str:
    """What is wrong in YAML text, in one line, and in which: where it is seen, and where what is wrong began."""
    if not isinstance(error, yaml.MarkedYAMLError) or not error.problem_mark:
        return " ".join(str(error).split())
    began = f", {error.context} in line {error.context_mark.line + 1}" if error.context and error.context_mark else ""
    return f"line {error.problem_mark.line + 1}: {error.problem}{began}"


def load(path: Path | str) -> Settings:
    """Settings from a YAML file or, by its ending, a JSON file; raises UserError naming it for anything else."""
    if str(path).lstrip().startswith("{"):
        raise UserError(
            "settings: text is not allowed; allowed is a YAML or JSON file, as written(…) of the workflow makes"
        )
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    try:
        text = path.read_text(encoding="utf-8")
        settings = json.loads(text) if path.suffix == ".json" else parse_yaml(text)
    except yaml.YAMLError as error:
        raise UserError(f"{path}: not valid YAML: {yaml_fault(error)}") from error
    except ValueError as error:  # a mistake in JSON, or in UTF-8
        kind = "JSON" if path.suffix == ".json" else "YAML"
        raise UserError(f"{path}: not valid {kind}: {error}") from error
    if not isinstance(settings, dict):
        raise UserError(f"{path}: expected a mapping of keys to values")
    return Settings(without_sources(settings), "settings")


def numbers(settings: Any) -> Any:
    """The same nested settings with 1e-4, which Snakemake's YAML reads as text, as the number it looks like."""
    if isinstance(settings, Mapping):
        return {key: numbers(value) for key, value in settings.items()}
    if isinstance(settings, list):
        return [numbers(value) for value in settings]
    if isinstance(settings, str) and SCIENTIFIC.fullmatch(settings):
        return float(settings)
    return settings


def without_sources(settings: Any) -> Any:
    """The same nested mapping without the keys that only document."""
    if isinstance(settings, Mapping):
        return {key: without_sources(value) for key, value in settings.items() if key not in NOT_VALUES}
    return settings


def merge(base: Mapping, over: Mapping) -> dict:
    """``over`` laid on ``base``: mappings merge key by key, everything else is replaced."""
    merged = dict(base)
    for key, value in over.items():
        both = isinstance(value, Mapping) and isinstance(merged.get(key), Mapping)
        merged[key] = merge(merged[key], value) if both else value
    return merged


def differences(base: Mapping, changed: Mapping, where: str = "") -> dict[str, list]:
    """Dotted key -> [value in base, value in changed], for the keys of base whose value differs."""
    found: dict[str, list] = {}
    for key, value in base.items():
        other, name = changed.get(key), f"{where}{key}"
        if isinstance(value, Mapping) and isinstance(other, Mapping):
            found |= differences(value, other, f"{name}.")
        elif value != other:
            found[name] = [value, other]
    return found


def values_of(table: Mapping[str, Mapping]) -> dict[str, Any]:
    """The values of constants.

    Parameters
    ----------
    table : mapping of str to mapping
        name -> {value, unit}, as in a task file.

    Returns
    -------
    dict of str to object
        name -> value.
    """
    return {name: entry["value"] for name, entry in table.items()}


def typed(cls: type, values: Mapping[str, Any], where: str) -> Any:
    """A dataclass from a mapping, refusing unknown and missing keys and values of the wrong type."""
    if not isinstance(values, Mapping):
        raise UserError(f"{where}: {values!r} is not a mapping of keys to values")
    known = {field.name: field for field in fields(cls)}
    for key in values:
        if key not in known:
            raise UserError(f"{where}.{key}: unknown key; allowed are {', '.join(known)}")
    for name, field in known.items():
        if field.default is field.default_factory is MISSING and name not in values:
            raise UserError(f"{where}.{name}: missing")
    return cls(**{key: _typed(value, known[key].type, f"{where}.{key}") for key, value in values.items()})


def _typed(value: Any, kind: Any, where: str) -> Any:
    if isinstance(kind, UnionType):
        if float not in get_args(kind) or value is None or isinstance(value, list | tuple):
            return value  # of several types; the class looks at these itself
        kind = float
    try:
        if isinstance(value, bool) != (kind is bool):
            raise TypeError
        if kind is float:
            return float(value)  # YAML reads 1e-4 as text
        if kind in (int, str) and not isinstance(value, kind):
            raise TypeError
    except (TypeError, ValueError):
        raise UserError(f"{where}: {value!r} is not of type {kind.__name__}") from None
    return value


def check_number(value: Any, where: str) -> None:
    """Raise UserError unless this is a number, infinite ones included."""
    if isinstance(value, bool) or not isinstance(value, Real) or value != value:
        raise UserError(f"{where}: {value!r} is not a number")


def digest(settings: Any) -> str:
    """A short hash of JSON-like settings; equal for equal content."""
    text = json.dumps(settings, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
