"""The command that lays out a task of one's own."""

from pathlib import Path

from hybridsam.cli.command import command, option


@command(
    "lay out Python file, YAML file and rule of a new task, from a template that runs",
    option("name", "of the task, and of its files"),
    option("--repository", "root of a clone of hybridsam (here)", type=Path, default=Path()),
)
def new_task(name: str, repository: Path) -> None:
    from hybridsam.template.lay_out import lay_out

    for path in lay_out(name, repository):
        print(path)
    print(f"It runs as it is: snakemake --cores 2 {name}")
