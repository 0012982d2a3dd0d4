"""A page of Markdown that states what an experiment found, at which sizes, and how to find it again."""

import json
import os
import platform
from collections.abc import Mapping
from pathlib import Path

import pandas as pd
import xarray as xr

from hybridsam.evaluate import runs_table
from hybridsam.tables import as_markdown


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
            diagnoses[task].drop(columns="data").to_markdown(index=False, floatfmt=".4g"),
        ]
        parts += ["least_norm is the theta for which the network has least to add; freg converges to it."]
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
    runs = runs_table(cube)
    counts = runs["status"].value_counts()
    hours = float(cube["seconds"].sum()) / 3600
    return (
        f"{len(runs)} runs ({counts.get('completed', 0)} completed, {counts.get('diverged', 0)} diverged), "
        f"{runs['seed'].nunique()} seeds, {hours:.1f} core-hours of training on {cube.attrs['runs_device']}; "
        f"commit {cube.attrs['runs_git_commit']}.\n\n"
        f"model: `{json.dumps(settings['model'])}`\n\ntraining: `{json.dumps(settings['training'])}`"
    )


def _order(table: pd.DataFrame) -> str:
    if "theta_error_mean" not in table or table["theta_error_mean"].isna().all():
        return "The true θ is not known, so there is no θ-error."
    lines = ["Methods from the largest mean θ-error to the smallest:", ""]
    for rule, rows in table.groupby("rule", sort=False):
        rows = rows.sort_values("theta_error_mean", ascending=False)
        order = " > ".join(f"{row.method} {row.theta_error_mean:.3g}" for row in rows.itertuples())
        lines.append(f"- {rule}: {order}")
    return "\n".join(lines)
