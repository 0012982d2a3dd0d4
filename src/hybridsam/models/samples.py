"""What models learn from: the inputs and targets of some samples, as tensors with a member axis."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import pairwise

import torch
import xarray as xr
from torch import Tensor

from hybridsam.core.errors import UserError
from hybridsam.core.scales import STANDARD


@dataclass(frozen=True, eq=False)
class Samples:
    """Tensors (member, sample, ...), whose member axis has length one where all members share them.

    Parameters
    ----------
    inputs : dict of str to Tensor
        name -> what a model predicts from.
    targets : Tensor
        What a prediction is compared with.
    times : tuple of float, optional
        Of a time series, in the dataset's unit.
    mean, scale : Tensor or float, optional
        Targets and predictions times scale plus mean are in the dataset's units.
    rate : Tensor or float, optional
        Usual rate of change of a state, in standard units of the targets per unit of time.
    """

    inputs: dict[str, Tensor]
    targets: Tensor
    times: tuple[float, ...] = ()
    mean: Tensor | float = 0.0
    scale: Tensor | float = 1.0
    rate: Tensor | float = 1.0

    def __len__(self) -> int:
        return self.targets.shape[1]

    @property
    def standard(self) -> bool:
        """Whether targets are in standard units, not in the dataset's."""
        return isinstance(self.scale, Tensor)

    def batch(self, index: Tensor) -> "Samples":
        """Some of the shared samples, chosen for each member.

        Parameters
        ----------
        index : Tensor of shape (member, batch)
            Numbers of the samples.

        Returns
        -------
        Samples
        """
        return self._each(lambda values: values[0, index])

    def chunks(self, size: int) -> Iterator["Samples"]:
        """All samples, at most ``size`` at a time.

        Parameters
        ----------
        size : int

        Yields
        ------
        Samples
        """
        for start in range(0, len(self), size):
            yield self._each(lambda values: values[:, start : start + size])  # noqa: B023  used at once

    def until(self, n: int) -> "Samples":
        """The first n of the times and what is observed at them, of a time series of states; anything else as it is.

        Parameters
        ----------
        n : int

        Returns
        -------
        Samples
        """
        if not self.times:
            return self
        inputs = {name: values[:, :, :n] for name, values in self.inputs.items()}
        return replace(self, inputs=inputs, targets=self.targets[:, :, : n - 1], times=self.times[:n])

    def in_units(self, prediction: Tensor) -> Tensor:
        """A prediction in the units of the dataset.

        Parameters
        ----------
        prediction : Tensor of shape (member, sample, ...)

        Returns
        -------
        Tensor of shape (member, sample, ...)
        """
        return prediction * self.scale + self.mean

    def in_standard_units(self, values: Tensor) -> Tensor:
        """Inverse of :meth:`in_units`.

        Parameters
        ----------
        values : Tensor of shape (member, sample, ...)
            In the units of the dataset.

        Returns
        -------
        Tensor of shape (member, sample, ...)
        """
        return (values - self.mean) / self.scale if self.standard else values

    def _each(self, change: Callable[[Tensor], Tensor]) -> "Samples":
        inputs = {name: change(values) for name, values in self.inputs.items()}
        return replace(self, inputs=inputs, targets=change(self.targets))


def in_split(dataset: xr.Dataset, split: str) -> xr.Dataset:
    """The samples of one split.

    Parameters
    ----------
    dataset : xarray.Dataset
    split : str

    Returns
    -------
    xarray.Dataset

    Raises
    ------
    UserError
        If the split has none.
    """
    chosen = dataset.isel(sample=(dataset["split"] == split).values)
    if not chosen.sizes["sample"]:
        raise UserError(f"dataset: no samples in the split {split!r}")
    return chosen


def tensor(variable: xr.DataArray, dtype: torch.dtype, device: str) -> Tensor:
    """Values as a tensor that all members share.

    Parameters
    ----------
    variable : xarray.DataArray of shape (sample, ...)
    dtype : torch.dtype
    device : str

    Returns
    -------
    Tensor of shape (1, sample, ...)
    """
    return torch.as_tensor(variable.values, device=device).to(dtype).unsqueeze(0)


def times_of(dataset: xr.Dataset) -> tuple[float, ...]:
    """The variable ``time``.

    Parameters
    ----------
    dataset : xarray.Dataset

    Returns
    -------
    tuple of float

    Raises
    ------
    UserError
        Unless it increases.
    """
    times = tuple(dataset["time"].values.tolist())
    if not all(start < end for start, end in pairwise(times)):
        raise UserError("dataset: the variable time does not increase")
    return times


def trajectories(dataset: xr.Dataset, split: str, dtype: torch.dtype = torch.float32, device: str = "cpu") -> Samples:
    """Time series, from the variable ``state`` (sample, time, ..., component).

    Parameters
    ----------
    dataset : xarray.Dataset
    split : str
    dtype : torch.dtype, optional
    device : str, optional

    Returns
    -------
    Samples
        Input ``states`` holds all of them, in the dataset's units; the targets are those after the first, in standard
        units where the dataset has ``STANDARD``.
    """
    chosen = in_split(dataset, split)
    states = tensor(chosen["state"], dtype, device)
    samples = Samples({"states": states}, states[:, :, 1:], times_of(dataset))
    if not set(STANDARD) <= set(dataset.variables):
        return samples
    mean, scale, rate = (torch.as_tensor(dataset[name].values, device=device).to(dtype) for name in STANDARD)
    samples = replace(samples, mean=mean, scale=scale, rate=rate / scale)
    return replace(samples, targets=samples.in_standard_units(samples.targets))
