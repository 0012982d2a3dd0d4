"""Marks for tests that are alike."""

from collections.abc import Iterable, Sequence

import pytest


def slow_but_for(quick: Sequence, cases: Iterable) -> list:
    """The cases, of which all but the quick ones are left out by ``make check``."""
    return [case if case in quick else pytest.param(case, marks=pytest.mark.slow) for case in cases]
