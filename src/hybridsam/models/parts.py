"""What is left of a hybrid model that does without its network, or without its science."""

from copy import copy

import torch
import xarray as xr
from torch import Tensor

from hybridsam.core.methods import Method, get_method
from hybridsam.models.hybrid import HybridModel, is_of
from hybridsam.models.law import HybridLaw, HybridMap, HybridSum
from hybridsam.models.networks import RunningStatistics
from hybridsam.models.ode import HybridODE
from hybridsam.models.samples import Samples

NO_NETWORK_ALONE = "the network is no model of the data by itself, as it does not see all that the science sees"


class ScienceAlone(HybridModel):
    """What a model predicts by its science. Its phi is there still, so that runs of all methods have one shape."""

    def __init__(self, whole: HybridModel) -> None:
        self.whole = whole
        self.parameters, self.network, self.target = whole.parameters, whole.network, whole.target

    @property
    def variables(self) -> tuple[str, ...]:
        """Those of the whole model."""
        return self.whole.variables

    def initial(self, generator: torch.Generator) -> Tensor:
        """As of the whole model."""
        return self.whole.initial(generator)

    def data(self, dataset: xr.Dataset, split: str, dtype: torch.dtype, device: str) -> Samples:
        """As of the whole model."""
        return self.whole.data(dataset, split, dtype, device)

    def predict(self, theta: Tensor, phi: Tensor, data: Samples, running: RunningStatistics | None = None) -> Tensor:
        """The science part of the whole model."""
        return self.whole.predict_science(theta, phi, data, running)

    predict_science = predict

    def penalty(self, theta: Tensor, phi: Tensor, data: Samples, prediction: Tensor) -> Tensor:
        """None: the network does nothing."""
        return theta.new_zeros(len(theta))

    def finer(self, data: Samples) -> HybridModel | None:
        """As of the whole model."""
        finer = self.whole.finer(data)
        return ScienceAlone(finer) if finer else None


class WithoutScience(HybridLaw):
    """What a network predicts that sees no law: f is the mean of the targets."""

    def __init__(self, whole: HybridLaw) -> None:
        vars(self).update(vars(whole))

    def predict_science(
        self, theta: Tensor, phi: Tensor | None, data: Samples, running: RunningStatistics | None = None
    ) -> Tensor:
        """0, in the standard units of the targets."""
        return data.targets.new_zeros(len(theta), *data.targets.shape[1:])


class MapWithoutScience(WithoutScience, HybridMap):
    """In place of the law, the network sees zeros."""


class SumWithoutScience(WithoutScience, HybridSum):
    """To the network zeros are added."""


def network_alone(model: HybridModel) -> HybridModel | None:
    """The model with a science that says nothing; None where its network is no model of the data by itself.

    That of a law is one if it sees all that the law does.
    """
    if isinstance(model, HybridODE) and is_of(model, HybridODE, "predict", "predict_science", "field"):
        alone = copy(model)
        alone.science = lambda theta, x: torch.zeros_like(x)
        return alone
    if not isinstance(model, HybridLaw) or set(model.network_inputs) != set(model.inputs):
        return None
    if isinstance(model, HybridMap) and is_of(model, HybridMap, "predict"):
        return MapWithoutScience(model)
    return SumWithoutScience(model) if isinstance(model, HybridSum) and is_of(model, HybridSum, "predict") else None


def part_of(model: HybridModel, method: Method) -> HybridModel | None:
    """The part of the model that a method trains; None where that is no model of the data."""
    if method.lacks == "network":
        return ScienceAlone(model)
    return network_alone(model) if method.lacks == "science" else model


def trained_part(model: HybridModel, method: str) -> HybridModel:
    """The part of a model that runs of the method of that name have trained."""
    return part_of(model, get_method(method)) or model
