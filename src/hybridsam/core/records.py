"""Datasets, runs and cubes as NetCDF files: what must be in them, where they come from, and writing them whole."""

import json
import sys
import warnings
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import netCDF4
import numpy as np
import xarray as xr

from hybridsam.core.errors import UserError
from hybridsam.core.files import write_whole
from hybridsam.core.modules import source
from hybridsam.core.provenance import git_commit, versions
from hybridsam.core.scales import STANDARD

RUN = ("training_method", "rho", "seed")  # not method, which is an argument of xarray's sel
CUBE = ("training_method", "rho", "data", "seed")  # data: the seed of the dataset, of which a run file has one
OF_DATA = (*STANDARD, "data_variance", "y_error_of_truth")  # what a cube says of each dataset, not of each run
OF_TRUTH = "state_of_truth"  # in a dataset: what the true model predicts from the observed initial states
RENAMED = {"method": "training_method"}  # in files of older versions
REQUIRED: dict[str, dict[str, tuple[str, ...]]] = {
    "dataset": {"split": ("sample",)},  # and the attribute target: the variable that models predict
    "runs": {
        "theta": (*RUN, "parameter"),
        "y_error": (*RUN, "split"),
        "status": RUN,
        "theta_history": (*RUN, "step", "parameter"),
    },
    "cube": {"theta": (*CUBE, "parameter"), "y_error": (*CUBE, "split"), "status": CUBE},
    "identification": {"theta": ("assumption", "parameter"), "trained": ("member", "parameter")},
    "profile": {"held": ("parameter", "value"), "theta": ("parameter", "value", "of")},
}
OPTIONAL: dict[str, dict[str, tuple[str, ...]]] = {  # as REQUIRED, but files of older versions lack it
    kind: {"validation_errors": (*axes, "validation_sample")} for kind, axes in {"runs": RUN, "cube": CUBE}.items()
}
TWIN = "SYNTHETIC TWIN"  # marks everything that is made of a simulated archive
ORIGINS = {"yes": "simulated", "twin": TWIN, "no": "measured"}  # of the data, by the attribute synthetic
REFERENCE = "Takeishi (2026), arXiv:2602.06837"
EXAMPLES = 3  # test samples whose predictions run files keep
CHUNK_BYTES = 1 << 20  # in memory
FILES_AT_ONCE = 50  # that a process reads before it hands them over
CODE = {"runs": ("hybridsam.training.block",), "cube": ("hybridsam.analysis.collect",)}  # what makes them
PACKING = ("dtype", "scale_factor", "_FillValue")


def write(dataset: xr.Dataset, path: Path, kind: str, title: str) -> None:
    """Write a dataset, a block of runs or a cube, with its kind and its provenance in the attributes."""
    provenance: dict[str, str] = {
        "Conventions": "CF-1.11",
        "title": title,
        "references": REFERENCE,
        "history": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ} hybridsam {' '.join(sys.argv[1:2])}",
        "hybridsam_kind": kind,
        "git_commit": git_commit(*_code_of(dataset, kind)),
        "versions": json.dumps(versions()),
    }
    if dataset.attrs.get("synthetic") == "twin":
        provenance["title"] = f"{TWIN}: {title}"
    dataset = dataset.assign_attrs({**dataset.attrs, **provenance})
    numeric = [name for name in dataset.variables if dataset[name].dtype.kind in "fiu" and dataset[name].ndim]
    encoding = {name: _encoding(dataset[name].variable) for name in numeric}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", xr.SerializationWarning)  # packed images hold no NaN
        write_whole(Path(path), lambda part: dataset.to_netcdf(part, engine="netcdf4", encoding=encoding))


def _code_of(dataset: xr.Dataset, kind: str) -> list[str]:
    """The modules that made a block of runs or a cube, the task's too; none for a dataset, which names no task."""
    task = json.loads(dataset.attrs.get("configuration", "{}")).get("module", "")
    return [module for module in (*CODE.get(kind, ()), task) if module and source(module)]


def _encoding(variable: xr.Variable) -> dict:
    """Compressed, in chunks of whole rows of the first axis; packed as whoever made the variable asks for."""
    row_bytes = max(1, variable.nbytes // max(1, variable.shape[0]))
    rows = min(variable.shape[0], max(1, CHUNK_BYTES // row_bytes))
    packing = {key: variable.encoding[key] for key in PACKING if key in variable.encoding}
    chunks = {"chunksizes": (rows, *variable.shape[1:])} if variable.size else {}
    return packing | chunks | {"zlib": True, "complevel": 4}


def read(path: Path, kind: str) -> xr.Dataset:
    """Read a file of that kind into memory; raises UserError naming the file if it is anything else.

    Cubes of older versions, which are of one dataset, get the axis ``data``.
    """
    with _naming(path):
        dataset = xr.load_dataset(path, engine="netcdf4")
        dataset = dataset.rename({old: new for old, new in RENAMED.items() if old in dataset.variables})
    if kind == "cube" and dataset.attrs.get("hybridsam_kind") == kind and "data" not in dataset.dims:
        dataset = with_data(dataset, seed_of_data(dataset))
    _check(path, kind, dataset.attrs, {str(name): variable.dims for name, variable in dataset.variables.items()})
    return dataset


def seed_of_data(file: xr.Dataset) -> int:
    """The seed of the data of a dataset or of a cube of one; 0 where none is known, as of measured data."""
    seed = json.loads(file.attrs.get("constants", "{}")).get("seed", {}).get("value", 0)
    return seed if isinstance(seed, int) else 0


def true_theta(dataset: xr.Dataset, names: Sequence[str]) -> np.ndarray | None:
    """(parameter,) the true theta as a dataset has it; None where it does not know that of all."""
    truth = json.loads(dataset.attrs.get("truth", "{}"))
    return np.array([float(truth[name]) for name in names]) if set(names) <= set(truth) else None


def with_data(runs: xr.Dataset, seed: int) -> xr.Dataset:
    """Runs on one dataset, on the axes ``RUN``, as a cube, on the axes ``CUBE``; seed: that of the data."""
    cube = runs.assign_coords(data=("data", [seed], {"long_name": "seed of the dataset", "units": "1"}))
    for name, variable in runs.variables.items():
        if is_of_runs(variable.dims):
            cube[name] = (*CUBE, *variable.dims[3:]), variable.values[:, :, None], variable.attrs
        elif name in OF_DATA:
            cube[name] = ("data", *variable.dims), variable.values[None], variable.attrs
    return cube


@dataclass(frozen=True)
class Numbers:
    """A block of runs without predictions, units and what all blocks share: of many files, this is read quickly."""

    variables: Mapping[str, np.ndarray]
    attrs: Mapping[str, Any]


def read_numbers(path: Path) -> Numbers:
    """As :func:`read` of a run file, in a third of the time: past xarray, as there is nothing to be decoded."""
    with _naming(path), netCDF4.Dataset(path) as file:
        file.set_auto_maskandscale(False)
        attributes = {name: file.getncattr(name) for name in file.ncattrs()}
        named = {RENAMED.get(name, name): variable for name, variable in file.variables.items()}
        dims = {name: tuple(RENAMED.get(dim, dim) for dim in of.dimensions) for name, of in named.items()}
        wanted = [name for name in dims if name in RUN or is_of_runs(dims[name])]
        values = {name: named[name][...] for name in wanted}
    _check(path, "runs", attributes, dims)
    return Numbers(values, attributes)


def read_many(paths: Sequence[Path], processes: int) -> Iterator[Numbers]:
    """:func:`read_numbers` of every path in turn, read by so many processes at once: HDF5 knows no threads."""
    if processes == 1:
        yield from map(read_numbers, paths)
        return
    with ProcessPoolExecutor(processes, get_context("spawn")) as pool:  # forked, a process with threads may hang
        yield from pool.map(read_numbers, paths, chunksize=FILES_AT_ONCE)


def is_of_runs(dims: Iterable[Hashable]) -> bool:
    """Whether a variable of a run file goes into the cube: it has a value, or several, for each run, no predictions."""
    return (*dims,)[:3] == RUN and "example" not in dims


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Turn whatever goes wrong while a file is read into a UserError that names it."""
    if not Path(path).is_file():
        raise UserError(f"{path}: no such file")
    try:
        yield
    except Exception as error:  # the NetCDF and HDF5 libraries raise many kinds for a damaged file
        raise UserError(f"{path}: not a readable NetCDF file (truncated or foreign): {error}") from error


def _check(path: Path, kind: str, attributes: Mapping[str, Any], dims: Mapping[str, tuple]) -> None:
    """Raise UserError unless the attributes and the dimensions of the variables are those of that kind of file."""
    found = attributes.get("hybridsam_kind")
    if found != kind:
        raise UserError(f"{path}: expected a hybridsam {kind} file, found {found or 'some other NetCDF file'}")
    there = {name: wanted for name, wanted in OPTIONAL.get(kind, {}).items() if name in dims}
    for name, required in (REQUIRED[kind] | there).items():
        if dims.get(name) != required:
            raise UserError(f"{path}: the variable {name}({', '.join(required)}) is missing or has other dimensions")


def origin(file: xr.Dataset) -> str:
    """Where the data in a dataset, a block of runs or a cube come from, as tables and figures state it."""
    return ORIGINS.get(file.attrs.get("synthetic", ""), "unknown")
