"""Neural networks with a member axis.

The parameters of a network are one vector per member, phi of shape (member, parameter), so that a norm over phi is a
norm over a row; `unflatten` gives the views that the layers use. The last axis of a network's input and output holds
components or channels, also of images and fields.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import prod, sqrt
from numbers import Integral

import torch
from torch import Tensor

from hybridsam.core.errors import UserError

Layers = dict[str, Tensor]
Shapes = dict[str, tuple[int, ...]]

MOMENTUM = 0.1  # of running statistics, PyTorch's default


def linear(name: str, n_in: int, n_out: int) -> Shapes:
    return {f"{name}.weight": (n_out, n_in), f"{name}.bias": (n_out,)}


def checked_sizes(sizes: Sequence[int]) -> tuple[int, ...]:
    """Those of a network's layers, from input to output; raises UserError unless they are two whole numbers or more."""
    sizes = tuple(sizes)
    if len(sizes) < 2 or not all(isinstance(size, Integral) and size > 0 for size in sizes):
        raise UserError(f"network: {sizes!r} are not two or more whole numbers larger than zero, from input to output")
    return sizes


class Network:
    """Names and shapes of the parameters of one member, and of the running statistics of its BatchNorm layers.

    Parameters
    ----------
    shapes : dict of str to tuple of int
        name -> shape, of the parameters.
    running : dict of str to tuple of int, optional
        name -> shape, of the running statistics.
    last : str, optional
        Name of the layer whose output is the network's, where there is one that is linear.

    Attributes
    ----------
    centred : bool
        Whether the network wants its input around 0.
    """

    centred = True

    shapes: Shapes
    running: Shapes
    last: str

    def __init__(self, shapes: Shapes, running: Shapes | None = None, last: str = "") -> None:
        self.shapes = shapes
        self.running = running or {}
        self.last = last

    def __len__(self) -> int:
        """Number of parameters of one member."""
        return sum(prod(shape) for shape in self.shapes.values())

    def initial(self, generator: torch.Generator) -> Tensor:
        """Parameters of one member: uniform in +-1/sqrt(fan-in) as in torch.nn; BatchNorm starts as the identity.

        Parameters
        ----------
        generator : torch.Generator

        Returns
        -------
        Tensor of shape (parameter,)
        """
        parts = []
        for name, shape in self.shapes.items():
            weight = self.shapes[f"{name.rpartition('.')[0]}.weight"]
            if len(weight) == 1:
                parts.append(torch.full(shape, float(name.endswith("weight"))))
            else:
                parts.append((2 * torch.rand(prod(shape), generator=generator) - 1) / sqrt(prod(weight[1:])))
        return torch.cat(parts)

    def of_last_layer(self) -> Tensor:
        """Which parameters are those of the layer ``last``.

        Returns
        -------
        Tensor of shape (parameter,)
            All False where no such layer is known.
        """
        own = {f"{self.last}.weight", f"{self.last}.bias"}
        return torch.cat([torch.full((prod(s),), name in own) for name, s in self.shapes.items()])

    def initial_running(self) -> Tensor:
        """Running statistics of one member: means of zero, variances of one.

        Returns
        -------
        Tensor of shape (n,)
        """
        parts = [torch.full(shape, float(name.endswith("variance"))) for name, shape in self.running.items()]
        return torch.cat(parts) if parts else torch.empty(0)

    def is_weight(self) -> Tensor:
        """Which parameters are weights.

        Returns
        -------
        Tensor of shape (parameter,)
            True for weights, False for biases.
        """
        return torch.cat([torch.full((prod(s),), name.endswith("weight")) for name, s in self.shapes.items()])

    def unflatten(self, phi: Tensor) -> Layers:
        """The parameters of each layer, as views.

        Parameters
        ----------
        phi : Tensor of shape (member, parameter)

        Returns
        -------
        dict of str to Tensor
            layer name -> ``(member, *shape)``.
        """
        return _views(self.shapes, phi)

    def unflatten_running(self, running: Tensor) -> Layers:
        """The running statistics of each layer, as views.

        Parameters
        ----------
        running : Tensor of shape (member, n)

        Returns
        -------
        dict of str to Tensor
            name -> (member, channel).
        """
        return _views(self.running, running)

    def __call__(self, layers: Layers, x: Tensor) -> Tensor:
        """Apply the unflattened parameters.

        Parameters
        ----------
        layers : dict of str to Tensor
            Of :meth:`unflatten`.
        x : Tensor of shape (member, sample, ..., in)

        Returns
        -------
        Tensor of shape (member, sample, ..., out)
        """
        raise NotImplementedError


def _views(shapes: Shapes, vector: Tensor) -> Layers:
    parts = vector.split([prod(shape) for shape in shapes.values()], dim=1)
    return {name: part.view(-1, *shape) for (name, shape), part in zip(shapes.items(), parts, strict=True)}


class MLP(Network):
    """Fully connected network with ReLU between layers: (member, sample, in) -> (member, sample, out).

    Parameters
    ----------
    sizes : sequence of int
        From input to output, e.g. (2, 128, 128, 2).

    Raises
    ------
    UserError
        For sizes that are no whole numbers larger than zero.
    """

    def __init__(self, sizes: Sequence[int]) -> None:
        self.sizes = checked_sizes(sizes)
        shapes: Shapes = {}
        for layer, widths in enumerate(pairwise(self.sizes)):
            shapes |= linear(str(layer), *widths)
        super().__init__(shapes, last=str(len(self.sizes) - 2))

    def __call__(self, layers: Layers, x: Tensor) -> Tensor:
        last = len(self.sizes) - 2
        for i in range(last + 1):
            x = torch.baddbmm(layers[f"{i}.bias"].unsqueeze(1), x, layers[f"{i}.weight"].transpose(1, 2))
            if i < last:
                x = torch.relu(x)
        return x


class Networks(Network):
    """Several networks with the parameters of all in one vector; a parameter's name begins with its part's.

    Parameters
    ----------
    **parts : Network
    """

    def __init__(self, **parts: Network) -> None:
        self.parts = parts
        super().__init__(
            {f"{part}.{name}": s for part, network in parts.items() for name, s in network.shapes.items()},
            {f"{part}.{name}": s for part, network in parts.items() for name, s in network.running.items()},
        )

    def initial(self, generator: torch.Generator) -> Tensor:
        """(parameter,) of one member, each part's as it draws them itself."""
        return torch.cat([network.initial(generator) for network in self.parts.values()])

    def is_weight(self) -> Tensor:
        """(parameter,) as each part says."""
        return torch.cat([network.is_weight() for network in self.parts.values()])

    def layers_of(self, part: str, layers: Layers) -> Layers:
        """The layers of one part, under the names that the part itself uses.

        Parameters
        ----------
        part : str
        layers : dict of str to Tensor
            Of all parts.

        Returns
        -------
        dict of str to Tensor
        """
        return {name.removeprefix(f"{part}."): values for name, values in layers.items() if name.startswith(f"{part}.")}


@dataclass
class RunningStatistics:
    """Running means and variances of BatchNorm layers with memory.

    In training a batch is normalised by its own statistics, and what the first pass of a step sees moves the running
    values; the second pass of sharpness-aware minimization, at a perturbed network, leaves no trace. Otherwise the
    running values normalise.

    Parameters
    ----------
    values : Tensor of shape (member, n)
        The running values.
    training : bool, optional
    seen : Tensor of shape (member, n), optional
        Statistics of the batch in the first pass of a step.
    """

    values: Tensor
    training: bool = False
    seen: Tensor | None = None

    def see(self, statistics: Tensor) -> None:
        """Take note of the statistics of a batch.

        Parameters
        ----------
        statistics : Tensor of shape (member, n)
        """
        if self.seen is None:
            self.seen = statistics

    def moved(self) -> Tensor:
        """The running values after a step.

        Returns
        -------
        Tensor of shape (member, n)
        """
        return self.values if self.seen is None else torch.lerp(self.values, self.seen, MOMENTUM)


def each_member(one: Callable, layers: Layers, x: Tensor):
    """Apply a function of one member's layers and input to all; x (member or 1, sample, ...).

    Convolutions of several members as one grouped convolution suit a GPU, which vmap makes of them; on a CPU they are
    slower than one after the other (0.66 against 1.36 of single runs, reaction-diffusion).
    """
    members = len(next(iter(layers.values())))
    x = x.expand(members, *x.shape[1:])
    if x.is_cuda:
        return torch.vmap(one)(layers, x)
    results = [one({name: values[i] for name, values in layers.items()}, x[i]) for i in range(members)]
    if isinstance(results[0], tuple):
        return tuple(torch.stack(parts) for parts in zip(*results, strict=True))
    return torch.stack(results)
