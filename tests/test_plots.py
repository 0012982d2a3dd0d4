"""Figures: drawn from the right numbers, for every kind of result, with one look for each method, to the same bytes."""

import numpy as np
import pandas as pd
import pytest
from helpers.geometry import faults
from helpers.oscillator import CASES, GRID, STEPS, TRUTH, drawn
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from PIL import Image

from hybridsam.analysis import errors_rho, histories
from hybridsam.analysis.cube import runs_table
from hybridsam.analysis.selection import centre_and_interval
from hybridsam.cli.main import main
from hybridsam.core import records
from hybridsam.core.errors import UserError
from hybridsam.core.methods import in_order
from hybridsam.figures import errors_rho as errors_rho_figure
from hybridsam.figures import registry, style
from hybridsam.report import captions, numbers

COLOURS = {colour.lower() for colour, _ in style.LOOKS.values()}
MARKERS = {marker for _, marker in style.LOOKS.values()}


@pytest.mark.parametrize(
    ("name", "case"),
    [
        pytest.param(name, case, marks=() if case == "normal" else pytest.mark.slow)
        for i, case in enumerate(CASES)
        for j, name in enumerate(registry.FIGURES)
        if case == "normal" or (i + j) % 2  # of the others every figure half, and half the figures each
    ],
)
def test_every_figure_draws_for_every_kind_of_result(name, case, results):
    """No case raises, no text is small, cut off or on something else, each method has a panel or a line."""
    table, figure = drawn(name, results(case))
    assert faults(figure) == []
    assert set(table["method"].dropna()) == set(results(case).cube["training_method"].values)
    assert figure.get_suptitle().startswith("SYNTHETIC TWIN") == (case == "twin")
    caption = captions.caption(name, table)
    assert "n = " in caption and "  " not in caption
    counts = table.dropna(subset="n").drop_duplicates(["method", "rho"])[["failed", "diverged"]].sum()
    assert numbers.gone(*counts) in caption or "No run failed" in caption
    assert ("Failed: diverged, or completed" in caption) == (counts["failed"] > counts["diverged"])
    assert not {"nan", "none)", "<na>"} & set(caption.lower().split())


@pytest.mark.slow
@pytest.mark.parametrize("case", ["normal", "some_diverged"])
def test_theta_training_shows_the_recorded_theta(case, results):
    """Lines are the cube's histories, the thick one their mean over completed runs, dashed the true value."""
    table, figure = drawn("theta_training", results(case))
    cube, selected = results(case).cube, results(case).selected.set_index("method")
    for axis, method in zip(figure.axes, in_order(GRID), strict=False):  # the first row: k
        runs = cube.sel(training_method=method, rho=selected.loc[method, "rho"], parameter="k").isel(data=0)
        completed = runs.sel(seed=runs["status"].values == "completed")
        lines = [line.get_ydata() for line in axis.get_lines() if len(line.get_ydata()) == len(STEPS)]
        np.testing.assert_allclose(lines[:-1], runs["theta_history"].transpose("seed", "step"), rtol=1e-5)
        np.testing.assert_allclose(lines[-1], completed["theta_history"].mean("seed"), rtol=1e-5)
        assert any(np.allclose(line.get_ydata(), TRUTH["k"]) for line in axis.get_lines())
    assert figure.legends[0].get_texts()[0].get_text() == "true value"
    values = table[(table["statistic"] == "run") & (table["method"] == "sam") & (table["parameter"] == "mass")]
    runs = (
        cube["theta_history"].sel(training_method="sam", rho=selected.loc["sam", "rho"], parameter="mass").isel(data=0)
    )
    assert list(values.filter(like="step=")) == [f"step={step}" for step in STEPS]
    np.testing.assert_allclose(values.filter(like="step="), runs.transpose("seed", "step"), rtol=1e-5)


@pytest.mark.slow
def test_errors_show_every_run_and_count_those_that_failed(results):
    """Points are the errors of runs, markers and bars their centres and intervals, crosses the runs that failed."""
    table, figure = drawn("errors_rho", results("some_diverged"))
    runs = runs_table(results("some_diverged").cube)
    sam = runs[(runs["method"] == "sam") & (runs["status"] == "completed")]
    axis = figure.axes[1]  # first row: l2reg, sam, fsam
    points = next(line for line in axis.get_lines() if line.get_marker() == "." and len(line.get_xdata()) == len(sam))
    np.testing.assert_allclose(np.c_[points.get_data()], sam[["rho", "theta_error"]])
    assert [text.get_text() for text in axis.texts] == ["1", "3"]

    centres = table[(table["statistic"] == "centre") & (table["method"] == "sam")]
    at = sam[sam["rho"] == 0.02].set_index(["data", "seed"])
    for metric in ("theta_error", "y_error"):
        row = centres[centres["metric"] == metric].set_index("rho").loc[0.02]
        expected = centre_and_interval(metric, at[metric])
        np.testing.assert_allclose(row[["value", "low", "high"]].astype(float), list(expected.values()))
    of_theta = centres[centres["metric"] == "theta_error"]
    assert of_theta["n"].tolist() == [3, 2, 0] and of_theta["failed"].tolist() == [0, 1, 3]
    assert np.isnan(of_theta["value"].iloc[2])


@pytest.mark.slow
def test_predictions_come_from_the_run_files(results):
    """The first completed seed is shown, which for erm is 0 here, at the sample that the dataset calls it."""
    table, _ = drawn("predictions", results("some_diverged"))
    erm = table[(table["method"] == "erm") & (table["component"] == "velocity")]
    block = records.read(results("some_diverged").folder / "runs/erm/rho=0.0/seeds=0-2.nc", "runs")
    np.testing.assert_allclose(erm[erm["series"] == "full model"]["value"], block["prediction"][0, 0, 0, 0, :, 1])
    sample = results("some_diverged").dataset["state"][4, :, 1]
    np.testing.assert_allclose(erm[erm["series"] == "data"]["value"], sample)


def test_the_losses_are_those_of_the_cube(results):
    table, _ = drawn("losses", results("normal"))
    rho = results("normal").selected.set_index("method").loc["fsam", "rho"]
    for split, name in (("training", "train_loss"), ("validation", "validation_loss")):
        rows = table[(table["method"] == "fsam") & (table["split"] == split) & (table["statistic"] == "run")]
        expected = results("normal").cube[name].sel(training_method="fsam", rho=rho).isel(data=0)
        np.testing.assert_allclose(rows.filter(like="step="), expected.transpose("seed", "step"), rtol=1e-5)


@pytest.mark.slow
def test_without_truth_there_is_no_theta_error(results):
    table, figure = drawn("errors_rho", results("unknown_truth"))
    assert set(table["metric"]) == {"y_error"} and len(figure.axes) == 3
    assert drawn("theta_training", results("unknown_truth"))[0]["true"].isna().all()
    assert "truth" not in set(drawn("predictions", results("unknown_truth"))[0]["series"])


@pytest.mark.slow
def test_one_seed_has_no_interval_and_says_so(results):
    table, figure = drawn("errors_rho", results("one_seed"))
    assert table[["low", "high"]].isna().all(axis=None) and "bars: none, as an" in captions.caption("errors_rho", table)
    assert "interval" not in " ".join(text.get_text() for text in figure.legends[0].get_texts())


@pytest.mark.slow
@pytest.mark.parametrize("name", ["theta_training", "losses", "errors_rho", "tradeoff"])
def test_of_many_runs_the_first_are_drawn_and_centres_are_of_all(name, results, monkeypatch):
    """The caption says so, and says nothing of the kind where all are drawn."""
    everything, _ = drawn(name, results("twenty_seeds"))
    monkeypatch.setattr(histories, "NUMBERS", 5 * 2 * 2 * len(STEPS))  # five runs, two methods, two rows
    monkeypatch.setattr(errors_rho, "ROWS", 5 * 2 * 3)  # two errors, three values of rho
    table, _ = drawn(name, results("twenty_seeds"))
    runs = table[table["statistic"] == "run"]
    assert set(runs["seed"]) == set(range(5)) < set(everything["seed"].dropna())
    of_all = [which[which["statistic"] != "run"].reset_index(drop=True) for which in (table, everything)]
    assert len(of_all[0])
    pd.testing.assert_frame_equal(*of_all)
    assert "the first 5 runs of each" in captions.caption(name, table)
    assert "first" not in captions.caption(name, everything)


def test_png_files_of_lines_have_few_colours_and_those_of_images_all(tmp_path):
    """Few colours make small files; a photograph keeps every one."""
    lines, photograph = Figure(figsize=(2, 2)), Figure(figsize=(3, 3))
    lines.subplots().plot(np.random.default_rng(0).random((40, 40)), alpha=0.3)
    photograph.subplots().imshow(np.random.default_rng(0).random((60, 60, 3)))
    colours = []
    for figure in (lines, photograph):
        style.save(figure, tmp_path / "a.png", ".png")
        with Image.open(tmp_path / "a.png") as image:
            assert image.size == tuple(200 * length for length in figure.get_size_inches())
            colours.append(len(image.convert("RGB").getcolors(10**6)))
    assert colours[0] <= 256 and colours[1] > 3600


@pytest.mark.slow
def test_large_tables_stay_small_files(tmp_path):
    """Nine runs of six methods, nine parameters and two hundred steps, which do not resemble each other."""
    methods, steps = list(style.LOOKS), [f"step={100 * i}" for i in range(201)]
    index = pd.MultiIndex.from_product(
        [methods, [f"p_{i}" for i in range(9)], range(9)], names=["method", "parameter", "seed"]
    )
    values = np.random.default_rng(0).standard_normal((len(index), len(steps))).cumsum(1)
    table = (
        pd.DataFrame(values, index, steps)
        .reset_index()
        .assign(rho=0.1, n=20, failed=0, diverged=0, rule="validation", unit="m")
    )
    table = table.assign(true=0.0, status="completed", statistic="run", data="simulated")
    figure = registry.FIGURES["theta_training"][1](table, "Many")
    sizes = {}
    for kind in style.FORMATS:
        style.save(figure, tmp_path / f"many{kind}", kind)
        sizes[kind] = (tmp_path / f"many{kind}").stat().st_size
    assert sizes[".png"] < 400_000 and sizes[".svg"] < 1_500_000 and sizes[".pdf"] < 1_500_000


def test_faults_of_a_layout_are_found():
    """What the other tests measure by: a text that is cut, one on another, a small one, a legend on a panel."""
    figure = Figure(figsize=(3, 2), layout="constrained")
    axis = figure.subplots()
    axis.tick_params(labelsize=8)
    axis.plot([0, 1], label="a line")
    assert faults(figure) == []
    axis.set_title("a title that is far too long for a figure of three inches")
    axis.text(0.5, 0.5, "one"), axis.text(0.5, 0.5, "another"), axis.text(0.1, 0.8, "small", fontsize=6)
    figure.legend(loc="center")
    found = " | ".join(faults(figure))
    for fault in ("three inches' is cut off", "'one' on 'another'", "'small' has 6", "the legend on the panel"):
        assert fault in found


@pytest.mark.slow
def test_failed_runs_are_counted_in_every_figure(results):
    """Of sam one of three runs at each rho, of fsam one without a finite error; erm has one that diverged."""
    made = results("failed")
    counts = made.selected.set_index("method")
    assert counts["failed"].to_dict() == {"erm": 1, "l2reg": 0, "sam": 1, "fsam": 1}
    assert counts["n"].to_dict() == {"erm": 2, "l2reg": 3, "sam": 2, "fsam": 2}
    for name in ("predictions", "residuals", "theta_training", "losses"):
        titles = [axis.get_title() for axis in drawn(name, made)[1].axes[:4]]
        assert ["1 failed" in title for title in titles] == [True, False, True, True]
    _, figure = drawn("errors_rho", made)
    crosses = [line.get_xdata()[0] for line in figure.axes[1].get_lines() if line.get_marker() == "x"]
    assert crosses == GRID["sam"]
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert "erm (n = 2, 1 failed), thin: its runs" in legend and "failed runs, their number" in legend
    table, figure = drawn("tradeoff", made)
    assert table.loc[table["front"], "method"].tolist() == ["l2reg"]
    assert "through the filled markers that no other filled one undercuts" in captions.caption("tradeoff", table)


@pytest.mark.slow
def test_a_cross_is_explained_where_there_is_one(results):
    """Failed runs of erm are counted in the legend, where its line stands; it has no place on the upper edge."""
    table, figure = drawn("errors_rho", results("twenty_seeds"))
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert "erm (n = 18, 2 failed)" in legend and "failed runs, their number" not in legend
    assert not [line for axis in figure.axes for line in axis.get_lines() if line.get_marker() == "x"]
    assert "Of the runs, 2 diverged (those of erm: in the legend)." in captions.caption("errors_rho", table)


@pytest.mark.slow
def test_a_run_that_did_not_fail_stands_for_its_method(results):
    """The first seed of sam failed."""
    table, _ = drawn("predictions", results("failed"))
    assert "runs that did not fail, or else that completed (n = 2 to 3;" in captions.caption("predictions", table)
    assert table.dropna(subset="seed").groupby("method")["seed"].first().to_dict() == {
        "erm": 0,
        "fsam": 1,
        "l2reg": 0,
        "sam": 1,
    }


@pytest.mark.slow
def test_a_method_looks_the_same_in_every_figure(results):
    """Colour and marker of the means, wherever the method's name stands above the panel."""
    seen: dict[str, set] = {}
    for name in registry.FIGURES:
        for axis in drawn(name, results("normal"))[1].axes:
            method = axis.get_title().split("\n")[0]
            marked = [
                line
                for line in axis.get_lines()
                if to_hex(line.get_color()) in COLOURS and line.get_marker() in MARKERS
            ]
            seen.setdefault(method, set()).update((to_hex(line.get_color()), line.get_marker()) for line in marked)
    seen = {title: looks for title, looks in seen.items() if title in GRID}  # other panels have no method's name
    assert seen == {method: {(style.look(method)[0].lower(), style.look(method)[1])} for method in GRID}


@pytest.mark.slow
def test_a_figure_is_written_to_the_same_bytes_twice(results, tmp_path):
    """Also the table; and what is written is the table that was drawn."""
    for folder in ("first", "second"):
        outputs = [tmp_path / folder / f"errors_rho{ending}" for ending in (".png", ".svg", ".pdf", ".csv")]
        registry.write("errors_rho", results("some_diverged"), outputs)
    for output in outputs:
        assert output.read_bytes() == (tmp_path / "first" / output.name).read_bytes(), output.name
    table = pd.read_csv(tmp_path / "first" / "errors_rho.csv")
    np.testing.assert_allclose(table["value"], registry.tabulate("errors_rho", results("some_diverged"))["value"])


def test_mistakes_are_named(results, tmp_path):
    with pytest.raises(UserError, match="'error' is not one of predictions"):
        registry.write("error", results("normal"), [tmp_path / "a.png"])
    with pytest.raises(UserError, match=r"a\.jpg"):
        registry.write("losses", results("normal"), [tmp_path / "a.jpg"])


@pytest.mark.slow
def test_the_command_draws(results, tmp_path, capsys):
    """From files on disk, where rho in selection.csv is text; a rule that it lacks is named."""
    made = results("normal")
    records.write(made.dataset, tmp_path / "dataset.nc", "dataset", "test")
    records.write(made.cube, made.folder / "cube.nc", "cube", "test")
    made.selection.to_csv(tmp_path / "selection.csv", index=False)
    inputs = ["--dataset", tmp_path / "dataset.nc", "--cube", made.folder / "cube.nc"]
    inputs += ["--selection", tmp_path / "selection.csv", "--output", tmp_path / "losses.csv"]

    def command(rule: str) -> int:
        return main(["figure", "losses", *map(str, inputs), "--rule", rule])

    assert command("validation") == 0
    assert len(pd.read_csv(tmp_path / "losses.csv")) == len(registry.tabulate("losses", made))
    assert command("best") == 2
    assert "rule: 'best' is not in" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("seeds", [2, 3])
def test_of_two_runs_the_runs_are_drawn_and_of_three_an_interval(seeds, results):
    """Of erm as thin lines, at their errors, in a panel that fits the points; of three θ-errors there is none yet."""
    table, figure = drawn("errors_rho", results("two_seeds" if seeds == 2 else "normal"))
    for first, metric in ((0, "theta_error"), (3, "y_error")):
        axis, errors = figure.axes[first], table[(table["metric"] == metric) & (table["status"] == "completed")]
        thin = [line.get_ydata()[0] for line in axis.get_lines() if line.get_linewidth() == style.THIN]
        banded = seeds == 3 and metric == "y_error"
        assert bool(axis.patches) == banded
        assert sorted(thin) == ([] if banded else sorted(errors.loc[errors["method"] == "erm", "value"]))
        if seeds == 2:
            low, high = axis.get_ylim()
            assert low < errors["value"].min() and high < 1.5 * errors["value"].max()
    texts = [text.get_text() for text in figure.legends[0].get_texts()]
    assert ("centre, 95 % interval" in texts) == (seeds == 3) and ("centre" in texts) == (seeds == 2)


@pytest.mark.slow
def test_an_interval_that_is_cut_off_is_told(results):
    """One that is as long as its centre reaches zero, where no logarithmic axis is."""
    table = registry.tabulate("errors_rho", results("decades"))
    assert not errors_rho_figure.intervals_cut_off(table.assign(low=np.nan, high=np.nan))
    long = table.assign(low=-table["value"], high=3 * table["value"])
    assert errors_rho_figure.intervals_cut_off(long)
    assert "ends at the edge of its panel is longer" in captions.caption("errors_rho", long)
