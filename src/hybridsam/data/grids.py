"""Named variables on a grid, of a NetCDF file or a Dataset, as fields of finite numbers; what is wrong is named."""

from collections.abc import Hashable, Iterable, Sequence

import numpy as np
import pandas as pd
import xarray as xr

from hybridsam.core.errors import UserError


def fields(
    data: pd.DataFrame | xr.Dataset, names: Sequence[str], dims: Sequence[str], where: str
) -> tuple[np.ndarray, list[xr.DataArray]]:
    """Variables with these dimensions, in whatever order, as values (*dims, name), and the dimensions' coordinates.

    A dimension without a coordinate is numbered. Raises UserError for a table, which has no grid, for variables that
    are not there or have other dimensions, and for values that are missing or infinite.
    """
    if not isinstance(data, xr.Dataset):
        raise UserError(f"{where}: a table has no grid; table.axes needs a NetCDF file or an xarray Dataset")
    for name in names:
        if name not in data.data_vars:
            raise UserError(f"{where}: no variable {name}; there are {_listed(data.data_vars)}")
        if set(data[name].dims) != set(dims):
            found = f"{name}({_listed(data[name].dims)})"
            raise UserError(f"{where}: the variable {found} has other dimensions than {', '.join(dims)}")
    values = np.stack([finite(data[name].transpose(*dims), where) for name in names], -1)
    return values, [data[name] for name in dims]


def finite(variable: xr.DataArray, where: str) -> np.ndarray:
    """The values as float64; raises UserError naming the first that is missing or infinite."""
    if variable.dtype.kind not in "iuf":
        raise UserError(f"{where}: the variable {variable.name} is {variable.dtype}; it must consist of numbers")
    values = variable.values.astype(float)
    if len(bad := np.argwhere(~np.isfinite(values))):
        place = ", ".join(f"{dim} {variable[dim].values[i]}" for dim, i in zip(variable.dims, bad[0], strict=True))
        raise UserError(
            f"{where}: the variable {variable.name} has no value at {place} ({len(bad)} of {values.size} have none); "
            "cut the grid to where there are values, or fill them"
        )
    return values


def _listed(names: Iterable[Hashable]) -> str:
    return ", ".join(map(str, names))
