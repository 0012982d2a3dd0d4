"""Images of a light source behind two polarisers, measured (Takeishi 2026; chamber and law: Gamella et al. 2025, F3).

Data:     images at known brightness of red, green and blue and known angles of the polarisers.
Science:  a hexagon in the colour that the camera sees, theta = (w, T_p, T_c): white balance, and transmission of
          parallel and of crossed polarisers, for each of three colours. A network supplies what the image has besides.

Scaling w and (T_p, T_c) of one colour against each other changes nothing, so of nine parameters six are identifiable;
the metrics here say how well those are found.
"""

import json
from collections.abc import Mapping
from functools import cache
from math import sqrt

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from hybridsam import HybridMap, Parameters, UNet, UserError, chambers, splits, values_of

EXPERIMENT = "uniform_ap_1.8_iso_500.0_ss_0.005"
COLOURS = ("red", "green", "blue")
POLARISERS = ("pol_1", "pol_2")
LABEL_NAME = "the light source's settings (red, green, blue, of 255) and the polarisers' angles"
LABEL = "R {red:.0f}, G {green:.0f}, B {blue:.0f}; polarisers {pol_1:z.0f}° and {pol_2:z.0f}°"
THETA = tuple(f"{name}_{colour}" for name in ("w", "t_p", "t_c") for colour in COLOURS)


def camera_colour(theta: dict[str, Tensor], u: dict[str, Tensor], exposure: float, response: Tensor) -> Tensor:
    """Model F3 before clipping: what the camera sees of red, green and blue, (member, sample, 3).

    u: ``brightness`` (..., sample, 3) of 255, ``pol_1`` and ``pol_2`` in degrees. response: (3, 3) of the camera's
    sensors to the light source's colours.
    """
    w, t_p, t_c = (torch.stack([theta[f"{name}_{c}"] for c in COLOURS], -1) for name in ("w", "t_p", "t_c"))
    malus = torch.cos(torch.deg2rad(u["pol_1"] - u["pol_2"])).square().unsqueeze(-1)
    return exposure * w * (u["brightness"] / 255 @ response.T) * ((t_p - t_c) * malus + t_c)


def hexagon(size: int, centre: tuple[float, float], radius: float) -> Tensor:
    """(y, x) True on a hexagon with corners left and right; centre (x, y) from the lower left and radius are of the
    image's size."""
    x = (torch.arange(size, dtype=torch.float64) - centre[0] * size).abs()
    y = (torch.arange(size - 1, -1, -1, dtype=torch.float64) - centre[1] * size).abs().unsqueeze(1)
    reach = radius * size
    return (y <= reach * sqrt(3) / 2) & (x + y / sqrt(3) < reach)  # without the corners, as Gamella et al.


def convert(archive: chambers.Location, constants: Mapping) -> xr.Dataset:
    """Images of the uniform experiment of lt_camera_v1, split at random, averaged over ``coarsen`` pixels a side."""
    folder, size, coarsen = archive / EXPERIMENT, constants["image_size"], constants["coarsen"]
    if coarsen < 1 or size % coarsen:
        raise UserError(f"data.coarsen: {coarsen} does not divide data.image_size, {size}")
    columns = (*COLOURS, *POLARISERS, "image_file")
    table = chambers.read_table(folder / f"{EXPERIMENT}.csv", columns, constants["images"], ("image_file",))
    chosen, split = splits.at_random(len(table), constants)
    table = table.iloc[chosen]
    pixels = chambers.read_images(folder, table["image_file"].tolist(), size)
    if coarsen > 1:
        blocks = (len(pixels), size // coarsen, coarsen, size // coarsen, coarsen, 3)
        pixels = pixels.reshape(blocks).mean((2, 4), dtype=np.float32).round().astype(np.uint8)
    step = np.float32(1 / 255)
    image = xr.Variable(
        ("sample", "y", "x", "channel"),
        pixels * step,
        {"long_name": "image", "units": "1"},
        {"dtype": "uint8", "scale_factor": step, "_FillValue": None},
    )
    angles = {name: ("sample", table[name].to_numpy(), {"long_name": name, "units": "degree"}) for name in POLARISERS}
    light = table[[*COLOURS, *POLARISERS]].to_dict("records")
    labels = [LABEL.format(**of_image).replace("-", "−") for of_image in light]
    brightness = {"long_name": "brightness setting of the light source, of 255", "units": "1"}
    return xr.Dataset(
        {
            "image": image,
            "brightness": (("sample", "colour"), table[list(COLOURS)].to_numpy(), brightness),
            **angles,
        },
        coords={
            "split": ("sample", split),
            "sample_label": ("sample", labels, {"long_name": LABEL_NAME}),
            "channel": list(COLOURS),
            "colour": list(COLOURS),
        },
        attrs={"target": "image", "truth": json.dumps({name: constants[name] for name in THETA})},
    )


def build(model: Mapping) -> HybridMap:
    """The hybrid model from the ``model`` section of the task file."""
    law = values_of(model["constants"])
    mask = hexagon(model["image_size"], tuple(law["centre"]), law["radius"])

    @cache  # a copy to a GPU in every pass would cost time, and forbid a CUDA graph
    def constant(dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor]:
        response = torch.tensor(law["response"], dtype=dtype, device=device)
        return response, mask.to(device, dtype).unsqueeze(-1)

    def science(theta: dict[str, Tensor], u: dict[str, Tensor]) -> Tensor:
        """The hexagon, (member, sample, y, x, 3)."""
        response, hexagonal = constant(u["brightness"].dtype, u["brightness"].device)
        return camera_colour(theta, u, law["exposure"], response)[..., None, None, :] * hexagonal

    return HybridMap(
        science,
        Parameters.from_settings(model["theta"]),
        UNet(3, model["channels"], 3),
        target="image",
        inputs=("brightness", *POLARISERS),
        network_inputs={},
        standardise=False,
    )


def metrics(theta: dict[str, np.ndarray], truth: dict[str, float]) -> dict[str, tuple[np.ndarray, str]]:
    """Errors of theta that a change of gauge leaves as they are, and the paper's, which it does not.

    theta: name -> values of any shape. Returns name -> (values, meaning); ``theta_error`` replaces the distance.
    """
    found, true = ({c: [values[f"{n}_{c}"] for n in ("w", "t_p", "t_c")] for c in COLOURS} for values in (theta, truth))
    free = [[f(w, p, c) for w, p, c in both.values() for f in (_contrast, _crossed)] for both in (found, true)]
    ratios = [abs((found[c][2] / found[c][1]) / (true[c][2] / true[c][1]) - 1) for c in COLOURS]
    cosine = _cosine(list(theta[name] for name in THETA), [truth[name] for name in THETA])
    return {
        "theta_error": (1 - cosine, "1 − cosine similarity of theta to the reference"),
        "theta_gauge_free_error": (1 - _cosine(*free), "1 − cosine similarity of w (T_p − T_c) and w T_c"),
        "theta_ratio_error": (np.mean(ratios, 0), "mean relative error of T_c / T_p"),
    }


def _contrast(w, t_p, t_c):
    return w * (t_p - t_c)


def _crossed(w, t_p, t_c):
    return w * t_c


def _cosine(found: list, true: list) -> np.ndarray:
    """Cosine of the angle between vectors given by their components, which are arrays of equal shape."""
    product = sum(a * b for a, b in zip(found, true, strict=True))
    return product / np.sqrt(sum(a * a for a in found) * sum(b * b for b in true))
