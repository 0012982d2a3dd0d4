"""What is measured: the shipped tasks at their full sizes, prepared once, so that every variant reads the same numbers.

``prepare`` needs hybridsam; ``load`` needs NumPy alone, so that the memory of a peer's process is the peer's own.
"""

import json
import tempfile
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from math import ceil, prod
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
TASKS = ("pendulum", "duffing", "reaction_diffusion", "wind_tunnel", "light_tunnel")
ODES = ("pendulum", "duffing", "reaction_diffusion")
IMAGES = ("reaction_diffusion", "light_tunnel")  # convolutions; an iteration takes seconds
SAMPLES = 200  # images of the light tunnel; an iteration sees 50 of them, so more would change nothing
EPOCHS = 25  # whose mini-batches are drawn ahead; they are gone through again and again
RHO = 0.05
LEARNING_RATE = 1e-3  # of theta and phi in the peers
NOTHING = {"batches": np.empty((0, 0, 0), int), "mask": np.empty((0, 0))}
PASSES = 2 * (1 + 2)  # of a member-iteration: two gradients, each a forward pass and a backward one of twice its work


@dataclass(frozen=True)
class Problem:
    """A task as arrays of float32.

    inputs: name -> (sample, ...). targets: (sample, ...), in standard units: minus mean, over scale. times: of a time
    series. theta: (member, parameter), unconstrained. phi: (member, n), the layers in the order of ``shapes``.
    batches: (step, member, sample) numbers of the samples in a mini-batch; empty if all samples are used at once.
    mask: (y, x) 1 on the hexagon of the light tunnel; empty elsewhere.
    """

    task: str
    settings: dict[str, Any]
    shapes: dict[str, tuple[int, ...]]
    inputs: dict[str, np.ndarray]
    targets: np.ndarray
    times: np.ndarray
    mean: float
    scale: float
    theta: np.ndarray
    phi: np.ndarray
    batches: np.ndarray
    mask: np.ndarray

    @cached_property
    def transform(self) -> dict[str, Any]:
        """How theta follows from its unconstrained values: the transform and bounds that all parameters share."""
        table = self.settings["model"]["theta"]
        rows = [{key: row.get(key) for key in ("transform", "lower", "upper")} for row in table.values()]
        assert all(row == rows[0] for row in rows)
        return rows[0]

    @cached_property
    def substeps(self) -> int:
        """Steps of the solver from one time to the next."""
        step = self.settings["model"]["solver"]["step"]
        (substeps,) = {max(1, ceil((end - start) / step - 1e-9)) for start, end in pairwise(self.times)}
        return substeps

    @property
    def step(self) -> float:
        """Length of a step of the solver."""
        return float(self.times[1] - self.times[0]) / self.substeps

    def layers(self, member: int) -> dict[str, np.ndarray]:
        """Layer name -> initial parameters of one member, laid out as in torch."""
        sizes = [prod(shape) for shape in self.shapes.values()]
        parts = np.split(self.phi[member], np.cumsum(sizes)[:-1])
        return {name: part.reshape(shape) for (name, shape), part in zip(self.shapes.items(), parts, strict=True)}

    def science(self) -> dict[str, np.ndarray]:
        """What the science needs beside theta, as far as it can be computed before training."""
        if self.task in ODES:
            return {}
        constants = {name: row["value"] for name, row in self.settings["model"]["constants"].items()}
        if self.task == "wind_tunnel":
            speeds = {}
            for name in ("load_in", "load_out"):
                load = self.inputs[name]
                speeds[name] = np.where(load == 0, 0, np.maximum(load, constants["least_load"]))
            pressure = constants["s_max"] * (speeds["load_in"] ** 2 - speeds["load_out"] ** 2)
            seen = [self.inputs["load_in"], self.inputs["load_out"], self.inputs["hatch"] / 45]
            return {"pressure": pressure.astype(np.float32), "beside": np.concatenate(seen, -1).astype(np.float32)}
        angle = np.deg2rad(self.inputs["pol_1"] - self.inputs["pol_2"])
        light = constants["exposure"] * self.inputs["brightness"] / 255 @ np.transpose(constants["response"])
        return {
            "light": light.astype(np.float32),
            "malus": (np.cos(angle)[:, None] ** 2).astype(np.float32),
            "mask": self.mask,
        }

    def gigaflops(self) -> float:
        """Of a member-iteration: multiplications and additions of the network's matrix products and convolutions."""
        samples = self.batches.shape[-1] if self.batches.size else len(self.targets)
        evaluations = 4 * self.substeps * (len(self.times) - 1) if self.task in ODES else 1
        weights = {name: shape for name, shape in self.shapes.items() if len(shape) > 1}
        forward = sum(2 * prod(shape) * self._places(name) for name, shape in weights.items())
        return PASSES * samples * evaluations * forward / 1e9

    def _places(self, layer: str) -> int:
        """At how many pixels a layer acts."""
        if self.task == "reaction_diffusion":
            return prod(self.targets.shape[2:4])
        if self.task == "light_tunnel":
            level = 0 if layer.startswith("out") else int(layer.removeprefix("down").removeprefix("up")[0])
            return prod(self.targets.shape[1:3]) // 4**level
        return 1


def prepare(task: str, members: int, folder: Path) -> Problem:
    """Write a task's data, its initial weights for the seeds 0, 1, … and its settings into a folder."""
    from hybridsam.core import settings as hybridsam_settings

    settings = hybridsam_settings.load(str(ROOT / f"config/tasks/{task}.yaml"))
    return write(task, settings, _dataset(settings), members, folder)


def write(task: str, settings, dataset, members: int, folder: Path) -> Problem:
    """:func:`prepare` for these settings, of the task file, and this dataset."""
    import torch

    from hybridsam.core import modules
    from hybridsam.core.settings import typed
    from hybridsam.training.loop import BatchOrder, Training, initial_state

    model = modules.load(settings["module"]).build(settings["model"])
    if task == "duffing":  # the row that is used; the other belongs to the other choice of known_term
        settings["model"]["theta"] = {name: settings["model"]["theta"][name] for name in model.parameters.names}
    data = model.data(dataset, "train", torch.float32, "cpu")
    training = typed(Training, settings["training"], "training")
    seeds = range(members)
    w = initial_state(model, seeds, training).w
    arrays = {f"inputs.{name}": values[0] for name, values in data.inputs.items()} | {
        "targets": data.targets[0],
        "times": torch.tensor(data.times, dtype=torch.float64),
        "mean": torch.as_tensor(data.mean).reshape(()),
        "scale": torch.as_tensor(data.scale).reshape(()),
        "theta": w[:, : len(model.parameters)],
        "phi": w[:, len(model.parameters) :],
    }
    if task == "light_tunnel":
        arrays["mask"] = _mask(settings["model"])
    if training.batch_size:
        order = BatchOrder(seeds, len(data), training.batch_size)
        steps = EPOCHS * (len(data) // order.size)
        arrays["batches"] = torch.stack([order.at(step) for step in range(steps)])
    folder.mkdir(parents=True, exist_ok=True)
    np.savez(folder / "arrays.npz", **{name: values.numpy() for name, values in arrays.items()})
    described = {"task": task, "settings": settings, "shapes": model.network.shapes}
    (folder / "problem.json").write_text(json.dumps(described), encoding="utf-8")
    return load(folder)


def _dataset(settings):
    """The training data of a task: simulated, or of its synthetic twin; as few other samples as there can be."""
    from hybridsam.core import modules
    from hybridsam.core import settings as hybridsam_settings

    module = modules.load(settings["module"])
    constants = hybridsam_settings.values_of(settings["data"]) | {"validation": 1, "test": 1}
    if "twin_module" not in settings:
        return module.simulate(constants)
    twin = hybridsam_settings.values_of(settings["twin"])
    if "images" in constants:
        constants |= {"images": SAMPLES + 2, "train": SAMPLES}
        twin["images"] = SAMPLES + 2
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / settings["archive"]
        modules.load(settings["twin_module"]).simulate(twin, folder)
        return module.convert(folder, constants)


def _mask(model):
    """1 on the hexagon of the light tunnel's science and 0 beside it."""
    from hybridsam.tasks.light_tunnel import hexagon

    centre, radius = (model["constants"][name]["value"] for name in ("centre", "radius"))
    return hexagon(model["image_size"], tuple(centre), radius).float()


def load(folder: Path) -> Problem:
    """What :func:`prepare` wrote."""
    described = json.loads((folder / "problem.json").read_text(encoding="utf-8"))
    described["shapes"] = {name: tuple(shape) for name, shape in described["shapes"].items()}
    with np.load(folder / "arrays.npz") as file:
        arrays = dict(file)
    inputs = {name.removeprefix("inputs."): arrays.pop(name) for name in list(arrays) if name.startswith("inputs.")}
    arrays |= {name: float(arrays[name]) for name in ("mean", "scale")}
    return Problem(**described, inputs=inputs, **NOTHING | arrays)
