"""How often verdicts, assumptions and intervals are right: shares of the truths of :mod:`.calibration`.

An interval of a share is Wilson's, at 95 %. A value is right that differs from the truth by no more than ``TOLERANCE``.
"""

import numpy as np
import pandas as pd
from scipy.stats import binomtest

from hybridsam.analysis.assumptions import Small
from hybridsam.analysis.thresholds import DEFAULT

TOLERANCE = 0.05  # of the true theta
TRUTH = ["science", "source", "truth"]  # columns that say which one a row is of
GRID = np.arange(1.0, 6.01, 0.25)  # spread ratios that are tried as the one above which an assumption is rejected


def share(hits: pd.Series) -> tuple[float, float, float]:
    """How large a share of some is true, and the ends of its interval; NaN of none."""
    if not len(hits):
        return (np.nan,) * 3
    found = binomtest(int(hits.sum()), len(hits))
    interval = found.proportion_ci(0.95, "wilson")
    return found.statistic, interval.low, interval.high


def with_judgement(table: pd.DataFrame) -> pd.DataFrame:
    """The table of :func:`.calibrate`, and for each row whether the assumption says something, fits, counts, is right.

    counts: for the verdict. right: theta by it is within the tolerance. covered: the true theta is in its interval.
    """
    says = table["theta"].notna()
    fits = table["spread_ratio"] <= DEFAULT.rejected
    off = (table["theta"] - table["theta_true"]).abs()
    return table.assign(
        says=says,
        fits=fits,
        counts=says & (fits | (table["assumption"] == Small.title)),
        right=off <= TOLERANCE * table["theta_true"],
        covered=(table["low"] <= table["theta_true"]) & (table["theta_true"] <= table["high"]),
    )


def of_verdicts(table: pd.DataFrame) -> pd.DataFrame:
    """A row for each source, verdict, and whether the truth is imitated: n truths, and three shares with intervals.

    right: the median of what counts is within the tolerance. holds: the truth lies between the least and the greatest
    of what counts, give or take the tolerance. tested: as right, of the assumptions alone that were tested and fit,
    small not being one, where there is such a one.
    """
    judged = with_judgement(table)
    counted = judged[judged["counts"]].groupby(TRUTH)["theta"].agg(["median", "min", "max"])
    tested = judged[judged["counts"] & judged["fits"] & (judged["assumption"] != Small.title)]
    counted["tested"] = tested.groupby(TRUTH)["theta"].median()
    truths = judged.groupby(TRUTH)[["verdict", "imitated", "theta_true"]].first().join(counted)
    margin = TOLERANCE * truths["theta_true"]
    truths["tested_right"] = (truths["tested"] - truths["theta_true"]).abs() <= margin
    truths["right"] = (truths["median"] - truths["theta_true"]).abs() <= margin
    truths["holds"] = (truths["min"] - margin <= truths["theta_true"]) & (
        truths["theta_true"] <= truths["max"] + margin
    )
    rows = []
    for (source, verdict, imitated), own in truths.groupby(["source", "verdict", "imitated"]):
        row = {"source": source, "verdict": verdict, "imitated": imitated, "n": len(own)}
        by_test = own.loc[own["tested"].notna(), "tested_right"]
        rows.append(row | _shares(right=own["right"], holds=own["holds"], tested=by_test))
    return pd.DataFrame(rows)


def of_assumptions(table: pd.DataFrame) -> pd.DataFrame:
    """A row for each source, assumption, and whether it holds: n that it says something of, and shares with intervals.

    rejected: of these. right, covered: of those that are not rejected (of small, which nothing rejects, of all).
    """
    judged = with_judgement(table)
    rows = []
    for (source, title, holds), own in judged[judged["says"]].groupby(["source", "assumption", "holds"]):
        kept = own[own["counts"]]
        row = {"source": source, "assumption": title, "holds": holds, "n": len(own)}
        rejected = {} if title == Small.title else {"rejected": ~own["fits"]}
        rows.append(row | _shares(**rejected, right=kept["right"], covered=kept["covered"]))
    return pd.DataFrame(rows)


def of_thresholds(table: pd.DataFrame) -> pd.DataFrame:
    """The spread ratio above which to reject, as all sciences but one would choose it, and what it does for that one.

    Chosen: the one with the largest sum of two shares: kept, of assumptions that hold, and caught, of those that do not
    and give a theta that is not right. A row for each source and science, with both shares and their intervals.
    """
    judged = with_judgement(table)
    judged = judged[judged["says"] & (judged["assumption"] != Small.title)]
    rows = []
    for (source, science), own in judged.groupby(["source", "science"]):
        others = judged[(judged["source"] == source) & (judged["science"] != science)]
        gains = [sum(of.mean() for of in _kept_and_caught(others, threshold).values()) for threshold in GRID]
        chosen = np.nan if np.isnan(gains).any() else GRID[int(np.argmax(gains))]  # others have no case of one kind
        row = {"source": source, "science": science, "threshold": chosen}
        rows.append(row | _shares(**_kept_and_caught(own if np.isfinite(chosen) else own[:0], chosen)))
    return pd.DataFrame(rows)


def _kept_and_caught(judged: pd.DataFrame, threshold: float) -> dict[str, pd.Series]:
    rejected, wrong = judged["spread_ratio"] > threshold, ~judged["holds"] & ~judged["right"]
    return {"kept": ~rejected[judged["holds"]], "caught": rejected[wrong]}


def _shares(**of: pd.Series) -> dict[str, float]:
    """name -> share, name_low, name_high, and name_n, of how many."""
    found: dict[str, float] = {}
    for name, hits in of.items():
        found |= dict(zip((name, f"{name}_low", f"{name}_high"), share(hits), strict=True)) | {f"{name}_n": len(hits)}
    return found
