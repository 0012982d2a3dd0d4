"""The files of a task, loaded, from which its figures are made."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pandas as pd
import xarray as xr

from hybridsam.analysis.cube import runs_table
from hybridsam.analysis.selection import read_selection
from hybridsam.analysis.targets import target_of
from hybridsam.core import records
from hybridsam.core.errors import UserError
from hybridsam.core.methods import in_order
from hybridsam.core.records import TWIN
from hybridsam.core.scales import units_of

STANDARD = "standard units"  # of errors of a model whose targets are standardised


@dataclass(frozen=True)
class Results:
    """What the figures of a task are made from.

    dataset: where there are several, that of the lowest seed. selection: as ``selection.csv``. rule: of the selection,
    by which one rho of a method is shown. folder: where the cube lies; its variable ``file`` leads from there to the
    run files.
    """

    dataset: xr.Dataset
    cube: xr.Dataset
    selection: pd.DataFrame
    rule: str
    folder: Path

    @cached_property
    def selected(self) -> pd.DataFrame:
        """method, rho, n, failed, diverged, rule: the rho that the rule selected for each method by all its seeds.

        n: how many runs at that rho did not fail.
        """
        rows = self.selection[self.selection["rule"] == self.rule].set_index("method")
        chosen = rows.loc[in_order(rows.index), ["rho", "rule"]].reset_index()
        runs = runs_table(self.cube).astype({"method": str})
        runs = runs.assign(n=~runs["failed"], diverged=runs["status"] == "diverged")
        counts = runs.groupby(["method", "rho"])[["n", "failed", "diverged"]].sum().reset_index()
        return chosen.merge(counts, on=["method", "rho"])

    @cached_property
    def shown_runs(self) -> dict[str, xr.Dataset]:
        """method -> its first run at the selected rho, predictions (sample, ...); none if all diverged.

        The first of those that did not fail, or of all that completed.

        On the first of the datasets, which is the one that is here. Read from the run files; sample is numbered as in
        the dataset.
        """
        found, table = {}, runs_table(self.cube)
        for method, rho in zip(self.selected["method"], self.selected["rho"], strict=True):
            runs = self.cube.sel(training_method=method, rho=rho).isel(data=0)
            own = (table["method"] == method) & (table["rho"] == rho) & (table["data"] == runs["data"].item())
            completed = table[own & (table["status"] == "completed")]
            for seed in completed.sort_values("failed", kind="stable")["seed"][:1]:
                block = records.read(self.folder / runs["file"].sel(seed=seed).item(), "runs")
                run = block.sel(training_method=method, rho=rho, seed=seed)
                found[method] = run.set_coords("sample").swap_dims({"example": "sample"})
        return found

    @cached_property
    def identification(self) -> xr.Dataset:
        """What is known of theta without its truth, from the file beside the cube."""
        return records.read(self.folder / "identification.nc", "identification")

    @property
    def data(self) -> str:
        """Where the data come from: simulated, measured, or SYNTHETIC TWIN."""
        return records.origin(self.dataset)

    @property
    def error_unit(self) -> str:
        """The unit of errors and losses; standard units where they are those of standardised targets."""
        unit = self.cube["y_error"].attrs.get("units", "1")
        own = set(units_of(target_of(self.dataset)).values())
        return STANDARD if unit == "1" and own != {"1"} else unit

    @property
    def title(self) -> str:
        """Title of every figure; the marking of a synthetic twin comes first."""
        return f"{TWIN}: " * (self.data == TWIN) + task_title(self.cube)


def load(dataset: Path, cube: Path, selection: Path, rule: str) -> Results:
    """Read the three files of a task; raises UserError if the rule is none of those in the selection."""
    selected = read_selection(selection)
    if rule not in set(selected["rule"]):
        raise UserError(f"rule: {rule!r} is not in {selection}; it has {', '.join(selected['rule'].unique())}")
    return Results(records.read(dataset, "dataset"), records.read(cube, "cube"), selected, rule, Path(cube).parent)


def task_title(cube: xr.Dataset) -> str:
    """Title of the task, as the collect command writes it into the cube."""
    return cube.attrs.get("task_title", "untitled task")
