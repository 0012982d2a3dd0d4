"""NetCDF files and Datasets as they are meant: missing values masked, packed numbers unpacked, bytes as text."""

import logging
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import xarray as xr

from hybridsam.core.errors import UserError

ENDINGS = (".nc", ".nc4", ".cdf")
LIMITS = {"valid_range": 2, "valid_min": 1, "valid_max": 1}  # of valid values by CF, and how many numbers each is

logger = logging.getLogger(__name__)


def read(file: Path) -> xr.Dataset:
    """A file as a Dataset, whose times stay numbers, in the file's unit."""
    try:
        return xr.load_dataset(file, engine="netcdf4", decode_times=False)
    except Exception as error:  # the NetCDF and HDF5 libraries raise many kinds for a damaged file
        raise UserError(f"{file}: not a readable NetCDF file (truncated or foreign): {error}") from error


def decoded(dataset: xr.Dataset, where: str) -> xr.Dataset:
    """The same with what its attributes say of its numbers done, if it is not yet, and with texts for bytes."""
    dataset = xr.decode_cf(dataset, concat_characters=False, decode_times=False, decode_coords=False)
    for name, variable in dataset.variables.items():
        if variable.dtype.kind == "S" or (variable.dtype.kind == "O" and _has_bytes(variable.values)):
            try:
                dataset = dataset.assign({name: _as_text(variable)})
            except UnicodeDecodeError as error:
                raise UserError(
                    f"{where}: the variable {name} has bytes that are no UTF-8: {error.object!r}"
                ) from error
    return dataset


def within_limits(dataset: xr.Dataset, names: Iterable[str], where: str) -> xr.Dataset:
    """A decoded Dataset, without the values of these variables that are not valid by their attributes ``LIMITS``.

    Raises UserError for limits that are no numbers.
    """
    for name in names:
        given = [limit for limit in LIMITS if name in dataset.variables and limit in dataset[name].attrs]
        if not given or dataset[name].dtype.kind not in "iuf":
            continue
        variable = dataset[name]
        low, high = _limits(variable, given, where)
        outside = (variable < low) | (variable > high)
        if outside.any():
            logger.warning(
                f"{where}: the variable {name} has {int(outside.sum())} of {variable.size} values below {low:.7g} or "
                f"above {high:.7g}, which count as missing, as its {' and '.join(given)} says so; delete what is wrong"
            )
            dataset = dataset.assign({name: variable.where(~outside)})
    return dataset


def _limits(variable: xr.DataArray, given: Iterable[str], where: str) -> tuple[float, float]:
    """The smallest and the largest valid value: limits in whole numbers of a packed variable are packed, too."""
    low, high = -np.inf, np.inf
    scale, offset = (variable.encoding.get(key, none) for key, none in (("scale_factor", 1.0), ("add_offset", 0.0)))
    packed = {"scale_factor", "add_offset"} & set(variable.encoding)
    for limit in given:
        value = np.atleast_1d(variable.attrs[limit])
        if value.dtype.kind not in "iuf" or value.shape != (LIMITS[limit],):
            allowed = "two numbers" if limit == "valid_range" else "a number"
            raise UserError(
                f"{where}: the variable {variable.name} has {limit} {variable.attrs[limit]!r}, not {allowed}"
            )
        if packed and value.dtype.kind in "iu":
            value = np.sort(scale * value[:, None] + offset + scale * np.array([-0.5, 0.5]), axis=None)[
                [0, -1]
            ]  # rounded
        if variable.dtype.kind == "f":
            value = value.astype(variable.dtype)
        low = max(low, float(value.min())) if limit != "valid_max" else low
        high = min(high, float(value.max())) if limit != "valid_min" else high
    return low, high


def _has_bytes(values: np.ndarray) -> bool:
    return any(isinstance(value, bytes) for value in values.flat)


def _as_text(variable: xr.Variable) -> xr.Variable:
    """Of bytes; an array of single characters is one text for each row of its last dimension."""
    dims, values = variable.dims, variable.values
    if values.dtype == "S1" and values.ndim > 1:
        dims, values = dims[:-1], np.ascontiguousarray(values).view(f"S{values.shape[-1]}")[..., 0]
    texts = [value.decode().strip() if isinstance(value, bytes) else value for value in values.ravel().tolist()]
    return xr.Variable(dims, np.array(texts, object).reshape(values.shape), variable.attrs)
