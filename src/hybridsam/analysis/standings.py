"""Which methods are worse than the best one, which are equivalent to it, and of which that cannot be told."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from hybridsam.analysis.intervals import Statistic, of_all, t_ends

SIGNIFICANCE = 0.05
EQUIVALENT = 1.25  # two methods are equivalent if the ratio of their errors lies between its inverse and this factor
COLUMNS = ("standing", "ratio", "ratio_low", "ratio_high")


def standings(errors: pd.DataFrame, failed: Mapping[str, int], log_statistic: Statistic) -> pd.DataFrame:
    """Compare every method with the best one: a row a method, with the columns ``COLUMNS``.

    errors: a row a run, by ``data`` and ``seed``, a column a method; NaN where a run failed or is missing. failed: how
    many runs of each method failed. log_statistic: of errors, the logarithm of what methods are compared by.

    Best is the method with the smallest share of failed runs and, among those, the smallest statistic. ratio: the
    statistic of a method over that of the best, over the runs that failed for neither (those of equal dataset and seed
    share data, initial network and batches), with its interval. Intervals hold for all pairs of methods at once at
    95 % (Bonferroni), as the best was picked by the same runs.

    standing: ``best``; ``worse``, if the interval lies above 1, or more runs failed by Fisher's exact test;
    ``equivalent``, if it lies between 1 / ``EQUIVALENT`` and ``EQUIVALENT`` and no larger share of runs failed;
    ``inconclusive`` otherwise; ``failed`` for a method of which every run failed; empty for one without runs, and where
    no two methods have runs.
    """
    found = pd.DataFrame({"standing": "", **dict.fromkeys(COLUMNS[1:], np.nan)}, index=errors.columns)
    good = errors.notna().sum()
    ran = good + pd.Series(failed).reindex(errors.columns).fillna(0)
    ran = ran[ran > 0]
    if len(ran) < 2:
        return found
    share = 1 - good[ran.index] / ran
    size = pd.Series({method: of_all(log_statistic, errors[method]) for method in ran.index})
    order = pd.DataFrame({"share": share, "size": size}).sort_values(["share", "size"], kind="stable").index
    level = 1 - SIGNIFICANCE / (len(ran) * (len(ran) - 1) / 2)
    best = order[0]
    for method in ran.index:
        if not good[method]:
            found.loc[method, "standing"] = "failed"
        elif method == best:
            found.loc[method, "standing"] = "best"
        else:
            low, ratio, high = np.exp(log_ratio(errors[method], errors[best], log_statistic, level))
            found.loc[method, "ratio"] = ratio
            found.loc[method, ["ratio_low", "ratio_high"]] = low, high
            often = _fails_more_often(ran[method], good[method], ran[best], good[best]) < 1 - level
            close = low >= 1 / EQUIVALENT and high <= EQUIVALENT and share[method] <= share[best]
            worse = low > 1 or often
            found.loc[method, "standing"] = "worse" if worse else "equivalent" if close else "inconclusive"
    return found


def log_ratio(
    errors: pd.Series, of_other: pd.Series, log_statistic: Statistic, level: float
) -> tuple[float, float, float]:
    """The logarithm of the ratio of two statistics, over the runs that have both, between the ends of its interval."""
    both = pd.DataFrame({"one": errors, "other": of_other}).dropna()
    if both.empty:
        return float("nan"), float("nan"), float("nan")
    one, other = both["one"].to_numpy(dtype=float), both["other"].to_numpy(dtype=float)

    def difference(weights: np.ndarray) -> np.ndarray:
        with np.errstate(invalid="ignore"):
            return log_statistic(weights, one) - log_statistic(weights, other)

    low, high = t_ends(both.index, difference, level)
    return low, difference(np.ones((1, len(both)))).item(), high


def _fails_more_often(ran: int, good: int, ran_best: int, good_best: int) -> float:
    """p-value of Fisher's exact test that runs of a method fail no more often than those of the best."""
    if ran - good == 0:
        return 1.0
    from scipy import stats

    table = [[ran - good, good], [ran_best - good_best, good_best]]
    return float(stats.fisher_exact(table, alternative="greater").pvalue)
