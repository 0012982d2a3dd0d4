"""The caption of each figure: what it shows, n and the kind of interval, from the table that it was drawn from."""

import pandas as pd

from hybridsam import records
from hybridsam.looks import MANY, in_order

TWIN = records.ORIGINS["twin"]

ONE_RUN = (
    "Each method is shown at the strength that {rule} chooses, by its first completed run (n = 1; {diverged}), so no "
    "interval is drawn."
)
CAPTIONS = {
    "time series": "One test sample ({data}): data ({dots}), {truth}full model (thick, with markers) and science part "
    f"alone (dashed). {ONE_RUN} A line that runs far from the data leaves its panel.",
    "readings": "{samples} ({data}), a line each for every component, with the measured value on the left: prediction "
    "over measured value on a logarithmic axis, of the full model (filled) and of the science part alone (circles). "
    f"Vertical line: as measured. Triangles at the edge: beyond the axis, or not positive. {ONE_RUN}",
    "fields": "One test sample ({data}) at the last time, {time}. Left: truth without noise (where known), data and "
    "their difference. Other columns: full model, science part alone, and difference of the full model to the truth "
    "(to the data where no truth is known). Each component has one colour scale for its values, which fits "
    "data and truth and at most half their range on both sides, and one for differences (red: above, blue: below); the "
    "pointed end of a scale is for values beyond it. " + ONE_RUN,
    "frames": "Images of one test sample ({data}) at the times above the columns: in the first row the data, below "
    "them of each method the full model (left) and the science part alone (right), in one scale, which fits the data. "
    + ONE_RUN,
    "images": "{samples} ({data}){settings}. Columns: data, and for {methods} the science part alone and the full "
    f"model. Values below 0 or above 1 are clipped for display. {ONE_RUN}",
    "theta_training": "θ against the training step at the strength that {rule} chooses. Thin lines: every run; "
    "thick line: mean of the completed runs ({n} for each method; {diverged}). No interval is drawn. Dashed: "
    "{true} value, where known.",
    "errors_rho": "Errors on the test data ({data}) at the final iterate against the strength, for every strength that "
    "was run. {meanings}Points: single runs; markers: mean of the completed runs ({n} for each strength); bars: "
    "{interval}. Crosses on the upper edge count diverged runs ({diverged}), which no mean contains. Dashed line and "
    "band: erm, in the same way.",
    "losses": "Loss against the training step at the strength that {rule} chooses: validation (solid) and training "
    "(dotted). Thin lines: every run; thick lines: mean of the completed runs ({n} for each method; {diverged}). No "
    "interval is drawn.",
}


def caption(name: str, table: pd.DataFrame) -> str:
    """What a figure shows, with n and the kind of interval, from the table that it is drawn from."""
    counts = table.dropna(subset=["n"]).drop_duplicates(["method", "rho"])
    low, high, gone = (int(number) for number in (counts["n"].min(), counts["n"].max(), counts["diverged"].sum()))
    interval = "its 95 % Student t interval over seeds" + ", which fewer than two runs do not have" * (low < 2)
    kind = table["kind"].iloc[0] if "kind" in table else name
    text = CAPTIONS[kind].format(
        rule=f"the rule “{table['rule'].dropna().iloc[0]}”" if "rule" in table else "",
        n=span(low, high),
        diverged=f"{gone} diverged" if gone else "none diverged",
        interval=interval if high > 1 else "none, as that takes two completed runs",
        data=table["data"].iloc[0].lower(),
        **_details(kind, table),
    )
    return f"{TWIN}: " * (table["data"].iloc[0] == TWIN) + text


def _details(kind: str, table: pd.DataFrame) -> dict[str, str]:
    """What the captions of this kind say besides."""
    if kind == "time series":
        truth = "truth without noise (thin black line), " * bool((table["series"] == "truth").any())
        return {"dots": "thin line" if table["time"].nunique() > MANY else "dots", "truth": truth}
    if kind == "theta_training":
        return {"true": "true" if table["data"].iloc[0] == records.ORIGINS["yes"] else "published"}
    if kind == "fields":
        time, unit = table.dropna(subset=["time"])[["time", "time_unit"]].iloc[0]
        return {"time": f"{time:g} {unit}"}
    if kind in ("readings", "images"):
        number = table["sample"].nunique()
        details = {"samples": f"{number} test samples" if number > 1 else "One test sample"}
        if kind == "images":
            light = ", with the light source's settings (red, green, blue, of 255) and the polarisers' angles"
            details["settings"] = light if table["setting"].fillna("").any() else ""
            details["methods"] = " and ".join(in_order(table["method"].dropna()))
        return details
    if kind == "errors_rho":
        own = table[table["metric"].str.startswith("theta")].drop_duplicates("metric")
        meanings = "; ".join(f"{row.label}: {row.meaning}" for row in own.itertuples())
        return {"meanings": f"{meanings}. " if meanings else ""}
    return {}


def span(low: int, high: int) -> str:
    """Numbers of runs in words: ``n = 3``, ``n = 2 to 3``."""
    return f"n = {low}" + f" to {high}" * (high > low)
