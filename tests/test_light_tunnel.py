"""The light tunnel: law F3 and hexagon against their published implementation, images from files, metrics, memory."""

import json
import subprocess
import sys

import netCDF4
import numpy as np
import pytest
import torch
import xarray as xr
from helpers import small
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from hybridsam.analysis.identifiability import identify
from hybridsam.core import records, settings
from hybridsam.core.errors import UserError
from hybridsam.core.provenance import fingerprint
from hybridsam.tasks import light_tunnel
from hybridsam.tasks.light_tunnel import COLOURS, THETA, hexagon, metrics

double = {"dtype": torch.float64}
cross = pytest.mark.filterwarnings("ignore:Arrays of 2-dimensional vectors:DeprecationWarning")


def shipped():
    """The settings of the shipped task file."""
    return settings.load(str(small.ROOT / "config/tasks/light_tunnel.yaml"))


TRUTH = {name: shipped()["data"][name]["value"] for name in THETA}


def model_f3(chamber, theta, size):
    """Model F3 of causalchamber with the constants of the task file and theta (9,) in our order."""
    w, t_p, t_c = np.reshape(theta, (3, 3))
    law = settings.values_of(shipped()["model"]["constants"])
    return chamber[1].ModelF3(
        **dict(zip(("w_r", "w_g", "w_b"), w, strict=True)),
        S=np.array(law["response"]),
        exposure=law["exposure"],
        Tp=t_p[:, None],
        Tc=t_c[:, None],
        center_x=law["centre"][0],
        center_y=law["centre"][1],
        radius=law["radius"],
        offset=0,
        image_size=size,
    )


def inputs_of(table):
    """A table of inputs as tensors (1, sample, ...)."""
    angles = {name: torch.tensor(table[name].to_numpy(), **double)[None] for name in light_tunnel.POLARISERS}
    return {"brightness": torch.tensor(table[list(COLOURS)].to_numpy(), **double)[None]} | angles


# Law


@cross
def test_science_is_model_f3_before_clipping(chamber):
    """Random inputs and parameters; small parameters, where nothing is clipped, and large ones."""
    rng = np.random.default_rng(0)
    table = small.light_inputs(rng, 30)
    model = light_tunnel.build(shipped()["model"] | {"image_size": 24})
    theta = rng.uniform(0.01, 0.35, (3, 9))
    theta[2] = list(TRUTH.values())
    found = model.science(model.parameters.named(torch.tensor(theta, **double)), inputs_of(table))
    assert found.shape == (3, 30, 24, 24, 3)
    for member in range(3):
        expected = model_f3(chamber, theta[member], 24).simulate_from_inputs(table)
        assert expected.max() > 0.02
        np.testing.assert_allclose(found[member].clip(0, 1), expected, rtol=0, atol=1e-9)
    assert found[:2].max() < 1 < found[2].max()


@cross
@pytest.mark.parametrize("size", [8, 16, 24, 32, 48, 64, 100])
def test_hexagon_is_that_of_causalchamber(chamber, size):
    from causalchamber.simulators.lt.image.models_f import hexagon_mask

    ours = hexagon(size, (0.5, 0.5), 0.22).numpy()
    np.testing.assert_array_equal(ours, hexagon_mask(0.5, 0.5, 0.22, 0, size))
    assert ours.mean() == pytest.approx(1.5 * 3**0.5 * 0.22**2, rel=0.35 if size < 30 else 0.08)


@cross
@given(st.integers(6, 60), st.floats(0.3, 0.7), st.floats(0.3, 0.7), st.floats(0.05, 0.3))
def test_hexagons_elsewhere_are_those_of_causalchamber(chamber, size, x, y, radius):
    """But for pixels on an edge, of which rounding decides."""
    from causalchamber.simulators.lt.image.models_f import hexagon_mask

    ours, theirs = hexagon(size, (x, y), radius).numpy(), hexagon_mask(x, y, radius, 0, size)
    inside, outside = (hexagon(size, (x, y), radius * factor).numpy() for factor in (1 - 1e-9, 1 + 1e-9))
    assert ((ours == theirs) | (inside != outside)).all()


def test_all_parameters_have_their_own_place_in_the_law():
    """Each colour of the hexagon depends on the three parameters of that colour alone."""
    model = small.build("light_tunnel")
    data = inputs_of(small.light_inputs(np.random.default_rng(0), 5))
    theta = torch.tensor([list(TRUTH.values())], **double)

    def colours(values):
        return model.science(model.parameters.named(values[None]), data).sum((0, 1, 2, 3))

    jacobian = torch.func.jacfwd(colours)(theta[0])
    assert model.parameters.names == list(THETA)
    for i, colour in enumerate(COLOURS):
        own = [name.endswith(colour) for name in THETA]
        assert (jacobian[i] != 0).tolist() == own


# Images


@pytest.fixture
def constants():
    return {name: entry["value"] for name, entry in small.settings_of("light_tunnel")["data"].items()}


def read(folder, name, size=16):
    path = folder / light_tunnel.EXPERIMENT / f"images_{size}" / name
    return np.asarray(Image.open(path)).astype(float)


def rows_of(dataset, table):
    """The row of the table that each sample comes from, by its angle."""
    return [int(np.flatnonzero(table["pol_1"] == angle)[0]) for angle in dataset["pol_1"].values]


@pytest.mark.parametrize("coarsen", [1, 2, 4])
def test_images_are_block_means_in_shares_of_one_and_belong_to_their_row(tmp_path, constants, coarsen):
    table = small.light_images(tmp_path, constants)
    dataset = light_tunnel.convert(tmp_path, constants | {"coarsen": coarsen})
    images, side = dataset["image"].values, 16 // coarsen
    assert images.shape == (14, side, side, 3) and images.dtype == np.float32
    assert images.min() >= 0 and images.max() <= 1 and images.max() > 0.9
    rows = rows_of(dataset, table)
    assert len(set(rows)) == 14
    for image, row in zip(images, rows, strict=True):
        pixels = read(tmp_path, table["image_file"][row])
        blocks = [
            [pixels[i : i + coarsen, j : j + coarsen].mean((0, 1)) for j in range(0, 16, coarsen)]
            for i in range(0, 16, coarsen)
        ]
        levels = np.round(image * 255)
        np.testing.assert_allclose(image * 255, levels, atol=1e-4)
        assert np.abs(levels - blocks).max() <= (0.5 if coarsen > 1 else 0)


def test_inputs_units_and_reference_are_in_the_dataset(tmp_path, constants):
    table = small.light_images(tmp_path, constants)
    dataset = light_tunnel.convert(tmp_path, constants)
    rows = table.iloc[rows_of(dataset, table)]
    np.testing.assert_array_equal(dataset["brightness"], rows[list(COLOURS)])
    np.testing.assert_array_equal(dataset["pol_2"], rows["pol_2"])
    assert dataset["split"].values.tolist() == ["train"] * 6 + ["validation"] * 4 + ["test"] * 4
    units = {name: dataset[name].attrs["units"] for name in ("image", "brightness", "pol_1", "pol_2")}
    assert units == {"image": "1", "brightness": "1", "pol_1": "degree", "pol_2": "degree"}
    assert all(dataset[name].attrs["long_name"] for name in units)
    assert dataset["channel"].values.tolist() == dataset["colour"].values.tolist() == list(COLOURS)
    assert dataset.attrs["target"] == "image" and json.loads(dataset.attrs["truth"]) == TRUTH


def test_white_is_one_and_black_is_zero(tmp_path, constants):
    table = small.light_images(tmp_path, constants)
    folder = tmp_path / light_tunnel.EXPERIMENT / "images_16"
    for i, name in enumerate(table["image_file"]):
        Image.new("RGB", (16, 16), (255 * (i % 2),) * 3).save(folder / name)
    images = light_tunnel.convert(tmp_path, constants)["image"].values
    assert set(images.ravel().tolist()) == {0.0, 1.0}


def test_images_are_the_same_from_a_file_compressed_and_in_chunks(tmp_path, constants):
    small.light_images(tmp_path, constants)
    dataset = light_tunnel.convert(tmp_path, constants)
    records.write(dataset, tmp_path / "dataset.nc", "dataset", "light")
    found = records.read(tmp_path / "dataset.nc", "dataset")
    xr.testing.assert_equal(found, dataset)
    assert found["image"].dtype == np.float32
    assert fingerprint(found) == fingerprint(dataset)
    with netCDF4.Dataset(tmp_path / "dataset.nc") as file:
        assert file["image"].filters()["zlib"] and file["image"].chunking()[1:] == [8, 8, 3]


def test_splits_are_a_function_of_the_seed(tmp_path, constants):
    small.light_images(tmp_path, constants)
    one, again, other = (light_tunnel.convert(tmp_path, constants | {"seed": seed}) for seed in (0, 0, 1))
    assert one.identical(again) and not one.identical(other)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"images": 15}, r"uniform_ap_1\.8_iso_500\.0_ss_0\.005\.csv: expected 15 rows, found 14$"),
        ({"image_size": 32}, r"images_32: no such folder; there are images_16$"),
        ({"train": 20}, r"^data\.train: 20 samples are asked for and 14 are left$"),
        ({"coarsen": 3}, r"^data\.coarsen: 3 .*16"),
        ({"coarsen": 0}, r"^data\.coarsen: 0 "),
    ],
    ids=str,
)
def test_constants_that_do_not_fit_the_files_are_refused(tmp_path, constants, changes, message):
    small.light_images(tmp_path, constants)
    with pytest.raises(UserError, match=message):
        light_tunnel.convert(tmp_path, constants | changes)


# Model


def synthetic(size=8, samples=40, seed=0):
    """Images that the law itself makes of random inputs, with the truth as its parameters."""
    table = small.light_inputs(np.random.default_rng(seed), samples)
    model = small.build("light_tunnel", {"image_size": size})
    theta = torch.tensor([list(TRUTH.values())], **double)
    image = model.science(model.parameters.named(theta), inputs_of(table))[0].numpy()
    variables = {"image": (("sample", "y", "x", "channel"), image)}
    variables |= {name: ("sample", table[name]) for name in light_tunnel.POLARISERS}
    variables["brightness"] = (("sample", "colour"), table[list(COLOURS)])
    return model, xr.Dataset(variables, {"split": ("sample", ["train"] * samples)}, {"target": "image"})


def test_six_of_nine_directions_can_be_identified_and_no_single_parameter():
    model, dataset = synthetic()
    found = identify(model, dataset)
    assert found.rank == 6
    assert found.told_by_science.tolist() == [False] * 9
    assert found.condition == np.inf
    errors = metrics(dict(zip(THETA, found.science_only, strict=True)), TRUTH)
    assert errors["theta_gauge_free_error"][0] < 1e-9
    assert errors["theta_ratio_error"][0] < 1e-5
    assert errors["theta_error"][0] > 1e-3  # the gauge is that of the start


def test_the_network_sees_the_hexagon_and_the_penalty_is_the_distance_from_it():
    model, dataset = synthetic(samples=4)
    data = model.data(dataset, "train", torch.float64)
    assert not data.standard
    theta = torch.tensor([list(TRUTH.values())] * 2, **double)
    theta[1] *= 1.1
    phi = torch.stack([model.network.initial(torch.Generator().manual_seed(seed)) for seed in (0, 1)]).double()
    science = model.predict_science(theta, phi, data)
    torch.testing.assert_close(science[0], data.targets[0])
    prediction = model.predict(theta, phi, data)
    torch.testing.assert_close(prediction, model.network(model.network.unflatten(phi), science))
    by_hand = np.mean((prediction.numpy() - science.numpy()) ** 2, (1, 2, 3, 4))
    np.testing.assert_allclose(model.penalty(theta, phi, data, prediction), by_hand, rtol=1e-12)


# Memory

PIPELINE = """
import sys
from pathlib import Path
import torch
from hybridsam.core import records, settings
from hybridsam.tasks import light_tunnel
from hybridsam.training.devices import peak_megabytes

folder, task = Path(sys.argv[1]), settings.load(sys.argv[2])
constants = settings.values_of(task["data"]) | {"test": 3000}
records.write(light_tunnel.convert(folder, constants), folder / "dataset.nc", "dataset", "light")
dataset = records.read(folder / "dataset.nc", "dataset")
assert dataset["image"].shape == (10000, 64, 64, 3), dataset
assert dataset["image"].dtype == "float32", dataset
model = light_tunnel.build(task["model"])
data = [model.data(dataset, split, torch.float32, "cpu") for split in ("train", "validation", "test")]
assert [part.targets.shape for part in data] == [(1, n, 64, 64, 3) for n in (6000, 1000, 3000)]
assert all(0 < part.targets.mean() < 1 for part in data)
print(peak_megabytes())
"""


@pytest.mark.slow
def test_ten_thousand_images_go_from_files_to_tensors_in_two_gigabytes(tmp_path):
    """All that the paper's archive holds: the same image, once on disk, under ten thousand names."""
    experiment = tmp_path / light_tunnel.EXPERIMENT
    folder = experiment / "images_64"
    folder.mkdir(parents=True)
    table = small.light_inputs(np.random.default_rng(0), 10000)
    table["image_file"] = [f"{i}.jpg" for i in range(10000)]
    small.write_csv(experiment / f"{light_tunnel.EXPERIMENT}.csv", table)
    Image.radial_gradient("L").resize((64, 64)).convert("RGB").save(folder / "0.jpg")
    for name in table["image_file"][1:]:
        (folder / name).hardlink_to(folder / "0.jpg")
    task = small.ROOT / "config/tasks/light_tunnel.yaml"
    command = [sys.executable, "-c", PIPELINE, str(tmp_path), str(task)]
    output = subprocess.run(command, capture_output=True, text=True)
    assert output.returncode == 0, output.stderr
    assert float(output.stdout) < 2000
    assert (tmp_path / "dataset.nc").stat().st_size < 125e6
