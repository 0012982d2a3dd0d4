"""By which numbers the verdicts on theta are decided."""

BLIND = 1e-3  # information below which an assumption says nothing of a parameter
FOLLOWS = 0.25  # slope of theta on its start, above which it follows that
REJECTED = 2.0  # spread_ratio, above which an assumption is wrong
TOLERANCE = "5 %"  # by which values of theta may differ that count as one
