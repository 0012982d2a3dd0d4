"""Blocks of runs: which seeds go together, how rho is written, the path of a file and the hash of what is in it."""

import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybridsam.core.blocks import Block, blocks_of, canonical, parse_seeds, seed_ranges
from hybridsam.core.errors import UserError
from hybridsam.core.methods import METHODS, has_rho

rhos = st.floats(0, allow_infinity=False)
some_seeds = st.sets(st.integers(0, 60), min_size=1)


# How rho is written


@pytest.mark.parametrize(
    ("rho", "text"),
    [(0, "0"), (0.0, "0"), (-0.0, "0"), (0.05, "0.05"), (1e-4, "1e-4"), ("1e-4", "1e-4"), (1, "1"), ("0.50", "0.5")],
)
def test_rhos_are_written_in_one_way(rho, text):
    assert canonical(rho) == text


@given(rho=rhos)
def test_a_written_rho_reads_back_as_the_same_number(rho):
    text = canonical(rho)
    assert float(text) == rho
    assert canonical(text) == text


@pytest.mark.parametrize("rho", [-0.1, float("nan"), float("inf"), "large", "", None, [0.1]])
def test_what_is_no_rho_is_refused(rho):
    with pytest.raises(UserError, match=r"rho: .* is not a number that is zero or larger"):
        canonical(rho)
    with pytest.raises(UserError, match=r"rho: .* is not a number that is zero or larger"):
        Block("sam", rho, (0,))


# Seeds


@pytest.mark.parametrize(("text", "seeds"), [("0", (0,)), ("3-5", (3, 4, 5)), ("7-7", (7,)), ("08-9", (8, 9))])
def test_a_range_of_seeds_has_both_its_ends(text, seeds):
    assert parse_seeds(text) == seeds


@pytest.mark.parametrize("text", ["", "-1", "2-1", "1-", "0-2-4", "0,1", "a", "0 - 1", "1.5"])
def test_what_is_no_range_of_seeds_is_refused(text):
    with pytest.raises(UserError, match=r"seeds: '.*' is not a seed or a range such as 0-4"):
        parse_seeds(text)


@given(some_seeds, st.integers(1, 70))
def test_ranges_hold_every_seed_once_none_else_and_no_more_than_asked_for(seeds, size):
    parts = [parse_seeds(text) for text in seed_ranges(seeds, size)]
    assert [seed for part in parts for seed in part] == sorted(seeds)
    assert max(map(len, parts)) <= size
    first_and_last = [(part[0], part[-1]) for part in parts]
    for (_, last), (first, _), part in zip(first_and_last, first_and_last[1:], parts, strict=False):
        assert first > last + 1 or len(part) == size  # as few as can be


@given(some_seeds, st.integers(1, 8))
def test_a_seed_after_all_others_leaves_full_ranges_as_they_are(seeds, size):
    before, after = seed_ranges(seeds, size), seed_ranges(seeds | {max(seeds) + 1}, size)
    full = [text for text in before if len(parse_seeds(text)) == size]
    assert set(before[:-1]) | set(full) <= set(after)
    assert len(set(after) - set(before)) == 1


@pytest.mark.parametrize("seeds", [(), (1, 1), [0, 2, 0]])
def test_seeds_that_are_none_or_not_different_are_no_block(seeds):
    with pytest.raises(UserError, match=r"seeds: \[.*\] must be different numbers, at least one"):
        Block("erm", 0.0, seeds)


@pytest.mark.parametrize("seeds", [["3"], [1.5], [0, -1], [True]])
def test_seeds_that_are_no_whole_numbers_from_zero_on_are_no_block(seeds):
    with pytest.raises(UserError, match=f"seeds: {re.escape(repr(seeds[-1]))} is not a whole number from zero on"):
        Block("erm", 0.0, seeds)


def test_the_method_without_a_rho_takes_none():
    with pytest.raises(UserError, match=r"rho: 0.5 is not allowed for erm, which has none; allowed is 0"):
        Block("erm", 0.5, [0])


def test_a_study_has_a_block_of_every_method_rho_and_range_of_seeds():
    study = blocks_of({"erm": ["0"], "sam": [0.05, "1e-1"]}, [5, 0, 1, 2], 2)
    ranges = [(0, 1), (2,), (5,)]
    assert study == [
        Block(method, rho, seeds) for method, rho in (("erm", 0.0), ("sam", 0.05), ("sam", 0.1)) for seeds in ranges
    ]


# Paths


def test_a_block_says_what_it_is_and_where_it_lies():
    block = Block("sam", "0.050", [3, 4, 5])
    assert (block.method, block.rho, block.seeds) == ("sam", 0.05, (3, 4, 5))
    assert str(block) == "sam, rho = 0.05"
    assert block.path == Path("sam/rho=0.05/seeds=3-5.nc")
    assert Block("erm", 0, [7]).path == Path("erm/rho=0/seeds=7-7.nc")


@given(st.sampled_from(list(METHODS)), rhos, st.integers(0, 10**6), st.integers(1, 30))
def test_the_path_leads_back_to_the_block(method, rho, first, n):
    block = Block(method, rho if has_rho(method) else 0, range(first, first + n))
    for folder in (Path(), Path("/results/a task/runs"), Path("results/rho=1/seeds=0-1.nc")):
        found = Block.from_path(folder / block.path)
        assert found == block and hash(found) == hash(block)


@pytest.mark.parametrize(
    "path", ["cube.nc", "sam/rho=0.1/seeds=0.nc", "sam/rho=0.1/seeds=0-1.safetensors", "sam/0.1/seeds=0-1.nc"]
)
def test_another_path_is_none_of_a_run_file(path):
    with pytest.raises(UserError) as refused:
        Block.from_path(Path(path))
    assert str(refused.value) == f"{path}: not the path of a run file, <method>/rho=<rho>/seeds=<first>-<last>.nc"


@pytest.mark.parametrize(("rho", "seeds", "wrong"), [("-1", "0-1", "rho"), ("x", "0-1", "rho"), ("1", "2-1", "seeds")])
def test_a_path_with_an_impossible_rho_or_seeds_is_refused(rho, seeds, wrong):
    with pytest.raises(UserError, match=f"^{wrong}: "):
        Block.from_path(Path(f"sam/rho={rho}/seeds={seeds}.nc"))


# Hashes

SETTINGS = {"module": "m", "model": {"hidden": [8]}, "training": {"iterations": 5}, "title": "A task"}


def test_the_hash_depends_on_what_the_result_depends_on_and_on_nothing_else():
    run = {"settings": SETTINGS, "data": "d", "method": "sam", "rho": 0.05, "seeds": [0, 1]}

    def hashed(**changes):
        settings, data, *block = (run | changes).values()
        return Block(*block).hash(settings, data)

    changes = [("method", "asam"), ("rho", 0.1), ("seeds", [0, 2]), ("data", "e")]
    changes += [("settings", SETTINGS | {key: {"other": 1}}) for key in ("module", "model", "training")]
    assert hashed(rho="0.050", seeds=(0, 1), settings=SETTINGS | {"title": "B"}) == hashed()
    assert hashed(rho=np.float64(0.05), seeds=range(2), settings=dict(reversed(SETTINGS.items()))) == hashed()
    assert len({hashed(), *(hashed(**{key: value}) for key, value in changes)}) == 8


def test_the_hash_is_that_of_earlier_versions():
    """Else every run file that users have would be refused, and trained again."""
    assert Block("sam", 0.05, [0, 1]).hash(SETTINGS, "d") == "cb20de868184b8b6"
