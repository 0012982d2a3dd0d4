"""Blocks of runs with numbers that can be worked out by hand, and the cube of them."""

import json

import numpy as np
import xarray as xr

from hybridsam.analysis.cube import combine
from hybridsam.core.records import RUN

TRUTH = {"a": 1.0, "b": 2.0}
SPLITS = ["train", "validation", "test"]


def block(method, rho, seeds, theta, y_error, status="completed"):
    """A block of runs with theta (seed, 2) and y_error (seed, 3); both validation samples have that of their split."""
    n = len(seeds)
    theta, y_error = np.reshape(theta, (1, 1, n, 2)), np.reshape(y_error, (1, 1, n, 3))
    return xr.Dataset(
        {
            "theta": ((*RUN, "parameter"), theta),
            "y_error": ((*RUN, "split"), y_error),
            "validation_errors": ((*RUN, "validation_sample"), y_error[..., [1, 1]]),
            "status": (RUN, np.full((1, 1, n), status, dtype=object)),
            "skipped_updates": (RUN, np.zeros((1, 1, n), dtype=int)),
            "theta_history": ((*RUN, "step", "parameter"), theta[..., None, :]),
            "learning_rate": ("step", [1e-3]),
            "prediction": ((*RUN, "example"), np.ones((1, 1, n, 1))),
        },
        coords={
            "training_method": [method],
            "rho": [rho],
            "seed": list(seeds),
            "parameter": ["a", "b"],
            "parameter_units": ("parameter", ["m", "s"]),
            "split": SPLITS,
            "step": [0],
        },
        attrs={
            "synthetic": "yes",
            "source": "test",
            "configuration": "{}",
            "configuration_hash": "h",
            "git_commit": "c",
            "device": "cpu",
            "versions": "{}",
            "seconds": 6.0,
        },
    )


def runs_with(method, rho, validation, theta_errors, status="completed"):
    """A block whose seeds have these validation errors and theta errors (test error = 2 x validation error)."""
    theta = [[1.0 + error, 2.0] for error in theta_errors]
    return block(method, rho, range(len(validation)), theta, [[0.0, v, 2 * v] for v in validation], status)


ERM = runs_with("erm", 0.0, [1.0, 2.0, 3.0], [0.5, 0.6, 0.7])


def dataset(**attrs):
    """Two samples to train on, two each for validation and the test, whose data have a variance of 10 000."""
    split = ("sample", ["train", "test", "train", "validation", "validation", "test"])
    target = ("sample", [-100.0, -100.0, 100.0, -100.0, 100.0, 100.0])
    known = {"truth": json.dumps(TRUTH), "noise": 0.1, "target": "reading"}
    return xr.Dataset({"split": split, "reading": target}, attrs=known | attrs)


def cube_of(*blocks, data=None, theta_metrics=None):
    return combine(blocks, blocks[0], dataset() if data is None else data, theta_metrics)
