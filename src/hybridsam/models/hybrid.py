"""Hybrid models: a scientific model with parameters theta, joined to a neural network with parameters phi."""

from collections.abc import Callable
from typing import NamedTuple

import torch
import xarray as xr
from torch import Tensor

from hybridsam.models.networks import Network, RunningStatistics
from hybridsam.models.parameters import Parameters
from hybridsam.models.samples import Samples

Theta = dict[str, Tensor]
Inputs = dict[str, Tensor]


class ScienceTrial(NamedTuple):
    """What f takes beside theta, for the members of a trial, and what it must return.

    returns: in words. shape: (member, sample, ...). lacks: axes of the target that f does not have.
    """

    given: Tensor | Inputs
    returns: str
    shape: tuple[int, ...]
    lacks: tuple[str, ...] = ()


class NetworkTrial(NamedTuple):
    """g as a function of phi (1, n), the shape that it must return, and in words what it sees."""

    g: Callable[[Tensor], Tensor]
    shape: tuple[int, ...]
    sees: str


class Comparison(NamedTuple):
    """Where the whole of a fitted model can be compared with its science, and both there.

    points: name of a variable of the dataset -> (1, series, time, ...), the training data that whole and science are
    functions of; of a law, which has no time, that axis has length one. whole: of theta (member, parameter), phi
    (member, n) and points, (member, series, time, ...). science: the same of theta and points. Both are in units of
    what an output of the network of one stands for. adds: whether the network may be any function that is added to the
    science; otherwise it does something else with it, such as to see it.
    """

    points: Inputs
    whole: Callable[[Tensor, Tensor, Inputs], Tensor]
    science: Callable[[Tensor, Inputs], Tensor]
    adds: bool = True


class HybridModel:
    """What training, evaluation and diagnosis need of a model; a class of one's own extends this one or one below.

    theta (member, parameter) is in natural units, phi (member, n). Predictions are (member, sample, ...), in the
    standard units of the data's targets.

    Attributes
    ----------
    parameters : Parameters
        The table of theta.
    network : Network
        g.
    target : str
        The variable of the dataset that is predicted.
    science : callable
        f, where a model has one that can be called alone.
    """

    parameters: Parameters
    network: Network
    target: str
    science: Callable[..., Tensor]

    @property
    def variables(self) -> tuple[str, ...]:
        """Names of the variables of a dataset that :meth:`data` reads, as far as they are known."""
        return (self.target,)

    def initial(self, generator: torch.Generator) -> Tensor:
        """phi of one member at the start of training.

        Parameters
        ----------
        generator : torch.Generator

        Returns
        -------
        Tensor of shape (n,)
        """
        return self.network.initial(generator)

    def data(self, dataset: xr.Dataset, split: str, dtype: torch.dtype, device: str) -> Samples:
        """The samples of one split.

        Parameters
        ----------
        dataset : xarray.Dataset
        split : str
            ``train``, ``validation`` or ``test``.
        dtype : torch.dtype
        device : str

        Returns
        -------
        Samples
        """
        raise NotImplementedError

    def predict(self, theta: Tensor, phi: Tensor, data: Samples, running: RunningStatistics | None = None) -> Tensor:
        """The whole model.

        Parameters
        ----------
        theta : Tensor of shape (member, parameter)
            In natural units.
        phi : Tensor of shape (member, n)
        data : Samples
        running : RunningStatistics, optional
            Of a network that has them.

        Returns
        -------
        Tensor of shape (member, sample, ...)
            In the standard units of the data's targets.
        """
        raise NotImplementedError

    def predict_science(
        self, theta: Tensor, phi: Tensor, data: Samples, running: RunningStatistics | None = None
    ) -> Tensor:
        """The science part alone, as far as it can be seen in the units of the prediction.

        Parameters
        ----------
        theta : Tensor of shape (member, parameter)
            In natural units.
        phi : Tensor of shape (member, n)
        data : Samples
        running : RunningStatistics, optional

        Returns
        -------
        Tensor of shape (member, sample, ...)
            In the standard units of the data's targets.
        """
        raise NotImplementedError

    def penalty(self, theta: Tensor, phi: Tensor, data: Samples, prediction: Tensor) -> Tensor:
        """R of functional regularisation: how much the network does.

        Parameters
        ----------
        theta : Tensor of shape (member, parameter)
            In natural units.
        phi : Tensor of shape (member, n)
        data : Samples
        prediction : Tensor of shape (member, sample, ...)
            That of the model.

        Returns
        -------
        Tensor of shape (member,)
        """
        raise NotImplementedError

    def finer(self, data: Samples) -> "HybridModel | None":
        """The same model with a finer solver, to see whether its steps are short enough.

        Parameters
        ----------
        data : Samples

        Returns
        -------
        HybridModel or None
            None for a model without a solver.
        """
        return None

    def science_trial(self, data: Samples, members: int) -> ScienceTrial | None:
        """How f can be tried alone, before training.

        Parameters
        ----------
        data : Samples
        members : int
            How many take part in the trial.

        Returns
        -------
        ScienceTrial or None
            None for a model that can be tried as a whole only.
        """
        return None

    def comparison(self, data: Samples) -> Comparison | None:
        """How the fitted whole can be compared with the science alone, from which theta is identified.

        Parameters
        ----------
        data : Samples
            Those of training.

        Returns
        -------
        Comparison or None
            None for a model whose science is seen only through what the network makes of the data.
        """
        return None

    def network_trial(self, data: Samples) -> NetworkTrial | None:
        """How g can be tried alone, where a wrong shape of it might fit by accident.

        Parameters
        ----------
        data : Samples

        Returns
        -------
        NetworkTrial or None
            None where it cannot be tried.
        """
        return None


def is_of(model: HybridModel, kind: type[HybridModel], *methods: str) -> bool:
    """Whether a model is of that kind, and its class has no way of its own to do what these methods do."""
    return isinstance(model, kind) and all(getattr(type(model), name) is getattr(kind, name) for name in methods)
