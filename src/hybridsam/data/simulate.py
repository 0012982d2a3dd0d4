"""Synthetic time series: an ODE solved accurately, subsampled, with measurement noise."""

import json
import logging
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import xarray as xr

from hybridsam.core import modules
from hybridsam.core.errors import UserError
from hybridsam.core.records import OF_TRUTH
from hybridsam.core.scales import standard_units
from hybridsam.core.settings import values_of
from hybridsam.data import splits

logger = logging.getLogger(__name__)

VectorField = Callable[[float, np.ndarray], np.ndarray]


def simulated(task: Mapping) -> xr.Dataset:
    """The dataset of a task whose module simulates it, from the constants in the section ``data`` of its settings.

    Raises UserError for numbers that are not finite.
    """
    dataset = modules.call(task["module"], "simulate", values_of(task["data"]))
    if not isinstance(dataset, xr.Dataset):
        raise UserError(f"module: simulate of {task['module']} returns {type(dataset).__name__}, not an xarray Dataset")
    for name, variable in dataset.data_vars.items():
        if variable.dtype.kind == "f" and not (finite := np.isfinite(variable.values)).all():
            place = zip(variable.dims, np.argwhere(~finite)[0], strict=True)
            where = ", ".join(f"{dim} {i}" for dim, i in place)
            raise UserError(f"simulate: {name} is {variable.values[~finite][0]} at {where}, counted from 0")
    return dataset.assign_attrs(constants=json.dumps(task["data"]))


def simulate_ode(
    field: VectorField,
    bounds: np.ndarray,
    components: Mapping[str, str],
    constants: Mapping,
    truth: Mapping[str, float],
    grid: Mapping[str, np.ndarray] | None = None,
    standardise: bool = True,
) -> xr.Dataset:
    """Noisy trajectories of dx/dt = field(t, x) from uniformly drawn initial states.

    A split draws from its own generators, so its samples do not depend on the sizes of the others.

    Parameters
    ----------
    field : callable
        x and dx/dt are (component,), or ``(*grid, component)`` on a grid.
    bounds : ndarray of shape (component, 2)
        Range of the initial states, drawn at every point, in the units of the components.
    components : mapping of str to str
        name -> unit.
    constants : mapping
        ``dt`` (in s) and ``subsample`` (a state is kept every subsample * dt), ``steps`` (kept states after the initial
        one), ``noise`` (standard deviation, in the units of the components), ``train``, ``validation``, ``test``
        (numbers of samples), ``seed``.
    truth : mapping of str to float
        name -> true value of what models will estimate.
    grid : mapping of str to ndarray, optional
        Axis -> its coordinates in m.
    standardise : bool, optional
        Whether the dataset says how large its components are, so that errors are in units of that; else they are in
        the components' own units, as in the paper.

    Returns
    -------
    xarray.Dataset
        ``state``, with noise, ``state_true``, without, and ``rate_true``, dx/dt at ``state_true``, on the axes sample,
        time, those of the grid, component; with noise also ``state_of_truth``, what the true model predicts from the
        observed initial states, from which models start too; ``time`` in s; ``split`` of each sample; ``target_mean``,
        ``target_scale`` and ``target_rate`` of each component in the training samples, where that is asked for.

    Raises
    ------
    UserError
        For constants that make no sense, naming them, a field of another shape than the state, and where the solver
        stops before the last time, with the sample, the time and what the solver says.

    Notes
    -----
    Solved by the Runge-Kutta 5(4) pair of Dormand and Prince [1]_ (RK45 of scipy) to a relative tolerance of 1e-9.

    References
    ----------
    .. [1] J. R. Dormand and P. J. Prince, A family of embedded Runge-Kutta formulae, Journal of Computational and
           Applied Mathematics 6 (1980), 19-26.
    """
    _check_constants(constants, bounds, list(components))
    keep = slice(None, None, constants["subsample"])
    fine = np.arange(constants["steps"] * constants["subsample"] + 1) * constants["dt"]
    grid = grid or {}
    shape = tuple(map(len, grid.values()))
    clean, noisy, rates, split = [], [], [], []
    times, largest = fine[keep], np.abs(bounds).max(1)
    smallness = np.where(largest > 0, np.minimum(1, largest), 1)
    sizes = splits.sizes(constants)
    seeds = np.random.SeedSequence(constants["seed"]).spawn(len(sizes))
    for (name, n), sequence in zip(sizes.items(), seeds, strict=True):
        initial_rng, noise_rng = map(np.random.default_rng, sequence.spawn(2))
        initial = initial_rng.uniform(bounds[:, 0], bounds[:, 1], size=(n, *shape, len(bounds)))
        states = np.stack(
            [_solve(field, x0, fine, smallness, f"{name} sample {i}")[keep] for i, x0 in enumerate(initial)]
        )
        clean.append(states)
        rates.append(np.stack([[field(t, x) for t, x in zip(times, row, strict=True)] for row in states]))
        noisy.append(states + constants["noise"] * noise_rng.standard_normal(states.shape))
        split += [name] * n

    dims = ("sample", "time", *grid, "component")
    units = "; ".join(components.values())
    rate_units = "; ".join(f"({unit}) s-1" for unit in components.values())
    predicted = _of_truth(field, np.concatenate(noisy), fine, keep, smallness) if constants["noise"] else None
    dataset = xr.Dataset(
        {
            "state": (dims, np.concatenate(noisy), {"long_name": "observed state", "units": units}),
            "state_true": (dims, np.concatenate(clean), {"long_name": "state without noise", "units": units}),
            "rate_true": (dims, np.concatenate(rates), {"long_name": "dx/dt at state_true", "units": rate_units}),
        },
        coords={
            "time": ("time", times, {"long_name": "time", "units": "s"}),
            "component": list(components),
            "component_units": ("component", list(components.values())),
            "split": ("sample", split),
            **{name: (name, values, {"long_name": name, "units": "m"}) for name, values in grid.items()},
        },
        attrs={
            "source": "simulated with scipy.integrate.solve_ivp, method RK45",
            "synthetic": "yes",
            "target": "state",
            "truth": json.dumps(dict(truth)),
            "noise": float(constants["noise"]),
        },
    )
    if predicted is not None:
        about = {"long_name": "state by the true model from the observed initial state", "units": units}
        dataset[OF_TRUTH] = dims, predicted, about
    return dataset.assign(standard_units(dataset, "state")) if standardise else dataset


def _check_constants(constants: Mapping, bounds: np.ndarray, components: Sequence[str]) -> None:
    for name in ("subsample", "steps"):
        if isinstance(constants[name], bool) or not isinstance(constants[name], int) or constants[name] < 1:
            raise UserError(f"data.{name}: {constants[name]!r} is not a whole number from 1 on")
    for name, allowed in (("dt", "above 0"), ("noise", "from 0 on")):
        number = constants[name]
        known = isinstance(number, int | float) and not isinstance(number, bool) and 0 <= number < np.inf
        if not known or (name == "dt" and number == 0):
            raise UserError(f"data.{name}: {number!r} is not a finite number {allowed}")
    if np.shape(bounds) != (len(components), 2):
        raise UserError(
            f"simulate: bounds of shape {np.shape(bounds)} for {len(components)} components ({', '.join(components)}); "
            "each has a lowest and a highest initial state"
        )
    for component, (low, high) in zip(components, np.asarray(bounds).tolist(), strict=True):
        if not -np.inf < low <= high < np.inf:
            raise UserError(f"simulate: initial states of {component} from {low:g} to {high:g} are no interval")


def _of_truth(
    field: VectorField, observed: np.ndarray, times: np.ndarray, keep: slice, smallness: np.ndarray
) -> np.ndarray | None:
    """What the true model predicts from the observed initial states, shaped as what was observed.

    None, and a word in the log, where it cannot be solved from there: noise may make a state that nature has not.
    """
    try:
        states = [_solve(field, x[0], times, smallness, f"sample {i}")[keep] for i, x in enumerate(observed)]
    except UserError as error:
        logger.warning(f"{error}; from noisy states, so it is not known how well the true model predicts from them")
        return None
    return np.stack(states)


def _solve(field: VectorField, initial: np.ndarray, times: np.ndarray, smallness: np.ndarray, which: str) -> np.ndarray:
    """States at these times, (time, *shape of the initial one).

    smallness: (component,) at most 1, what the absolute tolerance is multiplied by, so that no unit makes it a large
    one. which: the sample, for a message.
    """
    from scipy.integrate import solve_ivp  # only now: trainings load a task too, and simulate nothing

    reached = 0.0

    def flat(t: float, x: np.ndarray) -> np.ndarray:
        nonlocal reached
        reached = t
        rate = np.asarray(field(t, x.reshape(initial.shape)))
        if rate.shape != initial.shape:
            raise UserError(f"simulate: the true dx/dt has shape {rate.shape}, the state {initial.shape}")
        return rate.ravel()

    start = f"from the initial state {np.array2string(initial.ravel(), precision=4, threshold=6)}"
    if not np.isfinite(flat(0.0, initial.ravel())).all():
        raise UserError(f"simulate: {which}: dx/dt is not finite at t = 0, {start}")
    atol = 1e-10 * np.broadcast_to(smallness, initial.shape).ravel()
    how = {"method": "RK45", "t_eval": times, "rtol": 1e-9, "atol": atol}
    solution = solve_ivp(flat, (0, times[-1]), initial.ravel(), **how)
    if not solution.success or not np.isfinite(solution.y).all():
        said = solution.message if not solution.success else "the state is not finite"
        raise UserError(f"simulate: {which}: the solver stopped at t = {reached:.6g} of {times[-1]:g}, {start}: {said}")
    return solution.y.T.reshape(-1, *initial.shape)
