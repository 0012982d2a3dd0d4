"""What depends on the device that trains: how many members fit at once, CUDA graphs, arithmetic, garbage collection."""

import ctypes
import gc
import logging
import re
import resource
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor

from hybridsam.core.errors import UserError

BYTES_ON_CPU = 512 * 2**20  # for the activations of a pass; more members at once are hardly faster there
SHARE_OF_GPU = 0.6  # of its memory, for the same; gradients and what kernels need come on top
WARM_UP = 3  # passes before a graph is captured, as PyTorch recommends

logger = logging.getLogger(__name__)


def chosen_device(name: str) -> str:
    """``auto``, a GPU where there is one, as a name for PyTorch; raises UserError for a device that is not there."""
    gpu = torch.cuda.is_available()
    if name == "auto":
        return "cuda" if gpu else "cpu"
    if name != "cpu" and not (gpu and re.fullmatch(r"cuda(:\d+)?", name)):
        raise UserError(
            f"device: {name!r} is not one of auto, cpu" + (", cuda, cuda:<number>" if gpu else "; no GPU here")
        )
    return name


def saved_bytes(forward: Callable[[], Tensor]) -> int:
    """What a forward pass keeps for the backward pass."""
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        result = forward()  # alive until all is counted, so that no address is used twice
    del result
    return sum(kept.values())


def members_at_once(bytes_of_a_member: int, device: torch.device) -> int:
    """How many members' activations the memory holds; a function of the machine, not of what else runs on it."""
    on_gpu = device.type == "cuda"
    memory = SHARE_OF_GPU * torch.cuda.get_device_properties(device).total_memory if on_gpu else BYTES_ON_CPU
    return max(1, int(memory // max(bytes_of_a_member, 1)))


def captured(function: Callable[[], list[Tensor]], device: torch.device) -> Callable[[], list[Tensor]]:
    """On a GPU, the function as one CUDA graph: launching thousands of small kernels takes longer than they run.

    The function has no arguments and no effects; its inputs are tensors that change in place, and so are its results.
    What cannot be captured, such as a copy from the CPU, runs kernel by kernel, and the log says so.
    """
    if device.type != "cuda":
        return function
    side = torch.cuda.Stream(device)
    side.wait_stream(torch.cuda.current_stream(device))
    with torch.cuda.stream(side):
        for _ in range(WARM_UP):
            function()
    torch.cuda.current_stream(device).wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    try:
        with torch.cuda.graph(graph):
            results = function()
    except RuntimeError as error:
        logger.warning(f"training kernel by kernel, which is slower: no CUDA graph ({error})")
        return function

    def replay() -> list[Tensor]:
        graph.replay()
        return results

    return replay


@contextmanager
def arithmetic(tf32: bool) -> Iterator[None]:
    """While training: TF32 products on a GPU only where asked for, subnormal numbers as zeros on a CPU.

    A strong penalty makes activations and gradients subnormal, on which a CPU was 7.6 times slower (l2reg 1e-3).
    """
    before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    torch.set_float32_matmul_precision("high" if tf32 else "highest")
    torch.backends.cudnn.allow_tf32 = tf32
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)
        torch.set_float32_matmul_precision(before[0])
        torch.backends.cudnn.allow_tf32 = before[1]


@contextmanager
def without_old_garbage() -> Iterator[None]:
    """While training: collections leave out what was there before, such as all imports; it took a tenth of the time."""
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def keep_freed_memory() -> None:
    """Let glibc keep large blocks for the next tensors, where it is the C library: 6 to 12 % on the light tunnel."""
    mmap_threshold, trim_threshold = -3, -1  # of malloc.h
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return
    mallopt(mmap_threshold, 2**30)
    mallopt(trim_threshold, 2**31 - 1)


def peak_megabytes() -> float:
    """The most memory that this process had. (On Linux getrusage lets a process begin with its parent's.)"""
    status = Path("/proc/self/status")
    if status.exists():
        fields = dict(line.split(":", 1) for line in status.read_text().splitlines())
        return int(fields["VmHWM"].split()[0]) / 1024
    unit = 1024**2 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
