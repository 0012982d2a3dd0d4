"""Statistics of runs and their intervals, which cover seeds and, where there are several, datasets.

Runs are crossed: every seed is trained on every dataset. Runs of one dataset share its noise, runs of one seed the
initial network, so they are no independent draws. What varies is therefore the datasets and the seeds, each by itself:
the jackknife leaves out one of either at a time, and the bootstrap draws both with replacement, a run counting as often
as its own two were drawn (Owen 2007, The pigeonhole bootstrap). With one dataset, all that is said is of these data.

A statistic is a function of weights (draw, run) and values (run), which gives a number for each draw. Runs are labelled
by an index with the levels ``data`` and ``seed``.
"""

from collections.abc import Callable, Iterator

import numpy as np
import pandas as pd

LEVEL = 0.95
AXES = ("data", "seed")
GROUPS = 200  # of datasets or seeds, at most, that the jackknife leaves out: of more, several at a time
FEWEST = 5  # datasets or seeds: of fewer the median has no interval, which then covers too little
RESAMPLES = 9999
AT_ONCE = 2_000_000  # weights in memory

Statistic = Callable[[np.ndarray, np.ndarray], np.ndarray]
NONE = (float("nan"), float("nan"))


def mean(weights: np.ndarray, values: np.ndarray) -> np.ndarray:
    """The weighted mean."""
    return weights @ values / weights.sum(-1)


def log_mean(weights: np.ndarray, values: np.ndarray) -> np.ndarray:
    """The logarithm of the geometric mean."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return mean(weights, np.log(values))


def log_root_mean_square(weights: np.ndarray, values: np.ndarray) -> np.ndarray:
    """The logarithm of the root mean square."""
    with np.errstate(divide="ignore"):
        return np.log(mean(weights, values**2)) / 2


def median(weights: np.ndarray, values: np.ndarray) -> np.ndarray:
    """The weighted median: the mean of the two values between which half of the weight lies on either side."""
    order = np.argsort(values)
    ordered, below = values[order], weights[..., order].cumsum(-1)
    half = below[..., -1:] / 2
    lower, upper = (below >= half).argmax(-1), (below > half).argmax(-1)
    return (ordered[lower] + ordered[upper]) / 2


def of_all(statistic: Statistic, values: pd.Series) -> float:
    """The statistic of the values that are known; NaN of none."""
    known = values.dropna().to_numpy(dtype=float)
    return float(statistic(np.ones(len(known)), known)) if len(known) else float("nan")


# Student's t, by the jackknife


def t_interval(statistic: Statistic, values: pd.Series, level: float = LEVEL) -> tuple[float, float]:
    """The ends of the interval of a smooth statistic, such as a mean; NaN for fewer than two datasets and seeds.

    Of a mean over seeds alone it is Student's. values: of runs; NaN where there is none.
    """
    known = values.dropna()
    numbers = known.to_numpy(dtype=float)
    return t_ends(known.index, lambda weights: statistic(weights, numbers), level)


def t_ends(
    runs: pd.MultiIndex, statistic: Callable[[np.ndarray], np.ndarray], level: float = LEVEL
) -> tuple[float, float]:
    """As :func:`t_interval`, of what a statistic makes of the weights (draw, run) of the runs.

    The variances by leaving out one dataset, and one seed, at a time add up; what belongs to single runs is in both, so
    with several datasets intervals are rather too long. Degrees of freedom: Satterthwaite's.
    """
    variances, freedom = [], []
    for labels in (runs.get_level_values(axis) for axis in AXES):
        group = pd.factorize(labels, sort=True)[0] % GROUPS
        n = group.max(initial=-1) + 1
        left_out = np.arange(n)[:, None] != group
        if n > 1:
            found = statistic(left_out.astype(float))
            variances.append((n - 1) * np.var(found))
            freedom.append(n - 1)
    if not variances:
        return NONE
    all_of_them, variance = statistic(np.ones((1, len(runs)))).item(), sum(variances)
    if not np.isfinite(variance) or variance == 0:
        return (all_of_them, all_of_them) if variance == 0 else NONE
    from scipy import stats  # only now: most figures need none, and it takes long to import

    degrees = variance**2 / sum(own**2 / n for own, n in zip(variances, freedom, strict=True))
    half = stats.t.ppf((1 + level) / 2, degrees) * variance**0.5
    return all_of_them - half, all_of_them + half


# The bootstrap


def bootstrap_interval(statistic: Statistic, values: pd.Series, level: float = LEVEL) -> tuple[float, float]:
    """The ends of the expanded percentile interval of any statistic; NaN for fewer than ``FEWEST`` datasets or seeds.

    Resamples of n values vary by sqrt((n - 1) / n) too little, and have normal tails where Student's are due; quantiles
    farther out make up for both (Hesterberg 2015, What teachers should know about the bootstrap). n: the number of
    datasets or of seeds, whichever is smaller and more than one. values: of runs; NaN where there is none.
    """
    known = values.dropna()
    sizes = [known.index.get_level_values(axis).nunique() for axis in AXES]
    if max(sizes) < FEWEST:
        return NONE
    numbers = known.to_numpy(dtype=float)
    draws = np.concatenate([statistic(weights, numbers) for weights in _weights(known.index)])
    tail = expanded_tail(min(size for size in sizes if size > 1), level)
    low, high = np.quantile(draws, [tail, 1 - tail])
    return float(low), float(high)


def expanded_tail(n: int, level: float = LEVEL) -> float:
    """The share of draws beyond either end of an expanded percentile interval, of resamples of n values."""
    from scipy import stats

    n = max(FEWEST, n)
    return float(stats.norm.sf((n / (n - 1)) ** 0.5 * stats.t.ppf((1 + level) / 2, n - 1)))


def _weights(runs: pd.MultiIndex) -> Iterator[np.ndarray]:
    """How often every run was drawn, (draw, run), some draws at a time; the same ones each time."""
    rng = np.random.default_rng(0)
    positions = [pd.factorize(runs.get_level_values(axis))[0] for axis in AXES]
    for start in range(0, RESAMPLES, step := max(1, AT_ONCE // len(runs))):
        number = min(step, RESAMPLES - start)
        data, seeds = (counts(rng, number, of_runs.max() + 1)[:, of_runs] for of_runs in positions)
        weights = (data * seeds).astype(float)
        yield weights[weights.any(-1)]  # where runs are missing, none may be left


def counts(rng: np.random.Generator, number: int, size: int) -> np.ndarray:
    """How often each of some things was drawn with replacement, as often as there are, (draw, thing)."""
    return rng.multinomial(size, np.full(size, 1 / size), number)
