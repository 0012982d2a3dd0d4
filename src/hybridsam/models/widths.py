"""Whether a network has the widths that its model needs, said in words and not by a product of matrices."""

from copy import copy

from torch import Tensor

from hybridsam.core.errors import UserError
from hybridsam.models.convolutions import ConvNet
from hybridsam.models.hybrid import HybridModel, is_of
from hybridsam.models.law import HybridEncoder, HybridLaw, HybridMap, HybridSum
from hybridsam.models.networks import MLP, Layers, Network
from hybridsam.models.ode import HybridODE
from hybridsam.models.samples import Samples


def check_widths(model: HybridModel, theta: Tensor, phi: Tensor, few: Samples) -> None:
    """Raise UserError, in words, for a network of another width than what it is given or has to return."""
    if isinstance(model.network, MLP):
        takes, gives = model.network.sizes[0], model.network.sizes[-1]
    elif isinstance(model.network, ConvNet):
        takes, gives = model.network.channels[0], model.network.channels[-1]
    else:
        return
    probed = copy(model)
    probed.network = _Probe()
    try:
        probed.predict(theta, phi, few)
        return
    except _SeenError as seen:
        given = seen.width
    except Exception:  # of the science, of which more can be said
        return
    wanted, has = _wanted_of_network(model, few)
    fitting = f"{type(model.network).__name__}(({given}, ..., {wanted or gives}))"
    if takes != given:
        raise UserError(f"model: the network takes {_numbers(takes)}, {_given_to_network(model, given)}: {fitting}")
    if wanted and gives != wanted:
        raise UserError(f"model: the network returns {_numbers(gives)}, {has}: {fitting}")


class _SeenError(Exception):
    """Carries what a network was given, out of the model that called it."""

    def __init__(self, width: int) -> None:
        self.width = width


class _Probe(Network):
    """Stands for a model's network, to find out how many numbers it is given."""

    def __init__(self) -> None:
        super().__init__({})

    def unflatten(self, phi: Tensor) -> Layers:
        return {}

    def __call__(self, layers: Layers, x: Tensor) -> Tensor:
        raise _SeenError(x.shape[-1])


def _given_to_network(model: HybridModel, n: int) -> str:
    if is_of(model, HybridODE, "predict"):
        return f"the state has {_numbers(n, 'component')}"
    if not isinstance(model, HybridLaw):
        return f"it is given {n}"
    beside = ", ".join(model.network_inputs)
    return f"it is given {n} ({' and '.join(filter(None, ['f' * is_of(model, HybridMap, 'predict'), beside]))})"


def _wanted_of_network(model: HybridModel, few: Samples) -> tuple[int, str]:
    """How many numbers the network must return, and in words why; 0 where that is not known."""
    n = few.targets.shape[-1] if few.targets.ndim > 2 else 0
    if is_of(model, HybridODE, "predict", "field"):
        return n, f"the state has {_numbers(n, 'component')}"
    if is_of(model, HybridMap, "predict") or is_of(model, HybridSum, "predict"):
        return n, f"{model.target} has {_numbers(n, 'component')}"
    if isinstance(model, HybridEncoder) and is_of(model, HybridEncoder, "predict"):
        n = len(model.unmeasured)
        return n, f"there {'is' if n == 1 else 'are'} {n} unmeasured ({', '.join(model.unmeasured)})"
    return 0, ""


def _numbers(n: int, what: str = "number") -> str:
    return f"{n} {what}{'s' * (n != 1)}"
