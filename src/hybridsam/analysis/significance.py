"""Intervals over seeds, and paired tests: which methods cannot be told from the one with the lowest mean error."""

from collections.abc import Collection

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

SIGNIFICANCE = 0.05


def standings(errors: pd.DataFrame, exploded: Collection[str] = ()) -> pd.DataFrame:
    """Compare every method with the best one: a row a method, with the columns ``p`` and ``standing``.

    errors: a row a seed, a column a method; NaN where a run did not complete, inf where an error has no finite value.
    exploded: the methods of which a run exploded (:func:`hybridsam.analysis.cube.exploded`). One such run makes a mean
    large and every difference insignificant, so these methods are not compared: none of them is best or tied.
    The best method has the lowest mean over its own runs. Every other one is compared with it by the two-sided paired
    t-test over the seeds that both completed (runs of equal seed share data, initial network and batches), and p is
    adjusted by Holm's method for the number of comparisons.

    standing: ``best``; ``tied``, if the test does not show the method to be worse at 5 %, which is not the same as
    being equal; ``worse``; ``untested``, with fewer than two pairs or a difference that is not finite; ``exploded``;
    empty for a method without runs, and where fewer than two methods can be compared. That the best was picked by the
    same runs is not corrected for: of six methods that are equal, one is called worse in one table of ten rather than
    of twenty.
    """
    found = pd.DataFrame({"p": np.nan, "standing": ""}, index=errors.columns)
    means = errors.mean().dropna()
    found.loc[means.index.intersection(list(exploded)), "standing"] = "exploded"
    means = means.drop(list(exploded), errors="ignore")
    if len(means) < 2 or np.isinf(means.min()):
        return found
    best = means.idxmin()
    others = means.index.drop(best)
    differences = errors[others].sub(errors[best], axis=0)
    p = holm(np.array([paired_p(differences[method].dropna().to_numpy()) for method in others]))
    # Over the seeds that both completed, the order may be the other way round: nothing then shows the other as worse.
    worse = (p < SIGNIFICANCE) & (differences.mean() > 0)
    found.loc[others, "p"] = p
    found.loc[others, "standing"] = np.select([np.isnan(p), worse], ["untested", "worse"], "tied")
    found.loc[best, "standing"] = "best"
    return found


def paired_p(differences: np.ndarray) -> float:
    """p-value of the two-sided t-test that the mean difference is zero; NaN for fewer than two, or not finite ones.

    Differences without any spread are the limit of a small one: p is 0, or 1 where every difference is zero.
    """
    if len(differences) < 2 or not np.isfinite(differences).all():
        return float("nan")
    if not differences.any():
        return 1.0
    from scipy import stats  # only now: most figures need no test, and it takes long to import

    with np.errstate(divide="ignore"):
        t = np.abs(differences.mean()) / stats.sem(differences)
    return float(2 * stats.t.sf(t, len(differences) - 1))


def holm(p: np.ndarray) -> np.ndarray:
    """p-values adjusted by Holm's step-down method; NaN, of what was not tested, stays and is not counted."""
    tested = np.argsort(p)[: np.isfinite(p).sum()]  # NaN comes last
    adjusted = np.full(len(p), np.nan)
    adjusted[tested] = np.minimum(1, np.maximum.accumulate(np.arange(len(tested), 0, -1) * p[tested]))
    return adjusted


def interval(values: ArrayLike, level: float = 0.95) -> float:
    """Half width of Student's t interval for the mean of independent, finite values; NaN for fewer than two."""
    sample = np.asarray(values, dtype=float)
    if len(sample) < 2 or not np.isfinite(sample).all():
        return float("nan")
    from scipy import stats

    return float(stats.t.ppf((1 + level) / 2, len(sample) - 1) * stats.sem(sample))
