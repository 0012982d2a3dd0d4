"""Run a subcommand; say what is wrong in one line."""

import logging
import os
import sys
from collections.abc import Sequence

from hybridsam.cli import analysis, data, report, task, training  # noqa: F401  which declare their commands
from hybridsam.cli.command import COMMANDS, parser
from hybridsam.core.errors import UserError


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit status: 0, 1 for what the system refuses, 2 for a mistake of the user's, 130 after an interrupt."""
    if (here := os.getcwd()) not in sys.path:  # where python -m looks too: for modules of a user's own
        sys.path.insert(0, here)
    given = vars(parser().parse_args(arguments))
    command, quiet = COMMANDS[given.pop("command")], given.pop("quiet")
    level = logging.WARNING if quiet else logging.INFO
    logging.basicConfig(level=level, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    try:
        command.function(**given)
    except UserError as error:
        print(f"hybridsam: {error}", file=sys.stderr)
        return 2
    except OSError as error:  # no permission, disk full, …
        print(f"hybridsam: {error.strerror or error}: {error.filename or ''}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0
