"""Commands that write tables, figures and pages."""

import logging
from collections.abc import Sequence
from pathlib import Path

from hybridsam.cli.command import DATASET_OF_RUNS, RULE, command, option, output


@command(
    "Table 1: all tasks and methods",
    option("selections", "selection.csv of each task, in a folder named after the task", type=Path, nargs="+"),
    output("table.csv, table.md, table.html", nargs="+"),
)
def table(selections: Sequence[Path], output: Sequence[Path]) -> None:
    import pandas as pd

    from hybridsam.core.files import write_whole
    from hybridsam.report import table_one

    table = table_one.table_one({path.parent.name: pd.read_csv(path) for path in selections})
    writers = {
        ".csv": lambda part: table.to_csv(part, index=False),
        ".md": lambda part: part.write_text(table_one.as_markdown(table)),
        ".html": lambda part: part.write_text(table_one.as_html(table)),
    }
    for path in output:
        write_whole(path, writers[path.suffix])


@command(
    "draw one figure of a task and write the numbers in it",
    option("name", "predictions, residuals, theta_training, errors_rho, tradeoff, losses or landscape"),
    DATASET_OF_RUNS,
    option("--cube", "cube.nc; it leads to the run files and to identification.nc", type=Path),
    option("--selection", "selection.csv", type=Path),
    RULE,
    output("name.pdf, name.svg, name.png, name.csv", nargs="+"),
)
def figure(name: str, dataset: Path, cube: Path, selection: Path, rule: str, output: Sequence[Path]) -> None:
    from hybridsam.analysis.results import load
    from hybridsam.figures.registry import write

    logging.getLogger("fontTools").setLevel(logging.WARNING)  # it tells of every glyph that goes into a pdf
    write(name, load(dataset, cube, selection, rule), output)


@command(
    "draw the profile of a task",
    option("profile", "profile.nc", type=Path),
    output("profile.pdf, profile.svg, profile.png", nargs="+"),
)
def profile_figure(profile: Path, output: Sequence[Path]) -> None:
    from functools import partial

    from hybridsam.core import records
    from hybridsam.core.files import write_whole
    from hybridsam.figures.profile import draw_profile
    from hybridsam.figures.style import save

    logging.getLogger("fontTools").setLevel(logging.WARNING)
    figure = draw_profile(records.read(profile, "profile"))
    for path in output:
        write_whole(path, partial(save, figure, kind=path.suffix))


@command(
    "a page of Markdown with an experiment's sizes, identifiability and Table 1",
    option("experiment", "folder of the experiment, with table.csv", type=Path),
    option("--tasks", "whose folders are there", nargs="+"),
    option("--made-by", "the command to state on the page"),
    output("page to write"),
)
def results(experiment: Path, tasks: Sequence[str], made_by: str, output: Path) -> None:
    import pandas as pd

    from hybridsam.core import records
    from hybridsam.core.files import write_whole
    from hybridsam.report import markdown_page

    folders = {task: experiment / task for task in tasks}
    page = markdown_page.as_page(
        pd.read_csv(experiment / "table.csv"),
        {task: records.read(folder / "cube.nc", "cube") for task, folder in folders.items()},
        {task: pd.read_csv(folder / "identifiability.csv") for task, folder in folders.items()},
        made_by,
    )
    write_whole(output, lambda part: part.write_text(page))


@command(
    "a page of Markdown that says how often the verdicts on theta are right",
    option("tables", "of `calibrate`", type=Path, nargs="+"),
    option("--made-by", "the command to state on the page"),
    output("page to write"),
)
def calibration(tables: Sequence[Path], made_by: str, output: Path) -> None:
    import pandas as pd

    from hybridsam.core.files import write_whole
    from hybridsam.report.calibration_page import as_page

    page = as_page(pd.concat([pd.read_csv(path) for path in tables], ignore_index=True), made_by)
    write_whole(output, lambda part: part.write_text(page))
