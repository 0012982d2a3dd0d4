"""Fields on a grid as a user has them in a Dataset, and the section ``table`` that reads them."""

import numpy as np
import xarray as xr

TABLE = {
    "file": "sea.nc",
    "time": {"column": "day", "unit": "d"},
    "series": "basin",
    "state": {"sst": "degC", "ice": "1"},
    "axes": ["lat", "lon"],
    "split": {"by": "series", "train": ["a", "b"], "validation": ["c"], "test": ["d"]},
}


def sea(times=(0.0, 1.0, 2.0)):
    """Values that tell basin, time, place and variable, with the dimensions of a model's output."""
    dims, sizes = ("lon", "day", "basin", "lat"), (5, len(times), 4, 3)
    lon, day, basin, lat = np.meshgrid(*map(np.arange, sizes), indexing="ij")
    values = 1000.0 * basin + 100 * day + 10 * lat + lon
    return xr.Dataset(
        {"sst": (dims, values), "ice": (dims, -values), "depth": ("lat", np.zeros(3))},
        coords={"basin": list("abcd"), "day": list(times), "lat": ("lat", [50.0, 55, 60], {"units": "degrees_north"})},
    )
