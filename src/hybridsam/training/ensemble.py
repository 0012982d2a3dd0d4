"""The ensemble from which theta is identified: runs of plain erm, whose theta starts at places that are far apart."""

from collections.abc import Mapping

from hybridsam.core.errors import UserError
from hybridsam.core.settings import Settings, merge
from hybridsam.models.parameters import Parameters

FEWEST = 3  # runs, from which a spread can be told


def with_starts_apart(settings: Settings) -> Settings:
    """A task's settings in which the start of every parameter is an interval.

    That is the one in the section ``ensemble``, or that of the parameter, or one around its start. Raises UserError for
    a section that makes no sense.
    """
    starts, table = settings.get("ensemble", {}).get("starts", {}), settings["model"]["theta"]
    if not isinstance(starts, Mapping):
        raise UserError(f"ensemble.starts: {starts!r} is not a mapping of parameters to intervals")
    for name in starts:
        if name not in table:
            raise UserError(f"ensemble.starts.{name}: not a parameter; there are {', '.join(table)}")
    apart = {row.name: list(row.spread) for row in Parameters.from_settings(table).rows} | dict(starts)
    changed = {"model": {"theta": {name: {"start": start} for name, start in apart.items()}}}
    return Settings(merge(settings, changed), settings.where)
