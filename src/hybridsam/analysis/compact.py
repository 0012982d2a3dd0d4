"""Numbers with few digits, and images with a row of a table for each row of pixels: what keeps tables to draw small."""

import numpy as np
import pandas as pd
import xarray as xr


def rows_of_pixels(array: xr.DataArray) -> pd.DataFrame:
    """A row for each row of pixels, the top one first, and a column for each of its pixels; array (..., y, x).

    A coordinate y points up; without one, y numbers the rows from the top.
    """
    array = array.sortby("y", ascending=False) if "y" in array.coords else array
    *labels, x = ([f"{v:.4g}" for v in array[d].values] if d in ("y", "x") else array[d].values for d in array.dims)
    index = pd.MultiIndex.from_product(labels, names=array.dims[:-1])
    columns = [f"x={label}" for label in x]
    return pd.DataFrame(rounded(array.values, 4).reshape(-1, len(x)), index=index, columns=columns).reset_index()


def rounded(values: np.ndarray, digits: int) -> np.ndarray:
    """Values with so many significant digits, which keeps tables small."""
    return np.array([float(f"{value:.{digits}g}") for value in values.ravel()]).reshape(values.shape)
