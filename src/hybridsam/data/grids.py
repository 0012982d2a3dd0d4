"""Named variables on a grid, of a NetCDF file or a Dataset, as fields of finite numbers; what is wrong is named."""

from collections.abc import Hashable, Iterable, Sequence

import numpy as np
import pandas as pd
import xarray as xr

from hybridsam.core.errors import UserError
from hybridsam.data.missing import how_to_say, means_nothing, suspects


def fields(
    data: pd.DataFrame | xr.Dataset, names: Sequence[str], dims: Sequence[str], where: str, missing: Sequence | None
) -> tuple[dict[str, np.ndarray], list[xr.DataArray]]:
    """Variables with these dimensions, in whatever order, as values (*dims,), and the dimensions' coordinates.

    missing: of the section ``table``. A dimension without a coordinate is numbered. Raises UserError for a table, which
    has no grid, for variables that are not there or have other dimensions, and for values that are missing, infinite or
    look as if they meant "no value".
    """
    if not isinstance(data, xr.Dataset):
        raise UserError(f"{where}: a table has no grid; table.axes needs a NetCDF file or an xarray Dataset")
    for name in names:
        if name not in data.data_vars:
            raise UserError(f"{where}: no variable {name}; there are {_listed(data.data_vars)}")
        if set(data[name].dims) != set(dims):
            found = f"{name}({_listed(data[name].dims)})"
            raise UserError(f"{where}: the variable {found} has other dimensions than {', '.join(dims)}")
    variables = [data[name].transpose(*dims) for name in names]
    every = {name: finite(variable, where, missing) for name, variable in zip(names, variables, strict=True)}
    found_in = {name: several for name, values in every.items() if (several := suspects(values))}
    if missing is None and found_in:
        name, [first, *_] = next(iter(found_in.items()))
        place = _place(variables[names.index(name)], first.first)
        raise UserError(f"{where}: the variable {name}, {place}: {first}{how_to_say(found_in)}")
    return every, [data[name] for name in dims]


def finite(variable: xr.DataArray, where: str, missing: Sequence | None = None) -> np.ndarray:
    """The values as float64; raises UserError naming the first that is infinite or missing, also by that list."""
    if variable.dtype.kind not in "iuf":
        raise UserError(f"{where}: the variable {variable.name} is {variable.dtype}; it must consist of numbers")
    values = variable.values.astype(float)
    values = np.where(means_nothing(values, missing), np.nan, values)
    if len(bad := np.flatnonzero(~np.isfinite(values))):
        raise UserError(
            f"{where}: the variable {variable.name} has no value at {_place(variable, bad[0])} "
            f"({len(bad)} of {values.size} have none); cut the grid to where there are values, or fill them"
        )
    return values


def _place(variable: xr.DataArray, number: int) -> str:
    """The coordinates of a value, by its number in the flat array."""
    index = np.unravel_index(number, variable.shape)
    return ", ".join(f"{dim} {variable[dim].values[i]}" for dim, i in zip(variable.dims, index, strict=True))


def _listed(names: Iterable[Hashable]) -> str:
    return ", ".join(map(str, names))
