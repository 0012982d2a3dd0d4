"""Where results come from: commit, package versions, hashes of data and configuration."""

import hashlib
import importlib.metadata
import json
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from hybridsam.core.blocks import canonical

VERSIONED = ("torch", "numpy", "scipy", "xarray", "torchdiffeq")


def fingerprint(dataset: xr.Dataset) -> str:
    """A hash of the numbers and labels, whatever the attributes say (they hold timestamps)."""
    state = hashlib.sha256()
    for name in sorted(map(str, dataset.variables)):
        variable = dataset[name]
        state.update(f"{name} {variable.dims} {variable.shape}".encode())
        text = variable.dtype.kind in "OU"
        values = np.ascontiguousarray(variable.values)
        state.update("\0".join(map(str, values.ravel())).encode() if text else values.data)
    return state.hexdigest()[:16]


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that results depend on."""
    python = ".".join(map(str, sys.version_info[:3]))
    return {"python": python} | {name: importlib.metadata.version(name) for name in VERSIONED}


def git_commit() -> str:
    """Commit of the source tree, marked when it has local changes; 'unknown' outside a repository."""
    git = ["git", "-C", str(Path(__file__).parent)]
    try:
        commit = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
        changed = subprocess.run([*git, "diff", "--quiet", "HEAD"], capture_output=True).returncode
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return commit + (" with local changes" if changed else "")


def configuration_hash(
    settings: Mapping, dataset: xr.Dataset, method: str, rho: float | str, seeds: Sequence[int]
) -> str:
    """Hash of what a block of runs stands for: model, training, data, method, strength and seeds."""
    return configuration_hashes(settings, dataset)(method, rho, seeds)


def configuration_hashes(settings: Mapping, dataset: xr.Dataset) -> Callable[[str, float | str, Sequence[int]], str]:
    """(method, rho, seeds) -> :func:`configuration_hash`, for many blocks: it goes through the data once."""
    relevant = {key: settings[key] for key in ("module", "model", "training")}
    data = fingerprint(dataset)
    return lambda method, rho, seeds: digest([relevant, data, method, canonical(rho), list(seeds)])


def digest(settings: Any) -> str:
    """A short hash of JSON-like settings; equal for equal content."""
    text = json.dumps(settings, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
