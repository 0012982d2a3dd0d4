"""Figures: drawn from the right numbers, for every kind of result, with one look for each method, to the same bytes."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from docutils import nodes
from docutils.core import publish_doctree, publish_string
from docutils.parsers.rst.directives import register_directive
from helpers.geometry import faults
from jinja2 import Environment, StrictUndefined
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from PIL import Image

from hybridsam.analysis import errors_rho, experiment, histories
from hybridsam.analysis.cube import combine, diverged_in_words, runs_table
from hybridsam.analysis.results import Results
from hybridsam.analysis.selection import select
from hybridsam.analysis.significance import interval
from hybridsam.cli.main import main
from hybridsam.core import records
from hybridsam.core.errors import UserError
from hybridsam.core.methods import in_order
from hybridsam.figures import registry, style
from hybridsam.report import captions, fragments, task_page
from hybridsam.report.directive import Caption

GRID = {"erm": [0.0], "l2reg": [1e-4], "sam": [0.02, 0.05, 0.2], "fsam": [0.05, 0.1]}
STEPS, TIMES = np.arange(0, 101, 10), np.linspace(0, 4, 9)
COMPONENTS, UNITS = ["position", "velocity"], ["m", "m s-1"]
SPLITS = ["train", "validation", "test"]
TRUTH = {"k": 2.0, "mass": 0.5}
RUN = records.RUN
COLOURS = {colour.lower() for colour, _ in style.LOOKS.values()}
MARKERS = {marker for _, marker in style.LOOKS.values()}
ROOT = Path(__file__).parents[1]


def make_dataset(truth: bool = True, synthetic: str = "yes") -> xr.Dataset:
    """Six samples of an oscillation, two in each split."""
    angle = TIMES + np.arange(6)[:, None]
    clean = np.stack([np.sin(angle), np.cos(angle)], -1)
    noisy = clean + 0.05 * np.random.default_rng(0).standard_normal(clean.shape)
    dims = ("sample", "time", "component")
    return xr.Dataset(
        {"state": (dims, noisy)} | ({"state_true": (dims, clean)} if truth else {}),
        coords={
            "time": TIMES,
            "component": COMPONENTS,
            "component_units": ("component", UNITS),
            "split": ("sample", np.repeat(SPLITS, 2)),
        },
        attrs={
            "synthetic": synthetic,
            "target": "state",
            "truth": json.dumps(TRUTH if truth else {}),
            "noise": 0.05,
        },
    )


def make_block(dataset: xr.Dataset, method: str, rho: float, seeds: list[int], diverged: list[int]) -> xr.Dataset:
    """A block of runs as the fit returns it, with numbers from thin air; diverged seeds run away halfway."""
    rng = np.random.default_rng([int(1e6 * rho), len(method), *seeds])
    shape = (1, 1, len(seeds))
    theta = 1 + (1 - np.exp(-STEPS / 30)) * rng.normal(0.8, 0.1, (*shape, 2, 1))
    loss = np.exp(-STEPS / 20) + rng.uniform(1e-3, 2e-3, (*shape, 1))
    gone = np.isin(seeds, diverged)
    theta[:, :, gone, :, 6:], loss[:, :, gone, 5:] = np.nan, 1e12
    numbers = np.flatnonzero(dataset["split"] == "test")[:3]
    test = dataset[dataset.attrs["target"]].isel(sample=numbers)
    test = test.isel(time=slice(1, None)) if {"time", "component"} <= set(test.dims) else test  # as of an ODE
    prediction = test.values * (1 + 0.1 * rng.standard_normal((*shape, *test.shape)))
    y_error = np.where(gone[:, None], np.inf, 10 ** rng.uniform(-2.5, -0.5, (*shape, 3)))
    long, units = ("example", *test.dims[1:]), {"units": "m2, (m s-1)2"}
    labels = {name: labels for name, labels in test.coords.items() if "sample" not in labels.dims}
    return xr.Dataset(
        {
            "theta": ((*RUN, "parameter"), theta[..., -1]),
            "y_error": ((*RUN, "split"), y_error, units),
            "status": (RUN, np.where(gone, "diverged", "completed").astype(object)[None, None]),
            "theta_history": ((*RUN, "step", "parameter"), theta.swapaxes(-1, -2)),
            "reason": (RUN, np.where(gone, "sqrt(-0.1) at t = 3 s", "").astype(object)[None, None]),
            "theta_moved": ((*RUN, "parameter"), theta[..., -1] - theta[..., 0]),
            "theta_moved_late": ((*RUN, "parameter"), 0.02 * theta[..., -1]),
            "theta_drift": ((*RUN, "parameter"), 0.2 * theta[..., -1]),
            "theta_step": ((*RUN, "parameter"), np.ones((*shape, 2))),
            "theta_influence": ((*RUN, "parameter"), np.broadcast_to([0.5, 1e-7], (*shape, 2))),
            "train_loss": ((*RUN, "step"), loss, units),
            "validation_loss": ((*RUN, "step"), 1.3 * loss, units),
            "learning_rate": ("step", 0.01 / (1 + STEPS)),
            "prediction": ((*RUN, *long), prediction),
            "prediction_science": ((*RUN, *long), prediction + 0.3),
            "sample": ("example", numbers),
        },
        coords={
            "training_method": [method],
            "rho": [rho],
            "seed": seeds,
            "parameter": list(TRUTH),
            "parameter_units": ("parameter", ["N m-1", "kg"]),
            "parameter_size": ("parameter", [1.0, 100.0]),
            "split": SPLITS,
            "step": STEPS,
            **labels,
        },
        attrs={
            "synthetic": dataset.attrs["synthetic"],
            "source": "a test",
            "configuration": json.dumps({"module": "hybridsam.tasks.pendulum"}),
            "configuration_hash": "h",
            "device": "cpu",
            "seconds": 1.0,
        },
    )


def make_results(
    folder: Path, seeds: int = 3, diverged: dict | None = None, grid: dict = GRID, dataset: xr.Dataset | None = None
) -> Results:
    """The files of a task. diverged: (method, rho) -> seeds; grid: method -> values of rho."""
    dataset = make_dataset() if dataset is None else dataset
    blocks = []
    for method, rhos in grid.items():
        for rho in rhos:
            block = make_block(dataset, method, rho, list(range(seeds)), (diverged or {}).get((method, rho), []))
            path = f"runs/{method}/rho={rho}/seeds=0-{seeds - 1}.nc"
            records.write(block, folder / path, "runs", "test")
            block = records.read(folder / path, "runs")
            blocks.append(block.assign(file=(RUN, np.full(block["status"].shape, path, object))))
    cube = combine(blocks, blocks[0], dataset)
    cube.attrs["task_title"] = "Oscillator"
    return Results(dataset, cube, select(cube), "validation", folder)


def nine_parameters(cube: xr.Dataset) -> xr.Dataset:
    names = [f"p_{i}" for i in range(9)]
    return cube.isel(parameter=[0] * 9).assign_coords(parameter=names)


def endless(cube: xr.Dataset) -> xr.Dataset:
    """Runs of erm that completed with errors that are not finite."""
    infinite = cube["y_error"].where(cube["training_method"] != "erm", np.inf)
    return cube.assign(y_error=infinite.assign_attrs(cube["y_error"].attrs))


def diverging(*seeds: int) -> dict:
    """These seeds of every method and rho."""
    return {(method, rho): list(seeds) for method in GRID for rho in GRID[method]}


def long_names(cube: xr.Dataset) -> xr.Dataset:
    """Twelve parameters over 12 decades, whose names and units are long, of a task with a long title."""
    names = [f"heat_transfer_coefficient_of_wall_{i}" for i in range(12)]
    units = ["kg m-0.5 s-2 K-1", "1e4 pelts", "(rad s-1)2", "mol m-3 s-1 Pa-0.5"] * 3
    scale = xr.DataArray(10.0 ** np.arange(-6, 6), dims="parameter")
    many = cube.isel(parameter=[0] * 12).assign_coords(parameter=names, parameter_units=("parameter", units))
    many = many.assign({name: many[name] * scale for name in ("theta", "theta_history", "theta_true") if name in many})
    if "theta_error" in many:
        many["theta_error"].attrs["units"] = ", ".join(dict.fromkeys(units))
    many["y_error"].attrs["units"] = ", ".join(f"({unit})2" for unit in dict.fromkeys(units))
    return many.assign_attrs(task_title="Heat through the eleven layers of the wall of a furnace, " * 3)


def one_parameter(cube: xr.Dataset) -> xr.Dataset:
    return cube.isel(parameter=[0])


def decades(cube: xr.Dataset) -> xr.Dataset:
    """Errors from 1e-9 to 1e3, none of which exploded; losses too."""
    factor = xr.DataArray(np.logspace(-7, 5, cube.sizes["rho"]), dims="rho")
    losses = {name: cube[name] * factor for name in ("train_loss", "validation_loss", "y_error", "theta_error")}
    return cube.assign({name: values.assign_attrs(cube[name].attrs) for name, values in losses.items()})


def exploding(cube: xr.Dataset) -> xr.Dataset:
    """The first seed of sam has a huge test error, of fsam none that is finite, of erm a huge validation error."""
    y_error = cube["y_error"].copy(deep=True)
    y_error.loc[{"training_method": "sam", "seed": 0, "split": "test"}] = 1e4
    y_error.loc[{"training_method": "fsam", "seed": 0, "split": "test"}] = np.nan
    y_error.loc[{"training_method": "erm", "seed": 0, "split": "validation"}] = 1e4
    return cube.assign(y_error=y_error.where(cube["status"] != "missing"))


CASES = {
    "normal": {},
    "one_seed": {"seeds": 1},
    "some_diverged": {"diverged": {("sam", 0.05): [1], ("sam", 0.2): [0, 1, 2], ("erm", 0.0): [2]}},
    "all_diverged": {"diverged": {("sam", rho): [0, 1, 2] for rho in GRID["sam"]} | {("erm", 0.0): [0, 1, 2]}},
    "everything_diverged": {"diverged": diverging(0, 1, 2)},
    "unknown_truth": {"dataset": make_dataset(truth=False)},
    "one_rho_without_erm": {"grid": {"sam": [0.05]}},
    "only_erm": {"grid": {"erm": [0.0]}},
    "twin": {"dataset": make_dataset(synthetic="twin")},
    "twenty_seeds": {"seeds": 20, "grid": {"erm": [0.0], "sam": [0.05, 0.1]}, "diverged": {("erm", 0.0): [0, 19]}},
    "infinite_errors": {"grid": {"erm": [0.0]}, "change": endless},
    "single_run": {"seeds": 1, "grid": {"sam": [0.05]}},
    "exploded": {"change": exploding, "diverged": {("sam", 0.05): [1], ("erm", 0.0): [2]}},
    "decades": {"change": decades},
    "one_parameter": {"change": one_parameter},
    "one_parameter_unknown": {"change": one_parameter, "dataset": make_dataset(truth=False)},
    "long_names": {"change": long_names, "diverged": diverging(1)},
    "long_names_diverged": {"change": long_names, "diverged": diverging(0, 1, 2)},
    "long_names_unknown": {"change": long_names, "dataset": make_dataset(truth=False)},
    "all_methods_diverging": {
        "grid": GRID | {"freg": [0.1], "asam": [0.2]},
        "diverged": diverging(1),
    },
    "nine_parameters": {"grid": {"erm": [0.0], "sam": [0.05]}, "change": nine_parameters},
}


def results_of(case: str, folder: Path) -> Results:
    """The files of a task of this case."""
    how = dict(CASES[case])
    change = how.pop("change", lambda cube: cube)
    made = make_results(folder, **how)
    cube = change(made.cube)
    return replace(made, cube=cube, selection=select(cube))


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """name of a case -> its results, made once."""
    made: dict[str, Results] = {}

    def make(case: str) -> Results:
        if case not in made:
            made[case] = results_of(case, tmp_path_factory.mktemp(case))
        return made[case]

    return make


def drawn(name: str, results: Results):
    table = registry.tabulate(name, results)
    return table, registry.FIGURES[name][1](table, results.title)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("name", registry.FIGURES)
def test_every_figure_draws_for_every_kind_of_result(name, case, results):
    """No case raises, no text is small, cut off or on something else, each method has a panel or a line."""
    table, figure = drawn(name, results(case))
    assert faults(figure) == []
    assert set(table["method"]) == set(results(case).cube["training_method"].values)
    assert figure.get_suptitle().startswith("SYNTHETIC TWIN") == (case == "twin")
    caption = captions.caption(name, table)
    assert "n = " in caption and "  " not in caption
    gone, exploded = table.dropna(subset="n").drop_duplicates(["method", "rho"])[["diverged", "exploded"]].sum()
    assert (f"{gone} diverged" if gone else "none diverged") in caption or "No run diverged" in caption
    assert (f"{exploded} exploded" in caption) == ("Exploded: completed, but" in caption) == (exploded > 0)
    assert not {"nan", "none)", "<na>"} & set(caption.lower().split())


@pytest.mark.parametrize("case", ["normal", "some_diverged"])
def test_theta_training_shows_the_recorded_theta(case, results):
    """Lines are the cube's histories, the thick one their mean over completed runs, dashed the true value."""
    table, figure = drawn("theta_training", results(case))
    cube, selected = results(case).cube, results(case).selected.set_index("method")
    for axis, method in zip(figure.axes, in_order(GRID), strict=False):  # the first row: k
        runs = cube.sel(training_method=method, rho=selected.loc[method, "rho"], parameter="k")
        completed = runs.sel(seed=runs["status"].values == "completed")
        lines = [line.get_ydata() for line in axis.get_lines() if len(line.get_ydata()) == len(STEPS)]
        np.testing.assert_allclose(lines[:-1], runs["theta_history"].transpose("seed", "step"), rtol=1e-5)
        np.testing.assert_allclose(lines[-1], completed["theta_history"].mean("seed"), rtol=1e-5)
        assert any(np.allclose(line.get_ydata(), TRUTH["k"]) for line in axis.get_lines())
    assert figure.legends[0].get_texts()[0].get_text() == "true value"
    values = table[(table["statistic"] == "run") & (table["method"] == "sam") & (table["parameter"] == "mass")]
    runs = cube["theta_history"].sel(training_method="sam", rho=selected.loc["sam", "rho"], parameter="mass")
    assert list(values.filter(like="step=")) == [f"step={step}" for step in STEPS]
    np.testing.assert_allclose(values.filter(like="step="), runs.transpose("seed", "step"), rtol=1e-5)


def test_errors_show_every_run_and_count_the_diverged(results):
    """Points are the completed runs' errors, means and bars those of evaluate, crosses the diverged runs."""
    table, figure = drawn("errors_rho", results("some_diverged"))
    runs = runs_table(results("some_diverged").cube)
    sam = runs[(runs["method"] == "sam") & (runs["status"] == "completed")]
    axis = figure.axes[1]  # first row: l2reg, sam, fsam
    points = next(line for line in axis.get_lines() if line.get_marker() == "." and len(line.get_xdata()) == len(sam))
    np.testing.assert_allclose(np.c_[points.get_data()], sam[["rho", "theta_error"]])
    assert [text.get_text() for text in axis.texts] == ["1", "3"]

    means = table[(table["statistic"] == "mean") & (table["method"] == "sam") & (table["metric"] == "theta_error")]
    expected, row = sam[sam["rho"] == 0.02]["theta_error"], means.set_index("rho").loc[0.02]
    assert row[["value", "interval"]].tolist() == pytest.approx([expected.mean(), interval(expected)])
    assert means["n"].tolist() == [3, 2, 0] and means["diverged"].tolist() == [0, 1, 3]
    assert np.isnan(means["value"].iloc[2])


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
        expected = results("normal").cube[name].sel(training_method="fsam", rho=rho)
        np.testing.assert_allclose(rows.filter(like="step="), expected.transpose("seed", "step"), rtol=1e-5)


def test_without_truth_there_is_no_theta_error(results):
    table, figure = drawn("errors_rho", results("unknown_truth"))
    assert set(table["metric"]) == {"y_error"} and len(figure.axes) == 3
    assert drawn("theta_training", results("unknown_truth"))[0]["true"].isna().all()
    assert "truth" not in set(drawn("predictions", results("unknown_truth"))[0]["series"])


def test_one_seed_has_no_interval_and_says_so(results):
    table, figure = drawn("errors_rho", results("one_seed"))
    assert table["interval"].isna().all() and "none" in captions.caption("errors_rho", table)
    assert "no interval" in " ".join(text.get_text() for text in figure.legends[0].get_texts())


@pytest.mark.parametrize("name", ["theta_training", "losses", "errors_rho", "tradeoff"])
def test_of_many_runs_the_first_are_drawn_and_means_are_of_all(name, results, monkeypatch):
    """The caption says so, and says nothing of the kind where all are drawn."""
    everything, _ = drawn(name, results("twenty_seeds"))
    monkeypatch.setattr(histories, "NUMBERS", 5 * 2 * 2 * len(STEPS))  # five runs, two methods, two rows
    monkeypatch.setattr(errors_rho, "ROWS", 5 * 2 * 3)  # two errors, three values of rho
    table, _ = drawn(name, results("twenty_seeds"))
    runs = table[table["statistic"] == "run"]
    assert set(runs["seed"]) == set(range(5)) < set(everything["seed"].dropna())
    means = [which[which["statistic"] == "mean"].reset_index(drop=True) for which in (table, everything)]
    pd.testing.assert_frame_equal(*means)
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
        .assign(rho=0.1, n=20, diverged=0, exploded=0, rule="validation", unit="m")
    )
    table = table.assign(true=0.0, status="completed", statistic="run", data="simulated")
    figure = registry.FIGURES["theta_training"][1](table, "Many")
    sizes = {}
    for kind in style.FORMATS:
        style.save(figure, tmp_path / f"many{kind}", kind)
        sizes[kind] = (tmp_path / f"many{kind}").stat().st_size
    assert sizes[".png"] < 400_000 and sizes[".svg"] < 1_500_000 and sizes[".pdf"] < 1_500_000


@pytest.mark.parametrize(
    ("unit", "written"),
    [
        ("m s-1", "m s⁻¹"),
        ("(rad s-1)2", "(rad s⁻¹)²"),
        ("rad2, (rad s-1)2", "rad², (rad s⁻¹)²"),
        ("kg m-0.5", "kg m^-0.5"),
        ("m0.5", "m^0.5"),
        ("(m s-1)1/2", "(m s⁻¹)^(1/2)"),
        ("m^2 K**-1", "m² K⁻¹"),
        ("1e4 pelts", "1e4 pelts"),
        ("1e-3 mol m-3", "1e-3 mol m⁻³"),
        ("10^4 pelts", "10^4 pelts"),
        ("µm2 °C-1", "µm² °C⁻¹"),
        ("H2O kg-1", "H2O kg⁻¹"),
        ("standard units", "standard units"),
    ],
)
def test_a_unit_has_raised_whole_powers_and_no_other_number_is_raised(unit, written):
    assert style.with_unit("x", unit) == f"x ({written})"
    assert style.with_unit("x\n", "1") == "x"


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


def test_exploded_runs_are_counted_in_every_figure(results):
    """Of sam one of three runs at each rho, of fsam one without a finite error, of erm one by its validation error."""
    made = results("exploded")
    selected = made.selected.set_index("method")
    assert selected["exploded"].to_dict() == {"erm": 1, "l2reg": 0, "sam": 1, "fsam": 1}
    for name in ("predictions", "residuals", "theta_training", "losses"):
        titles = [axis.get_title() for axis in drawn(name, made)[1].axes[:4]]
        assert ["1 exploded" in title for title in titles] == [True, False, True, True]
    table, figure = drawn("errors_rho", made)
    stars = [line for line in figure.axes[1].get_lines() if line.get_marker() == "*"]
    assert [line.get_xdata()[0] for line in stars] == GRID["sam"]
    assert "erm (n = 2, 1 diverged, 1 exploded), thin: its runs" in [
        text.get_text() for text in figure.legends[0].get_texts()
    ]
    table, figure = drawn("tradeoff", made)
    assert table.loc[table["front"], "method"].tolist() == ["l2reg"]
    assert "but for means with a run that exploded" in captions.caption("tradeoff", table)


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
    seen.pop("")  # panels of lower rows have no title
    assert seen == {method: {(style.look(method)[0].lower(), style.look(method)[1])} for method in GRID}


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


def test_the_report_finds_the_results_from_the_folders_below(tmp_path, monkeypatch):
    (tmp_path / "results" / "small").mkdir(parents=True)
    (tmp_path / "notebooks").mkdir()
    monkeypatch.chdir(tmp_path / "notebooks")
    assert fragments.experiment_folder("results", "small") == tmp_path / "results" / "small"
    with pytest.raises(UserError, match="no folder results/large"):
        fragments.experiment_folder("results", "large")


def test_the_report_counts_and_pairs(results):
    """Diverged and missing runs are counted; a paired difference is over the seeds that both methods completed."""
    made, cube = results("some_diverged"), results("some_diverged").cube.copy(deep=True)
    cube["status"].loc[{"training_method": "l2reg", "rho": 1e-4, "seed": 2}] = "missing"
    assert experiment.ends_of_runs({"t": cube}).loc["t"].to_dict() == {
        "completed": 15, "diverged": 5, "missing": 1, "exploded": 0
    }  # fmt: skip
    assert diverged_in_words(cube).startswith("5 of 20 runs diverged; ")
    assert diverged_in_words(cube).endswith(": sqrt(-0.1) at t = 3 s")
    assert diverged_in_words(results("normal").cube) == ""
    paired = task_page.paired(made.selection)
    assert paired.loc[("validation", "fsam"), "n_paired"] == 2
    estimates = task_page.estimates(made.cube, made.selection, "validation")
    assert estimates.index.tolist() == list(GRID) and estimates["n"].tolist() == [2, 3, 3, 3]
    assert "q'' = -omega^2 sin q" in task_page.equations(made.cube).replace("&#x27;", "'")


@pytest.mark.parametrize("notebook", ["overview", "task"])
def test_notebooks_are_committed_clean(notebook):
    """Without outputs, with one cell that papermill fills in."""
    content = json.loads((ROOT / "notebooks" / f"{notebook}.ipynb").read_text())
    code = [cell for cell in content["cells"] if cell["cell_type"] == "code"]
    assert not any(cell["outputs"] or cell["execution_count"] for cell in code)
    assert [cell["metadata"].get("tags") for cell in code].count(["parameters"]) == 1


@pytest.mark.parametrize("table", ["selection", "identifiability"])
def test_tables_have_captions_for_the_snakemake_report(table):
    template = Environment(undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    text = (ROOT / f"workflow/report/{table}.rst").read_text()
    for data in ("simulated", "twin"):
        job = SimpleNamespace(wildcards=SimpleNamespace(task="duffing"), params=SimpleNamespace(data=data))
        rendered = template.from_string(text).render(snakemake=job)
        assert rendered.strip().startswith("**SYNTHETIC TWIN**") == (data == "twin") and "Task **duffing**" in rendered
        publish_string(rendered, settings_overrides={"halt_level": 2})


@pytest.mark.parametrize("name", registry.FIGURES)
@pytest.mark.parametrize("case", ["some_diverged", "twin"])
def test_figures_have_the_same_caption_in_the_snakemake_report_as_on_the_pages(name, case, results, tmp_path):
    """To the letter, whatever has a meaning in reStructuredText; and it names the task."""
    table = registry.tabulate(name, results(case)).assign(rule="*my_rule_ `|a|", name="*")
    (tmp_path / "my results").mkdir()
    path = tmp_path / "my results" / f"{name}.csv"
    table.to_csv(path, index=False)
    register_directive("caption", Caption)
    template = Environment(undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True).from_string(
        (ROOT / "workflow/report/figure.rst").read_text()
    )
    job = SimpleNamespace(wildcards=SimpleNamespace(task="duffing"), output=SimpleNamespace(csv=str(path)))
    document = publish_doctree(template.render(snakemake=job), settings_overrides={"halt_level": 2})
    first, second = (paragraph.astext() for paragraph in document.findall(nodes.paragraph))
    assert first == captions.caption(name, pd.read_csv(path))
    assert first.startswith("SYNTHETIC TWIN: ") == (case == "twin")
    assert second.startswith("Task duffing. ")
