"""Measure how planning a study and building its cube grow with the number of runs; one small run is trained.

plan: `snakemake -n -q all`. start: a real Snakemake on two cores, until it starts the first training; then it is
killed. Both in a copy of the repository, five tasks with ten rho each, all data made. collect: files of one seed
each, copies of a run that was trained, into the cube. Every command is a process of its own. Needs Linux.

Examples:
  python benchmarks/dag.py                            everything (half an hour, 2 GB in the temporary folder)
  python benchmarks/dag.py --runs 1000 --repeats 1    a look (two minutes)
  python benchmarks/dag.py --parts collect            only the cube
"""

import argparse
import contextlib
import json
import os
import re
import shlex
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import netCDF4
import psutil
import yaml
from machine import processor, versions

from hybridsam.core import records, settings
from hybridsam.core.blocks import blocks_of, seed_ranges
from hybridsam.core.provenance import fingerprint

ROOT = Path(__file__).resolve().parents[1]
COPIED = ("Snakefile", "workflow", "config", "src", "envs", "notebooks")
TASKS = ("pendulum", "reaction_diffusion", "duffing", "pendulum_images", "wind_tunnel")
RUNS_PER_SEED = 50  # of these tasks, with ten rho each
PARTS = ("plan", "start", "collect")
SEEDS_PER_JOB = (1, 20)  # the worst, and that of config/paper.yaml
RHOS = [f"{i / 100}" for i in range(1, 11)]  # of the run files
SETTINGS = "task.json"  # of the run files
CHOICE, FIRST = "Select jobs to execute", "rule train:"  # what Snakemake prints before it chooses, and of a training
EVERY = 0.1  # seconds between two looks at a process's memory


# One process


def measure(command: list[str], folder: Path, until: str = "") -> dict:
    """Run a command; seconds to its end, or to the line with these words, at which it is killed with all its children.

    Returns ``seconds``, ``cpu_seconds``, ``megabytes`` (the most that one of its processes had), ``load`` of the
    machine before, and ``choice_seconds`` from the line before Snakemake's first choice to the end.
    """
    found = {"load": round(os.getloadavg()[0], 2)}
    environment = os.environ | {"PYTHONPATH": str(folder / "src"), "PYTHONUNBUFFERED": "1"}
    output = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    begin, lines, chosen = time.perf_counter(), [], None
    process = subprocess.Popen(command, cwd=folder, env=environment, start_new_session=True, **output)
    try:
        with peak_of(process.pid) as peak:
            for line in process.stdout:
                lines.append(line)
                if CHOICE in line and chosen is None:
                    chosen = time.perf_counter()
                if until and until in line:
                    break
            end = time.perf_counter()
    finally:
        if until or sys.exc_info()[0]:
            os.killpg(process.pid, signal.SIGKILL)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if until not in lines[-1] if until else process.returncode:
        sys.exit(f"{shlex.join(command)[:500]}\n{''.join(lines[-20:])}")
    found |= {"seconds": end - begin, "cpu_seconds": usage.ru_utime + usage.ru_stime, "megabytes": max(peak)}
    return found | ({"choice_seconds": end - chosen} if chosen else {})


@contextlib.contextmanager
def peak_of(pid: int) -> Iterator[list[float]]:
    """A list that grows by the peak memory so far, in MB, of a process and its descendants, while the block runs."""
    peaks, done = [0.0], threading.Event()

    def look() -> None:
        while not done.wait(EVERY):
            with contextlib.suppress(psutil.Error, OSError):
                process = psutil.Process(pid)
                for one in (process, *process.children(recursive=True)):
                    status = Path(f"/proc/{one.pid}/status").read_text()
                    peaks.extend(int(kilobytes) / 1024 for kilobytes in re.findall(r"VmHWM:\s*(\d+)", status))

    watcher = threading.Thread(target=look)
    watcher.start()
    try:
        yield peaks
    finally:
        done.set()
        watcher.join()


def repeated(times: int, what: dict, once: Callable[[], dict]) -> dict:
    """``what``, and of each measured quantity a list."""
    rounds = []
    for _ in range(times):
        rounds.append(once())
        measured = [f"{name} {value:.4g}" for name, value in rounds[-1].items()]
        print(*what.values(), *measured, file=sys.stderr, flush=True)
    return what | {name: [one[name] for one in rounds] for name in rounds[0]}


# Planning


def experiment(runs: int, seeds_per_job: int) -> dict:
    """config/config.yaml with so many runs."""
    chosen = yaml.safe_load((ROOT / "config/config.yaml").read_text(encoding="utf-8"))
    chosen["methods"] = ["erm", *chosen["rho"]]
    chosen["rho"]["fsam"] = chosen["rho"]["fsam"][:1]
    chosen["overrides"] = {name: chosen["overrides"][name] for name in ("all", *TASKS)}
    seeds = list(range(runs // RUNS_PER_SEED))
    named = {"experiment": "many", "tasks": list(TASKS), "optional_tasks": []}
    return chosen | named | {"seeds": seeds, "seeds_per_job": seeds_per_job}


def prepare(folder: Path) -> None:
    """Copy the repository and make all data, so that every training is ready to start."""
    for part in COPIED:
        copy = shutil.copytree if (ROOT / part).is_dir() else shutil.copy
        copy(ROOT / part, folder / part)
    made = [f"results/many/{task}/{name}" for task in TASKS for name in ("dataset.nc", "identifiability.csv")]
    measure(snakemake(folder, RUNS_PER_SEED, 1, "--cores", "2", targets=made), folder)


def snakemake(folder: Path, runs: int, seeds_per_job: int, *options: str, targets: list[str]) -> list[str]:
    """The command for an experiment of that size, whose configuration it writes."""
    path = folder / f"{runs} runs by {seeds_per_job}.json"
    path.write_text(json.dumps(experiment(runs, seeds_per_job)), encoding="utf-8")
    return [sys.executable, "-m", "snakemake", "--nolock", *options, "--configfile", path.name, "--", *targets]


def plan(folder: Path, runs: int, seeds_per_job: int) -> dict:
    return measure(snakemake(folder, runs, seeds_per_job, "-n", "-q", "all", targets=["all"]), folder)


def start(folder: Path, runs: int, seeds_per_job: int) -> dict:
    return measure(snakemake(folder, runs, seeds_per_job, "--cores", "2", targets=["all"]), folder, until=FIRST)


# The cube


def train_one(folder: Path) -> None:
    """Train a small network on the pendulum, recorded as often as by config/config.yaml."""
    training = experiment(RUNS_PER_SEED, 1)["overrides"]["all"]["training"]
    task = settings.load(str(ROOT / "config/tasks/pendulum.yaml"))
    task = settings.merge(task, settings.numbers({"training": training, "model": {"hidden": [8, 8]}}))
    (folder / SETTINGS).write_text(json.dumps(task), encoding="utf-8")
    hybridsam(folder, "simulate", "--settings", SETTINGS, "--output", "dataset.nc")
    run = ["--method", "sam", "--rho", RHOS[0], "--seeds", "0", "--output", "run.nc"]
    hybridsam(folder, "train", "dataset.nc", "--settings", SETTINGS, *run)


def copy_runs(folder: Path, runs: int) -> None:
    """Make run files of one seed each out of run.nc, where they are not there yet."""
    task, data = settings.load(folder / SETTINGS), fingerprint(records.read(folder / "dataset.nc", "dataset"))
    for block in blocks_of({"sam": RHOS}, range(runs // len(RHOS)), 1):
        path = folder / "runs" / block.path
        if path.exists():
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(folder / "run.nc", path)
        with netCDF4.Dataset(path, "a") as file:
            file["rho"][0], file["seed"][0] = block.rho, block.seeds[0]
            file.setncattr("configuration_hash", block.hash(task, data))


def collect(folder: Path, runs: int) -> dict:
    grid = ["--grid", json.dumps({"sam": RHOS}), "--seeds", f"0-{runs // len(RHOS) - 1}"]
    grid += ["--seeds-per-job", "1", "--threads", "2"]
    files = ["runs", "--dataset", "dataset.nc", "--settings", SETTINGS, *grid, "--output", "cube.nc"]
    found = hybridsam(folder, "collect", *files)
    completed = int((records.read(folder / "cube.nc", "cube")["status"] == "completed").sum())
    if completed != runs:
        sys.exit(f"collect: {completed} of {runs} runs are in the cube")
    return found


def hybridsam(folder: Path, *arguments: str) -> dict:
    return measure([sys.executable, "-m", "hybridsam", *arguments], folder)


# All


def measurements(parts: list[str], sizes: list[int], repeats: int, folder: Path) -> Iterator[dict]:
    """Every measurement of these parts."""
    if {"plan", "start"} & set(parts):
        workflow = folder / "workflow"
        workflow.mkdir()
        prepare(workflow)
        for part, once in {"plan": plan, "start": start}.items():
            for runs in sizes if part in parts else []:
                for size in SEEDS_PER_JOB:
                    jobs = len(TASKS) * len(RHOS) * len(seed_ranges(range(runs // RUNS_PER_SEED), size))
                    what = {"part": part, "runs": runs, "seeds_per_job": size, "jobs": jobs}
                    yield repeated(repeats, what, lambda r=runs, s=size, once=once: once(workflow, r, s))
    if "collect" in parts:
        files = folder / "files"
        files.mkdir()
        train_one(files)
        for runs in sizes:
            copy_runs(files, runs)
            what = {"part": "collect", "runs": runs, "seeds_per_job": 1, "jobs": runs}
            yield repeated(repeats, what, lambda r=runs: collect(files, r))


def table(found: list[dict]) -> str:
    """A row for each measurement: medians, and the least and the most of the seconds."""
    header = ("", "runs", "jobs", "seconds", "least–most", "CPU seconds", "ms a run", "peak MB")
    rows = [header, ("---", *["--:"] * (len(header) - 1))]
    for one in found:
        seconds, cpu, memory = (statistics.median(one[name]) for name in ("seconds", "cpu_seconds", "megabytes"))
        spread = f"{min(one['seconds']):.1f}–{max(one['seconds']):.1f}"
        per_run = f"{1000 * seconds / one['runs']:.2g}"
        numbers = (f"{one['runs']:,}", f"{one['jobs']:,}", f"{seconds:.1f}", spread, f"{cpu:.1f}", per_run)
        rows.append((one["part"], *numbers, f"{memory:.0f}"))
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def parser() -> argparse.ArgumentParser:
    def parts(text: str) -> list[str]:
        for name in text.split(","):
            if name not in PARTS:
                raise argparse.ArgumentTypeError(f"{name!r} is not one of {', '.join(PARTS)}")
        return text.split(",")

    def sizes(text: str) -> list[int]:
        numbers = [int(number) for number in text.split(",")]
        for number in numbers:
            if number < 1 or number % RUNS_PER_SEED:
                raise argparse.ArgumentTypeError(f"{number} is no multiple of {RUNS_PER_SEED}")
        return numbers

    top = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    option = top.add_argument
    option("--parts", type=parts, default=list(PARTS), help=f"some of {','.join(PARTS)}")
    option("--runs", type=sizes, default=[1000, 5000, 20000], help="e.g. 1000,5000,20000, the default")
    option("--repeats", type=int, default=3, help="of every measurement (%(default)s)")
    option("--output", type=Path, default=Path(__file__).with_suffix(".json"), help="file to write (%(default)s)")
    return top


def main() -> None:
    options = parser().parse_args()
    kept = json.loads(options.output.read_text(encoding="utf-8")) if options.output.exists() else {}
    about = {
        "command": shlex.join(["python", "benchmarks/dag.py", *sys.argv[1:]]),
        "machine": processor(),
        "versions": versions(),
    }
    with tempfile.TemporaryDirectory() as folder:
        for one in measurements(options.parts, options.runs, options.repeats, Path(folder)):
            key = f"{one['part']} {one['runs']} {one['seeds_per_job']}"
            kept[key] = one | about
            options.output.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
    print(table(list(kept.values())))


if __name__ == "__main__":
    main()
