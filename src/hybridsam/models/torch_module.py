"""Networks made of a user's own nn.Module, which knows of no member axis."""

from collections.abc import Callable
from math import prod

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.parameter import is_lazy

from hybridsam.core.errors import UserError
from hybridsam.models.networks import Layers, Network, each_member


class TorchModule(Network):
    """Any ``nn.Module`` whose forward takes a tensor (sample, ..., in) and returns one (sample, ..., out).

    Buffers, and parameters that need no gradient, are constants that all members share. A forward pass must be a
    function: ``models.check`` refuses random numbers in it (dropout), and a change of a buffer (running statistics of
    BatchNorm) is refused here.

    Parameters
    ----------
    make : callable
        Makes a new module, as ``lambda: MyModule(8)`` does. A member's parameters begin as those of a module that is
        made under the member's own random numbers.

    Raises
    ------
    UserError
        For a module in place of the function, and for one that is lazy, not of real numbers, or without parameters that
        can be trained.
    """

    centred = False  # a user's own module may rely on signs

    def __init__(self, make: Callable[[], nn.Module]) -> None:
        if isinstance(make, nn.Module):
            raise UserError("network: TorchModule takes a function that makes a module: TorchModule(lambda: MyNet(8))")
        self.make = make
        self.module = self._made(0)
        parameters = dict(self.module.named_parameters())
        for name, values in parameters.items():
            if is_lazy(values):
                raise UserError(f"network: the parameter {name} has no size yet; lazy layers cannot be used")
            if not values.is_floating_point():
                raise UserError(f"network: the parameter {name} is {values.dtype}; it must consist of real numbers")
        super().__init__({name: tuple(values.shape) for name, values in parameters.items() if values.requires_grad})
        if not self.shapes:
            raise UserError(f"network: {type(self.module).__name__} has no parameters that can be trained")
        frozen = {name: values.detach() for name, values in parameters.items() if not values.requires_grad}
        self.constants = frozen | dict(self.module.named_buffers())
        self._copies: dict[tuple, Layers] = {}

    def initial(self, generator: torch.Generator) -> Tensor:
        """(parameter,) of one member, as those of a new module.

        Raises
        ------
        UserError
            If ``make`` returns the same module again.
        """
        module = self._made(int(torch.randint(2**63 - 1, (), generator=generator)))
        if module is self.module:
            raise UserError("network: the function given to TorchModule must make a new module at every call")
        return torch.cat([values.detach().flatten().cpu() for values in module.parameters() if values.requires_grad])

    def is_weight(self) -> Tensor:
        """(parameter,) False for what has ``bias`` in its own name, True for everything else."""
        weights = {name: "bias" not in name.rpartition(".")[2] for name in self.shapes}
        return torch.cat([torch.full((prod(shape),), weights[name]) for name, shape in self.shapes.items()])

    def __call__(self, layers: Layers, x: Tensor) -> Tensor:
        constants = {name: values.clone() for name, values in self._constants_like(x).items()}

        def one(layers: Layers, x: Tensor) -> Tensor:
            return functional_call(self.module, layers | constants, (x,))

        y = each_member(one, layers, x)
        for name, values in constants.items():
            if values._version > 0:  # which counts changes in place
                raise UserError(
                    f"network: a forward pass changes the buffer {name}, which would couple runs; "
                    "a BatchNorm needs track_running_stats=False, or use GroupNorm or LayerNorm"
                )
        return y

    def _made(self, seed: int) -> nn.Module:
        """A new module under random numbers of that seed; the caller's own are left as they were."""
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            return self.make()

    def _constants_like(self, x: Tensor) -> Layers:
        """The constants on x's device, real ones of its type; copied once, as a CUDA graph has no room for that."""
        key = x.device, x.dtype
        if key not in self._copies:
            types = {name: x.dtype if c.is_floating_point() else c.dtype for name, c in self.constants.items()}
            self._copies[key] = {name: c.to(x.device, types[name]) for name, c in self.constants.items()}
        return self._copies[key]
