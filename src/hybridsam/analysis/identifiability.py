"""What can be known about theta before any training."""

import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
import xarray as xr
from scipy.optimize import least_squares

from hybridsam.core.errors import UserError
from hybridsam.core.records import origin
from hybridsam.models.check import check, check_parts
from hybridsam.models.hybrid import HybridModel
from hybridsam.models.law import HybridMap, HybridSum
from hybridsam.models.ode import HybridODE
from hybridsam.models.parameters import Parameter
from hybridsam.models.samples import Samples, in_split
from hybridsam.training.divergence import Trace

STATES = ("state_true", "rate_true")
NO_NETWORK = torch.empty(1, 0)

Residual = Callable[[torch.Tensor], torch.Tensor]

MOST = 1_000_000  # residuals that a diagnosis looks at: the first training samples, as many as that allows
AT_BOUND = 1e-3  # of the distance between the bounds, or of the way from the start to the only one

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Identifiability:
    """theta arrays are (parameter,) in natural units.

    least_norm: the theta for which the network has least to add in the mean square; functional regularisation converges
        to it as its weight goes to 0. None where the true rate of change is unknown.
    science_only: the theta that fits the training data best without a network.
    singular_values, directions: of the Jacobian of the science-only prediction with respect to theta, at science_only,
        each column times the size of its parameter, so that they do not depend on units; directions (parameter,
        parameter) are its right singular vectors, one a row.
    sizes: of the parameters, seen from their starts and bounds: what the data do not fix may have run away.
    residuals: of the science-only prediction, in units of the errors: their number, and their sum of squares.
    """

    least_norm: np.ndarray | None
    science_only: np.ndarray
    singular_values: np.ndarray
    directions: np.ndarray
    sizes: np.ndarray
    residuals: tuple[int, float]

    @property
    def rank(self) -> int:
        """Number of directions of theta that the science-only prediction depends on, but for rounding."""
        rounding = max(self.residuals[0], len(self.sizes)) * np.finfo(float).eps
        return int((self.singular_values > rounding * self.singular_values.max()).sum())

    @property
    def condition(self) -> float:
        """Ratio of the largest singular value to the smallest; infinite where the rank is deficient."""
        full = self.rank == len(self.singular_values)
        return float(self.singular_values.max() / self.singular_values.min()) if full else np.inf

    @property
    def told_by_science(self) -> np.ndarray:
        """(parameter,) whether the science-only prediction changes with a parameter in a way that no other imitates."""
        return (np.abs(self.directions[self.rank :]) < 1e-6).all(0)

    @property
    def standard_error(self) -> np.ndarray:
        """(parameter,) of science_only, if its residuals were independent noise; what is missing makes it too small.

        The root of the diagonal of s^2 (J' J)^-1 with s^2 the sum of squares over the degrees of freedom (Seber & Wild
        1989, Sec. 2.1); infinite for what the science alone cannot tell, NaN without a degree of freedom.
        """
        number, squares = self.residuals
        free = number - len(self.sizes)
        if free <= 0:
            return np.full(len(self.sizes), np.nan)
        seen = self.directions[: self.rank] / self.singular_values[: self.rank, None]
        errors = self.sizes * np.sqrt((seen**2).sum(0) * squares / free)
        return np.where(self.told_by_science, errors, np.inf)


def identify(model: HybridModel, dataset: xr.Dataset) -> Identifiability:
    """Diagnose a model on the training data of a dataset.

    A model whose science is not observed, such as motion behind images, is diagnosed by its attribute ``hidden``: the
    model of that motion, whose states a simulated dataset holds too.

    Raises UserError for a model that could not be trained, as hybridsam.models.check does.
    """
    check_parts(model, dataset)
    data = model.data(dataset, "train", torch.float64, "cpu")
    check(model, dataset, data)
    if hasattr(model, "hidden"):
        model = model.hidden
        data = model.data(dataset, "train", torch.float64, "cpu")
    data = next(data.chunks(max(1, MOST // data.targets[0, 0].numel())))
    least_norm = least_norm_theta(model, dataset) if isinstance(model, HybridODE) and "rate_true" in dataset else None
    _check_start(model, data, dataset)
    science_only = fit_science_only(model, data, least_norm)
    if isinstance(model, HybridMap | HybridSum):
        least_norm = science_only  # a network that fits the data changes least where the science alone fits best
    sizes = np.array([row.size or row.raw_unit for row in model.parameters.rows])
    jacobian = science_jacobian(model, science_only, data) * sizes
    if len(jacobian) < len(science_only):
        logger.warning(f"{len(jacobian)} numbers in the training targets cannot tell {len(science_only)} parameters")
        jacobian = np.pad(jacobian, ((0, len(science_only) - len(jacobian)), (0, 0)))  # so that all directions appear
    _, singular_values, directions = np.linalg.svd(jacobian, full_matrices=False)
    left = model.predict_science(torch.as_tensor(science_only)[None], NO_NETWORK, data) - data.targets
    residuals = left.numel(), float(left.square().sum())
    return Identifiability(least_norm, science_only, singular_values, directions, sizes, residuals)


def least_norm_theta(model: HybridODE, dataset: xr.Dataset) -> np.ndarray:
    """Minimize over theta the mean of ||dx/dt - f(x; theta)||^2 over the training states, (parameter,).

    At the minimum the missing part, which the network has to supply, is orthogonal to the directions in which theta
    moves f; it equals the true theta only where the missing part is orthogonal to the science on the data.
    """
    if "rate_true" not in dataset:
        raise UserError("least-norm theta: the dataset has no variable rate_true (true rate of change)")
    train = in_split(dataset, "train")
    few = train.isel(sample=slice(max(1, MOST // train["rate_true"][0].size)))
    states, rates = (torch.as_tensor(few[name].values).double().flatten(0, 1)[None] for name in STATES)

    def residual(theta: torch.Tensor) -> torch.Tensor:
        return model.science(model.parameters.named(theta), states) - rates

    return _minimize(model, residual)[0]


def _check_start(model: HybridModel, data: Samples, dataset: xr.Dataset) -> None:
    """Raise UserError, with the cause, for a science alone that predicts nothing finite at the start of theta."""
    start, trace = model.parameters.constrain(model.parameters.initial(1, torch.float64)), Trace(model, dataset, 0)
    if model.predict_science(start, NO_NETWORK, data).isfinite().all():
        return  # a trace takes much longer
    if found := trace.of(lambda: (trace.model.predict_science(start, NO_NETWORK, data),)):
        advice = "choose another start, or a smaller model.solver.step"
        raise UserError(f"model.theta: at {_in_words(model, start)} the science alone is not finite: {found}; {advice}")


def fit_science_only(model: HybridModel, data: Samples, guess: np.ndarray | None = None) -> np.ndarray:
    """The theta (parameter,) whose science-only prediction is closest to the data in the mean square.

    Long rollouts have local minima, so the fit starts from theta's start and from ``guess`` and the better one counts.
    """

    def residual(theta: torch.Tensor) -> torch.Tensor:
        return model.predict_science(theta, NO_NETWORK, data) - data.targets

    starts = [None] if guess is None else [None, guess]
    fits = [_minimize(model, residual, start) for start in starts]
    return min(fits, key=lambda fit: fit[1])[0]


def science_jacobian(model: HybridModel, theta: np.ndarray, data: Samples) -> np.ndarray:
    """Derivative of the science-only prediction with respect to theta, (samples * times * components, parameter)."""

    def predict(values: torch.Tensor) -> torch.Tensor:
        return model.predict_science(values[None], NO_NETWORK, data).flatten()

    return torch.func.jacfwd(predict)(torch.as_tensor(theta)).numpy()


def _minimize(model: HybridModel, residual: Residual, start: np.ndarray | None = None) -> tuple[np.ndarray, float]:
    """Levenberg-Marquardt on unconstrained theta; natural theta (parameter,) at the minimum, and the cost there.

    residual takes natural theta (1, parameter). start: natural theta (parameter,); without it the model's own.
    """

    def of(raw: torch.Tensor) -> torch.Tensor:
        values = residual(model.parameters.constrain(raw[None])).flatten()
        return torch.nn.functional.pad(
            values, (0, max(0, len(raw) - len(values)))
        )  # MINPACK needs as many as parameters

    raw = model.parameters.initial(1, torch.float64)
    if start is not None:
        raw = model.parameters.unconstrain(torch.as_tensor(start)[None])
    if not of(raw[0]).isfinite().all():
        theta = model.parameters.constrain(raw)
        if start is not None:  # a guess, no more
            return theta[0].numpy(), np.inf
        raise UserError(f"model.theta: at {_in_words(model, theta)} the science is not finite at the training states")
    solution = least_squares(
        lambda values: of(torch.as_tensor(values)).numpy(),
        raw[0].numpy(),
        jac=lambda values: torch.func.jacfwd(of)(torch.as_tensor(values)).numpy(),
        method="lm",
        xtol=1e-12,
    )
    return model.parameters.constrain(torch.as_tensor(solution.x)[None])[0].numpy(), float(solution.cost)


def _in_words(model: HybridModel, theta: torch.Tensor) -> str:
    return ", ".join(f"{name} = {value.item():g}" for name, value in model.parameters.named(theta).items())


def as_table(model: HybridODE, dataset: xr.Dataset) -> pd.DataFrame:
    """One row a parameter: start, truth, science-only and least-norm values; rank and condition of the scaled Jacobian.

    ``science_only_standard_error``, ``told_by_science``: see :class:`Identifiability`. ``science_only_at_bound`` is the
    bound at which the science-only fit ended, NaN where at none.
    """
    found = identify(model, dataset)
    truth = json.loads(dataset.attrs.get("truth", "{}"))
    names = model.parameters.names
    return pd.DataFrame(
        {
            "parameter": names,
            "unit": model.parameters.units,
            "start": [row.centre for row in model.parameters.rows],
            "true": [truth.get(name, np.nan) for name in names],
            "science_only": found.science_only,
            "science_only_standard_error": found.standard_error,
            "science_only_at_bound": bounds_reached(model.parameters.rows, found.science_only),
            "least_norm": np.nan if found.least_norm is None else found.least_norm,
            "told_by_science": found.told_by_science,
            "rank": found.rank,
            "condition": found.condition,
            "data": origin(dataset),
        }
    )


def bounds_reached(rows: Sequence[Parameter], theta: np.ndarray) -> list[float]:
    """For each parameter the bound at which a fit ended, NaN where it did not: the data would have it go further."""
    return [_bound_reached(row, value) for row, value in zip(rows, theta, strict=True)]


def _bound_reached(row: Parameter, value: float) -> float:
    if row.transform == "none":
        return np.nan
    for bound in (row.lower, row.upper):
        whole = row.upper - row.lower if np.isfinite(row.upper - row.lower) else row.size
        if np.isfinite(bound) and abs(value - bound) <= AT_BOUND * whole:
            return bound
    return np.nan
