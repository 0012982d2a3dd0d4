"""Blocks of runs: one method, one rho and some seeds, which one job trains and one file holds."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import groupby
from numbers import Integral
from pathlib import Path
from typing import Any

import numpy as np

from hybridsam.core.errors import UserError
from hybridsam.core.methods import get_method
from hybridsam.core.settings import digest

PATH = re.compile(r"(?P<method>\w+)/rho=(?P<rho>[^/]+)/seeds=(?P<seeds>\d+-\d+)\.nc$")


@dataclass(frozen=True)
class Block:
    """A block of runs: one method at one rho, from several seeds, each of which is one run.

    Raises UserError for a rho that is no number from zero on, or not 0 for a method that has none, and for seeds that
    are none, no whole numbers from zero on, or not different.
    """

    method: str
    rho: float
    seeds: tuple[int, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "rho", float(canonical(self.rho)))
        if self.rho and not get_method(self.method).has_rho:
            raise UserError(f"rho: {self.rho} is not allowed for {self.method}, which has none; allowed is 0")
        object.__setattr__(self, "seeds", tuple(self.seeds))
        for seed in self.seeds:
            if isinstance(seed, bool) or not isinstance(seed, Integral) or seed < 0:
                raise UserError(f"seeds: {seed!r} is not a whole number from zero on")
        if len(set(self.seeds)) != len(self.seeds) or not self.seeds:
            raise UserError(f"seeds: {list(self.seeds)} must be different numbers, at least one")

    def __str__(self) -> str:
        return f"{self.method}, rho = {canonical(self.rho)}"

    @property
    def path(self) -> Path:
        """Of its file in the folder of a task's runs; for seeds without gaps."""
        return Path(self.method, f"rho={canonical(self.rho)}", f"seeds={self.seeds[0]}-{self.seeds[-1]}.nc")

    @classmethod
    def from_path(cls, path: Path) -> "Block":
        """The block that a file with this path holds; raises UserError for any other path."""
        if not (match := PATH.search(path.as_posix())):
            raise UserError(f"{path}: not the path of a run file, <method>/rho=<rho>/seeds=<first>-<last>.nc")
        return cls(match["method"], float(canonical(match["rho"])), parse_seeds(match["seeds"]))

    def hash(self, settings: Mapping[str, Any], data: str) -> str:
        """Of all that its runs stand for: module, model and training of a task, its data, method, rho and seeds.

        settings: of the task. data: its :func:`hybridsam.core.provenance.fingerprint`.
        """
        relevant = {key: settings[key] for key in ("module", "model", "training")}
        if get_method(self.method).assumes:
            relevant |= {key: settings.get(key) for key in ("assume", "thresholds")}
        return digest([relevant, data, self.method, canonical(self.rho), list(self.seeds)])


def blocks_of(grid: Mapping[str, Iterable[float | str]], seeds: Iterable[int], size: int) -> list[Block]:
    """All blocks of a study; grid: method -> values of rho. At most ``size`` seeds in each: see :func:`seed_ranges`."""
    parts = [parse_seeds(text) for text in seed_ranges(seeds, size)]
    return [Block(method, float(canonical(rho)), own) for method, rhos in grid.items() for rho in rhos for own in parts]


def seed_ranges(seeds: Iterable[int], size: int) -> list[str]:
    """Ranges <first>-<last> of at most ``size`` seeds without gaps: a new seed leaves full ranges as they are."""
    ranges = []
    for _, run in groupby(enumerate(sorted(seeds)), key=lambda pair: pair[1] - pair[0]):
        without_gaps = [seed for _, seed in run]
        for start in range(0, len(without_gaps), size):
            part = without_gaps[start : start + size]
            ranges.append(f"{part[0]}-{part[-1]}")
    return ranges


def parse_seeds(text: str) -> tuple[int, ...]:
    """``3-5`` or ``4`` -> the seeds of a block."""
    match = re.fullmatch(r"(\d+)(?:-(\d+))?", text)
    if not match or int(match[2] or match[1]) < int(match[1]):
        raise UserError(f"seeds: {text!r} is not a seed or a range such as 0-4")
    return tuple(range(int(match[1]), int(match[2] or match[1]) + 1))


def canonical(rho: float | str) -> str:
    """The one way to write rho in a path: 0, 0.05, 1e-4."""
    try:
        number = float(rho)
    except (TypeError, ValueError):
        number = np.nan
    if not (np.isfinite(number) and number >= 0):
        raise UserError(f"rho: {rho!r} is not a number that is zero or larger")
    if number == 0:
        return "0"
    if 1e-3 <= number < 1e4:
        return np.format_float_positional(number, trim="-")
    return np.format_float_scientific(number, trim="-", exp_digits=1)
