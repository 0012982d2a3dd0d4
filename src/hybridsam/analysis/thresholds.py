"""By which numbers the verdicts on theta are decided."""

from dataclasses import dataclass, fields

from hybridsam.core.errors import UserError

TOLERANCE = "5 %"  # by which values of theta may differ that count as one


@dataclass(frozen=True)
class Thresholds:
    """Conventions, which the task file may change.

    blind: information below which an assumption says nothing of a parameter. follows: slope of theta on its start
    above which it follows that. rejected: spread_ratio above which an assumption is wrong.
    """

    blind: float = 1e-3
    follows: float = 0.25
    rejected: float = 2.0

    def __post_init__(self) -> None:
        for field in fields(self):
            if not 0 < getattr(self, field.name) < float("inf"):
                raise UserError(f"thresholds.{field.name}: {getattr(self, field.name)!r} is not a number above 0")


DEFAULT = Thresholds()
