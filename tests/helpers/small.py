"""The shipped tasks at sizes at which a test takes a moment, and hand-made archives of the chambers."""

from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from hybridsam.core import modules, settings
from hybridsam.tasks import light_sensors, light_tunnel, wind_tunnel

ROOT = Path(__file__).resolve().parents[2]
SIZES = {"train": 6, "validation": 4, "test": 4}
SIMULATED = {  # task -> changes of its constants, its model and its training
    "pendulum": ({"steps": 3}, {"hidden": [8, 8]}, {}),
    "duffing": ({"steps": 3}, {"hidden": [8, 8]}, {}),
    "reaction_diffusion": ({"points": 6, "steps": 2}, {"channels": [4, 4]}, {}),
    "pendulum_images": (
        {"pixels": 12, "steps": 4},
        {"seen": 2, "encoder": [8], "latent": 2, "hidden": [8], "decoder": [6, 4]},
        {"batch_size": 4},
    ),
}
MEASURED = {
    "wind_tunnel": ({"runs": 2, "rows": 80, "window": 12, "stride": 6}, {"window": 12, "hidden": [8, 8]}, {}),
    "light_tunnel": (
        {"images": 14, "image_size": 16, "coarsen": 2},
        {"image_size": 8, "channels": [3, 4, 5]},
        {"batch_size": 4},
    ),
    "light_sensors": ({"rows": 20}, {"hidden": [8, 8]}, {}),
}
TASKS = SIMULATED | MEASURED
FEW_STEPS = {"iterations": 3, "record_every": 2}


def settings_of(task, data=None, model=None, training=None):
    """The settings of a shipped task, made small, with changes to data constants, model and training."""
    shipped = settings.load(str(ROOT / f"config/tasks/{task}.yaml"))
    constants, of_model, of_training = TASKS[task]
    values = SIZES | constants | (data or {})
    small = {
        "data": {name: {"value": value} for name, value in values.items()},
        "model": of_model | (model or {}),
        "training": FEW_STEPS | of_training | (training or {}),
    }
    return settings.merge(shipped, small)


def build(task, model=None):
    """The small model of a task."""
    chosen = settings_of(task, model=model)
    return modules.build(chosen)


def dataset_of(task, folder, **data):
    """The small dataset of a task, simulated, or converted from a hand-made archive in ``folder``."""
    chosen = settings_of(task, data=data)
    module, constants = modules.load(chosen["module"]), settings.values_of(chosen["data"])
    if task in SIMULATED:
        return module.simulate(constants)
    ARCHIVES[task](folder, constants)
    return module.convert(folder, constants)


# Archives


def write_csv(file, table):
    """The table with a column that nobody asks for in front, in the order of the archives: no index."""
    file.parent.mkdir(parents=True, exist_ok=True)
    table.insert(0, "timestamp", np.arange(len(table)) / 4)
    table.to_csv(file, index=False)
    return table


def wind_runs(folder, constants, seed=0):
    """Random loads and hatch, and pressures of 96 kPa, in each run; returns the tables."""
    rng = np.random.default_rng(seed)
    rows = constants["rows"]
    tables = []
    for run in range(1, constants["runs"] + 1):
        table = pd.DataFrame(
            {
                "load_in": rng.uniform(0, 1, rows).round(4),
                "load_out": rng.uniform(0, 1, rows).round(4),
                "hatch": rng.choice([0.0, 45.0], rows),
                "pressure_downwind": 96000 + rng.normal(0, 20, rows).round(2),
                "pressure_ambient": 96000 + rng.normal(0, 1, rows).round(2),
            }
        )
        tables.append(write_csv(folder / f"{wind_tunnel.EXPERIMENT.format(run)}.csv", table))
    return tables


def light_inputs(rng, rows):
    """Brightness of three colours and angles of two polarisers, drawn as in the experiments."""
    colours = {name: rng.integers(0, 256, rows).astype(float) for name in light_tunnel.COLOURS}
    return pd.DataFrame(colours | {name: rng.uniform(-180, 180, rows).round(3) for name in light_tunnel.POLARISERS})


def light_images(folder, constants, seed=0):
    """Images of coarse random blocks, which a JPEG file holds well; returns the table."""
    rng = np.random.default_rng(seed)
    images, size = constants["images"], constants["image_size"]
    experiment = folder / light_tunnel.EXPERIMENT
    (experiment / f"images_{size}").mkdir(parents=True)
    table = light_inputs(rng, images).assign(image_file=[f"{1000 + 7 * i}.jpg" for i in range(images)])
    for name in table["image_file"]:
        blocks = rng.integers(0, 256, (size // 4, size // 4, 3), dtype=np.uint8)
        pixels = blocks.repeat(4, 0).repeat(4, 1)
        Image.fromarray(pixels).save(experiment / f"images_{size}" / name, quality=95)
    return write_csv(experiment / f"{light_tunnel.EXPERIMENT}.csv", table)


def sensor_rows(folder, constants, seed=0):
    """Random inputs and settings of the light sensors, and random readings; returns the table."""
    rng = np.random.default_rng(seed)
    rows = constants["rows"]
    table = light_inputs(rng, rows)
    for name in light_sensors.AUXILIARY:
        table[name] = rng.integers(0, 256, rows).astype(float)
    for sensor in light_sensors.SENSORS:
        table[f"diode_{sensor}"] = rng.integers(0, 3, rows).astype(float)
        table[f"t_{sensor}"] = rng.integers(0, 4, rows).astype(float)
        table[sensor] = rng.uniform(100, 20000, rows).round()
    return write_csv(folder / f"{light_sensors.EXPERIMENT}.csv", table)


ARCHIVES = {"wind_tunnel": wind_runs, "light_tunnel": light_images, "light_sensors": sensor_rows}
