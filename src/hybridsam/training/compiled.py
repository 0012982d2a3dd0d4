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
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from hybridsam.models.hybrid import HybridMap, HybridModel, HybridODE
from hybridsam.models.networks import MLP, ConvNet, Layers
from hybridsam.models.samples import Samples
from hybridsam.models.symbolic import TYPES, NotFollowedError, c_code, record
from hybridsam.training.methods import gradient, loss

SOURCE = Path(__file__).with_suffix(".cpp")
FLAGS = ("-std=c++17", "-O3", "-ffp-contract=fast", "-fno-math-errno", "-fopenmp-simd", "-fPIC", "-shared", "-pthread")

AGREEMENT = 1e-2  # relative; between both paths, on a few samples and times, before the fast one is trusted

logger = logging.getLogger(__name__)


class NotCompiledError(Exception):
    """There is no compiler, or it fails."""


def accelerate(model: HybridModel, data: Samples) -> bool:
    """Let the model use the fast path if there is one for it; one line in the log says which path is taken, and why."""
    part: Any
    kind: type
    if isinstance(model.network, ConvNet):
        part, kind = model.network, FusedConvNet
    elif isinstance(model.network, MLP) and type(model).predict in KINDS:
        part, kind = model, KINDS[type(model).predict]
    else:
        return False
    if data.targets.device.type != "cpu":
        return False
    try:
        fast = kind(part, data.targets.dtype)
        expected = _gradient(model, data)
        part.fast = fast
        if not all(
            (a - b).norm() <= AGREEMENT * a.norm() for a, b in zip(expected, _gradient(model, data), strict=True)
        ):
            part.fast = None
            raise NotFollowedError("what was compiled from the science does not agree with it")
    except (NotCompiledError, NotFollowedError) as reason:
        logger.warning(f"training with PyTorch alone, which is several times slower: {reason}")
        return False
    logger.info("training with C++ compiled for this CPU")
    return True


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


class FusedODE:
    """Loss of a HybridODE whose network is an MLP and whose solver takes fixed steps."""

    def __init__(self, model: HybridODE, dtype: torch.dtype) -> None:
        if model.solver.adaptive:
            raise NotFollowedError(f"the solver {model.solver.method} chooses its steps")
        self.model = model
        self.sizes = _integers(cast(MLP, model.network).sizes)
        formulas = record(model.field, model.parameters.names, self.sizes[0], self.sizes[-1])
        self.rollout_error = library(c_code(formulas, dtype)).rollout_error

    def __call__(self, theta: Tensor, phi: Tensor, data: Samples, weight: Tensor | None = None) -> Tensor:
        """(member,) mean squared error, plus weight times the penalty where one is given."""
        error = _Error.apply(self._error, data, theta, phi)
        return error if weight is None else error + weight * self.model.penalty(theta, phi, data)

    def _error(self, data: Samples, backward: Sequence[bool], theta: Tensor, phi: Tensor) -> tuple:
        members, samples, targets = len(phi), len(data), data.targets.contiguous()
        initial = data.inputs["states"][:, :, 0].contiguous()
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


class FusedMap:
    """Loss of a HybridMap whose network is an MLP on vectors."""

    def __init__(self, model: HybridMap, dtype: torch.dtype) -> None:
        self.model = model
        self.sizes = _integers(cast(MLP, model.network).sizes)
        self.seen_beside = lru_cache(maxsize=1)(model.seen_beside)  # the same in every pass, without mini-batches
        self.map_error = library(f"#define MAP\ntypedef {TYPES[dtype][0]} Real;\n").map_error

    def __call__(self, theta: Tensor, phi: Tensor, data: Samples, weight: Tensor | None = None) -> Tensor:
        """(member,) mean squared error, plus weight times the penalty where one is given."""
        science, beside = self.model.predict_science(theta, None, data), self.seen_beside(data)
        error = _Error.apply(self._error, beside, phi, science, data.targets)
        return error if weight is None else error + weight * _Error.apply(self._error, beside, phi, science, science)

    def _error(self, beside: Tensor, backward: Sequence[bool], phi: Tensor, x: Tensor, y: Tensor) -> tuple:
        members, samples, n_x = x.shape
        x, y, beside = (values.contiguous() for values in (x, y, beside))
        error = phi.new_empty(members)
        gradients = zip((phi, x, y), backward, strict=True)
        g_phi, g_x, g_y = (torch.zeros_like(values) if wanted else None for values, wanted in gradients)
        self.map_error(
            members, samples, len(self.sizes) - 1, self.sizes, n_x,
            _pointer(x), _pointer(beside), _stride(beside), _pointer(y), _stride(y), _pointer(phi),
            _pointer(error), _pointer(g_phi), _pointer(g_x), _pointer(g_y), torch.get_num_threads(),
        )  # fmt: skip
        return error, g_phi, g_x, g_y


class FusedConvNet:
    """A ConvNet of one member, on fields (sample, y, x, channel)."""

    def __init__(self, network: ConvNet, dtype: torch.dtype) -> None:
        self.channels = _integers(network.channels)
        self.functions = library(f"#define GRID\ntypedef {TYPES[dtype][0]} Real;\n")

    def __call__(self, layers: Layers, x: Tensor) -> Tensor:
        """As ConvNet.one."""
        return _ConvNet.apply(self, torch.cat([values.flatten() for values in layers.values()]), x)

    def about(self, x: Tensor) -> tuple:
        """The first arguments of all functions: sizes of x and of the network."""
        return *x.shape[:3], len(self.channels) - 1, self.channels


class _ConvNet(torch.autograd.Function):
    """(sample, y, x, channel) of one member through a FusedConvNet with parameters phi (n,)."""

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


KINDS = {HybridODE.predict: FusedODE, HybridMap.predict: FusedMap}  # a model that predicts in its own way has none


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


def _gradient(model: HybridModel, data: Samples) -> tuple[Tensor, ...]:
    """Loss of a member and its gradients, on a few samples and times."""
    few = next(data.chunks(3)).until(3)
    raw = model.parameters.initial(1).to(few.targets)
    phi = model.network.initial(torch.Generator().manual_seed(0)).to(raw).unsqueeze(0)
    return gradient(lambda raw, phi: loss(model, model.parameters.constrain(raw), phi, few), raw, phi)
