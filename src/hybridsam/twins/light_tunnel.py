"""Synthetic twin of lt_camera_v1, experiment uniform_ap_1.8_iso_500.0_ss_0.005: images of a light source.

The science that is fitted (model F3) paints the source as one flat hexagon. The twin takes its colour from F3, but
shows it as a camera does: separate LEDs, a halo, the board around them, reflections on the wall, haze, and pixels that
saturate softly and are noisy. F3 as in Gamella, Peters, Bühlmann (2025), appendix IV.2; the light sensors' readings as
in Gamella, Bing, Runge (2025), appendix C. Lengths in the image are shares of its side.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image
from scipy.ndimage import gaussian_filter

from hybridsam.twins.archive import write_twin

EXPERIMENT = "uniform_ap_1.8_iso_500.0_ss_0.005"
COLUMNS = (  # of the measured table, in its order
    "timestamp config counter flag intervention red green blue osr_c v_c current pol_1 pol_2 osr_angle_1 osr_angle_2"
    " v_angle_1 v_angle_2 angle_1 angle_2 ir_1 vis_1 ir_2 vis_2 ir_3 vis_3 l_11 l_12 l_21 l_22 l_31 l_32 diode_ir_1"
    " diode_vis_1 diode_ir_2 diode_vis_2 diode_ir_3 diode_vis_3 t_ir_1 t_vis_1 t_ir_2 t_vis_2 t_ir_3 t_vis_3 camera"
    " v_board v_reg aperture iso shutter_speed image_file image_timestamp brightness_value"
)
# What the experiment sets once, before the first row: camera, light sensors, lamps beside them, reference voltages.
SETTINGS: dict[str, Any] = (
    {"config": "camera", "flag": -9999.0, "aperture": 1.8, "iso": 500.0, "shutter_speed": 0.005}
    | dict.fromkeys(["intervention", "camera", "osr_c", "osr_angle_1", "osr_angle_2"], 1.0)
    | dict.fromkeys(["v_c", "v_angle_1", "v_angle_2"], 5.0)
    | dict.fromkeys(["l_11", "l_12", "l_21", "l_22", "l_31", "l_32"], 0.0)
    | {f"{name}_{i}": value for name, value in {"diode_ir": 2.0, "diode_vis": 1.0}.items() for i in (1, 2, 3)}
    | {f"t_{light}_{i}": 3.0 for light in ("ir", "vis") for i in (1, 2, 3)}
)
LED_ROWS = (4, 5, 6, 7, 6, 5, 4)
OVERSAMPLING = 8  # of the templates before they are averaged to pixels
BATCH = 100  # images in memory at once
LIGHT_COUNTS, COUNTS = 65535, 1023  # of the light sensors, of the analogue-to-digital converter


def simulate(constants: Mapping[str, Any], folder: Path) -> None:
    """Write the twin's table and images into ``folder``, whole or not at all; constants: ``twin`` of the task file."""
    write_twin(folder, f"lt_camera_v1, {EXPERIMENT}", constants, lambda part: _write(constants, part / EXPERIMENT))


def _write(c: Mapping[str, Any], folder: Path) -> None:
    for_sensors, for_images = map(np.random.default_rng, np.random.SeedSequence(c["seed"]).spawn(2))
    table = measure(protocol(c["images"], c["protocol_seed"]), c, for_sensors)
    images = folder / f"images_{c['image_size']}"
    images.mkdir(parents=True)
    table.to_csv(folder / f"{EXPERIMENT}.csv", index=False)
    for image, name in zip(render(colour(table, c), c, for_images), table["image_file"], strict=True):
        Image.fromarray(image).save(images / name, format="JPEG", quality=c["jpeg_quality"], subsampling=0)


def protocol(n: int, seed: int) -> pd.DataFrame:
    """The first n rows of the experiment's inputs, drawn as its own protocol draws them.

    red, green, blue: 0 to 254; pol_1, pol_2: angles of the polarisers in degrees, on the grid of their motors.
    """
    rng = np.random.default_rng(seed)
    angles, motor_step = np.arange(-180, 180, 0.1), 0.1125
    rows = []
    for _ in range(n):
        lights = [float(rng.integers(0, 255)) for _ in range(3)]
        polarisers = [round(round(rng.choice(angles), 1) / motor_step) * motor_step for _ in range(2)]
        rows.append(lights + polarisers)
    return pd.DataFrame(rows, columns=["red", "green", "blue", "pol_1", "pol_2"])


def _malus(inputs: pd.DataFrame, parallel: Sequence[float], crossed: Sequence[float]) -> np.ndarray:
    """Share of each colour (n, 3) that passes both polarisers."""
    cosine = np.cos(np.deg2rad(inputs["pol_1"] - inputs["pol_2"])).to_numpy()[:, None]
    return (np.array(parallel) - crossed) * cosine**2 + crossed


def _light(inputs: pd.DataFrame) -> np.ndarray:
    return inputs[["red", "green", "blue"]].to_numpy()


def colour(inputs: pd.DataFrame, c: Mapping[str, Any]) -> np.ndarray:
    """Colour of the hexagon in model F3 before it is clipped to 1: (n, 3), linear in the camera's red, green, blue."""
    seen = _light(inputs) / 255 @ np.transpose(c["S"])
    return c["exposure"] * seen * c["w"] * _malus(inputs, c["Tp"], c["Tc"])


def sensors(inputs: pd.DataFrame, c: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Readings without noise: infrared and visible light at three places, current of the source, polariser angles.

    At the source, behind the first polariser and behind both, at the distances sensor_distance; the size of the diode
    and the exposure each double the reading by step.
    """
    light, nearness = _light(inputs), (c["sensor_distance"][0] / np.array(c["sensor_distance"])) ** 2
    arriving = [light, light * c["sensor_Ts"], light * _malus(inputs, c["sensor_Tp"], c["sensor_Tc"])]
    readings = {}
    for i in range(3):
        seen = nearness[i] * arriving[i] @ np.transpose(c["sensor_S"])
        for kind, response in zip(("ir", "vis"), seen.T, strict=True):
            gain = 2.0 ** (SETTINGS[f"diode_{kind}_{i + 1}"] + SETTINGS[f"t_{kind}_{i + 1}"])
            readings[f"{kind}_{i + 1}"] = gain * response
    readings["current"] = light @ np.array(c["current_Q"]) + c["current_C0"]
    for i, zero in enumerate(c["angle_zeros"], 1):
        readings[f"angle_{i}"] = np.minimum(c["angle_A"] * inputs[f"pol_{i}"].to_numpy() + zero, COUNTS)
    return readings


def measure(inputs: pd.DataFrame, c: Mapping[str, Any], rng: np.random.Generator) -> pd.DataFrame:
    """The table with the columns of the measured one."""
    noise = {"ir": c["light_noise"], "vis": c["light_noise"], "current": c["current_noise"], "angle": c["angle_noise"]}
    columns = {}
    for name, reading in sensors(inputs, c).items():
        kind = name.split("_")[0]
        noisy = reading * (1 + noise[kind] * rng.standard_normal(len(inputs)))
        columns[name] = np.clip(noisy.round(), 0, LIGHT_COUNTS if kind in ("ir", "vis") else COUNTS)
    time = np.arange(len(inputs)) * c["period"]
    photographed = (c["image_clock_start"] + time).astype(int)
    brightness = c["brightness_dark"] + c["brightness_gain"] * colour(inputs, c).mean(1)
    columns |= {
        "timestamp": (c["clock_start"] + time).round(6),
        "counter": np.arange(len(inputs), dtype=float),
        "v_board": c["v_board"],
        "v_reg": c["v_reg"],
        "image_file": [f"{second}.jpg" for second in photographed],
        "image_timestamp": photographed,
        "brightness_value": np.log2(brightness).round(6),
    }
    return inputs.assign(**SETTINGS, **columns)[COLUMNS.split()]


# Images


def render(colours: np.ndarray, c: Mapping[str, Any], rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Images (size, size, 3) of uint8 for these colours (n, 3), one after the other."""
    gains = np.array(c["gains"])  # (template, channel)
    light = np.einsum("tyx,tc->yxc", templates(c["image_size"], c), gains)  # of a source of colour 1
    for first in range(0, len(colours), BATCH):
        exposed = 1 - np.exp(-light * colours[first : first + BATCH, None, None, :])
        deviation = np.sqrt(c["shot_noise"] * exposed + c["read_noise"])
        seen = np.clip(exposed + deviation * rng.standard_normal(exposed.shape), 0, 1)
        yield from (255 * seen).round().astype(np.uint8)


def templates(size: int, c: Mapping[str, Any]) -> np.ndarray:
    """What lights up with the source, (template, size, size): its LEDs, halo, board, the wall around it, haze."""
    fine = size * OVERSAMPLING
    y, x = (np.mgrid[:fine, :fine] + 0.5) / fine
    dx, dy = x - c["center"][0], y - c["center"][1]
    edges = np.maximum(np.abs(dy), (np.sqrt(3) * np.abs(dx) + np.abs(dy)) / 2)  # distance to the middle of an edge
    board = edges * 2 / np.sqrt(3) / c["board_radius"]  # 1 on the rim of the board, whose corners lie at its radius
    rim = c["rim_light"] * (np.abs(board - 1) < c["rim_width"])
    distance = np.hypot(x - c["wall_center"][0], y - c["wall_center"][1])

    def blurred(template: np.ndarray, width: float) -> np.ndarray:
        return gaussian_filter(template.astype(float), width * fine)

    halo = blurred(board <= 1, c["halo_blur"])
    found = [
        blurred(leds(dx, dy, c), c["led_blur"]),
        halo / halo.max(),
        blurred(board <= 1, c["board_blur"]) + rim,
        blurred(wall(x, y, c), c["wall_blur"]),
        np.maximum(0, 1 - distance / c["haze_radius"]),
    ]
    return np.stack(found).reshape(len(found), size, OVERSAMPLING, size, OVERSAMPLING).mean((2, 4))


def leds(dx: np.ndarray, dy: np.ndarray, c: Mapping[str, Any]) -> np.ndarray:
    """Where the LEDs are, seen from the centre: squares in a hexagon; the camera sees less of those on the right."""
    light = np.zeros(dx.shape)
    for row, count in enumerate(LED_ROWS):
        v = (row - len(LED_ROWS) // 2) * c["led_pitch"] * np.sqrt(3) / 2
        for u in (np.arange(count) - (count - 1) / 2) * c["led_pitch"]:
            half = c["led_size"] / 2 * (c["led_hidden_share"] if u > c["led_hidden_from"] else 1)
            light += (np.abs(dx - u) < half) & (np.abs(dy - v) < half)
    return light


def wall(x: np.ndarray, y: np.ndarray, c: Mapping[str, Any]) -> np.ndarray:
    """Reflections on the tunnel's wall: three bright arcs around the source, fading outwards."""
    dx, dy = x - c["wall_center"][0], y - c["wall_center"][1]
    outward = np.hypot(dx, dy) - c["wall_radius"]
    arcs = np.clip(np.cos(3 * (np.arctan2(dy, dx) + np.pi / 2)) + c["wall_arcs"], 0, 1)
    return (outward > 0) * np.exp(-np.maximum(outward, 0) / c["wall_fade"]) * arcs
