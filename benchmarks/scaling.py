"""How training scales: seconds and peak memory of an iteration against members, samples, horizon and width.

Around the pendulum at the paper's sizes, one at a time, on one core, by compiled C++ and by PyTorch alone, beside the
law of hybridsam.training.cost; every point in a process of its own. Writes scaling.json, and
docs/images/scaling-*.png with the numbers beside them. Afterwards, --tasks compares the law with short trainings of all
tasks, and fits its constants.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from dataclasses import astuple, replace
from pathlib import Path
from statistics import median

import numpy as np
import pandas as pd
import torch
import yaml
from machine import processor, versions
from matplotlib.lines import Line2D
from matplotlib.ticker import NullLocator, ScalarFormatter
from ours import NEVER, Pacer, Stop
from scipy.optimize import least_squares

from hybridsam.core import modules, settings
from hybridsam.core.methods import get_method
from hybridsam.core.settings import merge, typed
from hybridsam.figures import style
from hybridsam.models.samples import Samples
from hybridsam.training import cost
from hybridsam.training.compiled import faster_loss
from hybridsam.training.estimate import few_data
from hybridsam.training.loop import Training, initial_state, train
from hybridsam.training.loss import Loss

ROOT = Path(__file__).resolve().parents[1]
IMAGES = ROOT / "docs/images"
BASE = {"members": 8, "samples": 25, "horizon": 20, "width": 128}
PATHS = {  # axis -> values, for each path
    "compiled": {
        "members": [1, 2, 4, 8, 16, 32, 64],
        "samples": [5, 10, 25, 50, 100, 200, 400],
        "horizon": [5, 10, 20, 40, 80, 160],
        "width": [16, 32, 64, 128, 256, 512],
    },
    "PyTorch": {
        "members": [1, 4, 16, 64],
        "samples": [5, 25, 100, 400],
        "horizon": [5, 20, 80],
        "width": [16, 64, 256],
    },
}
LABELS = {
    "members": "members",
    "samples": "samples of a member",
    "horizon": "horizon (observed times, two steps of rk4 each)",
    "width": "width of both hidden layers",
}
LOOKS = {"compiled": ("#0173B2", "o"), "PyTorch": ("#D55E00", "^")}
REPEATS, SECONDS, LONG = 3, 0.5, 5.0  # measurements, and seconds of each; longer than LONG, once
TASKS = ("pendulum", "duffing", "reaction_diffusion", "pendulum_images", "wind_tunnel", "light_tunnel")
WITHOUT = ("pendulum_images", "light_tunnel")  # a compiled path
SIZES, METHODS, MEMBERS = ("config", "paper"), ("freg", "sam"), 3  # of the comparison; sizes of config/<name>.yaml
KINDS = ("products", "convolutions", "number", "convolved", "call", "convolution_call")  # of constants in cost.Speed


# A point, in its own process


def pendulum(point: dict):
    """The model, made-up data and the training of a point around the paper's pendulum."""
    task = settings.load(str(ROOT / "config/tasks/pendulum.yaml"))
    model = modules.load(task["module"]).build(task["model"] | {"hidden": [point["width"]] * 2})
    states = torch.randn(1, point["samples"], point["horizon"] + 1, 2)
    times = tuple(0.5 * i for i in range(point["horizon"] + 1))
    return model, Samples({"states": states}, states[:, :, 1:], times), typed(Training, task["training"], "training")


def task(point: dict):
    """The model of a task, as many samples as it has, copied from two, and its training."""
    chosen = settings.load(str(ROOT / f"config/tasks/{point['task']}.yaml"))
    overrides = yaml.safe_load((ROOT / f"config/{point['sizes']}.yaml").read_text()).get("overrides", {})
    for name in ("all", point["task"]):
        chosen = merge(chosen, settings.numbers(overrides.get(name, {})))
    chosen = settings.Settings(chosen, "settings")
    model = modules.load(chosen["module"]).build(chosen["model"])
    training = typed(Training, chosen["training"], "training")
    dataset, sizes = few_data(chosen, None)
    two = model.data(dataset, "train", torch.float32, "cpu")
    samples = min(sizes["train"], 2 * training.batch_size or sizes["train"])  # more would not be seen at once
    return model, two.batch(torch.arange(samples).unsqueeze(0) % 2), training


def measure(point: dict) -> dict:
    """CPU seconds of an iteration, in rounds; peak memory; the law's prediction."""
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)  # as in training
    model, data, training = (task if "task" in point else pendulum)(point)
    faster = faster_loss(model, data) if point["path"] == "compiled" else None
    if point["path"] == "compiled" and not faster:
        return {"failed": "there is no compiled path"}
    loss = faster or Loss(model)
    before = _megabytes()
    method, members, training = get_method(point["method"]), point["members"], replace(training, record_every=NEVER)
    pacer = Pacer(initial_state(model, range(members), training))

    def seconds(n: int) -> float:
        start, pacer.left = time.process_time(), n
        try:
            one = next(data.chunks(1))
            forever = replace(training, iterations=NEVER)
            train(loss, method, [0.01] * members, range(members), data, one, forever, pacer)
        except Stop:
            return (time.process_time() - start) / n
        raise AssertionError

    seconds(1)
    first = seconds(1)
    n = max(1, round(SECONDS / first))
    measured = {"seconds": [first] if first > LONG else [seconds(n) for _ in range(REPEATS)], "megabytes": _megabytes()}

    work, batch = cost.gradient_of(model, faster, method, data), min(training.batch_size or len(data), len(data))
    passes = 2 if method.perturbation else 1
    done = [[passes * amount for amount in astuple(part)] for part in work.of(members, batch)]
    about = {
        "rate": cost.multiplication_rate(torch.float32),
        "work": done,
        "parameters": members * len(pacer.state.w[0]),
    }
    return measured | about | {"megabytes_before": before}


def predicted(point: dict) -> float:
    """Seconds of an iteration by the law of hybridsam.training.cost."""
    by_pytorch, compiled = (cost.Work(*work) for work in point["work"])
    gradients = cost.PYTORCH.seconds(by_pytorch, point["rate"]) + cost.COMPILED.seconds(compiled, point["rate"])
    return gradients + cost.UPDATE * point["parameters"] + cost.ITERATION


def _megabytes() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


# All points


def in_a_process(point: dict, core: int | None) -> dict:
    """:func:`measure` in a process of its own, on one core."""
    command = [sys.executable, __file__, "--point", json.dumps(point)] + ([] if core is None else ["--core", str(core)])
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    if found.returncode:
        sys.exit(f"{point}: {found.stderr}")
    return point | json.loads(found.stdout.splitlines()[-1])


def scaling_points(axes: list[str]) -> list[dict]:
    """Every point once, though all axes share one."""
    points = [
        BASE | {axis: value, "path": path, "method": "sam"}
        for path, values in PATHS.items()
        for axis in axes
        for value in values[axis]
    ]
    return [point for i, point in enumerate(points) if point not in points[:i]]


def task_points() -> list[dict]:
    """All tasks as they are trained, and sharpness-aware minimization by PyTorch alone by default."""
    return [
        {"task": task, "sizes": sizes, "method": method, "members": MEMBERS, "path": path}
        for path in PATHS
        for sizes in SIZES
        for task in TASKS
        for method in METHODS
        if (path == "PyTorch") == (task in WITHOUT) or (path, sizes, method) == ("PyTorch", "config", "sam")
    ]


def table(points: list[dict]) -> pd.DataFrame:
    """A row for each point: what it is; median, least and most of the seconds of a member-iteration; memory."""
    rows = []
    for point in points:
        times = [seconds / point["members"] for seconds in point["seconds"]]
        found = {"seconds": median(times), "least": min(times), "most": max(times)}
        found |= {"predicted": predicted(point) / point["members"], "megabytes": point["megabytes"]}
        asked = ("task", "sizes", "path", "method", *BASE)
        rows.append({name: point[name] for name in asked if name in point} | found)
    return pd.DataFrame(rows)


@style.styled
def draw(axis: str, rows: pd.DataFrame):
    """Seconds of a member-iteration, with the law as a line, and peak memory, both against one axis."""
    figure = style.empty_figure(f"Pendulum, one core, sharpness-aware minimization, against {axis}", 3.2)
    left, right = figure.subplots(1, 2)
    for path, (colour, marker) in LOOKS.items():
        points = rows[rows["path"] == path].sort_values(axis)
        spread = [points["seconds"] - points["least"], points["most"] - points["seconds"]]
        left.errorbar(points[axis], points["seconds"], spread, color=colour, marker=marker, linestyle="", capsize=2)
        left.plot(points[axis], points["predicted"], color=colour, linewidth=1)
        right.plot(points[axis], points["megabytes"], color=colour, marker=marker, linewidth=style.THIN)
    for panel, label in ((left, "time of a member's iteration (s)"), (right, "peak memory of the process (MB)")):
        panel.set(xscale="log", xlabel=LABELS[axis], ylabel=label)
        panel.set_xticks(sorted(set(rows[axis])), minor=False)
        panel.xaxis.set_major_formatter(ScalarFormatter())
        panel.xaxis.set_minor_locator(NullLocator())
    left.set(yscale="log")
    right.set(ylim=(0, None))
    dots = [
        Line2D([], [], color=c, marker=m, linestyle="", label=f"{path}, measured") for path, (c, m) in LOOKS.items()
    ]
    lines = [Line2D([], [], color=c, linewidth=1, label=f"{path}, by the law") for path, (c, _) in LOOKS.items()]
    style.legend(figure, [*dots, *lines], 4)
    return figure


def write_figures(points: list[dict], axes: list[str]) -> None:
    rows = table(points)
    for axis in axes:
        others = [name for name in BASE if name != axis]
        along = rows[(rows[others] == [BASE[name] for name in others]).all(axis=1)]
        IMAGES.mkdir(parents=True, exist_ok=True)
        style.save(draw(axis, along), IMAGES / f"scaling-{axis}.png", ".png")
        along.to_csv(IMAGES / f"scaling-{axis}.csv", index=False, float_format="%.6g")


def fit(points: list[dict]) -> dict:
    """The law's constants by least squares of the logarithm of prediction over measurement; the worst ratio.

    The worst points get weight until they are about alike. What the data say nothing about stays near its value.
    """
    now = [*(getattr(cost.PYTORCH, kind) for kind in KINDS), *(getattr(cost.COMPILED, kind) for kind in KINDS[:4])]
    start = np.log([*now, cost.UPDATE, cost.ITERATION])
    features = []
    for point in points:
        by_pytorch, compiled = ([p / point["rate"], c / point["rate"], *rest] for p, c, *rest in point["work"])
        features.append([*by_pytorch, *compiled[:4], point["parameters"], 1.0])
    a, seconds, weight = np.array(features), np.array([median(point["seconds"]) for point in points]), 1.0
    x = start
    for _ in range(10):
        x = least_squares(lambda x, w=weight: [*(w * np.log(a @ np.exp(x) / seconds)), *(0.15 * (x - start))], x).x
        error = np.abs(np.log(a @ np.exp(x) / seconds))
        weight = weight * np.exp(0.1 * error / error.max())
        weight = weight / np.mean(weight)
    names = [*(f"PYTORCH.{kind}" for kind in KINDS), *(f"COMPILED.{kind}" for kind in KINDS[:4]), "UPDATE", "ITERATION"]
    return dict(zip(names, np.exp(x).tolist(), strict=True)) | {"worst ratio": float(np.exp(error.max()))}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--axes", nargs="+", choices=list(BASE), default=list(BASE))
    parser.add_argument(
        "--tasks", action="store_true", help="compare the law with trainings of all tasks, and fit it anew"
    )
    parser.add_argument("--core", type=int, help="processor core to stay on")
    parser.add_argument("--output", type=Path, default=Path(__file__).with_suffix(".json"))
    parser.add_argument("--point", type=json.loads, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.core is not None and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {options.core})
    if options.point:
        print(json.dumps(measure(options.point)))
        return
    kept = json.loads(options.output.read_text()) if options.output.exists() else {}
    kept |= {"machine": processor(), "versions": versions()}
    points = []
    for point in task_points() if options.tasks else scaling_points(options.axes):
        found = in_a_process(point, options.core)
        if "failed" not in found:
            points.append(found)
            ratio = predicted(found) / median(found["seconds"])
            print(*point.values(), f"{median(found['seconds']):.4g} s, by the law {ratio:.2f} times that", flush=True)
    kept |= {"tasks" if options.tasks else "scaling": points}
    if "scaling" in kept:
        write_figures(kept["scaling"], options.axes)
    if "tasks" in kept:
        kept["fit"] = fit(kept["tasks"] + kept.get("scaling", []))
        print(json.dumps(kept["fit"], indent=1))
    options.output.write_text(json.dumps(kept, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
