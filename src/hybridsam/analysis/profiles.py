"""The profile of the loss: each parameter held at values on a grid, phi refitted, and which values the data allow.

Every refitting begins at the run of the ensemble whose theta is nearest, with as many steps as the others. A value is
compatible with the data if, sample by sample of the validation data, it does not predict worse than the best value
does, by more than runs differ anyway. Where the network can make up for any theta, all values are: that is then the
answer.
"""

import logging
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import torch
import xarray as xr
from scipy import stats
from torch import Tensor

from hybridsam.analysis import sharpness
from hybridsam.analysis.ensemble import Members, ensemble_in
from hybridsam.analysis.runs import checked, training_of
from hybridsam.core.errors import UserError
from hybridsam.core.methods import BASELINE, get_method
from hybridsam.core.records import origin, true_theta
from hybridsam.data.splits import SPLITS
from hybridsam.models.hybrid import HybridModel
from hybridsam.models.networks import RunningStatistics
from hybridsam.models.samples import Samples
from hybridsam.training.checkpoint import Checkpoint
from hybridsam.training.compiled import faster_loss
from hybridsam.training.devices import arithmetic, chosen_device, keep_freed_memory, without_old_garbage
from hybridsam.training.loop import Training, constrained, train
from hybridsam.training.loss import Loss, errors_of_samples, mean_squared_error, objective
from hybridsam.training.methods import gradient
from hybridsam.training.warm import WarmStart

logger = logging.getLogger(__name__)

SIGNIFICANCE = 0.05
OF_THETA = "see parameter_units"
ABOUT = {  # variable -> long_name, units
    "held": ("value at which the parameter is held", OF_THETA),
    "theta": ("theta after refitting, the others being free", OF_THETA),
    "train_loss": ("mean squared error on the training data", "1"),
    "validation_loss": ("mean squared error on the validation data", "1"),
    "validation_errors": ("mean squared error of each validation sample", "1"),
    "errors_of_runs": ("mean squared error of each validation sample, of the runs that refitting began from", "1"),
    "penalty": ("how much the network does, the R of functional regularisation", "1"),
    "loss_within": ("largest training loss found within rho of phi", "1"),
    "trace": ("trace of the Hessian of the training loss by phi", "1"),
    "trace_error": ("its standard error", "1"),
    "top_eigenvalue": ("top eigenvalue of the Hessian of the training loss by phi", "1"),
    "p_value": (
        "that the value predicts the validation data no worse than the best one, before Holm's correction",
        "1",
    ),
    "compatible": ("whether the data allow the value", "1"),
    "theta_true": ("true theta", OF_THETA),
}


@dataclass(frozen=True)
class Grid:
    """At which values a profile holds parameters, and how it refits.

    values: how many for each parameter, evenly between the ends of its start, in unconstrained values. iterations: of
    refitting; 0: half of those of training. rho: within which the largest loss is sought.
    """

    values: int = 9
    iterations: int = 0
    rho: float = 0.05

    def __post_init__(self) -> None:
        if self.values < 3:
            raise UserError(f"profile.values: {self.values} is not a number from 3 on")
        if self.iterations < 0:
            raise UserError(
                f"profile.iterations: {self.iterations} is not a number from 1 on, or 0 for half of training"
            )
        if not 0 < self.rho < np.inf:
            raise UserError(f"profile.rho: {self.rho!r} is not a finite number above 0")

    def of(self, model: HybridModel) -> Tensor:
        """(parameter, value) in natural units; raises UserError for a parameter whose start is no interval."""
        ends = [(row.starts[0], row.starts[1]) for row in model.parameters.rows]
        for name, (low, high) in zip(model.parameters.names, ends, strict=True):
            if not low < high:
                raise UserError(
                    f"theta.{name}.start: {low:g} is no interval, between whose ends a profile could hold it"
                )
        low, high = model.parameters.unconstrain(torch.tensor(ends, dtype=torch.float64).T)
        between = torch.linspace(0, 1, self.values, dtype=torch.float64)[:, None]
        return model.parameters.constrain(low + between * (high - low)).T


def profile(
    model: HybridModel,
    runs: xr.Dataset,
    dataset: xr.Dataset,
    values: int = 9,
    iterations: int = 0,
    rho: float = 0.05,
    device: str = "auto",
) -> xr.Dataset:
    """Hold each parameter at values between the ends of its start, refit phi, and say which of them the data allow.

    Parameters
    ----------
    model : HybridModel
        Each of its parameters has an interval as start: ``Parameter("k", "s-1", start=(0.5, 2.0))``.
    runs : xarray.Dataset
        Of :func:`fit` or :func:`load_runs`, of which those of erm are taken that fit. Every refitting begins at the one
        whose theta is nearest.
    dataset : xarray.Dataset
        On which they were trained.
    values : int, optional
        How many for each parameter.
    iterations : int, optional
        Of every refitting; 0: half of those of the runs.
    rho : float, optional
        Distance from phi within which the largest loss is sought.
    device : str, optional
        ``auto`` takes a GPU when there is one.

    Returns
    -------
    xarray.Dataset
        On the axes (parameter, value): ``held``, the value; ``theta`` (..., of), the others being free;
        ``train_loss``, ``validation_loss`` and ``validation_errors`` (..., validation_sample); ``compatible``, whether
        the value predicts the validation samples no worse than the best one, by the ``p_value`` of Wilcoxon's test and
        by how much the runs differ (``errors_of_runs``);
        ``penalty``, how much the network does; and how sharp the training loss is around phi, by ``loss_within`` rho,
        the ``trace`` of the Hessian (with ``trace_error``) and its ``top_eigenvalue``.

    Raises
    ------
    UserError
        For runs of another model, fewer than three that fit, a start that is no interval, and numbers without sense.
    """
    members = ensemble_in(checked(runs, model, dataset), dataset)
    return of_members(model, training_of(runs), members, dataset, Grid(values, iterations, rho), device)


def of_members(
    model: HybridModel,
    training: Training,
    members: Members,
    dataset: xr.Dataset,
    grid: Grid = Grid(),
    device: str = "auto",
    checkpoint: Checkpoint | None = None,
) -> xr.Dataset:
    """As :func:`profile`, from the members of an ensemble, on a grid; checkpoint: from which a killed one goes on."""
    if members.too_few:
        raise UserError(f"runs: {members.too_few}")
    values = grid.of(model)
    device = chosen_device(device)
    data = {split: model.data(dataset, split, getattr(torch, training.dtype), device) for split in SPLITS}
    loss = faster_loss(model, data["train"]) or Loss(model)
    how = replace(training, iterations=grid.iterations or max(1, training.iterations // 2))
    warm = nearest(model, members, values)
    seeds, rhos = [0] * values.numel(), [0.0] * values.numel()  # the same batches for all, so that values compare
    keep_freed_memory()
    with arithmetic(training.tf32), without_old_garbage():
        splits = data["train"], data["validation"]
        state = train(loss, get_method(BASELINE), rhos, seeds, *splits, how, checkpoint, warm=warm)
    theta, phi = constrained(model, state)
    running, at_once = RunningStatistics(state.running), training.batch_size or len(data["train"])
    with torch.no_grad():
        of_samples = errors_of_samples(loss, theta, phi, data["validation"], running, at_once)
        train_loss = mean_squared_error(loss, theta, phi, data["train"], running, at_once)
        few = next(data["train"].chunks(at_once))
        penalty = model.penalty(theta, phi, few, model.predict(theta, phi, few, running))
        began = (members.theta.to(theta), members.phi.to(phi))
        of_runs = errors_of_samples(
            loss, *began, data["validation"], RunningStatistics(members.running.to(phi)), at_once
        )
    found = {
        "held": values.flatten(),
        "theta": theta,
        "train_loss": train_loss,
        "validation_loss": of_samples.mean(1),
        "validation_errors": of_samples,
        "penalty": penalty,
        **_sharpness(model, dataset, state.w.cpu(), state.running.cpu(), grid.rho, at_once),
    }
    found["errors_of_runs"] = of_runs
    arrays = {name: one.cpu().numpy() for name, one in found.items()}
    return _described(model, dataset, values.shape, arrays, grid, _variance(data["validation"].targets))


def _variance(targets: Tensor) -> float:
    """About the mean of each component, the last axis of targets (1, sample, ..., component); of one, (1, sample)."""
    rows = targets.flatten(0, -2) if targets.ndim > 2 else targets.flatten()[:, None]
    return rows.double().var(0, correction=0).mean().item()


def nearest(model: HybridModel, members: Members, values: Tensor) -> WarmStart:
    """Of each value (parameter, value) the member whose own is nearest, with the parameter moved there and held."""
    raw = model.parameters.unconstrain(members.theta.double())
    theta, held, chosen = [], [], []
    for i, row in enumerate(model.parameters.rows):
        for value in values[i]:
            near = int((raw[:, i] - row.unconstrain(value)).abs().argmin())
            theta.append(members.theta[near].double().clone())
            theta[-1][i] = value
            held.append(torch.arange(len(model.parameters)) == i)
            chosen.append(near)
    phi, running = members.phi[chosen], members.running[chosen]
    return WarmStart(model.parameters, torch.stack(theta), torch.stack(held), phi, running)


def _sharpness(
    model: HybridModel, dataset: xr.Dataset, w: Tensor, running: Tensor, rho: float, at_once: int
) -> dict[str, Tensor]:
    """What :mod:`.sharpness` tells of the training loss around the phi of each member, in float64, (member,)."""
    data = next(model.data(dataset, "train", torch.float64, "cpu").chunks(at_once))
    loss, n = faster_loss(model, data, quiet=True) or Loss(model), len(model.parameters)
    rows = []
    for number, (own, statistics) in enumerate(zip(w.double(), running.double(), strict=True)):
        logger.info(f"sharpness of refitting {number + 1} of {len(w)}")
        gradients = _gradients(loss, own[:n], statistics, data)
        within = sharpness.largest_loss(gradients, own[n:], rho)
        rows.append((within, *sharpness.trace(gradients, own[n:]), sharpness.top_eigenvalue(gradients, own[n:])))
    names = ("loss_within", "trace", "trace_error", "top_eigenvalue")
    return dict(zip(names, torch.tensor(rows, dtype=torch.float64).T, strict=True))


def _gradients(loss: Loss, raw: Tensor, running: Tensor, data: Samples) -> sharpness.Gradients:
    """The training loss of one theta as a function of several phi."""

    def of_several(phi: Tensor) -> tuple[Tensor, Tensor]:
        k = len(phi)
        statistics = RunningStatistics(running.repeat(k, 1))
        error = objective(loss, get_method(BASELINE), phi.new_zeros(k), data, statistics)
        values, slopes = gradient(error, raw.repeat(k, 1), phi, of_theta=False)
        return values, slopes

    return of_several


def compatible(errors: np.ndarray, of_runs: np.ndarray, variance: float = np.inf) -> tuple[np.ndarray, np.ndarray]:
    """Which values predict no worse than the best one, (value,), and p-values of that, from errors (value, sample).

    Errors of one sample are compared by their ratio, since those of a few are often larger than all others together.
    Best is the value with the smallest geometric mean. Another one is worse if Wilcoxon's signed-rank test of the
    logarithms says so, one-sided, at 5 % by Holm's correction for their number, and if its geometric mean is so much
    larger as that of one run in twenty is than that of another by chance: two refittings differ as two runs do, and
    then in all samples alike. Not finite errors, or a mean above the variance of the data, which is a failed run's: not
    compatible.

    of_runs: errors (run, sample) of the runs from which the refittings began, whose spread that is, by Student's t.
    """
    logs, logs_of_runs = (np.log(np.maximum(of, np.finfo(of.dtype).tiny)) for of in (errors, of_runs))
    finite = np.isfinite(logs).all(1)
    allowed = finite & (errors.mean(1) <= variance)
    means = np.where(finite, logs.mean(1), np.inf)
    best, n = int(means.argmin()), len(of_runs)
    by_chance = stats.t.ppf(1 - SIGNIFICANCE, n - 1) * 2**0.5 * logs_of_runs.mean(1).std(ddof=1)
    others = [i for i in np.flatnonzero(finite) if i != best]
    p = np.where(finite, 1.0, np.nan)
    for i in others:
        if (difference := logs[i] - logs[best]).any():
            p[i] = stats.wilcoxon(difference, alternative="greater").pvalue
    for rank, i in enumerate(sorted(others, key=lambda i: p[i])):
        if p[i] > SIGNIFICANCE / (len(others) - rank):
            break
        allowed[i] &= means[i] - means[best] <= by_chance
    return allowed, p


def _described(
    model: HybridModel,
    dataset: xr.Dataset,
    shape: tuple[int, ...],
    found: dict[str, np.ndarray],
    grid: Grid,
    variance: float,
) -> xr.Dataset:
    """On labelled axes, with units; variance: of the validation data, in the units of errors."""
    names = model.parameters.names
    both: tuple[str, ...] = ("parameter", "value")
    last = {"theta": ("of",), "validation_errors": ("validation_sample",)}
    of_runs = found.pop("errors_of_runs")
    values = {name: (both + last.get(name, ()), one.reshape(*shape, *one.shape[1:])) for name, one in found.items()}
    tests = [compatible(errors, of_runs, variance) for errors in values["validation_errors"][1]]
    values["errors_of_runs"] = ("run", "validation_sample"), of_runs
    values["compatible"] = both, np.array([allowed for allowed, _ in tests])
    values["p_value"] = both, np.array([p for _, p in tests])
    if (true := true_theta(dataset, names)) is not None:
        values["theta_true"] = ("parameter",), true
    return xr.Dataset(
        {name: (*one, dict(zip(("long_name", "units"), ABOUT[name], strict=True))) for name, one in values.items()},
        coords={"parameter": names, "parameter_units": ("parameter", model.parameters.units), "of": names},
        attrs={"synthetic": dataset.attrs.get("synthetic", "unknown"), "rho": grid.rho},
    )


def allowed(found: xr.Dataset) -> np.ndarray:
    """(2, parameter) between which values the data alone allow each parameter: the nearest that they do not.

    Infinite where they allow all that were tried on that side, NaN where no refitting came to an end.
    """
    ends = []
    for name in found["parameter"].values:
        held, compatible = (found[of].sel(parameter=name).values for of in ("held", "compatible"))
        padded = np.r_[-np.inf, held, np.inf]
        inside = np.flatnonzero(compatible) + 1
        ends.append((padded[inside[0] - 1], padded[inside[-1] + 1]) if len(inside) else (np.nan, np.nan))
    return np.array(ends).T


def in_words(found: xr.Dataset) -> list[str]:
    """A line for each parameter: between which values on the grid the data allow it, and where the loss is flattest."""
    lines = []
    for name in found["parameter"].values:
        of, unit = found.sel(parameter=name), str(found["parameter_units"].sel(parameter=name).item())
        held, unit = of["held"].values, f" {unit}" * (unit != "1")
        allowed = held[of["compatible"].values]
        if not len(allowed):
            lines.append(f"theta.{name}: no refitting came to an end")
            continue
        where = f"{allowed.min():.4g} to {allowed.max():.4g}{unit}" if len(allowed) > 1 else f"{allowed[0]:.4g}{unit}"
        all_of_them = ", all that were tried," * (len(allowed) == len(held))
        flattest = held[int(np.nanargmin(of["trace"].values))]
        lines.append(
            f"theta.{name}: the data allow {where}{all_of_them} by {of.sizes['validation_sample']} validation samples; "
            f"the training loss is flattest at {flattest:.4g}{unit}"
        )
    return lines


def as_table(found: xr.Dataset) -> pd.DataFrame:
    """One row a parameter and value, as in profile.csv."""
    columns = [name for name in ABOUT if name in found and found[name].dims == ("parameter", "value")]
    table = found[columns].to_dataframe().reset_index()
    table = table.rename(columns={"parameter_units": "unit"})[["parameter", "unit", *columns]]
    if "theta_true" in found:
        table["true"] = table["parameter"].map(found["theta_true"].to_series())
    return table.assign(data=origin(found))
