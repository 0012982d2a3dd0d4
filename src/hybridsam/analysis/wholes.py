"""The fitted wholes of an ensemble, the science at the same points, and what an assumption leaves of them."""

import numpy as np
import torch

from hybridsam.analysis.assumptions import Assumption, Seen
from hybridsam.analysis.ensemble import Members
from hybridsam.models.hybrid import Comparison, HybridModel


class Fields:
    """The wholes of all members, the science, and what an assumption leaves of them."""

    def __init__(
        self, assumption: Assumption, model: HybridModel, comparison: Comparison, members: Members, seen: Seen
    ) -> None:
        self.model = model
        points = assumption.points(seen)
        double = {name: values.double() for name, values in points.items()}
        self._science = lambda theta: comparison.science(theta[None], double)[0]
        with torch.no_grad():
            wholes = comparison.whole(members.theta, members.phi, points).double().cpu().numpy()
        self.series, self._operator = assumption.series(seen), assumption.operator(seen)
        self._imitation = assumption.imitation(seen)
        self.wholes = self.rest(wholes)
        self.mean = wholes.mean(0)

    def rest(self, fields: np.ndarray) -> np.ndarray:
        """What the assumption leaves of fields (k, series, time, ...) at its points, (k, row, number)."""
        return self._operator(fields).reshape(len(fields), len(self.series), -1)

    def information(self, derivatives: np.ndarray) -> np.ndarray:
        """(parameter,) how much the assumption has to say, from the derivatives of f; see :func:`information`."""
        return information(self._imitation(derivatives), derivatives)

    def missing(self, f: np.ndarray) -> float:
        """||F - f||^2 at the points, as many as rows have: what the science lacks, all in all."""
        return float(np.square(self.mean - f[0]).sum()) * self.wholes[0].size / self.mean.size

    def science(self, theta: np.ndarray) -> np.ndarray:
        """f at the points, (1, series, time, ...)."""
        with torch.no_grad():
            return self._science(torch.as_tensor(theta)).cpu().numpy()[None]

    def derivatives(self, theta: np.ndarray) -> np.ndarray:
        """Of f by theta over its size, (parameter, series, time, ...)."""
        found = torch.func.jacfwd(self._science)(torch.as_tensor(theta))
        return np.moveaxis(found.detach().cpu().numpy() * sizes_of(self.model), -1, 0)


def sizes_of(model: HybridModel) -> np.ndarray:
    """(parameter,) how large each is, seen from its start and bounds."""
    return np.array([row.size or row.raw_unit for row in model.parameters.rows])


def information(rest: np.ndarray, derivatives: np.ndarray) -> np.ndarray:
    """(parameter,) the share of ||df/dtheta||^2 that neither the assumption nor the other parameters can imitate.

    rest, derivatives: of f by each parameter, (parameter, ...), what the assumption leaves of them, and all of them.
    """
    left, whole = rest.reshape(len(rest), -1).T, np.square(derivatives.reshape(len(derivatives), -1)).sum(1)
    shares = []
    for j in range(len(rest)):
        others = np.delete(left, j, 1)
        own = left[:, j] - others @ np.linalg.lstsq(others, left[:, j], rcond=None)[0]
        shares.append(np.square(own).sum() / whole[j] if whole[j] else 0.0)
    return np.array(shares)
