"""Commands that make datasets. Modules are imported inside the commands, so that each starts fast."""

from pathlib import Path

from hybridsam.cli.command import SETTINGS, command, option, output

ARCHIVES = option(
    "--archives", "table of the archives of measured data", type=Path, default=Path("config/archives.yaml")
)


@command("simulate a task's data", SETTINGS, output("dataset.nc to write"))
def simulate(settings: Path, output: Path) -> None:
    from hybridsam.core import records
    from hybridsam.core.settings import load
    from hybridsam.data.simulate import simulated

    task = load(settings)
    records.write(simulated(task), output, "dataset", f"{task['module']}: data")


@command(
    "fetch and verify an archive of measured data",
    option("name", "of the archive, such as wt_walks_v1"),
    ARCHIVES,
    output("zip file to write"),
)
def download(name: str, archives: Path, output: Path) -> None:
    from hybridsam.core.settings import load
    from hybridsam.data import chambers

    chambers.download(chambers.archive(load(archives), name), output)


@command(
    "simulate a SYNTHETIC TWIN of an archive: the same files, for want of the measurements",
    SETTINGS,
    output("folder to write, called as the archive"),
)
def twin(settings: Path, output: Path) -> None:
    from hybridsam.core.settings import load
    from hybridsam.twins.archive import simulate_twin

    simulate_twin(load(settings), output)


@command(
    "turn an archive, or its twin, into a task's data",
    option("source", "the archive: its zip file, or a folder with its files", type=Path),
    SETTINGS,
    ARCHIVES,
    output("dataset.nc to write"),
)
def convert(source: Path, settings: Path, archives: Path, output: Path) -> None:
    from hybridsam.core import records
    from hybridsam.core.settings import load
    from hybridsam.data.chambers import converted

    task = load(settings)
    records.write(converted(task, load(archives), source), output, "dataset", f"{task['module']}: data")


@command("turn a table of your own, CSV or NetCDF, into a task's data", SETTINGS, output("dataset.nc to write"))
def tabulate(settings: Path, output: Path) -> None:
    from hybridsam.core import records
    from hybridsam.core.settings import load
    from hybridsam.data.table import tabulated

    task = load(settings)
    records.write(tabulated(task), output, "dataset", f"{task['table']['file']}: data")
