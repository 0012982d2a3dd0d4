"""A page of Markdown that states what an experiment found, at which sizes, and how to find it again."""

import json
import os
import platform
from collections.abc import Mapping
from pathlib import Path

import pandas as pd
import xarray as xr

from hybridsam.analysis.experiment import elapsed_seconds, ends_of_runs, training_seconds
from hybridsam.report.fragments import several_datasets, tidy
from hybridsam.report.numbers import column, duration, in_columns
from hybridsam.report.table_one import as_markdown


def as_page(
    table: pd.DataFrame, cubes: Mapping[str, xr.Dataset], diagnoses: Mapping[str, pd.DataFrame], command: str
) -> str:
    """The page: the command, the machine, for each task the sizes and identifiability, and Table 1 for every rule.

    table: as table.csv. cubes, diagnoses: task -> cube, task -> identifiability table.
    """
    parts = [
        "# Measured results",
        "This page is written by the workflow. The command that trains the runs and writes it:",
        f"```\n{command}\n```",
        f"Machine: {machine()}.",
    ]
    for task, cube in cubes.items():
        parts += [
            f"## {task}",
            _sizes(cube),
            in_columns(tidy(diagnoses[task])).to_markdown(index=False, disable_numparse=True),
        ]
        if diagnoses[task].get("least_norm", pd.Series()).notna().any():
            parts += [
                "least_norm, from the true rates of change, is the theta for which the network has least to add in the "
                "mean square; freg converges to it as its weight goes to 0."
            ]
        parts += [_order(table[table["task"] == task])]
    return "\n\n".join([*parts, "## Table 1", as_markdown(table)])


def machine() -> str:
    """Processor, cores and system, in words."""
    names = [
        line.split(":", 1)[1].strip()
        for line in (Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else [])
        if line.startswith("model name")
    ]
    return f"{names[0] if names else platform.processor()}, {os.cpu_count()} cores, {platform.system()}"


def _sizes(cube: xr.Dataset) -> str:
    settings = json.loads(cube.attrs["configuration"])
    ends = ends_of_runs({"runs": cube}).loc["runs"]
    return (
        f"{ends['completed'] + ends['diverged']} runs ({ends['completed']} completed, of which {ends['worse']} "
        f"failed, {ends['diverged']} diverged), "
        f"{cube.sizes['seed']} seeds{several_datasets(cube)}, "
        f"{duration(training_seconds([cube]))} of training on {cube.attrs['runs_device']}, "
        f"from the first start to the last end: {duration(elapsed_seconds([cube]))}; "
        f"commit {cube.attrs['runs_git_commit']}."
        f"\n\nmodel: `{json.dumps(settings['model'])}`\n\ntraining: `{json.dumps(settings['training'])}`"
    )


def _order(table: pd.DataFrame) -> str:
    """The methods of one task by their root mean square θ-error, for each rule, as a list in Markdown."""
    if "theta_error_rms" not in table or table["theta_error_meaning"].isna().all():
        return "The true θ is not known, so there is no θ-error."
    lines = ["Methods from the largest root mean square θ-error to the smallest, and how they compare (Table 1):", ""]
    for rule, rows in table.groupby("rule", sort=False):
        rows = rows.dropna(subset="theta_error_rms").sort_values("theta_error_rms", ascending=False)
        standings = rows["theta_error_standing"].astype(object).fillna("")
        errors = zip(rows["method"], column(rows["theta_error_rms"]), standings, strict=True)
        order = " > ".join(
            f"{method} {error}" + f" ({standing})" * bool(standing) for method, error, standing in errors
        )
        lines.append(f"- {rule}: {order or 'every run failed'}")
    return "\n".join(lines)
