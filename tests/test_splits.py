"""Splits into training, validation and test samples: disjoint, of the size asked for, a function of the seed alone."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybridsam.core.errors import UserError
from hybridsam.data import splits

SPLITS = ("train", "validation", "test")
size = st.integers(1, 12)
seeds = st.integers(0, 2**32)


def wanted(train, validation, test, seed=0):
    return {"train": train, "validation": validation, "test": test, "seed": seed}


def of(split, chosen, labels):
    """Numbers of the samples of one split."""
    return chosen[np.array(labels) == split].tolist()


@given(size, size, size, st.integers(0, 20), seeds)
def test_splits_at_random_are_disjoint_and_of_the_sizes_asked_for(train, validation, test, more, seed):
    samples = train + validation + test + more
    chosen, labels = splits.at_random(samples, wanted(train, validation, test, seed))
    assert labels == ["train"] * train + ["validation"] * validation + ["test"] * test
    assert len(chosen) == len(set(chosen.tolist())) == len(labels)
    assert set(chosen.tolist()) <= set(range(samples))


@given(size, size, size, seeds)
def test_splits_are_a_function_of_the_seed(train, validation, test, seed):
    samples, constants = train + validation + test + 5, wanted(train, validation, test, seed)
    (one, labels), (again, same) = (splits.at_random(samples, constants) for _ in range(2))
    assert one.tolist() == again.tolist() and labels == same


def test_another_seed_gives_other_splits_and_no_seed_keeps_the_order():
    drawn = [splits.at_random(100, wanted(50, 20, 20, seed))[0].tolist() for seed in range(5)]
    assert len({tuple(one) for one in drawn}) == 5
    assert len({tuple(sorted(one[:50])) for one in drawn}) == 5
    assert all(one[:50] != sorted(one[:50]) for one in drawn)


@given(size, size, size, size, seeds)
def test_training_samples_do_not_depend_on_the_sizes_of_the_other_splits(train, validation, test, more, seed):
    samples = train + validation + test + 2 * more
    few, more_of_them = (
        of("train", *splits.at_random(samples, wanted(train, validation + n, test + n, seed))) for n in (0, more)
    )
    assert few == more_of_them


def test_every_sample_is_as_likely_in_each_split():
    counts = np.zeros((3, 10))
    for seed in range(600):
        chosen, labels = splits.at_random(10, wanted(5, 3, 2, seed))
        for row, split in enumerate(SPLITS):
            counts[row, of(split, chosen, labels)] += 1
    expected = np.array([[300], [180], [120]])
    spread = np.sqrt(expected * (1 - expected / 600))
    assert (np.abs(counts - expected) < 5 * spread).all()
    assert counts.std() > 0


def test_all_samples_can_be_used():
    chosen, _ = splits.at_random(9, wanted(4, 3, 2))
    assert sorted(chosen.tolist()) == list(range(9))


@given(size, size, size, seeds)
def test_too_few_samples_are_refused_with_the_split_that_lacks_them(train, validation, test, seed):
    constants = wanted(train, validation, test, seed)
    lacking = {"train": train - 1, "validation": train + validation - 1, "test": train + validation + test - 1}
    left = {"train": train - 1, "validation": validation - 1, "test": test - 1}
    for name, samples in lacking.items():
        with pytest.raises(UserError) as refused:
            splits.at_random(samples, constants)
        assert str(refused.value) == f"data.{name}: {constants[name]} samples are asked for and {left[name]} are left"


@pytest.mark.parametrize("name", SPLITS)
@pytest.mark.parametrize("number", [0, -3])
def test_a_split_without_samples_is_refused_with_its_key(name, number):
    constants = wanted(2, 2, 2) | {name: number}
    groups = np.zeros(20)
    for choose in (lambda: splits.at_random(20, constants), lambda: splits.by_group(groups, [[0]] * 3, constants)):
        with pytest.raises(UserError, match=rf"^data\.{name}: {number} is not a number of samples"):
            choose()


@given(
    groups=st.lists(st.integers(1, 6), min_size=1, max_size=60),
    chosen=st.tuples(*[st.sets(st.integers(1, 7), min_size=1, max_size=3)] * 3),
    sizes=st.tuples(size, size, size),
    seed=seeds,
)
def test_splits_by_group_take_only_their_groups(groups, chosen, sizes, seed):
    """Groups may overlap, be empty or unknown; a sample is in one split at most."""
    constants, groups = wanted(*sizes, seed), np.array(groups)
    own = [set(np.flatnonzero(np.isin(groups, list(those))).tolist()) for those in chosen]
    try:
        numbers, labels = splits.by_group(groups, [sorted(those) for those in chosen], constants)
    except UserError as refused:
        name = str(refused).split(":")[0].removeprefix("data.")
        i = SPLITS.index(name)
        before = sum(sizes[:i])
        assert str(refused).startswith(f"data.{name}: {sizes[i]} samples are asked for and ")
        assert len(own[i]) - before < sizes[i]
        return
    assert labels == [name for name, n in zip(SPLITS, sizes, strict=True) for _ in range(n)]
    assert len(set(numbers.tolist())) == len(numbers)
    for split, allowed in zip(SPLITS, own, strict=True):
        assert set(of(split, numbers, labels)) <= allowed


def test_splits_by_group_are_a_function_of_the_seed():
    groups = np.repeat([1, 2, 3], 30)
    one, again, other = (splits.by_group(groups, [[1], [2], [3]], wanted(9, 8, 7, s))[0].tolist() for s in (0, 0, 1))
    assert one == again != other


def test_a_group_that_is_too_small_is_refused_with_its_split():
    groups = np.array([1, 1, 1, 2, 2, 3])
    with pytest.raises(UserError, match=r"^data\.validation: 3 samples are asked for and 2 are left$"):
        splits.by_group(groups, [[1], [2], [3]], wanted(3, 3, 1))
    with pytest.raises(UserError, match=r"^data\.test: 1 samples are asked for and 0 are left$"):
        splits.by_group(groups, [[1], [2], [4]], wanted(3, 2, 1))
