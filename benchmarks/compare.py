"""Measure member-iterations per second of hybridsam and of its peers, taking turns, and write them with the machine.

A member-iteration is one iteration of sharpness-aware minimization of one run: two gradients and an update by Adam.
Every variant runs in a process of its own, on one core with one thread, in single precision, at the sizes of
config/tasks. First each must agree with ours on the loss and gradient at the initial weights, and on the first losses;
one that does not, or fails, is reported and left out.

Examples:
  python benchmarks/compare.py                                    everything (about an hour)
  python benchmarks/compare.py --tasks pendulum --members 1,16    one task (two minutes)
  python benchmarks/compare.py --tasks pendulum --processes 2     two processes at once against one
  python benchmarks/compare.py --tasks pendulum --device cuda     on a GPU, 256 members against one
"""

import argparse
import json
import os
import shlex
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import machine
import tables
from problems import IMAGES, TASKS, prepare
from remote import ONE_THREAD, Failed, Job, check, difference

OURS = ("ours", "ours_pytorch")
VARIANTS = {
    "pendulum": (*OURS, "torch", "torch_dopri5", "jax", "diffrax"),
    "duffing": (*OURS, "torch", "torch_dopri5", "jax", "diffrax"),
    "reaction_diffusion": (*OURS, "torch", "torch_channels_last", "jax"),
    "wind_tunnel": (*OURS, "torch", "jax"),
    "light_tunnel": ("ours", "torch", "torch_channels_last", "jax"),  # no compiled path yet
}
REFERENCE = "torch"
ROUNDS, ROUNDS_OF_IMAGES = 7, 3
OUTPUT = Path(__file__).with_name("results.json")


def main() -> None:
    """Run the command line."""
    options = parser().parse_args()
    if options.device != "cpu" and not machine.gpu():
        sys.exit(f"--device {options.device}: torch sees no GPU here")
    if options.processes > (os.cpu_count() or 1):
        sys.exit(f"--processes {options.processes}: there are {os.cpu_count()} cores")
    about = {
        "command": shlex.join(["python", "benchmarks/compare.py", *sys.argv[1:]]),
        "machine": machine_of(options.core, options.device),
        "versions": machine.versions(),
    }
    section = options.device if options.processes == 1 else f"{options.processes} processes"
    for task in options.tasks:
        with tempfile.TemporaryDirectory() as folder:
            try:
                measured = measure(task, Path(folder), options)
            except Failed as error:  # of the library itself, with which all others are compared
                sys.exit(f"{task}: {error}")
        write(options.output, section, task, about | measured)
        print(tables.of_task(task, about | measured), flush=True)


def measure(task: str, folder: Path, options: argparse.Namespace) -> dict:
    """Agreement and rates of all variants of a task."""
    members = options.members or default_members(task, options.device)
    say(f"{task}: making the data")
    problem = prepare(task, max(members), folder)
    names = [name for name in VARIANTS[task] if name in (options.variants or VARIANTS[task])]
    agreement, failed = agree(task, folder, names, options)
    jobs = start(task, folder, [name for name in names if name not in failed], members, options, failed)
    count = options.rounds or (ROUNDS_OF_IMAGES if task in IMAGES else ROUNDS)
    rounds = take_turns(jobs, count, options.processes, failed)
    for job in jobs.values():
        job.end()
    return {
        "gigaflops": problem.gigaflops(),
        "bound": "convolution" if task in IMAGES else "sgemm",
        "agreement": agreement,
        "failed": failed,
        "variants": {label: described(job, label, rounds) for label, job in jobs.items()},
    }


def agree(task: str, folder: Path, names: list[str], options: argparse.Namespace) -> tuple[dict, dict[str, str]]:
    """How far each variant is from ours in plain PyTorch; and those that failed or are too far, with the reason."""
    say(f"{task}: comparing what the variants compute")
    ours = check(folder, task, "ours_pytorch", options.core, options.device)
    agreement, failed = {}, {}
    for name in names:
        try:
            agreement[name] = difference(name, ours, check(folder, task, name, options.core, options.device))
        except Failed as error:
            failed[name] = str(error)
            continue
        if not agreement[name]["agrees"]:
            failed[name] = "does not agree with ours"
    for name, reason in failed.items():
        say(f"{task}: {name} is left out: {reason}")
    return agreement, failed


def several(name: str, task: str, device: str) -> bool:
    """Whether a variant trains several runs at once.

    Not JAX with convolutions on a CPU: vmapped, four U-Nets were five times slower than one after the other.
    """
    return name in ("ours", "ours_pytorch") or (name in ("jax", "diffrax") and not (task in IMAGES and device == "cpu"))


def start(
    task: str, folder: Path, names: list[str], members: list[int], options: argparse.Namespace, failed: dict[str, str]
) -> dict[str, Job]:
    """Label -> a job that is ready; adds those that are not to ``failed``."""
    others = [core for core in range(os.cpu_count() or 1) if core != options.core]
    cores = [options.core, *others][: options.processes]
    jobs = {}
    for name in names:
        for count in members if several(name, task, options.device) else [1]:
            label = f"{name} x{count}"
            say(f"starting {label}")
            try:
                jobs[label] = Job(folder, name, count, cores, options.device, options.seconds)
            except Failed as error:
                failed[label] = str(error)
                say(f"{label} is left out: {error}")
    return jobs


def take_turns(jobs: dict[str, Job], count: int, processes: int, failed: dict[str, str]) -> list[dict]:
    """Rates of each round, label -> [alone] or [alone, all processes at once]; a job that fails is taken out."""
    rounds = []
    for number in range(count):
        say(f"round {number + 1} of {count}")
        rates = {}
        for label, job in list(jobs.items()):
            try:
                rates[label] = [job.rate(busy) for busy in sorted({1, processes})]
            except Failed as error:
                failed[label] = str(error)
                del jobs[label]
        rounds.append(rates)
    return rounds


def described(job: Job, label: str, rounds: list[dict]) -> dict:
    """The figures of one job; ratios are taken in each round, in which the machine was as fast for both."""
    rates = [rates[label][0] for rates in rounds]
    found = {
        "members": job.members,
        "iterations_per_round": job.iterations,
        "member_iterations_per_second": statistics.median(rates),
        "rounds": rates,
        "peak_megabytes": job.workers[0].peak_megabytes,
        **job.ready,
    }
    reference = f"{REFERENCE} x1"
    if all(reference in rates for rates in rounds):
        found["ratio"] = spread([rates[label][0] / rates[reference][0] for rates in rounds])
    if len(job.workers) > 1:
        found["processes"] = len(job.workers)
        found["processes_ratio"] = spread([rates[label][1] / rates[label][0] for rates in rounds])
    return found


def spread(values: list[float]) -> dict[str, float]:
    return {"median": statistics.median(values), "least": min(values), "most": max(values)}


def default_members(task: str, device: str) -> list[int]:
    if task in IMAGES:
        return [1, 4]
    return [1, 4, 16, 64] if device == "cpu" else [1, 256]


def machine_of(core: int | None, device: str) -> dict:
    """The machine as seen from that core, by a process of its own."""
    command = [sys.executable, machine.__file__, "--device", device]
    command += ["--core", str(core)] if core is not None else []
    return json.loads(subprocess.run(command, check=True, capture_output=True, env=os.environ | ONE_THREAD).stdout)


def write(path: Path, section: str, task: str, measured: dict) -> None:
    """Put a task's figures into the file, which keeps those of other tasks."""
    results = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    results.setdefault(section, {})[task] = measured
    part = path.with_name(f".{path.name}.part")
    part.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    part.replace(path)


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def parser() -> argparse.ArgumentParser:
    def one_of(known):
        def chosen(text: str) -> list[str]:
            names = text.split(",")
            for name in names:
                if name not in known:
                    raise argparse.ArgumentTypeError(f"{name!r} is not one of {', '.join(known)}")
            return names

        return chosen

    def numbers(text: str) -> list[int]:
        return [int(number) for number in text.split(",")]

    last = max(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None
    variants = list(dict.fromkeys(name for names in VARIANTS.values() for name in names))
    top = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    option = top.add_argument
    option("--tasks", type=one_of(TASKS), default=list(TASKS), help=f"some of {','.join(TASKS)}")
    option("--variants", type=one_of(variants), help=f"some of {','.join(variants)}; ratios are to {REFERENCE}")
    option(
        "--members",
        type=numbers,
        help="runs trained at once by those that can, e.g. 1,4,16,64, the default; 1,4 for images",
    )
    option("--rounds", type=int, help=f"turns of every variant ({ROUNDS}; {ROUNDS_OF_IMAGES} for images)")
    option("--seconds", type=float, default=1.0, help="length of a turn, at least one iteration (%(default)s)")
    option("--core", type=int, default=last, help="processor core to measure on (the last: %(default)s)")
    option("--processes", type=int, default=1, help="also run so many processes of a variant at once, one a core")
    option("--device", default="cpu", help="cpu or cuda (%(default)s)")
    option("--output", type=Path, default=OUTPUT, help="file that the figures are put into (%(default)s)")
    return top


if __name__ == "__main__":
    main()
