"""NetCDF files and Datasets as they are meant: missing values masked, packed numbers unpacked, bytes as text."""

from pathlib import Path

import numpy as np
import xarray as xr

from hybridsam.core.errors import UserError

ENDINGS = (".nc", ".nc4", ".cdf")


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


def _has_bytes(values: np.ndarray) -> bool:
    return any(isinstance(value, bytes) for value in values.flat)


def _as_text(variable: xr.Variable) -> xr.Variable:
    """Of bytes; an array of single characters is one text for each row of its last dimension."""
    dims, values = variable.dims, variable.values
    if values.dtype == "S1" and values.ndim > 1:
        dims, values = dims[:-1], np.ascontiguousarray(values).view(f"S{values.shape[-1]}")[..., 0]
    texts = [value.decode().strip() if isinstance(value, bytes) else value for value in values.ravel().tolist()]
    return xr.Variable(dims, np.array(texts, object).reshape(values.shape), variable.attrs)
