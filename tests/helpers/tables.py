"""Tables of a user's own, whose values tell where they stand, and the sections of task files that describe them."""

import numpy as np
import pandas as pd

STATE = {"hare": "thousands", "lynx": "thousands"}
TIME = {"column": "year", "unit": "year"}
BY_TIME = {"by": "time", "train": 10, "validation": 5, "test": 6}
ONE_SERIES = {"file": "hare.csv", "time": TIME, "state": STATE, "window": 5, "stride": 2, "split": BY_TIME}
BY_SITE = {"by": "series", "train": 2, "validation": 1, "test": 1}
SITES = {"file": "sites.csv", "time": TIME, "series": "site", "state": STATE, "split": BY_SITE}
LAW = {
    "file": "law.csv",
    "inputs": {"pressure": "Pa", "light": {"red": "W", "blue": "W"}},
    "target": {"ir": "counts", "vis": "V"},
    "split": {"by": "sample", "train": 0.5, "validation": 0.25, "test": 0.25},
}
IRREGULAR = [0.0, 0.1, 0.5, 0.6, 1.3, 2.0]


def hares(years=21, first=1900):
    """One series, whose values tell the year."""
    year = np.arange(first, first + years)
    return pd.DataFrame({"year": year, "hare": year % 100 + 0.5, "lynx": 1000.0 + year % 100, "weather": "mild"})


def sites(times=IRREGULAR, labels="abcd"):
    """A series for each label, one row of each in turn; values tell the site and the number of the time."""
    rows = [(label, t, 100.0 * i + n, -1.0 * n) for n, t in enumerate(times) for i, label in enumerate(labels)]
    return pd.DataFrame(rows, columns=["site", "year", "hare", "lynx"])


def law(rows=8):
    number = np.arange(rows)
    columns = {"pressure": 1e5 + number, "red": 0.1 * number, "blue": 2.0 * number, "ir": number + 0.5, "vis": -number}
    return pd.DataFrame(columns | {"day": number // 2})


def changed(table, **changes):
    """The section with changes; of split, key by key; None removes a key."""
    new = table | changes | ({"split": table["split"] | changes["split"]} if "split" in changes else {})
    return {key: value for key, value in new.items() if value is not None}


def growth(times=IRREGULAR, labels="abcd", a=0.3, c=0.2):
    """Hares that multiply and lynx that die out, in closed form."""
    rows = [
        (label, t, (1 + i) * np.exp(a * t), (2 + i) * np.exp(-c * t)) for i, label in enumerate(labels) for t in times
    ]
    return pd.DataFrame(rows, columns=["site", "year", "hare", "lynx"])
