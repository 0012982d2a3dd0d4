"""From runs to numbers: the cube of a task, errors against the truth, the selection rules, Table 1."""

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import ArrayLike
from scipy import stats

from hybridsam.errors import UserError
from hybridsam.records import RUN

METRICS = ("theta_error", "theta_relative_error", "y_error", "y_error_over_noise", "validation_error")
BASELINE = "erm"


def collect(
    blocks: Mapping[Path, xr.Dataset], expected: Mapping[Path, str], dataset: xr.Dataset, folder: Path
) -> xr.Dataset:
    """All blocks of a task on the axes (method, rho, seed); combinations that were not run have status ``missing``.

    blocks: path -> block of runs. expected: path -> hash of the configuration that the path stands for; a block with
    another hash is refused. folder: where the cube will lie. Predictions stay in the run files, to which the variable
    ``file`` holds the path from there.
    """
    if not blocks:
        raise UserError("collect: no run files were found")
    for path, block in blocks.items():
        found = block.attrs.get("configuration_hash")
        if found != expected[path]:
            raise UserError(
                f"{path}: this run file was made with another configuration (it has {found}, "
                f"expected {expected[path]}); delete it and run again"
            )
    first = next(iter(blocks.values()))
    axes = {
        "method": list(dict.fromkeys(block["method"].item() for block in blocks.values())),
        "rho": sorted({block["rho"].item() for block in blocks.values()}),
        "seed": sorted({seed for block in blocks.values() for seed in block["seed"].values.tolist()}),
    }
    position = {name: {label: i for i, label in enumerate(labels)} for name, labels in axes.items()}
    shape = tuple(map(len, axes.values()))
    per_run = {str(n): v for n, v in first.data_vars.items() if v.dims[:3] == RUN and "example" not in v.dims}
    values = {name: _missing(name, variable, shape) for name, variable in per_run.items()}
    file, seconds = np.full(shape, "", dtype=object), np.full(shape, np.nan)
    for path, block in blocks.items():
        i, j = position["method"][block["method"].item()], position["rho"][block["rho"].item()]
        k = [position["seed"][seed] for seed in block["seed"].values.tolist()]
        for name in values:
            values[name][i, j, k] = block[name].values[0, 0]
        file[i, j, k] = os.path.relpath(path, folder)
        seconds[i, j, k] = block.attrs["seconds"] / len(k)

    shared = ("parameter", "parameter_units", "split", "step")
    cube = xr.Dataset(
        {name: (variable.dims, values[name], variable.attrs) for name, variable in per_run.items()},
        coords=axes | {name: first[name].variable for name in shared},
        attrs={name: first.attrs[name] for name in ("synthetic", "source", "configuration")}
        | {"constants": dataset.attrs.get("constants", "{}")}
        | {f"runs_{name}": _distinct(blocks, name) for name in ("git_commit", "device", "versions")},
    )
    cube["file"] = (RUN, file, {"long_name": "file of the run, seen from the folder of this file"})
    cube["seconds"] = (RUN, seconds, {"long_name": "training time, a run's share of its block's", "units": "s"})
    cube["learning_rate"] = first["learning_rate"]
    return add_errors(cube, dataset)


def _distinct(blocks: Mapping[Path, xr.Dataset], attribute: str) -> str:
    return " | ".join(sorted({str(block.attrs[attribute]) for block in blocks.values()}))


def _missing(name: str, variable: xr.DataArray, shape: tuple[int, ...]) -> np.ndarray:
    full = (*shape, *variable.shape[3:])
    if name == "status":
        return np.full(full, "missing", dtype=object)
    return np.full(full, np.nan)


def add_errors(cube: xr.Dataset, dataset: xr.Dataset) -> xr.Dataset:
    """Add theta_error, theta_relative_error and y_error_over_noise where the dataset says what is true.

    theta_error: Euclidean norm of the difference, in natural units. theta_relative_error: mean of |difference / truth|.
    y_error_over_noise: root of y_error over the standard deviation of the measurement noise.
    """
    truth = json.loads(dataset.attrs.get("truth", "{}"))
    names = cube["parameter"].values.tolist()
    if set(names) <= set(truth):
        true = xr.DataArray([float(truth[name]) for name in names], dims="parameter")
        difference = cube["theta"] - true
        cube["theta_true"] = true.assign_attrs(long_name="true theta", units="see parameter_units")
        distance = (difference**2).sum("parameter", skipna=False) ** 0.5
        cube["theta_error"] = distance.assign_attrs(
            long_name="Euclidean distance of theta from the truth", units="natural units of theta"
        )
        relative = abs(difference / true).mean("parameter", skipna=False)
        cube["theta_relative_error"] = relative.assign_attrs(long_name="mean relative error of theta", units="1")
    if dataset.attrs.get("noise", 0) > 0:
        scaled = cube["y_error"] ** 0.5 / dataset.attrs["noise"]
        cube["y_error_over_noise"] = scaled.assign_attrs(long_name="RMSE over noise standard deviation", units="1")
    return cube


def runs_table(cube: xr.Dataset) -> pd.DataFrame:
    """One row a run that was configured: method, rho, seed, status, file and the metrics on the test data."""
    columns = {"status": cube["status"], "file": cube["file"]}
    columns["validation_error"] = cube["y_error"].sel(split="validation", drop=True)
    for name in METRICS:
        if name in cube:
            columns[name] = cube[name].sel(split="test", drop=True) if "split" in cube[name].dims else cube[name]
    frames = {name: array.to_series() for name, array in columns.items()}
    table = pd.DataFrame(frames).reset_index()
    table["method"] = pd.Categorical(table["method"], cube["method"].values.tolist(), ordered=True)
    return table[table["status"] != "missing"].sort_values(list(RUN), ignore_index=True)


def strengths(runs: pd.DataFrame) -> pd.DataFrame:
    """One row for each rho of one method: number of completed and diverged runs, mean errors, standard error.

    Means are over completed runs; a strength without any has infinite errors.
    """
    completed = runs[runs["status"] == "completed"]
    by_rho = completed.groupby("rho")
    table = pd.DataFrame(index=sorted(runs["rho"].unique()))
    table["n"] = by_rho.size()
    table["diverged"] = runs[runs["status"] == "diverged"].groupby("rho").size()
    table = table.fillna(0)
    table["validation_error"] = by_rho["validation_error"].mean()
    table["standard_error"] = by_rho["validation_error"].sem()
    if "theta_error" in runs:
        table["theta_error"] = by_rho["theta_error"].mean()
    return table.fillna({"validation_error": np.inf, "theta_error": np.inf, "standard_error": 0.0})


def lowest_validation_error(table: pd.DataFrame) -> float:
    """The strength with the fewest diverged runs and, among those, the lowest mean validation error."""
    return table.sort_values(["diverged", "validation_error"], kind="stable").index[0]


def one_standard_error(table: pd.DataFrame) -> float:
    """The largest strength whose validation error is within one standard error of the best (Occam's choice)."""
    best = table.loc[lowest_validation_error(table)]
    close = table["validation_error"] <= best["validation_error"] + best["standard_error"]
    return table.index[close & (table["diverged"] <= best["diverged"])].max()


def oracle(table: pd.DataFrame) -> float:
    """The strength with the lowest mean theta error: needs the truth, so it is no rule for real data."""
    return table.sort_values(["diverged", "theta_error"], kind="stable").index[0]


RULES: dict[str, Callable[[pd.DataFrame], float]] = {
    "validation": lowest_validation_error,
    "one_standard_error": one_standard_error,
    "oracle": oracle,
}


def select(cube: xr.Dataset) -> pd.DataFrame:
    """The strength that each rule chooses for each method, always on the final iterate, and the errors there.

    One row a method and rule: rho, completed runs n, diverged, and for every metric its mean and standard deviation
    over seeds, and the mean difference to erm over the seeds that both completed, with its standard deviation and
    number.
    """
    runs = runs_table(cube)
    rules = [rule for rule in RULES if rule != "oracle" or "theta_error" in runs]
    metrics = [name for name in METRICS if name in runs]
    baseline = _completed(runs, BASELINE, None)
    rows = []
    for method in cube["method"].values.tolist():
        table = strengths(runs[runs["method"] == method])
        for rule in rules:
            rho = RULES[rule](table)
            chosen = _completed(runs, method, rho)
            row = {"method": method, "rule": rule, "rho": rho, "n": len(chosen)}
            row["diverged"] = table.loc[rho, "diverged"]
            row["n_paired"] = len(chosen.index.intersection(baseline.index))
            for name in metrics:
                difference = chosen[name] - baseline[name]  # aligned by seed, NaN where one of the two is missing
                row |= {f"{name}_mean": chosen[name].mean(), f"{name}_sd": chosen[name].std()}
                row |= {f"{name}_minus_{BASELINE}": difference.mean(), f"{name}_minus_{BASELINE}_sd": difference.std()}
            rows.append(row)
    return pd.DataFrame(rows).astype({"n": int, "diverged": int})


def _completed(runs: pd.DataFrame, method: str, rho: float | None) -> pd.DataFrame:
    chosen = (runs["method"] == method) & (runs["status"] == "completed")
    if rho is not None:
        chosen &= runs["rho"] == rho
    return runs[chosen].set_index("seed")


def interval(values: ArrayLike, level: float = 0.95) -> float:
    """Half width of Student's t interval for the mean of independent values; NaN for fewer than two."""
    sample = np.asarray(values, dtype=float)
    if len(sample) < 2:
        return float("nan")
    return float(stats.t.ppf((1 + level) / 2, len(sample) - 1) * stats.sem(sample))


def table_one(selections: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """The selections of all tasks, one below the other, with the task in front."""
    return pd.concat([frame.assign(task=task) for task, frame in selections.items()], ignore_index=True)[
        lambda frame: ["task", *[name for name in frame.columns if name != "task"]]
    ]


def formatted(table: pd.DataFrame, rule: str) -> pd.DataFrame:
    """Table 1 of the paper for one rule: a row a method, theta error and y error of each task as mean ± sd."""
    chosen = table[table["rule"] == rule]
    columns: dict[tuple[str, str], pd.Series] = {}
    for task, rows in chosen.groupby("task", sort=False):
        rows = rows.set_index("method")
        for name, title in (("theta_error", "θ-error"), ("y_error", "y-error")):
            columns[task, title] = rows.apply(_mean_and_sd, axis=1, name=name)
        columns[task, "rho"] = rows["rho"].map("{:g}".format)
        columns[task, "n"] = rows.apply(
            lambda r: f"{r['n']}" + (f" ({r['diverged']} diverged)" * bool(r["diverged"])), axis=1
        )
    return pd.DataFrame(columns).reindex(chosen["method"].unique()).fillna("–")


def _mean_and_sd(row: pd.Series, name: str) -> str:
    mean, sd = row.get(f"{name}_mean", np.nan), row.get(f"{name}_sd", np.nan)
    if np.isnan(mean):
        return "–"
    return f"{mean:.3g}" + (f" ± {sd:.2g}" if not np.isnan(sd) else "")


RULE_TITLES = {
    "validation": "Strength with the lowest validation error (the default rule)",
    "one_standard_error": "Largest strength within one standard error of the lowest validation error",
    "oracle": "Strength with the lowest θ-error (oracle: uses the truth, as the paper's Table 1 does)",
}
TABLE_NOTE = (
    "Mean ± standard deviation over seeds at the final iterate, on test data; y-error is the mean squared error over "
    "all states and times. rho is the chosen strength, n the number of completed runs."
)


def as_markdown(table: pd.DataFrame) -> str:
    """Table 1 for each selection rule, in Markdown."""
    parts = [TABLE_NOTE]
    for rule in table["rule"].unique():
        frame = formatted(table, rule)
        frame.columns = [" ".join(column) for column in frame.columns]
        parts.append(f"**{RULE_TITLES[rule]}**\n\n{frame.to_markdown()}")
    return "\n\n".join(parts) + "\n"


def as_html(table: pd.DataFrame) -> str:
    """Table 1 for each selection rule, as a fragment of HTML."""
    parts = [f"<p>{TABLE_NOTE}</p>"]
    for rule in table["rule"].unique():
        parts.append(f"<h3>{RULE_TITLES[rule]}</h3>\n{formatted(table, rule).to_html(border=0)}")
    return "\n".join(parts) + "\n"
