"""Which samples train, validate and test."""

from collections.abc import Mapping, Sequence

import numpy as np

from hybridsam.core.errors import UserError

SPLITS = ("train", "validation", "test")


def sizes(constants: Mapping) -> dict[str, int]:
    """How many samples each split has.

    Parameters
    ----------
    constants : mapping
        With ``train``, ``validation`` and ``test``.

    Returns
    -------
    dict of str to int
        split -> number of samples.

    Raises
    ------
    UserError
        Naming the constant that is not a number of samples, at least 1.
    """
    for name in SPLITS:
        if not isinstance(constants[name], int) or constants[name] < 1:
            raise UserError(f"data.{name}: {constants[name]!r} is not a number of samples, at least 1")
    return {name: constants[name] for name in SPLITS}


def at_random(samples: int, constants: Mapping) -> tuple[np.ndarray, list[str]]:
    """Samples drawn without replacement.

    Parameters
    ----------
    samples : int
        How many there are.
    constants : mapping
        As of :func:`sizes`, and ``seed``, by which they are drawn.

    Returns
    -------
    numbers : ndarray of shape (chosen,)
        Of the chosen samples.
    split : list of str
        Of each.

    Raises
    ------
    UserError
        For a split that asks for more samples than are left.
    """
    return _choose([np.arange(samples)] * len(SPLITS), constants)


def by_group(groups: np.ndarray, chosen: Sequence[Sequence], constants: Mapping) -> tuple[np.ndarray, list[str]]:
    """As :func:`at_random`, but each split only from its own groups.

    Parameters
    ----------
    groups : ndarray of shape (sample,)
        Group of each sample.
    chosen : sequence of sequence
        Groups of each split: of train, validation and test.
    constants : mapping
        As of :func:`at_random`.

    Returns
    -------
    numbers : ndarray of shape (chosen,)
        Of the chosen samples.
    split : list of str
        Of each.

    Raises
    ------
    UserError
        For a split that asks for more samples than are left.
    """
    return _choose([np.flatnonzero(np.isin(groups, own)) for own in chosen], constants)


def _choose(candidates: Sequence[np.ndarray], constants: Mapping) -> tuple[np.ndarray, list[str]]:
    rng = np.random.default_rng(constants["seed"])
    order = rng.permutation(1 + max(own.max(initial=-1) for own in candidates))
    numbers: list[int] = []
    labels: list[str] = []
    for (name, n), own in zip(sizes(constants).items(), candidates, strict=True):
        free = order[np.isin(order, own) & ~np.isin(order, numbers)]
        if len(free) < n:
            raise UserError(f"data.{name}: {n} samples are asked for and {len(free)} are left")
        numbers += free[:n].tolist()
        labels += [name] * n
    return np.array(numbers), labels
