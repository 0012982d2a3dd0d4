"""Command line: ``python -m hybridsam simulate | convert | tabulate | estimate | train | collect | select | export …``.

Modules are imported inside the commands, so that a rule of the workflow depends only on the code that its command runs.
"""

import argparse
import json
import logging
import re
import sys
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from hybridsam.core.errors import UserError

RUN_PATH = re.compile(r"(?P<method>\w+)/rho=(?P<rho>[^/]+)/seeds=(?P<seeds>\d+-\d+)\.nc$")


def simulate(args: argparse.Namespace) -> None:
    from hybridsam.core import modules, records, settings

    task = settings.load(args.settings)
    dataset = modules.load(task["module"]).simulate(settings.constants(task["data"]))
    dataset.attrs["constants"] = json.dumps(task["data"])
    records.write(dataset, args.output, "dataset", f"{task['module']}: data")


def download(args: argparse.Namespace) -> None:
    from hybridsam.core import settings
    from hybridsam.data import chambers

    chambers.download(_archive(settings.load(args.archives), args.name), args.output)


def twin(args: argparse.Namespace) -> None:
    from hybridsam.core import modules, settings

    task = settings.load(args.settings)
    if args.output.name != task["archive"]:
        raise UserError(f"output: {args.output} must be called {task['archive']}, as the archive that it stands for")
    modules.load(task["twin_module"]).simulate(settings.constants(task["twin"]), args.output)


def convert(args: argparse.Namespace) -> None:
    from hybridsam.core import modules, records, settings
    from hybridsam.data import chambers

    task = settings.load(args.settings)
    archive = _archive(settings.load(args.archives), task["archive"])
    folder = chambers.open_archive(args.source, archive)
    dataset = modules.load(task["module"]).convert(folder, settings.constants(task["data"]))
    synthetic = chambers.is_twin(folder)
    dataset.attrs |= {
        "source": f"SYNTHETIC TWIN of {archive.name}, simulated" if synthetic else f"measured, {archive.url}",
        "synthetic": "twin" if synthetic else "no",
        "attribution": archive.attribution,
        "licence": archive.licence,
        "constants": json.dumps(task["data"]),
    }
    records.write(dataset, args.output, "dataset", f"{task['module']}: data")


def tabulate(args: argparse.Namespace) -> None:
    from hybridsam.core import records, settings
    from hybridsam.data.table import read

    task = settings.load(args.settings)
    dataset = read(task["table"])
    dataset.attrs["constants"] = json.dumps({key: {"value": value} for key, value in task["table"].items()})
    records.write(dataset, args.output, "dataset", f"{task['table']['file']}: data")


def _archive(table, name: str):
    from hybridsam.data import chambers

    known = chambers.archives(table)
    if name not in known:
        raise UserError(f"archive: {name!r} is not one of {', '.join(known)}")
    return known[name]


def train(args: argparse.Namespace) -> None:
    import torch
    from safetensors.torch import save_file

    from hybridsam.core import records, settings
    from hybridsam.core.files import write_whole
    from hybridsam.core.provenance import digest
    from hybridsam.training.block import checkpoint_for, train_task
    from hybridsam.training.checkpoint import locked

    torch.set_num_threads(args.threads)
    task = settings.load(args.settings)
    dataset = records.read(args.dataset, "dataset")
    block_of_runs = (task, dataset, args.method, args.rho, parse_seeds(args.seeds), args.device)
    checkpoint = None
    alone: AbstractContextManager = nullcontext()
    if args.checkpoints:
        checkpoint = checkpoint_for(*block_of_runs, args.checkpoints, args.checkpoint_seconds)
        alone = locked(args.checkpoints / f"{digest(str(args.output.resolve()))}.lock")
    from hybridsam.training.estimate import (
        log_training,  # after the checkpoint, whose name holds a hash of what is imported
    )

    with alone:
        block, weights = train_task(*block_of_runs, checkpoint, before=log_training)
        run = {name: block.attrs[name] for name in ("configuration", "configuration_hash")} | {"seeds": args.seeds}
        run["data"] = records.origin(block)
        metadata = {"run": json.dumps(run)}  # one entry: several are written in random order
        write_whole(args.output.with_suffix(".safetensors"), lambda part: save_file(weights, part, metadata))
        records.write(block, args.output, "runs", f"{task['module']}: {args.method}, rho = {args.rho}")


def estimate(args: argparse.Namespace) -> None:
    from hybridsam.core import settings
    from hybridsam.core.blocks import blocks_of
    from hybridsam.training.estimate import study

    datasets = args.dataset or [None] * len(args.settings)
    if len(datasets) != len(args.settings):
        raise UserError(f"dataset: {len(datasets)} files for {len(args.settings)} tasks")
    sizes = args.seeds_per_job
    if len(sizes) != len(args.settings):
        raise UserError(f"seeds-per-job: {len(sizes)} numbers for {len(args.settings)} tasks")
    seeds = [seed for run in args.seeds for seed in parse_seeds(run)]
    blocks = [[len(parse_seeds(block)) for block in blocks_of(seeds, size)] for size in sizes]
    tasks = [settings.load(text) for text in args.settings]
    print(json.dumps(study(tasks, datasets, json.loads(args.grid), blocks, args.cache)))


def diagnose(args: argparse.Namespace) -> None:
    from hybridsam.analysis.identifiability import as_table
    from hybridsam.core import modules, records, settings
    from hybridsam.core.files import write_whole

    task = settings.load(args.settings)
    model = modules.load(task["module"]).build(task["model"])
    table = as_table(model, records.read(args.dataset, "dataset"))
    write_whole(args.output, lambda part: table.to_csv(part, index=False))


def collect(args: argparse.Namespace) -> None:
    from hybridsam.analysis import cube as cubes
    from hybridsam.core import modules, records, settings
    from hybridsam.core.blocks import blocks_of
    from hybridsam.core.provenance import configuration_hashes

    task = settings.load(args.settings)
    dataset = records.read(args.dataset, "dataset")
    if args.grid:
        grid = json.loads(args.grid)
        blocks = blocks_of([seed for run in args.seeds for seed in parse_seeds(run)], args.seeds_per_job)
        paths = [
            args.runs / m / f"rho={rho}" / f"seeds={block}.nc" for m in grid for rho in grid[m] for block in blocks
        ]
    else:
        paths = sorted(args.runs.glob("*/rho=*/seeds=*.nc"))
    if not paths:
        raise UserError("collect: no run files were found")
    hash_of, expected = configuration_hashes(task, dataset), {}
    for path in paths:
        match = RUN_PATH.search(path.as_posix())
        if not match:
            raise UserError(f"{path}: not the path of a run file, <method>/rho=<rho>/seeds=<first>-<last>.nc")
        expected[path] = hash_of(match["method"], match["rho"], parse_seeds(match["seeds"]))
    first = records.read(paths[0], "runs")
    files = zip(paths, records.read_many(paths, args.threads), strict=True)
    theta_metrics = getattr(modules.load(task["module"]), "metrics", None)
    cube = cubes.collect(files, expected, first, dataset, args.output.parent, theta_metrics)
    cube.attrs["task_title"] = task.get("title", task["module"])
    cube.attrs["changes"] = json.dumps(task.get("changes", {}))
    records.write(cube, args.output, "cube", f"{cube.attrs['task_title']}: all runs")


def select(args: argparse.Namespace) -> None:
    from hybridsam.analysis import selection as rules
    from hybridsam.core import records
    from hybridsam.core.files import write_whole

    selection = rules.select(records.read(args.cube, "cube"))
    write_whole(args.output, lambda part: selection.to_csv(part, index=False))


def export(args: argparse.Namespace) -> None:
    from safetensors.torch import save_file

    from hybridsam.analysis.selection import read_selection
    from hybridsam.core import records
    from hybridsam.core.files import write_whole
    from hybridsam.export import parameter_table, selected, selected_module

    runs = selected(records.read(args.cube, "cube"), read_selection(args.selection), args.method, args.rule)
    dataset = records.read(args.dataset, "dataset")
    module, about = selected_module(args.cube.parent, runs, dataset)
    table = parameter_table(module.model, runs)
    weights = module.state_dict()
    write_whole(args.parameters, lambda part: table.to_csv(part, sep="\t", index=False))
    write_whole(args.output, lambda part: save_file(weights, part, about))


def table(args: argparse.Namespace) -> None:
    import pandas as pd

    from hybridsam.core.files import write_whole
    from hybridsam.report import table_one

    table = table_one.table_one({Path(path).parent.name: pd.read_csv(path) for path in args.selections})
    writers = {
        ".csv": lambda part: table.to_csv(part, index=False),
        ".md": lambda part: part.write_text(table_one.as_markdown(table)),
        ".html": lambda part: part.write_text(table_one.as_html(table)),
    }
    for path in args.output:
        write_whole(path, writers[path.suffix])


def results(args: argparse.Namespace) -> None:
    import pandas as pd

    from hybridsam.core import records
    from hybridsam.core.files import write_whole
    from hybridsam.report import markdown_page

    folders = {task: args.experiment / task for task in args.tasks}
    page = markdown_page.as_page(
        pd.read_csv(args.experiment / "table.csv"),
        {task: records.read(folder / "cube.nc", "cube") for task, folder in folders.items()},
        {task: pd.read_csv(folder / "identifiability.csv") for task, folder in folders.items()},
        args.made_by,
    )
    write_whole(args.output, lambda part: part.write_text(page))


def figure(args: argparse.Namespace) -> None:
    from hybridsam.analysis.results import load
    from hybridsam.figures.registry import write

    logging.getLogger("fontTools").setLevel(logging.WARNING)  # it tells of every glyph that goes into a pdf
    results = load(args.dataset, args.cube, args.selection, args.rule)
    write(args.name, results, args.output)


def new_task(args: argparse.Namespace) -> None:
    from hybridsam.template.lay_out import lay_out

    for path in lay_out(args.name, args.repository):
        print(path)
    print(f"It runs as it is: snakemake --cores 2 {args.name}")


def parse_seeds(text: str) -> list[int]:
    """``3-5`` or ``4`` -> the seeds of a block."""
    match = re.fullmatch(r"(\d+)(?:-(\d+))?", text)
    if not match or int(match[2] or match[1]) < int(match[1]):
        raise UserError(f"seeds: {text!r} is not a seed or a range such as 0-4")
    return list(range(int(match[1]), int(match[2] or match[1]) + 1))


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(
        prog="hybridsam", description="Train and compare hybrid models of science and network."
    )
    top.add_argument("--quiet", action="store_true", help="no progress lines")
    commands = top.add_subparsers(required=True, metavar="command")

    def command(function, help: str) -> argparse.ArgumentParser:
        added = commands.add_parser(function.__name__.replace("_", "-"), help=help, description=help)
        added.set_defaults(function=function)
        return added

    def settings_option(to: argparse.ArgumentParser) -> None:
        to.add_argument("--settings", required=True, help="task settings: a YAML file, or JSON text")

    c = command(simulate, "simulate a task's data")
    settings_option(c)
    c.add_argument("--output", type=Path, required=True, help="dataset.nc to write")

    def archives_option(to: argparse.ArgumentParser) -> None:
        to.add_argument("--archives", default="config/archives.yaml", help="table of the archives of measured data")

    c = command(download, "fetch and verify an archive of measured data")
    c.add_argument("name", help="of the archive, such as wt_walks_v1")
    archives_option(c)
    c.add_argument("--output", type=Path, required=True, help="zip file to write")

    c = command(twin, "simulate a SYNTHETIC TWIN of an archive: the same files, for want of the measurements")
    settings_option(c)
    c.add_argument("--output", type=Path, required=True, help="folder to write, called as the archive")

    c = command(convert, "turn an archive, or its twin, into a task's data")
    c.add_argument("source", type=Path, help="the archive: its zip file, or a folder with its files")
    settings_option(c)
    archives_option(c)
    c.add_argument("--output", type=Path, required=True, help="dataset.nc to write")

    c = command(tabulate, "turn a table of your own, CSV or NetCDF, into a task's data")
    settings_option(c)
    c.add_argument("--output", type=Path, required=True, help="dataset.nc to write")

    c = command(train, "train one block of runs: a method, a strength, some seeds")
    c.add_argument("dataset", type=Path, help="dataset.nc")
    settings_option(c)
    c.add_argument("--method", required=True, help="erm, l2reg, freg, sam, asam or fsam")
    c.add_argument("--rho", required=True, help="radius of the perturbation or weight of the penalty; 0 for erm")
    c.add_argument("--seeds", required=True, help="first-last, such as 0-4")
    c.add_argument("--output", type=Path, required=True, help="run file to write; the weights go beside it")
    c.add_argument("--device", default="auto", help="auto (a GPU when there is one), cpu, cuda, cuda:1 …")
    c.add_argument("--threads", type=int, default=1, help="CPU threads of this process")
    c.add_argument(
        "--checkpoints", type=Path, help="folder for checkpoints and locks; a killed training resumes from there"
    )
    c.add_argument("--checkpoint-seconds", type=float, default=60.0, help="time between checkpoints")

    c = command(estimate, "how long all trainings of some tasks take on this machine, as JSON")
    c.add_argument("--settings", nargs="+", required=True, help="of each task: a YAML file, or JSON text")
    c.add_argument("--dataset", type=Path, nargs="+", help="dataset.nc of each task, used if it is there")
    c.add_argument("--grid", required=True, help="JSON, method -> strengths")
    c.add_argument("--seeds", nargs="+", required=True, help="first-last, several where some are left out")
    c.add_argument("--seeds-per-job", type=int, nargs="+", required=True, help="of each task: how many one job trains")
    c.add_argument("--cache", type=Path, help="folder where estimates of unchanged tasks are found again")

    c = command(diagnose, "what can be known about theta before training")
    c.add_argument("dataset", type=Path, help="dataset.nc")
    settings_option(c)
    c.add_argument("--output", type=Path, required=True, help="identifiability.csv to write")

    c = command(collect, "put all runs of a task on labelled axes")
    c.add_argument("runs", type=Path, help="folder of the run files, <method>/rho=<rho>/seeds=<first>-<last>.nc")
    c.add_argument("--dataset", type=Path, required=True)
    settings_option(c)
    c.add_argument("--grid", help="JSON, method -> strengths, as they stand in the paths; without it every file found")
    c.add_argument("--seeds", nargs="+", default=[], help="with --grid: first-last, several where some are left out")
    c.add_argument("--seeds-per-job", type=int, default=1, help="with --grid: the most seeds in a file")
    c.add_argument("--threads", type=int, default=1, help="processes that read at once")
    c.add_argument("--output", type=Path, required=True, help="cube.nc to write")

    c = command(select, "choose each method's strength by every rule")
    c.add_argument("cube", type=Path)
    c.add_argument("--output", type=Path, required=True, help="selection.csv to write")

    c = command(export, "a selected model as a PyTorch module without members, and theta as a PEtab parameter table")
    c.add_argument("cube", type=Path, help="cube.nc; it leads to the run files")
    c.add_argument("--dataset", type=Path, required=True)
    c.add_argument("--selection", type=Path, required=True, help="selection.csv")
    c.add_argument("--method", required=True, help="whose selected strength, of which the best seed, is exported")
    c.add_argument("--rule", default="validation", help="validation, one_standard_error or oracle")
    c.add_argument("--output", type=Path, required=True, help="safetensors file to write")
    c.add_argument("--parameters", type=Path, required=True, help="parameters.tsv to write")

    c = command(table, "Table 1: all tasks and methods")
    c.add_argument("selections", nargs="+", help="selection.csv of each task, in a folder named after the task")
    c.add_argument("--output", type=Path, nargs="+", required=True, help="table.csv, table.md, table.html")

    c = command(figure, "draw one figure of a task and write the numbers in it")
    c.add_argument("name", help="predictions, residuals, theta_training, errors_rho, tradeoff or losses")
    c.add_argument("--dataset", type=Path, required=True)
    c.add_argument("--cube", type=Path, required=True, help="cube.nc; it leads to the run files")
    c.add_argument("--selection", type=Path, required=True, help="selection.csv")
    c.add_argument("--rule", default="validation", help="validation, one_standard_error or oracle")
    c.add_argument("--output", type=Path, nargs="+", required=True, help="name.pdf, name.svg, name.png, name.csv")

    c = command(results, "a page of Markdown with an experiment's sizes, identifiability and Table 1")
    c.add_argument("experiment", type=Path, help="folder of the experiment, with table.csv")
    c.add_argument("--tasks", nargs="+", required=True)
    c.add_argument("--made-by", required=True, help="the command to state on the page")
    c.add_argument("--output", type=Path, required=True)

    c = command(new_task, "lay out Python file, YAML file and rule of a new task, from a template that runs")
    c.add_argument("name", help="of the task, and of its files")
    c.add_argument("--repository", type=Path, default=Path(), help="root of a clone of hybridsam (here)")
    return top


def main() -> int:
    args = parser().parse_args()
    logging.basicConfig(
        level=logging.WARNING if args.quiet else logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S"
    )
    try:
        args.function(args)
    except UserError as error:
        print(f"hybridsam: {error}", file=sys.stderr)
        return 2
    except OSError as error:  # no permission, disk full, …
        print(f"hybridsam: {error.strerror or error}: {error.filename or ''}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
