"""How large the components of a target are: the units in which errors are measured and networks work."""

import numpy as np
import xarray as xr

from hybridsam.core.errors import UserError

STANDARD = {  # what a dataset says of its target, for each component, as it is in the training samples
    "target_mean": "mean",
    "target_scale": "standard deviation",
    "target_rate": "root mean square rate of change",  # where nothing ever changes: standard deviation by duration
}
CONSTANT = 1e-12  # of the largest value: what varies by less is rounding


def standard_units(dataset: xr.Dataset, target: str) -> dict[str, xr.DataArray]:
    """How large each component of a target is, and how fast it changes, in the training samples.

    Parameters
    ----------
    dataset : xarray.Dataset
    target : str
        Name of the variable.

    Returns
    -------
    dict of str to xarray.DataArray
        Variables (component,), those of ``STANDARD``; ``target_rate``, by differences from time to time, of time series
        only.

    Raises
    ------
    UserError
        For a component that is the same in all training samples: it has no scale, and nothing is to be learnt of it.
    """
    known = dataset[target].isel(sample=np.flatnonzero(dataset["split"] == "train"))
    over = [name for name in known.dims if name != "component"]
    found = {"target_mean": known.mean(over), "target_scale": known.std(over)}
    constant = np.atleast_1d(found["target_scale"] <= CONSTANT * abs(known).max(over))
    if constant.any():
        names = known["component"].values[constant].tolist() if "component" in known.dims else [target]
        raise UserError(
            f"dataset: {', '.join(map(str, names))}: the same value in all training samples, so that there is nothing "
            "to learn of it; leave it out of the target, or choose other training samples"
        )
    units = known.attrs.get("units", "1")
    if "time" in known.dims:
        rates = known.diff("time") / dataset["time"].diff("time")
        rate = (rates**2).mean(over) ** 0.5
        duration = float(dataset["time"][-1] - dataset["time"][0])
        still = rate * duration <= CONSTANT * abs(known).max(over)  # a network that works in rates would be mute there
        found["target_rate"] = rate.where(~still, found["target_scale"] / duration)
    own = {"units": units if "component_units" not in known.coords else "see component_units"}
    return {name: values.assign_attrs(own, long_name=about(name, target)) for name, values in found.items()}


def units_of(variable: xr.DataArray) -> dict[str, str]:
    """component -> unit; of a variable without components, its name -> unit."""
    names = variable["component"].values.tolist() if "component" in variable.dims else [str(variable.name)]
    if "component_units" in variable.coords:
        return dict(zip(names, variable["component_units"].values.tolist(), strict=True))
    return dict.fromkeys(names, variable.attrs.get("units", "1"))


def in_words(dataset: xr.Dataset) -> str:
    """The standard deviation of each component, with its unit: ``hare 2.14 1e4 pelts, lynx 1.81 1e4 pelts``."""
    scale = dataset["target_scale"]
    names, units = (
        dataset[name].values.tolist() if name in dataset.coords else [""] * scale.size
        for name in ("component", "component_units")
    )
    each = zip(names, np.ravel(scale), units, strict=True)
    return ", ".join(" ".join(f"{name} {value:.3g} {unit}".split()) for name, value, unit in each)


def about(name: str, target: str) -> str:
    """What a variable of ``STANDARD`` is, in words."""
    return f"{STANDARD[name]} of {target} in the training samples" + ", per unit of time" * (name == "target_rate")
