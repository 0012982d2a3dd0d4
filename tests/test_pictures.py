"""The figure of predictions for every kind of target: the right numbers, the right way up, for every kind of result."""

import json
import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from helpers import small
from helpers.geometry import faults
from helpers.oscillator import GRID, SPLITS, drawn, make_dataset, make_results
from matplotlib.figure import Figure
from matplotlib.text import Text

from hybridsam.analysis.cube import runs_table
from hybridsam.analysis.results import Results
from hybridsam.analysis.targets import kind_of, target_of
from hybridsam.core import records
from hybridsam.core.errors import UserError
from hybridsam.core.methods import in_order
from hybridsam.core.provenance import fingerprint
from hybridsam.figures import registry
from hybridsam.figures.images import picture
from hybridsam.report import captions

SAMPLES = 9  # three in each split
TESTED = [6, 7, 8]
LABEL = re.compile(r"R (\d+), G (\d+), B (\d+); polarisers (.*)° and (.*)°")  # of an image of the light tunnel
SPACE = np.linspace(-1, 1, 8)


def dataset_of(dims: tuple, values: np.ndarray, name: str = "thing", synthetic: str = "yes", **about) -> xr.Dataset:
    """A dataset whose target has these dimensions besides sample. about: coords, units, data_vars."""
    attributes = {"long_name": f"what is seen of the {name}", "units": about.get("units", "1")}
    return xr.Dataset(
        {name: (("sample", *dims), values, attributes)} | about.get("data_vars", {}),
        coords={"split": ("sample", np.repeat(SPLITS, 3))} | about.get("coords", {}),
        attrs={"synthetic": synthetic, "target": name, "truth": json.dumps({"k": 2.0, "mass": 0.5})},
    )


def window() -> xr.Dataset:
    time = np.arange(200)
    values = np.sign(np.sin(time / 30 + np.arange(SAMPLES)[:, None])) * 20
    values = values + np.random.default_rng(0).standard_normal(values.shape)
    about = {"long_name": "measurement in the window", "units": "1"}
    coords = {"time": ("time", time, about)}
    return dataset_of(("time",), values, "pressure", "twin", units="Pa", coords=coords)


def sensors() -> xr.Dataset:
    values = 10 ** np.random.default_rng(0).uniform(2, 4.3, (SAMPLES, 6))
    names = [f"{kind}_{place}" for place in (1, 2, 3) for kind in ("ir", "vis")]
    coords = {"component": names, "component_units": ("component", ["counts"] * 6)}
    return dataset_of(("component",), values, "reading", "no", units="counts", coords=coords)


def reacting() -> xr.Dataset:
    time = np.arange(4) * 0.5
    wave = np.sin(np.arange(SAMPLES)[:, None, None, None] + 2 * SPACE[:, None] + SPACE + time[:, None, None])
    clean = np.stack([wave, 3 + 2 * wave**2], -1)
    axis = {name: (name, SPACE, {"units": "m"}) for name in ("y", "x")}
    coords = axis | {
        "time": ("time", time, {"long_name": "time", "units": "s"}),
        "component": ["u", "v"],
        "component_units": ("component", ["1", "mol m-3"]),
    }
    dims = ("time", "y", "x", "component")
    noisy = clean + 0.05 * np.random.default_rng(0).standard_normal(clean.shape)
    true = {"state_true": (("sample", *dims), clean)}
    return dataset_of(dims, noisy, "state", coords=coords, data_vars=true)


def film() -> xr.Dataset:
    time = np.arange(20) * 0.1
    angle = 0.6 * np.cos(3 * time + np.arange(SAMPLES)[:, None])[..., None, None]
    blob = np.exp(-((SPACE - np.sin(angle)) ** 2 + (SPACE[:, None] + np.cos(angle)) ** 2) / 0.05)
    axis = {name: (name, SPACE) for name in ("y", "x")}
    coords = axis | {"time": ("time", time, {"long_name": "time", "units": "s"}), "channel": ["brightness"]}
    return dataset_of(("time", "y", "x", "channel"), blob[..., None], "image", coords=coords)


def camera() -> xr.Dataset:
    """Images whose first row is red and bright, the others dark."""
    values = 0.1 + 0.2 * np.random.default_rng(0).random((SAMPLES, 16, 16, 3))
    values[:, 0, :, 0] = 1
    labels = [f"lamp {number % 2}; mirror at {10 * number}°" for number in range(SAMPLES)]
    coords = {
        "channel": ["red", "green", "blue"],
        "sample_label": ("sample", labels, {"long_name": "the lamp and the mirror's angle"}),
    }
    return dataset_of(("y", "x", "channel"), values, "image", "twin", coords=coords)


DATASETS = {"time series": window, "readings": sensors, "fields": reacting, "frames": film, "images": camera}
RESULTS = {
    "normal": {},
    "one_diverged": {"diverged": {("sam", rho): [0, 1] for rho in GRID["sam"]} | {("erm", 0.0): [0]}},
    "everything_diverged": {"diverged": {(method, rho): [0, 1] for method in GRID for rho in GRID[method]}},
    "only_erm": {"grid": {"erm": [0.0]}},
    "all_methods": {"grid": GRID | {"freg": [0.1], "asam": [0.2]}},
}


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """Kind of target, kind of result -> the files of a task, made once."""
    made: dict[tuple, Results] = {}

    def make(kind: str, case: str = "normal") -> Results:
        if (kind, case) not in made:
            folder = tmp_path_factory.mktemp("results")
            made[kind, case] = make_results(folder, seeds=2, dataset=DATASETS[kind](), **RESULTS[case])
        return made[kind, case]

    return make


def pixels_of(axis) -> np.ndarray:
    return axis.get_images()[0].get_array()


def predicted(results: Results, method: str, name: str = "prediction") -> xr.DataArray:
    """Predictions of a method's first run at its selected rho that did not fail, from the run file."""
    row = results.selected.set_index("method").loc[method]
    runs = results.cube.sel(training_method=method, rho=row["rho"]).isel(data=0)
    table = runs_table(results.cube).query("method == @method and rho == @row.rho and status == 'completed'")
    seed = table.sort_values("failed", kind="stable")["seed"].iloc[0]
    block = records.read(results.folder / runs["file"].sel(seed=seed).item(), "runs")
    return block[name].sel(training_method=method, rho=row["rho"], seed=seed)


@pytest.mark.slow
@pytest.mark.parametrize("case", ["one_diverged", "everything_diverged", "only_erm"])
@pytest.mark.parametrize("kind", DATASETS)
def test_every_kind_draws_for_every_kind_of_result(kind, case, results):
    """No text is small, cut off or on something else; the twins are marked, what is missing says so."""
    table, figure = drawn("predictions", results(kind, case))
    assert faults(figure) == []
    words = [text.get_text().replace("none\ncompleted", "none completed") for text in figure.findobj(Text)]
    completed = {"one_diverged": 1 if kind != "images" else 2, "everything_diverged": 0, "only_erm": 1}[case]
    assert any("seed" in word for word in words) == (completed > 0)
    assert any("none completed" in word for word in words) == (
        case != "only_erm" and (case, kind) != ("one_diverged", "images")
    )
    twin = kind in ("time series", "images")
    assert figure.get_suptitle().startswith("SYNTHETIC TWIN: ") == twin
    caption = captions.caption("predictions", table)
    assert caption.startswith("SYNTHETIC TWIN: ") == twin
    assert ("by the first " in caption and "so no interval" in caption) == (completed > 0)
    assert ("no run completed (n = 0; " in caption) == (completed == 0)
    missing = "none completed" in " ".join(words) and completed > 0
    assert (" sam: none completed." in caption) == missing
    assert table["kind"].unique().tolist() == [kind]


@pytest.mark.slow
@pytest.mark.parametrize("kind", DATASETS)
def test_the_csv_holds_the_numbers_that_are_drawn(kind, results, tmp_path):
    """Read back, the table draws the same; and its caption is the same."""
    registry.write("predictions", results(kind), [tmp_path / "a.csv"])
    table = registry.tabulate("predictions", results(kind))
    again = pd.read_csv(tmp_path / "a.csv")
    assert captions.caption("predictions", again) == captions.caption("predictions", table)
    numbers = table.select_dtypes("float").columns
    np.testing.assert_array_equal(again[numbers], table[numbers])
    assert (tmp_path / "a.csv").stat().st_size < 1_000_000


def about_zero() -> xr.Dataset:
    """Readings of which some are negative, one in another unit."""
    dataset = sensors()
    dataset["reading"] = dataset["reading"] - 1000
    return dataset.assign_coords(component_units=("component", [*["counts"] * 5, "V"]))


@pytest.mark.parametrize(
    ("sample", "value", "kind"), [(0, 0.0, "readings"), (0, -1.0, "differences"), (6, 0.0, "differences")]
)
def test_ratios_are_of_what_is_never_negative_and_not_zero_where_shown(sample, value, kind, results):
    """A dark reading elsewhere leaves them ratios; a zero among those that are shown, or a negative one, does not."""
    made = results("readings", "only_erm")
    dataset = made.dataset.copy(deep=True)
    dataset["reading"][sample, 2] = value
    assert set(registry.tabulate("predictions", replace(made, dataset=dataset))["kind"]) == {kind}


@pytest.mark.slow
def test_readings_about_zero_are_drawn_as_differences(tmp_path):
    """A row for each unit; a difference beyond three times those of the full models is a triangle on the edge."""
    made = make_results(tmp_path, seeds=1, grid={"erm": [0.0], "sam": [0.05]}, dataset=about_zero())
    table, figure = drawn("predictions", made)
    figure.draw_without_rendering()
    assert set(table["kind"]) == {"differences"} and "ratio" not in table
    measured = made.dataset["reading"][TESTED].values
    for series, name in (("full model", "prediction"), ("science part", "prediction_science")):
        rows = table[(table["method"] == "sam") & (table["series"] == series)]
        expected = predicted(made, "sam", name).values - measured
        np.testing.assert_allclose(rows["difference"].to_numpy().reshape(3, 6), expected)
    assert [axis.get_xlabel() for axis in figure.axes[::2]] == [
        f"predicted −\nmeasured\n({u})" for u in ("counts", "V")
    ]
    caption = captions.caption("predictions", table)
    assert "prediction minus measured value" in caption and "ratio" not in caption
    assert not any(text.get_text() == "beyond the axis" for text in figure.legends[0].get_texts())

    table.loc[(table["series"] == "science part") & (table["unit"] == "V"), "difference"] = 1e6
    figure = registry.FIGURES["predictions"][1](table, "title")
    full = table[(table["series"] == "full model") & (table["unit"] == "V")]["difference"].abs().max()
    edges = [line.get_xdata() for line in figure.axes[2].get_lines() if line.get_marker() == ">"]
    np.testing.assert_allclose(edges, [[3 * full] * 3])
    assert any(text.get_text() == "beyond the axis" for text in figure.legends[0].get_texts())


@pytest.mark.slow
def test_a_window_is_drawn_against_its_own_coordinate(results):
    """One row, named for the variable; dense data are a line, and the axis says what it counts."""
    table, figure = drawn("predictions", results("time series"))
    assert len(figure.axes) == len(GRID)
    axis = figure.axes[0]
    assert axis.get_ylabel() == "what is seen of the\npressure\n(Pa)"
    assert axis.get_xlabel() == "measurement in\nthe window"
    science, full, data = (line.get_ydata() for line in axis.get_lines() if len(line.get_ydata()))
    np.testing.assert_allclose(data, results("time series").dataset["pressure"][6])
    np.testing.assert_allclose(full, predicted(results("time series"), "erm")[0])
    np.testing.assert_allclose(science, full + 0.3)
    assert "thin line" in captions.caption("predictions", table)


@pytest.mark.slow
def test_readings_are_drawn_as_ratios(results):
    """Of three samples; a ratio of 20 or -1 is a triangle on the edge of the axis."""
    made = results("readings")
    table = registry.tabulate("predictions", made)
    rows = table[(table["method"] == "erm") & (table["series"] == "full model")]
    measured = made.dataset["reading"][TESTED].values
    np.testing.assert_allclose(rows["ratio"].to_numpy().reshape(3, 6), predicted(made, "erm").values / measured)
    np.testing.assert_allclose(rows["measured"].to_numpy().reshape(3, 6), measured)

    table.loc[rows.index[:2], "ratio"] = [20.0, -1.0]
    axis = registry.FIGURES["predictions"][1](table, "title").axes[0]
    beyond = {line.get_marker(): line for line in axis.get_lines() if line.get_marker() in "<>"}
    assert beyond[">"].get_xdata() == pytest.approx([10]) and beyond["<"].get_ydata()[0] == 3.6
    assert axis.get_ylabel().endswith("measured (counts)")


@pytest.mark.slow
def test_fields_show_the_last_time_and_differences(results):
    """Every panel of a component has its scale; the row on top is that of the largest y."""
    made = results("fields")
    table, figure = drawn("predictions", made)
    grid = np.array(figure.axes[: 6 * (1 + len(GRID))]).reshape(6, -1)
    truth = made.dataset["state_true"][6, -1, ::-1, :, 1].values
    full = predicted(made, "sam")[0, -1, ::-1, :, 1].values
    sam = 1 + in_order(GRID).index("sam")
    np.testing.assert_allclose(pixels_of(grid[3, 0]), truth, rtol=1e-3)
    np.testing.assert_allclose(pixels_of(grid[3, sam]), full, rtol=1e-3)
    np.testing.assert_allclose(pixels_of(grid[4, sam]), full + 0.3, rtol=1e-3)
    np.testing.assert_allclose(pixels_of(grid[5, sam]), full - truth, rtol=1e-3, atol=1e-6)
    limits = {row: {axis.get_images()[0].get_clim() for axis in grid[row]} for row in range(6)}
    assert all(len(found) == 1 for found in limits.values()) and limits[3] == limits[4] != limits[0]
    ((low, high),) = limits[5]
    assert low == -high and high == pytest.approx(
        np.abs(table.filter(like="x=")[table["series"].str.contains("−") & (table["component"] == "v")]).max(axis=None)
    )
    labels = {axis.get_ylabel() for axis in figure.axes[grid.size :]}
    assert labels == {"u", "difference\nof u", "v (mol m⁻³)", "difference\nof v (mol m⁻³)"}


def test_fields_without_truth_are_compared_with_the_data(tmp_path):
    made = make_results(tmp_path, seeds=1, grid={"sam": [0.05]}, dataset=reacting().drop_vars("state_true"))
    table, figure = drawn("predictions", made)
    assert set(table["series"]) == {"data", "full model", "science part", "full model − data"}
    assert not figure.axes[2].get_images() and figure.axes[0].get_title() == "t = 1.5 s\n2 m × 2 m"


def test_fields_of_which_nothing_is_known_but_the_data(tmp_path):
    """No truth and no completed run: the places of the methods are there and empty."""
    dataset = reacting().drop_vars("state_true")
    made = make_results(tmp_path, seeds=1, grid={"sam": [0.05]}, diverged={("sam", 0.05): [0]}, dataset=dataset)
    _, figure = drawn("predictions", made)
    figure.draw_without_rendering()
    assert [axis.texts[0].get_text() for axis in figure.axes[:12] if axis.texts] == ["none"] * 6


@pytest.mark.parametrize("values", [[], [np.nan, np.nan]])
def test_a_picture_without_values_says_so(values):
    """As that of the science part of a black box."""
    axis = Figure().subplots()
    picture(axis, pd.DataFrame({"x=0": values, "x=1": values}), {})
    assert [text.get_text() for text in axis.texts] == ["none"] and not axis.get_images()


@pytest.mark.slow
def test_frames_stand_upright(results):
    """Six of twenty times; the bob hangs below the pivot, so the lower half of each frame is the brighter one."""
    made = results("frames")
    table, figure = drawn("predictions", made)
    assert table["time"].dropna().unique() == pytest.approx([0, 0.4, 0.8, 1.1, 1.5, 1.9])
    grid = np.array(figure.axes[: (1 + len(GRID)) * 13]).reshape(-1, 13)
    assert [axis.get_title().strip() for axis in grid[0, :6]] == ["0 s", "0.4 s", "0.8 s", "1.1 s", "1.5 s", "1.9 s"]
    for axis in grid[0, [*range(6), *range(7, 13)]]:
        assert pixels_of(axis)[4:].sum() > 2 * pixels_of(axis)[:4].sum()
    last = made.dataset["image"][6, 19, ::-1, :, 0].values
    np.testing.assert_allclose(pixels_of(grid[0, 12]), last, rtol=1e-3)
    np.testing.assert_allclose(pixels_of(grid[1, 5]), predicted(made, "erm")[0, 19, ::-1, :, 0], rtol=1e-3)
    np.testing.assert_allclose(
        pixels_of(grid[1, 12]), predicted(made, "erm", "prediction_science")[0, 19, ::-1, :, 0], rtol=1e-3
    )


@pytest.mark.slow
def test_images_have_their_first_row_on_top_and_are_clipped(results):
    """erm beside fsam, three samples with their labels."""
    made = results("images")
    table, figure = drawn("predictions", made)
    assert set(table["method"].dropna()) == {"erm", "fsam"}
    grid = np.array(figure.axes).reshape(3, 5)
    assert [axis.get_title().split("\n")[0] for axis in grid[0]] == ["data", "erm", "erm", "fsam", "fsam"]
    assert grid[2, 0].get_ylabel() == "test sample 8\nlamp 0\nmirror at 80°"
    image = pixels_of(grid[1, 0])
    np.testing.assert_allclose(image, made.dataset["image"][7], atol=1e-4)
    assert (image[0, :, 0] == 1).all() and image[1:].max() < 0.5 and image.shape == (16, 16, 3)
    science = predicted(made, "fsam", "prediction_science")[1].values
    assert science.max() > 1 and pixels_of(grid[1, 3]).max() == 1
    np.testing.assert_allclose(pixels_of(grid[1, 3]), science.clip(0, 1), atol=1e-4)
    assert table.filter(like="x=").max(axis=None) > 1 and "clipped" in captions.caption("predictions", table)


def test_the_caption_of_images_says_what_their_labels_are(results, tmp_path):
    made = results("images", "only_erm")
    table = registry.tabulate("predictions", made)
    assert "3 test samples (synthetic twin), with the lamp and the mirror's angle. " in captions.caption(
        "predictions", table
    )
    without = registry.tabulate("predictions", replace(made, dataset=made.dataset.drop_vars("sample_label")))
    assert "3 test samples (synthetic twin). Columns" in captions.caption("predictions", without)
    figure = registry.FIGURES["predictions"][1](without, "title")
    assert figure.axes[0].get_ylabel() == "test sample 6"
    pd.testing.assert_frame_equal(without, table[list(without)])


def test_no_run_depends_on_what_samples_are_called():
    labelled = camera()
    assert fingerprint(labelled) == fingerprint(labelled.drop_vars("sample_label"))
    assert fingerprint(labelled) != fingerprint(labelled.rename(sample_label="filter"))


def test_images_of_the_light_tunnel_are_labelled_with_their_light(tmp_path):
    dataset = small.dataset_of("light_tunnel", tmp_path)
    for number, label in enumerate(dataset["sample_label"].values):
        numbers = [int(n.replace("−", "-")) for n in LABEL.fullmatch(label).groups()]
        one = dataset.isel(sample=number)
        assert numbers[:3] == one["brightness"].values.tolist()
        assert numbers[3:] == [round(one[name].item()) for name in ("pol_1", "pol_2")]


def test_images_compare_what_was_run(tmp_path):
    """Without fsam the last method stands in its place, without erm the first."""
    made = make_results(tmp_path, seeds=1, grid={"sam": [0.05], "l2reg": [1e-4], "freg": [0.1]}, dataset=camera())
    assert set(registry.tabulate("predictions", made)["method"].dropna()) == {"l2reg", "sam"}


@pytest.mark.slow
def test_every_table_says_where_the_data_come_from(results):
    for kind, origin in (("images", "SYNTHETIC TWIN"), ("readings", "measured"), ("frames", "simulated")):
        for name in registry.FIGURES:
            table = registry.tabulate(name, results(kind))
            assert set(table["data"]) == {origin}
            assert captions.caption(name, table).startswith("SYNTHETIC TWIN: ") == (kind == "images")


@pytest.mark.slow
def test_errors_in_standard_units_say_so(results):
    """A mean squared error without unit, of a target that has one; what is dimensionless has no unit on its axis."""
    made = results("readings")
    cube = made.cube.copy()
    cube["y_error"] = cube["y_error"].assign_attrs(units="1")
    cube["theta_error"] = cube["theta_error"].assign_attrs(units="1", long_name="1 − cosine similarity")
    cube["theta_ratio_error"] = cube["theta_error"].assign_attrs(units="1", long_name="error of a ratio")
    table, figure = drawn("errors_rho", replace(made, cube=cube))
    labels = {axis.get_ylabel() for axis in figure.axes} - {""}
    assert labels == {"θ-error", "ratio θ-error", "y-error (test MSE)\n(standard units)"}
    caption = captions.caption("errors_rho", table)
    assert "θ-error: 1 − cosine similarity; ratio θ-error: error of a ratio. " in caption
    assert drawn("losses", replace(made, cube=cube))[1].axes[0].get_ylabel().endswith("(standard units)")


@pytest.mark.slow
def test_many_parameters_fit_on_a_page(results):
    """Fifteen rows, each named beside its panels."""
    made = results("readings", "only_erm")
    names = [f"p_{i}" for i in range(15)]
    cube = made.cube.drop_vars("theta_true").isel(parameter=[0] * 15).assign_coords(parameter=names)
    _, figure = drawn("theta_training", replace(made, cube=cube))
    figure.draw_without_rendering()
    assert figure.get_figheight() < 9.5 and figure.axes[-1].get_ylabel() == "p_14\n(N m⁻¹)"


def test_a_target_that_no_figure_shows_is_named(tmp_path):
    odd = make_dataset()
    odd = odd.assign_coords(wavelength=("component", [1, 2])).swap_dims(component="wavelength")
    with pytest.raises(UserError, match=r"no figure shows a target \(time, wavelength\); allowed are time; "):
        kind_of(target_of(odd))
    with pytest.raises(UserError, match="target is 'voltage'; it must name one of state, state_true"):
        target_of(odd.assign_attrs(target="voltage"))


@pytest.mark.slow
def test_images_are_written_to_the_same_bytes_twice(results, tmp_path):
    for folder in ("first", "second"):
        outputs = [tmp_path / folder / f"a{ending}" for ending in (".png", ".svg", ".pdf")]
        registry.write("predictions", results("images", "only_erm"), outputs)
    for output in outputs:
        assert output.read_bytes() == (tmp_path / "first" / output.name).read_bytes(), output.name
