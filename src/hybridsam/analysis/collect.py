"""From the run files of a task to its cube: which files, whether each is what its path says, all on labelled axes."""

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import xarray as xr

from hybridsam.analysis.cube import combine
from hybridsam.core import modules, records
from hybridsam.core.blocks import Block
from hybridsam.core.errors import UserError
from hybridsam.core.provenance import fingerprint
from hybridsam.core.records import RUN, Numbers

FILE = {"long_name": "file of the run, seen from the folder of this file"}


def collect(task: Mapping, dataset: xr.Dataset, paths: Sequence[Path], folder: Path, processes: int = 1) -> xr.Dataset:
    """The cube of a task, from its run files.

    task: its settings. paths: of all run files. folder: where the cube will lie; predictions stay in the run files, to
    which the variable ``file`` holds the path from there. processes: that read at once. Raises UserError for a file
    that is damaged, or was made with another configuration than its path and the settings stand for.
    """
    if not paths:
        raise UserError("collect: no run files were found")
    data = fingerprint(dataset)
    expected = [Block.from_path(path).hash(task, data) for path in paths]
    like = records.read(paths[0], "runs")
    like = like.assign(file=(RUN, np.full(like["status"].shape, "", object), FILE))
    blocks = _checked(paths, expected, records.read_many(paths, processes), folder)
    cube = combine(blocks, like, dataset, getattr(modules.load(task["module"]), "metrics", None))
    cube.attrs["task_title"] = task.get("title", task["module"])
    cube.attrs["changes"] = json.dumps(task.get("changes", {}))
    return cube


def _checked(
    paths: Iterable[Path], expected: Iterable[str], blocks: Iterable[Numbers], folder: Path
) -> Iterator[Numbers]:
    """The blocks, with the variable ``file``; raises UserError for one with another hash than is expected."""
    for path, wanted, block in zip(paths, expected, blocks, strict=True):
        found = block.attrs.get("configuration_hash")
        if found != wanted:
            raise UserError(
                f"{path}: this run file was made with another configuration (it has {found}, "
                f"expected {wanted}); delete it and run again"
            )
        file = np.full(block.variables["status"].shape, os.path.relpath(path, folder), dtype=object)
        yield replace(block, variables={**block.variables, "file": file})
