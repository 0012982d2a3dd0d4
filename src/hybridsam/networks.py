"""Neural networks with a member axis.

The parameters of a network are one vector per member, phi of shape (member, parameter), so that a norm over phi is a
norm over a row; `unflatten` gives the views that the layers use.
"""

from collections.abc import Sequence
from math import prod, sqrt

import torch
from torch import Tensor


class MLP:
    """Fully connected network with ReLU between layers, e.g. sizes (2, 128, 128, 2)."""

    def __init__(self, sizes: Sequence[int]) -> None:
        self.sizes = tuple(sizes)
        self.shapes: dict[str, tuple[int, ...]] = {}
        for layer, (width_in, width_out) in enumerate(zip(self.sizes[:-1], self.sizes[1:], strict=True)):
            self.shapes[f"{layer}.weight"] = (width_out, width_in)
            self.shapes[f"{layer}.bias"] = (width_out,)

    def __len__(self) -> int:
        """Number of parameters of one member."""
        return sum(prod(shape) for shape in self.shapes.values())

    def initial(self, generator: torch.Generator) -> Tensor:
        """(parameter,) of one member: uniform in +-1/sqrt(fan-in), as torch.nn.Linear."""
        parts = []
        for name, shape in self.shapes.items():
            fan_in = self.sizes[int(name.split(".")[0])]
            parts.append((2 * torch.rand(prod(shape), generator=generator) - 1) / sqrt(fan_in))
        return torch.cat(parts)

    def is_weight(self) -> Tensor:
        """(parameter,) True for weights, False for biases."""
        return torch.cat([torch.full((prod(s),), name.endswith("weight")) for name, s in self.shapes.items()])

    def unflatten(self, phi: Tensor) -> dict[str, Tensor]:
        """(member, parameter) -> layer name -> (member, *shape), as views."""
        parts = phi.split([prod(shape) for shape in self.shapes.values()], dim=1)
        return {name: part.unflatten(1, shape) for (name, shape), part in zip(self.shapes.items(), parts, strict=True)}

    def __call__(self, layers: dict[str, Tensor], x: Tensor) -> Tensor:
        """Apply the unflattened parameters: (member, sample, in) -> (member, sample, out)."""
        last = len(self.sizes) - 2
        for i in range(last + 1):
            x = torch.baddbmm(layers[f"{i}.bias"].unsqueeze(1), x, layers[f"{i}.weight"].transpose(1, 2))
            if i < last:
                x = torch.relu(x)
        return x
