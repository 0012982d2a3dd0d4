"""Measure how long the report of many runs takes and how large it is: six tasks of the default experiment, 10,000 runs.

One seed of every method and rho is trained for two iterations; then each cube is made as large as if there were
many seeds and steps, with numbers that scatter, and the selection is made again. Measured are, from these files on,
`snakemake --cores 2` to all figures, and then to tables, pages and entry page. Needs Linux.

Examples:
  python benchmarks/report.py                        ten minutes
  python benchmarks/report.py --runs 120 --steps 10  a look
"""

import argparse
import json
import shlex
import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np
import xarray as xr
import yaml
from dag import COPIED, ROOT, measure
from machine import processor, versions

from hybridsam.analysis.selection import select
from hybridsam.core import records
from hybridsam.figures import registry

TASKS = ("pendulum", "reaction_diffusion", "duffing", "pendulum_images", "wind_tunnel", "light_tunnel")
MADE = ("cube.nc", "selection.csv", "identifiability.csv")  # of each task, before anything is measured
MEASURED = ("figure", "make_table", "page", "index")  # rules; what they need is there
TARGETS = {
    "figures": [f"results/many/{task}/figures/{name}.png" for task in TASKS for name in registry.FIGURES],
    "pages": ["results/many/report/index.html"],
}
SPREAD = 0.1  # relative, of the numbers of made-up runs


def experiment() -> dict:
    """config/config.yaml with one seed and two iterations."""
    chosen = yaml.safe_load((ROOT / "config/config.yaml").read_text(encoding="utf-8"))
    for changes in chosen["overrides"].values():
        changes.setdefault("training", {}).update(iterations=2, record_every=1)
    return chosen | {"experiment": "many", "tasks": list(TASKS), "optional_tasks": [], "seeds": [0]}


def prepare(folder: Path) -> None:
    """Copy the repository, write the experiment, and train one seed of everything."""
    for part in COPIED:
        copy = shutil.copytree if (ROOT / part).is_dir() else shutil.copy
        copy(ROOT / part, folder / part)
    (folder / "many.json").write_text(json.dumps(experiment()), encoding="utf-8")
    measure(snakemake(*(f"results/many/{task}/{name}" for task in TASKS for name in MADE)), folder)


def snakemake(*targets: str, rules: tuple[str, ...] = ()) -> list[str]:
    """The command to some targets; rules: the only ones that may run."""
    only = ["--rerun-triggers", "mtime", "--allowed-rules", *rules] if rules else []
    return [sys.executable, "-m", "snakemake", "--cores", "2", *only, "--configfile", "many.json", "--", *targets]


def enlarged(cube: xr.Dataset, seeds: int, steps: int) -> xr.Dataset:
    """The cube of one seed as one of many seeds and recorded steps; numbers of runs scatter."""
    copied = {"seed": np.zeros(seeds, int), "step": np.linspace(0, cube.sizes["step"] - 1, steps).astype(int)}
    large = cube.isel(copied).assign_coords(seed=np.arange(seeds), step=np.arange(steps))
    rng = np.random.default_rng(0)
    for name, values in large.data_vars.items():
        if "seed" in values.dims and values.dtype.kind == "f":
            large[name] = values * np.exp(SPREAD * rng.standard_normal(values.shape))
    return large


def measurement(folder: Path, runs: int, steps: int) -> dict:
    """Seconds to the figures and to the pages, and megabytes of the report, for at least so many runs."""
    prepare(folder)
    results = folder / "results/many"
    cubes = {task: records.read(results / task / "cube.nc", "cube") for task in TASKS}
    of_each_seed = sum(int((cube["status"] != "missing").sum()) for cube in cubes.values())
    seeds = -(-runs // of_each_seed)
    for task, cube in cubes.items():
        large = enlarged(cube, seeds, steps)
        records.write(large, results / task / "cube.nc", "cube", f"{task}: many runs, made up")
        select(large).to_csv(results / task / "selection.csv", index=False)
    found = {"runs": seeds * of_each_seed, "seeds": seeds, "steps": steps}
    for part, targets in TARGETS.items():
        found[part] = measure(snakemake(*targets, rules=MEASURED), folder)
    for kind in ("html", "ipynb"):
        found[f"megabytes_{kind}"] = sum(path.stat().st_size for path in results.glob(f"report/*.{kind}")) / 1e6
    return found


def main() -> None:
    top = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    top.add_argument("--runs", type=int, default=10000, help="at least so many (%(default)s)")
    top.add_argument("--steps", type=int, default=100, help="recorded of each run (%(default)s)")
    top.add_argument("--output", type=Path, default=Path(__file__).with_suffix(".json"), help="to write (%(default)s)")
    options = top.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = measurement(Path(folder), options.runs, options.steps)
    command = shlex.join(["python", "benchmarks/report.py", *sys.argv[1:]])
    found |= {"command": command, "machine": processor(), "versions": versions()}
    options.output.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
