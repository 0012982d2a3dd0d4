"""Convolutional networks with a member axis, for fields and images."""

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor

from hybridsam.models.networks import Layers, Network, Shapes, checked_sizes, each_member, linear


def convolution(name: str, n_in: int, n_out: int, kernel: int = 3) -> Shapes:
    return {f"{name}.weight": (n_out, n_in, kernel, kernel), f"{name}.bias": (n_out,)}


def norm(name: str, channels: int) -> Shapes:
    return {f"{name}.weight": (channels,), f"{name}.bias": (channels,)}


class ConvNet(Network):
    """3 x 3 convolutions with BatchNorm and ReLU between them.

    Input and output are (member, sample, y, x, channel). BatchNorm uses the statistics of the batch at hand and keeps
    none, as is usual inside a vector field [1]_.

    Parameters
    ----------
    channels : sequence of int
        From input to output, e.g. (2, 16, 16, 2).

    Raises
    ------
    UserError
        For channels that are no whole numbers larger than zero.

    References
    ----------
    .. [1] Y. Yin et al., Augmenting Physical Models with Deep Networks for Complex Dynamics Forecasting, ICLR 2021,
           arXiv:2010.04456.
    """

    def __init__(self, channels: Sequence[int]) -> None:
        self.channels = checked_sizes(channels)
        shapes: Shapes = {}
        for layer, (n_in, n_out) in enumerate(pairwise(self.channels)):
            shapes |= convolution(str(layer), n_in, n_out)
            if layer < len(self.channels) - 2:
                shapes |= norm(f"{layer}.norm", n_out)
        super().__init__(shapes, last=str(len(self.channels) - 2))

    def __call__(self, layers: Layers, x: Tensor) -> Tensor:
        return each_member(self.one, layers, x)

    def one(self, layers: Layers, x: Tensor) -> Tensor:
        """The network of one member; channels stay last in memory, in which convolutions are faster.

        Parameters
        ----------
        layers : dict of str to Tensor
            Of this member, without a member axis.
        x : Tensor of shape (sample, y, x, channel)

        Returns
        -------
        Tensor of shape (sample, y, x, channel)
        """
        x = x.movedim(-1, 1)
        last = len(self.channels) - 2
        for i in range(last + 1):
            x = conv2d(layers, str(i), x)
            if i < last:
                x = torch.relu(batch_norm(layers, f"{i}.norm", x))
        return x.movedim(1, -1)


class UNet(Network):
    """A U-Net [1]_, two 3 x 3 convolutions a level.

    Input and output are (member, sample, y, x, channel); y and x are multiples of 2^(levels - 1).

    Parameters
    ----------
    n_in : int
        Channels of the input.
    channels : sequence of int
        Of each level, e.g. (16, 32, 64).
    n_out : int
        Channels of the output.

    References
    ----------
    .. [1] O. Ronneberger, P. Fischer and T. Brox, U-Net: Convolutional Networks for Biomedical Image Segmentation,
           MICCAI 2015, arXiv:1505.04597.
    """

    def __init__(self, n_in: int, channels: Sequence[int], n_out: int) -> None:
        self.levels = len(channels) - 1
        shapes: Shapes = {}
        for level, (before, here) in enumerate(pairwise((n_in, *channels))):
            shapes |= convolution(f"down{level}.0", before, here) | convolution(f"down{level}.1", here, here)
        for level, (here, below) in reversed(list(enumerate(pairwise(channels)))):
            shapes |= convolution(f"up{level}.0", below, here)
            shapes |= convolution(f"up{level}.1", 2 * here, here) | convolution(f"up{level}.2", here, here)
        super().__init__(shapes | convolution("out", channels[0], n_out, kernel=1), last="out")

    def __call__(self, layers: Layers, x: Tensor) -> Tensor:
        return each_member(self.one, layers, x)

    def one(self, layers: Layers, x: Tensor) -> Tensor:
        """The network of one member.

        Parameters
        ----------
        layers : dict of str to Tensor
            Of this member, without a member axis.
        x : Tensor of shape (sample, y, x, channel)

        Returns
        -------
        Tensor of shape (sample, y, x, channel)
        """

        def block(x: Tensor, *names: str) -> Tensor:
            for name in names:
                x = torch.relu(conv2d(layers, name, x))
            return x

        skipped, x = [], x.movedim(-1, 1)
        for level in range(self.levels):
            x = block(x, f"down{level}.0", f"down{level}.1")
            skipped.append(x)
            x = F.max_pool2d(x, 2)
        x = block(x, f"down{self.levels}.0", f"down{self.levels}.1")
        for level in reversed(range(self.levels)):
            x = block(F.interpolate(x, scale_factor=2), f"up{level}.0")
            x = block(torch.cat([x, skipped[level]], 1), f"up{level}.1", f"up{level}.2")
        return conv2d(layers, "out", x).movedim(1, -1)


class Decoder(Network):
    """A vector to a square image of one channel: fully connected to 3 x 3 maps, doubled in size by each convolution.

    Input (member, sample, in), output (member, sample, y, x, 1). BatchNorm has running statistics: see
    :class:`RunningStatistics`.

    Parameters
    ----------
    n_in : int
        Length of the vector.
    channels : sequence of int
        Of the maps; (128, 64, 32) give 24 x 24 pixels.
    """

    START = 3  # pixels

    def __init__(self, n_in: int, channels: Sequence[int]) -> None:
        self.channels = tuple(channels)
        self.size = self.START * 2 ** len(self.channels)
        shapes = linear("0", n_in, self.channels[0] * self.START**2) | norm("0.norm", self.channels[0])
        for layer, (before, here) in enumerate(pairwise((*self.channels, 1)), 1):
            shapes |= convolution(str(layer), before, here)
            if layer < len(self.channels):
                shapes |= norm(f"{layer}.norm", here)
        running: Shapes = {}
        for layer, n in enumerate(self.channels):
            running |= {f"{layer}.norm.mean": (n,), f"{layer}.norm.variance": (n,)}
        super().__init__(shapes, running, last=str(len(self.channels)))

    def decode(self, layers: Layers, x: Tensor) -> tuple[Tensor, Tensor]:
        """Images, and the statistics of the batch, which normalise unless ``layers`` holds running ones.

        Parameters
        ----------
        layers : dict of str to Tensor
            Of :meth:`unflatten`, and where wanted of :meth:`unflatten_running`.
        x : Tensor of shape (member, sample, in)

        Returns
        -------
        images : Tensor of shape (member, sample, y, x, 1)
        statistics : Tensor of shape (member, n)
            In the order of ``running``.
        """
        return each_member(self.one, layers, x)

    def one(self, layers: Layers, x: Tensor) -> tuple[Tensor, Tensor]:
        """The network of one member.

        Parameters
        ----------
        layers : dict of str to Tensor
            Of this member, without a member axis.
        x : Tensor of shape (sample, in)

        Returns
        -------
        images : Tensor of shape (sample, y, x, 1)
        statistics : Tensor of shape (n,)
        """
        seen = []
        x = F.linear(x, layers["0.weight"], layers["0.bias"]).unflatten(1, (-1, self.START, self.START))
        x = x.movedim(1, -1).contiguous().movedim(-1, 1)  # channels last in memory: twice as fast at the paper's size
        for layer in range(len(self.channels)):
            variance, mean = torch.var_mean(x.detach(), (0, 2, 3))
            seen += [mean, variance]
            x = torch.relu(batch_norm(layers, f"{layer}.norm", x))
            x = conv2d(layers, str(layer + 1), F.interpolate(x, scale_factor=2))
        return x.movedim(1, -1), torch.cat(seen)


def conv2d(layers: Layers, name: str, x: Tensor) -> Tensor:
    """A convolution of one member that keeps the size, zeros beyond the edge; x (sample, channel, y, x)."""
    weight = layers[f"{name}.weight"]
    return F.conv2d(x, weight, layers[f"{name}.bias"], padding=weight.shape[-1] // 2)


def batch_norm(layers: Layers, name: str, x: Tensor) -> Tensor:
    """BatchNorm of one member by the statistics in ``layers``, else by the batch's; x (sample, channel, y, x)."""
    mean, variance = layers.get(f"{name}.mean"), layers.get(f"{name}.variance")
    return F.batch_norm(x, mean, variance, layers[f"{name}.weight"], layers[f"{name}.bias"], training=mean is None)
