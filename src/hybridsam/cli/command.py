"""How a subcommand is declared: a function, and above it what it is for and its options."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple


class Option(NamedTuple):
    """An option (``--settings``) or a positional argument (``dataset``), and how argparse is to treat it."""

    name: str
    how: dict[str, Any]


class Command(NamedTuple):
    """A subcommand; its function takes the options as keywords, by their names with ``_`` for ``-``."""

    function: Callable[..., None]
    help: str
    options: tuple[Option, ...]


COMMANDS: dict[str, Command] = {}


def option(name: str, help: str, **how: Any) -> Option:
    """An option or positional argument; how: as in argparse. Options without a default are required."""
    if name.startswith("--") and not {"default", "action"} & set(how):
        how["required"] = True
    return Option(name, how | {"help": help})


def command(help: str, *options: Option) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Make a function a subcommand of its own name."""

    def register(function: Callable[..., None]) -> Callable[..., None]:
        COMMANDS[function.__name__.replace("_", "-")] = Command(function, help, options)
        return function

    return register


SETTINGS = option("--settings", "task settings, a YAML or JSON file", type=Path)
DATASET = option("dataset", "dataset.nc", type=Path)
DATASET_OF_RUNS = option("--dataset", "dataset.nc", type=Path)
RULE = option("--rule", "validation, one_standard_error or oracle", default="validation")


def output(help: str, **how: Any) -> Option:
    """The option ``--output``, a path."""
    return option("--output", help, type=Path, **how)


def parser() -> argparse.ArgumentParser:
    """The parser of all subcommands that have been declared."""
    top = argparse.ArgumentParser(
        prog="hybridsam", description="Train and compare hybrid models of science and network."
    )
    top.add_argument("--quiet", action="store_true", help="no progress lines")
    subparsers = top.add_subparsers(required=True, metavar="command", dest="command")
    for name, declared in COMMANDS.items():
        added = subparsers.add_parser(name, help=declared.help, description=declared.help)
        for own in declared.options:
            added.add_argument(own.name, **own.how)
    return top
