"""The caption of each figure: what it shows, n and the kind of interval, from the table that it was drawn from.

Pages show it, and so does Snakemake's own report.
"""

from collections.abc import Mapping, Sequence

import pandas as pd

from hybridsam.analysis.cube import WORSE_THAN_MEAN
from hybridsam.analysis.intervals import FEWEST
from hybridsam.analysis.residuals import white_noise_bound
from hybridsam.core.methods import BASELINE, in_order
from hybridsam.core.records import ORIGINS, TWIN
from hybridsam.figures.errors_rho import FEW, intervals_cut_off, with_intervals_drawn
from hybridsam.figures.style import MANY
from hybridsam.figures.tradeoff import nothing_to_compare
from hybridsam.report.numbers import gone, span

FAILED_NOTE = f"Failed: diverged, or {WORSE_THAN_MEAN}; such a run is counted and in no mean and no median."
RESIDUALS = "Residuals, data − full model ({data})"
CAPTIONS = {
    "time series": "One test sample ({data}): data ({dots}), {truth}full model (thick, with markers) and science part "
    "alone (dashed). {given}{one_run} A line that runs far from the data leaves its panel.",
    "readings": "{samples} ({data}), a line each for every component, with the measured value on the left: prediction "
    "over measured value on a logarithmic axis, of the full model (filled) and of the science part alone (circles). "
    "Vertical line: as measured. Triangles at the edge: beyond the axis, or not positive. {one_run}",
    "differences": "{samples} ({data}), a line each for every component, with the measured value on the left: "
    "prediction minus measured value, of the full model (filled) and of the science part alone (circles). Vertical "
    "line: as measured. Triangles at the edge: beyond the axis, which fits the full models. {one_run}",
    "fields": "One test sample ({data}) at the last time, {time}. Left: truth without noise (where known), data and "
    "their difference. Other columns: full model, science part alone, and difference of the full model to the truth "
    "(to the data where no truth is known). Each component has one colour scale for its values, which fits "
    "data and truth and at most half their range on both sides, and one for differences (red: above, blue: below); the "
    "pointed end of a scale is for values beyond it. {one_run}",
    "frames": "Images of one test sample ({data}) at the times above the columns: in the first row the data, below "
    "them of each method the full model (left) and the science part alone (right), in one scale, which fits the data. "
    "{one_run}",
    "images": "{samples} ({data}){labels}. Columns: data, and for {methods} the science part alone and the full "
    "model. Values below 0 or above 1 are clipped for display. {one_run}",
    "residual series": RESIDUALS + ", against {time}, a line for each test sample. {band}In the corner: root mean "
    "square (RMS) and autocorrelation at lag 1 (r₁) over {over}. A good model leaves white noise, whose r₁ lies in 0 ± "
    "{white} (95 %). {one_run} A line that runs far from those of the best method leaves its panel.",
    "residual readings": RESIDUALS + ", against the measured value, a point for each component and test sample. {band}"
    "In the corner: root mean square (RMS) over {over}. A good model leaves white noise, without a trend. {one_run} A "
    "point far from those of the best method is beyond the axis.",
    "residual maps": RESIDUALS + ": root mean square over {over} at each pixel, and above each map over all pixels. A "
    "good model leaves white noise: maps without shapes{band}. Each component has one colour scale for all methods, "
    "whose pointed end is for values beyond it. {one_run}",
    "residuals without runs": RESIDUALS + ": none. {one_run}",
    "theta_training": "θ against the training step at the ρ that {rule} chooses. Thin lines: {runs}; thick line: mean "
    "of those that did not fail ({n} for each method; {failed}). No interval is drawn. {true}",
    "errors_rho": "Errors on the test data ({data}) at the final iterate against ρ, for every ρ that was run. "
    "{meanings}{points}{crosses}{cut}{baseline}",
    "tradeoff": "θ-error and y-error on the test data ({data}) at the final iterate. {meanings}Markers: median θ-error "
    "and geometric mean of the y-error over the runs that did not fail ({n} for each method and ρ; {failed}{hollow}). "
    "{absent}A thin line joins those of a method in the order of ρ, whose smallest and largest value stand beside it "
    "where there is room. Dots: {runs}. Black steps: the Pareto front, through the {filled}markers that no other"
    "{filled_one} undercuts in one error without exceeding it in the other. {baseline}No interval is drawn. The front "
    "needs the true θ, so it is no rule to select ρ by.",
    "tradeoff without runs": "Every run failed ({n} for each method and ρ; {failed}; {data}), so there is nothing to "
    "compare.",
    "tradeoff without truth": "θ and y-error on the test data ({data}) at the final iterate: θ is not known for these "
    "data, so there is no θ-error, and θ itself takes its place, a panel a parameter. Methods that predict alike at "
    "different θ show what the data leave open. Markers: median θ and geometric mean of the y-error over the runs that "
    "did not fail ({n} for each method and ρ; {failed}{hollow}). {absent}A thin line joins those of a method in the "
    "order of ρ. Dots: {runs}. {baseline}No interval is drawn.",
    "losses": "Loss against the training step at the ρ that {rule} chooses: validation (solid) and training (dotted). "
    "Thin lines: {runs}; thick lines: mean of those that did not fail ({n} for each method; {failed}). No interval is "
    "drawn.",
    "landscape": "What the science lacks ({data}), g = F − f, over θ, with F what runs of erm agree on in all: no run "
    "was trained for this. Left: the root mean square of what an assumption about g does not allow, least at its θ "
    "(triangle; none where the assumption says nothing of the parameter); under “small” that is all of g, R_norm. "
    "Middle: the correlation of f and g, R_corr. Right: the mean square of g times that of its product with f. {held}"
    "{maps}On the lower edge: the median of θ over the runs that did not fail, at the ρ that {rule} chooses ({n} for "
    "each method; {failed}), where it lies within the panel. {true} No interval is drawn.",
    "profile": "Each parameter held at values between the starts of the ensemble ({data}), and φ refitted once, "
    "from the run whose own value is nearest. Grey: values that the data allow, which predict the validation samples "
    "no worse than the best value does (Wilcoxon's signed-rank test of the logarithms of errors, one-sided, 5 % by "
    "Holm's correction), or by no more than runs of the ensemble differ by chance, and better than their mean would. "
    "Largest loss within ρ, trace and top eigenvalue: of the training loss, by φ. {true} No interval is drawn.",
    "landscape without curves": "No landscape ({data}), as {reason} ({n} for each method; {failed}).",
}


def caption(name: str, table: pd.DataFrame) -> str:
    """What a figure shows, with n and the kind of interval, from the table that it is drawn from."""
    if name == "profile":
        return _marked(CAPTIONS[name].format(data=table["data"].iloc[0].lower(), true=_true(table)), table)
    kind = table["kind"].iloc[0] if "kind" in table else name
    counts = table.dropna(subset=["n"]).drop_duplicates(["method", "rho"])
    if kind == "tradeoff" and "theta_error" not in table:
        kind = "tradeoff without truth"
    if kind.startswith("tradeoff") and nothing_to_compare(table):
        kind = "tradeoff without runs"
    if name == "residuals" and table["rms"].isna().all():
        kind = "residuals without runs"
    if name == "landscape" and not (table["statistic"] == "curve").any():
        kind = "landscape without curves"
    text = CAPTIONS[kind].format(
        rule=_rule(table),
        n=_n(table, counts["n"]),
        failed=_failed(counts),
        data=table["data"].iloc[0].lower(),
        **_details(kind, table, counts),
    )
    return _marked(text.strip() + f" {FAILED_NOTE}" * _some_are_worse(counts), table)


def _marked(text: str, table: pd.DataFrame) -> str:
    return f"{TWIN}: " * (table["data"].iloc[0] == TWIN) + text


def _datasets(table: pd.DataFrame) -> int:
    """On how many datasets the runs are."""
    return int(table["datasets"].iloc[0]) if "datasets" in table else 1


def _n(table: pd.DataFrame, counts: pd.Series) -> str:
    """Numbers of runs, and of datasets where there are several: ``n = 4 on 2 datasets``."""
    number = _datasets(table)
    return span(int(counts.min()), int(counts.max())) + f" on {number} datasets" * (number > 1)


def _rule(table: pd.DataFrame) -> str:
    return f"the rule “{table['rule'].dropna().iloc[0]}”" if "rule" in table else ""


def _failed(counts: pd.DataFrame) -> str:
    """How many runs failed, and how many of them diverged."""
    return gone(int(counts["failed"].sum()), int(counts["diverged"].sum()))


def _failed_by_rule(counts: pd.DataFrame) -> str:
    """How many runs failed of those that each rule chose, once where these are as many."""
    texts = {rule: _failed(rows) for rule, rows in counts.groupby("rule", sort=False)}
    first, *others = dict.fromkeys(texts.values())
    return "; ".join(f"{rule}: {text}" for rule, text in texts.items()) if others else first


def _some_are_worse(counts: pd.DataFrame) -> bool:
    """Whether runs failed that did not diverge."""
    return bool(counts["failed"].sum() > counts["diverged"].sum())


def _details(kind: str, table: pd.DataFrame, counts: pd.DataFrame) -> dict[str, str]:
    """What the captions of this kind say besides."""
    if kind in ("theta_training", "losses"):
        return {"runs": _runs(table, counts, "method"), "true": _true(table)}
    if kind.startswith("tradeoff"):
        return _of_plane(table, counts)
    if kind.startswith("landscape"):
        return _of_landscape(table)
    if kind == "errors_rho":
        return _of_errors(table, counts)
    if kind == "residuals without runs":
        return {"one_run": _one_run(table, counts)}
    if kind.startswith("residual"):
        return _of_residuals(kind, table) | {"one_run": _one_run(table, counts)}
    return _of_predictions(kind, table) | {"one_run": _one_run(table, counts)}


def _one_run(table: pd.DataFrame, counts: pd.DataFrame) -> str:
    """Which run stands for a method, and which methods have none."""
    without = in_order(set(counts["method"]) - set(table.dropna(subset="seed")["method"]))
    where = " on the first dataset" * (_datasets(table) > 1)
    if len(without) == counts["method"].nunique():
        number = _n(table, counts["n"])
        return f"At the ρ that {_rule(table)} chooses, no run completed{where} ({number}; {_failed(counts)})."
    none = f" {', '.join(without)}: none completed{where}." if without else ""
    which = "the first of the runs that did not fail" + ", or else that completed" * _some_are_worse(counts)
    number = _n(table, counts.loc[~counts["method"].isin(without), "n"])
    return (
        f"Each method is shown at the ρ that {_rule(table)} chooses, by {which}{where} "
        f"({number}; {_failed(counts)}), so no interval is drawn.{none}"
    )


def _runs(table: pd.DataFrame, counts: pd.DataFrame, each: str) -> str:
    """Which runs are drawn one by one: all, or the first ones of each method or ρ."""
    run = table.columns.intersection(["method", "rho", "data_seed", "seed"])
    drawn = table[table["statistic"] == "run"].drop_duplicates(run)
    number = drawn.groupby(["method", "rho"]).size()
    all_of_them = counts.set_index(["method", "rho"])[["n", "failed"]].sum(axis=1)
    if (number < all_of_them.loc[number.index]).any():
        return f"the first {number.max()} runs of each {each}" if number.max() > 1 else f"the first run of each {each}"
    return "every run" if each == "method" else "single runs"


def _true(table: pd.DataFrame) -> str:
    if "true" not in table or not table["true"].notna().any():
        return "The true value is not known."
    return f"Dashed: {'true' if table['data'].iloc[0] == ORIGINS['yes'] else 'published'} value."


def _meanings(table: pd.DataFrame) -> str:
    """What the errors of θ are."""
    if "theta_error_meaning" in table:
        return f"θ-error: {table['theta_error_meaning'].iloc[0]}. "
    if "metric" not in table:
        return ""
    own = table[table["metric"].str.startswith("theta")].drop_duplicates("metric")
    meanings = "; ".join(f"{row.label}: {row.meaning}" for row in own.itertuples())
    return f"{meanings}. " if meanings else ""


def _of_errors(table: pd.DataFrame, counts: pd.DataFrame) -> dict[str, str]:
    others = (table["method"] != BASELINE).any()
    points = f"Points: {_runs(table, counts, 'ρ')}; markers: {_centres(table, counts)}; bars: {_intervals(table)}. "
    return {
        "meanings": _meanings(table),
        "points": points * bool(others),
        "crosses": _crosses(counts),
        "baseline": _baseline(table, counts) if (counts["method"] == BASELINE).any() else "",
        "cut": "A bar or band that ends at the edge of its panel is longer. " * intervals_cut_off(table),
    }


def _crosses(counts: pd.DataFrame) -> str:
    """How many runs failed, and where that stands."""
    if not counts["failed"].any():
        return "No run failed. "
    of_erm = counts["method"] == BASELINE
    places = {"crosses on the upper edge": ~of_erm, "those of erm: in the legend": of_erm}
    where = "; ".join(place for place, rows in places.items() if counts.loc[rows, "failed"].any())
    return f"Of the runs, {_failed(counts)} ({where}). "


def _baseline(table: pd.DataFrame, counts: pd.DataFrame) -> str:
    """How erm is drawn: as a line with a band, or with its runs where it has no interval."""
    erm = with_intervals_drawn(table[(table["method"] == BASELINE) & (table["statistic"] == "centre")])
    if not erm["n"].any():
        return "Every run of erm failed (n = 0), so it has no line."
    band = erm["low"].notna()
    line = "Dashed line" + " and band" * bool(band.any())
    alone = _centres(table, counts) + f"; {_intervals(table)}" * bool(band.any())
    how = "in the same way" if (table["method"] != BASELINE).any() else alone
    runs = "; thin lines: its runs" + ", where it has no band" * bool(band.any())
    return f"{line}: erm, {how}{runs * bool((erm['n'] > 1).any() and not band.all())}."


def _centres(table: pd.DataFrame, counts: pd.DataFrame) -> str:
    """``median of the θ-error, geometric mean of the y-error of the runs that did not fail (n = 3 for each ρ)``."""
    kinds = table.drop_duplicates("metric").groupby("centre", sort=False)["label"].agg(" and the ".join)
    of_each = ", ".join(f"{centre} of the {labels}" for centre, labels in kinds.items())
    return f"{of_each}, over the runs that did not fail ({_n(table, counts['n'])} for each ρ)"


def _intervals(table: pd.DataFrame) -> str:
    """What the intervals are and over what, and of how many runs there are none."""
    n = table["n"].dropna()
    if n.max() < FEW:
        return f"none, as an interval of fewer than {FEW} runs says less than the runs themselves"
    over = _over_what(table)
    kinds = {
        "median": f"by the bootstrap, of {FEWEST} {over.replace('and', 'or')} or more",
        "geometric mean": "Student's t of the logarithms" + f", of {FEW} runs or more" * bool(n.min() < FEW),
    }
    found = [f"{centre}: {kinds[centre]}" for centre in table["centre"].drop_duplicates()]
    return f"95 % interval over {over} ({'; '.join(found)})"


def _over_what(table: pd.DataFrame) -> str:
    """``seeds``, or ``datasets and seeds`` where there are several of both."""
    words = {"data_seed": "datasets", "seed": "seeds"}
    return " and ".join(words[name] for name in words if table[name].nunique() > 1) or "seeds"


def _of_plane(table: pd.DataFrame, counts: pd.DataFrame) -> dict[str, str]:
    shown, absent = counts[counts["n"] > 0], int((counts["n"] == 0).sum())
    hollow = bool((shown["failed"] > 0).any())
    have = "value of ρ of which every run failed has" if absent == 1 else "values of ρ of which every run failed have"
    return {
        "runs": _runs(table, counts, "ρ"),
        "meanings": _meanings(table),
        "hollow": ": hollow markers" * hollow,
        "filled": "filled " * hollow,
        "filled_one": " filled one" * hollow,
        "absent": f"{absent} {have} no marker. " * bool(absent),
        "baseline": "erm is the baseline. " * bool((shown["method"] == BASELINE).any()),
    }


def _of_landscape(table: pd.DataFrame) -> dict[str, str]:
    maps = "Below, the same over both parameters, from dark, the least, to bright, in steps of equal area. "
    held = (
        "The other parameters are held where the assumption has its θ (in the middle and on the right: the first one). "
    )
    return {
        "held": held * (table["parameter"].nunique() > 1),
        "maps": maps * bool((table["statistic"] == "map").any()),
        "true": _true(table),
        "reason": str(table["reason"].iloc[0]),
    }


def _of_residuals(kind: str, table: pd.DataFrame) -> dict[str, str]:
    sigma = table["noise"].iloc[0]
    known = bool(sigma > 0)
    band = f"Band: ± 2σ of the measurement noise (σ = {sigma:g}), which holds 95 % of it. " * known
    if kind == "residual maps":
        band = f", near the {sigma:g} of the measurement noise alone" * known
    shown = table.dropna(subset="rms")
    details = {"band": band, "over": shown["over"].iloc[0]}
    if kind == "residual series":
        number = shown.dropna(subset="value").groupby(["method", "component"]).size().max()
        details |= {"time": table["time_name"].iloc[0], "white": f"{white_noise_bound(number):.2g}"}
    return details


def _of_predictions(kind: str, table: pd.DataFrame) -> dict[str, str]:
    if kind == "time series":
        truth = "truth without noise (thin black line), " * bool((table["series"] == "truth").any())
        return {
            "dots": "thin line" if table["time"].nunique() > MANY else "dots",
            "truth": truth,
            "given": _given(table),
        }
    if kind == "fields":
        time, unit = table.dropna(subset=["time"])[["time", "time_unit"]].iloc[0]
        return {"time": f"{time:g} {unit}"}
    if kind == "frames":
        return {}
    number = table["sample"].nunique()
    details = {"samples": f"{number} test samples" if number > 1 else "One test sample"}
    if kind == "images":
        details["labels"] = f", with {table['sample_label_name'].iloc[0]}" if "sample_label" in table else ""
        details["methods"] = " and ".join(in_order(table["method"].dropna()))
    return details


def _given(table: pd.DataFrame) -> str:
    """That models are given the initial state, where they do not predict it."""
    first = table.groupby("series")["time"].min()
    if first.get("full model", first["data"]) == first["data"]:
        return ""
    return (
        "The first of the data is the initial state, which the models are given; their lines begin at the next time. "
    )


def theta_summary(drawn: pd.DataFrame, table: pd.DataFrame, absent: Mapping[str, Sequence[str]]) -> str:
    """The caption of the relative errors of θ of all tasks.

    drawn: the errors, of rows of Table 1. table: Table 1; a run may be in it once for each rule. absent: why tasks are
    not in the figure -> which.
    """
    counts = table[table["task"].isin(drawn["task"])]
    n = f"{span(int(drawn['n'].min()), int(drawn['n'].max()))}; {_failed_by_rule(counts)}"
    text = f"Relative error of θ on a logarithmic axis: median of the runs that did not fail ({n}), at the ρ that "
    text += "other seeds choose."
    if drawn["low"].notna().any():
        text += " Bars: its 95 % interval over seeds, and datasets where there are several, by the bootstrap"
        text += f" ({FEWEST} or more)."
    text += f" {FAILED_NOTE}" * _some_are_worse(counts)
    return text + "".join(f" Not shown, as {why}: {', '.join(tasks)}." for why, tasks in absent.items())
