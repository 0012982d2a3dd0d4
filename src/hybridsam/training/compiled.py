"""The fast path on a CPU: errors and their gradients in one pass, by C++ that is compiled on first use (compiled.cpp).

It serves fully connected networks, alone (HybridMap) or in a vector field (HybridODE), whose science is recorded and
becomes C, and convolutional networks on grids (ConvNet), each evaluation by a call. Everything else, and every machine
without a compiler, takes the path through PyTorch. What is gained is in docs/performance.md.
"""

import ctypes
import hashlib
import logging
import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from copy import copy
from functools import cache, lru_cache
from pathlib import Path
from typing import cast

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from hybridsam.models.convolutions import ConvNet
from hybridsam.models.hybrid import HybridModel, Theta, is_of
from hybridsam.models.law import HybridMap
from hybridsam.models.networks import MLP, Layers, Network, RunningStatistics
from hybridsam.models.ode import HybridODE
from hybridsam.models.samples import Samples
from hybridsam.models.symbolic import TYPES, NotFollowedError, c_code, record
from hybridsam.training.loss import Loss, Terms
from hybridsam.training.methods import gradient

SOURCE = Path(__file__).with_suffix(".cpp")
FLAGS = ("-std=c++17", "-O3", "-ffp-contract=fast", "-fno-math-errno", "-fopenmp-simd", "-fPIC", "-shared", "-pthread")

AGREEMENT = 1e-2  # relative; between both paths, on a few samples and times, before the fast one is trusted

logger = logging.getLogger(__name__)


class NotCompiledError(Exception):
    """There is no compiler, or it fails."""


def faster_loss(model: HybridModel, data: Samples, quiet: bool = False) -> Loss | None:
    """A faster way to the loss of a model, None where there is none; a line in the log says which is taken, and why.

    data: samples of the kind that it is for; on a few of them it has to agree with PyTorch before it is trusted.
    quiet: no line in the log, as nothing will be trained.
    """
    if data.targets.device.type != "cpu":
        return None
    try:
        faster = _compiled(model, data)
        if faster and not _agree(expected := _gradient(Loss(model), data), _gradient(faster, data)):
            finite = all(values.isfinite().all() for values in expected)
            what = (
                "does not agree with it" if finite else "cannot be compared with it, which is not finite at the start"
            )
            raise NotFollowedError(f"what was compiled from the science {what}")
    except (NotCompiledError, NotFollowedError) as reason:
        if not quiet:
            logger.warning(f"training with PyTorch alone, which is several times slower: {reason}")
        return None
    if faster and not quiet:
        logger.info("training with C++ compiled for this CPU")
    return faster


def _compiled(model: HybridModel, data: Samples) -> Loss | None:
    """The compiled loss of a model of a known form, for samples of these standard units, else None."""
    dtype = data.targets.dtype
    if type(model.network) is ConvNet:  # a class of one's own may begin, or compute, in another way
        return Loss(_with_network(model, CompiledConvNet(model.network, dtype)))
    if isinstance(model.network, MLP) and isinstance(model, HybridODE) and is_of(model, HybridODE, "predict"):
        return CompiledODE(model, data)
    if isinstance(model.network, MLP) and isinstance(model, HybridMap) and is_of(model, HybridMap, "predict"):
        return CompiledMap(model, dtype)
    return None


def _with_network(model: HybridModel, network: Network) -> HybridModel:
    """The model with another network in the place of its own."""
    model = copy(model)
    model.network = network
    return model


@cache
def compiler() -> str:
    """Path of the C++ compiler: $CXX, or one of the usual names; raises NotCompiledError where there is none."""
    names = [os.environ["CXX"]] if os.environ.get("CXX") else ["c++", "g++", "clang++"]
    found = next(filter(None, map(shutil.which, names)), None)
    if not found:
        raise NotCompiledError(f"no C++ compiler ({', '.join(names)}) found")
    return found


@cache
def target() -> tuple[str, ...]:
    """What the code depends on besides its text: compiler, its version, and this CPU, as the compiler knows it."""
    native = "-mcpu=native" if platform.machine() in ("arm64", "aarch64") else "-march=native"
    # What -march=native stands for, on this CPU: a folder of users may be shared by unequal machines.
    command = [compiler(), native, "-###", "-E", "-x", "c++", "/dev/null"]
    seen = subprocess.run(command, capture_output=True, text=True, check=False).stderr
    return compiler(), native, seen


def library(prelude: str) -> ctypes.CDLL:
    """compiled.cpp compiled behind a prelude, from the cache if it is there; raises NotCompiledError."""
    source = prelude + SOURCE.read_text()
    command, native, seen = target()
    key = hashlib.sha256("\0".join([source, *FLAGS, command, seen]).encode()).hexdigest()[:24]
    cache_folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "hybridsam"
    file = cache_folder / f"{key}.so"
    try:
        if not file.exists():
            cache_folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=cache_folder) as folder:
                built = compiled(source, [command, *FLAGS, native], Path(folder))
                built.rename(file)  # whole or not at all, also when several jobs compile at once
        return ctypes.CDLL(str(file))
    except OSError as error:
        raise NotCompiledError(f"{cache_folder}: {error}") from error


def compiled(source: str, command: Sequence[str], folder: Path) -> Path:
    """The shared library that a compiler makes of the source, in that folder; raises NotCompiledError."""
    text, built = folder / "compiled.cpp", folder / "compiled.so"
    text.write_text(source)
    result = subprocess.run([*command, str(text), "-o", str(built)], capture_output=True, text=True, check=False)
    if result.returncode:
        first = next((line for line in result.stderr.splitlines() if "error" in line), "no message")
        raise NotCompiledError(f"{command[0]} failed: {first}")
    return built


class CompiledLoss(Loss):
    """By functions that return the error of all samples together, which do not depend on one another."""

    def of_samples(self, theta: Tensor, phi: Tensor, data: Samples, running: RunningStatistics | None = None) -> Tensor:
        """As of :class:`Loss`: the same numbers as of all together, in less memory than PyTorch takes."""
        return torch.stack([self(theta, phi, one) for one in data.chunks(1)], 1)


class CompiledODE(CompiledLoss):
    """Of a HybridODE whose network is an MLP and whose solver takes fixed steps."""

    def __init__(self, model: HybridODE, data: Samples) -> None:
        if model.solver.adaptive:
            raise NotFollowedError(f"the solver {model.solver.method} chooses its steps")
        self.model: HybridODE = model
        self.sizes = _integers(cast(MLP, model.network).sizes)

        def standard(theta: Theta, x: Tensor, g: Tensor) -> Tensor:
            """dx/dt of states in standard units, of which the network sees and returns such."""
            return model.field(theta, data.in_units(x), g * model.scale_of_network(data)) / data.scale

        formulas = record(standard, model.parameters.names, self.sizes[0], self.sizes[-1])
        self.rollout_error = library(c_code(formulas, data.targets.dtype)).rollout_error

    def terms(self, theta: Tensor, phi: Tensor, data: Samples, running: RunningStatistics | None) -> Terms:
        """As of :class:`Loss`."""

        def penalty() -> Tensor:
            simple = is_of(self.model, HybridODE, "penalty")  # it does not look at the prediction
            prediction = None if simple else self.model.predict(theta, phi, data)
            return self.model.penalty(theta, phi, data, prediction)

        return _Error.apply(self._error, data, theta, phi), penalty

    def _error(self, data: Samples, backward: Sequence[bool], theta: Tensor, phi: Tensor) -> tuple:
        members, samples, targets = len(phi), len(data), data.targets.contiguous()
        initial = data.in_standard_units(data.inputs["states"][:, :, 0]).contiguous()
        steps = self.model.solver.steps(data.times)
        lengths = (ctypes.c_double * len(steps))(*(step.length for step in steps))
        observed = _integers([step.observed for step in steps])
        error = theta.new_empty(members)
        g_theta, g_phi = (torch.empty_like(theta), torch.zeros_like(phi)) if any(backward) else (None, None)
        self.rollout_error(
            members, samples, len(self.sizes) - 1, self.sizes,
            _pointer(initial), _stride(initial), _pointer(targets), _stride(targets),
            targets.shape[2], len(steps), lengths, observed, _pointer(theta), _pointer(phi),
            _pointer(error), _pointer(g_theta), _pointer(g_phi), torch.get_num_threads(),
        )  # fmt: skip
        return error, g_theta, g_phi


class CompiledMap(CompiledLoss):
    """Of a HybridMap whose network is an MLP on vectors."""

    def __init__(self, model: HybridMap, dtype: torch.dtype) -> None:
        self.model: HybridMap = model
        self.sizes = _integers(cast(MLP, model.network).sizes)
        self.seen_by_network = lru_cache(maxsize=1)(
            model.seen_by_network
        )  # the same in every pass, without mini-batches
        self.map_error = library(f"#define MAP\ntypedef {TYPES[dtype][0]} Real;\n").map_error

    def terms(self, theta: Tensor, phi: Tensor, data: Samples, running: RunningStatistics | None) -> Terms:
        """As of :class:`Loss`."""
        science, seen = self.model.predict_science(theta, None, data), self.seen_by_network(data)

        def penalty() -> Tensor:
            if is_of(self.model, HybridMap, "penalty"):
                return _Error.apply(self._error, seen, phi, science, science)
            return self.model.penalty(theta, phi, data, self.model.predict(theta, phi, data))

        return _Error.apply(self._error, seen, phi, science, data.targets), penalty

    def _error(self, seen: Tensor, backward: Sequence[bool], phi: Tensor, x: Tensor, y: Tensor) -> tuple:
        members, samples, n_x = x.shape
        x, y, seen = (values.contiguous() for values in (x, y, seen))
        error = phi.new_empty(members)
        gradients = zip((phi, x, y), backward, strict=True)
        g_phi, g_x, g_y = (torch.zeros_like(values) if wanted else None for values, wanted in gradients)
        self.map_error(
            members, samples, len(self.sizes) - 1, self.sizes, n_x,
            _pointer(x), _pointer(seen), _stride(seen), _pointer(y), _stride(y), _pointer(phi),
            _pointer(error), _pointer(g_phi), _pointer(g_x), _pointer(g_y), torch.get_num_threads(),
        )  # fmt: skip
        return error, g_phi, g_x, g_y


class CompiledConvNet(ConvNet):
    """A ConvNet whose members are computed by compiled functions."""

    def __init__(self, network: ConvNet, dtype: torch.dtype) -> None:
        super().__init__(network.channels)
        self.c_channels = _integers(self.channels)
        self.functions = library(f"#define GRID\ntypedef {TYPES[dtype][0]} Real;\n")

    def one(self, layers: Layers, x: Tensor) -> Tensor:
        """One member: (sample, y, x, channel)."""
        return _ConvNet.apply(self, torch.cat([values.flatten() for values in layers.values()]), x)

    def about(self, x: Tensor) -> tuple:
        """The first arguments of all functions: sizes of x and of the network."""
        return *x.shape[:3], len(self.channels) - 1, self.c_channels


class _ConvNet(torch.autograd.Function):
    """(sample, y, x, channel) of one member through a CompiledConvNet with parameters phi (n,)."""

    @staticmethod
    def forward(ctx, network, phi, x):
        phi, x = phi.contiguous(), x.contiguous()
        inner = sum(network.channels[1:-1])  # channels of all layers but the last
        z, moments = x.new_empty(x[..., 0].numel() * inner), x.new_empty(2 * inner)
        y = x.new_empty(*x.shape[:3], network.channels[-1])
        pointers = map(_pointer, (x, phi, z, moments, y))
        network.functions.convnet_forward(*network.about(x), *pointers, torch.get_num_threads())
        ctx.save_for_backward(phi, x, z, moments)
        ctx.network = network
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx, upstream):
        phi, x, z, moments = ctx.saved_tensors
        g_phi, g_x = torch.zeros_like(phi), torch.empty_like(x) if ctx.needs_input_grad[2] else None
        pointers = map(_pointer, (x, phi, z, moments, upstream.contiguous(), g_phi, g_x))
        ctx.network.functions.convnet_backward(*ctx.network.about(x), *pointers, torch.get_num_threads())
        return None, g_phi, g_x


class _Error(torch.autograd.Function):
    """Errors of members (member,), computed together with their gradients for the inputs."""

    @staticmethod
    def forward(ctx, compute, data, *inputs):
        inputs = [values.contiguous() for values in inputs]
        error, *gradients = compute(data, ctx.needs_input_grad[2:], *inputs)
        ctx.save_for_backward(*gradients)
        return error

    @staticmethod
    @once_differentiable
    def backward(ctx, upstream):
        scaled = (g if g is None else g * upstream.view(-1, *[1] * (g.ndim - 1)) for g in ctx.saved_tensors)
        return None, None, *scaled


def _integers(values: Sequence[int]) -> ctypes.Array:
    return (ctypes.c_int * len(values))(*values)


def _pointer(values: Tensor | None) -> ctypes.c_void_p | None:
    return None if values is None else ctypes.c_void_p(values.data_ptr())


def _stride(values: Tensor) -> ctypes.c_long:
    """Numbers between members: none where all share the values."""
    return ctypes.c_long(values.stride(0) if len(values) > 1 else 0)


def _agree(expected: Sequence[Tensor], found: Sequence[Tensor]) -> bool:
    return all((a - b).norm() <= AGREEMENT * a.norm() for a, b in zip(expected, found, strict=True))


def _gradient(loss: Loss, data: Samples) -> tuple[Tensor, ...]:
    """Loss of a member and its gradients, on a few samples and times."""
    model = loss.model
    few = next(data.chunks(3)).until(3)
    raw = model.parameters.initial(1).to(few.targets)
    phi = model.initial(torch.Generator().manual_seed(0)).to(raw).unsqueeze(0)
    return gradient(lambda raw, phi: loss(model.parameters.constrain(raw), phi, few), raw, phi)
