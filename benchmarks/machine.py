"""What a measurement ran on: processor, versions, and the rates that bound it, which this prints as JSON."""

import argparse
import json
import os
import platform
import re
import shutil
import subprocess
import time
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch
import torch.nn.functional as F

PACKAGES = ("hybridsam", "torch", "torchdiffeq", "jax", "jaxlib", "diffrax", "optax", "numpy")
FLAGS = ("avx", "avx2", "fma", "avx512f", "avx512_bf16", "amx_bf16", "asimd", "sve")
SQUARE = 2048
REPEATS = 12


def describe(device: str) -> dict:
    """Processor, GPU if that is the device, and the device's measured rates, on a CPU of one thread, in GFLOP/s."""
    torch.set_num_threads(1)
    torch.backends.cudnn.allow_tf32 = False
    found = processor() | ({"gpu": gpu()} if device != "cpu" else {})
    with torch.device(device):
        return found | {"sgemm_gigaflops": sgemm(), "convolution_gigaflops": convolution()}


def processor() -> dict:
    """Model, the vector extensions that matter, cores."""
    path = Path("/proc/cpuinfo")
    text = path.read_text(encoding="utf-8") if path.exists() else ""

    def entry(name: str) -> str:
        found = re.search(rf"^{name}\s*:\s*(.*)$", text, re.MULTILINE)
        return found[1] if found else ""

    flags = entry("flags").split() or entry("Features").split()
    return {
        "processor": entry("model name") or platform.processor() or platform.machine(),
        "flags": [flag for flag in FLAGS if flag in flags],
        "cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.machine()}",
    }


def versions() -> dict[str, str]:
    """Python, its packages and the C++ compiler, where there are any."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    compiler = next(filter(None, map(shutil.which, (os.environ.get("CXX", ""), "c++", "g++", "clang++"))), None)
    if compiler:
        said = subprocess.run([compiler, "--version"], capture_output=True, text=True, check=False).stdout
        found["compiler"] = said.partition("\n")[0]
    return found


def gpu() -> str:
    """Name of the GPU that torch sees, or nothing."""
    return torch.cuda.get_device_name() if torch.cuda.is_available() else ""


def sgemm() -> float:
    """Rate of a product of two large matrices."""
    a, b = torch.randn(2, SQUARE, SQUARE)
    return 2 * SQUARE**3 / best(lambda: torch.mm(a, b)) / 1e9


def convolution() -> float:
    """Rate of a convolution as reaction-diffusion has it, channels last, forward and backward."""
    batch, channels, size = 100, 16, 32
    x = torch.randn(batch, channels, size, size).contiguous(memory_format=torch.channels_last).requires_grad_()
    weight = torch.randn(channels, channels, 3, 3).contiguous(memory_format=torch.channels_last).requires_grad_()
    g = torch.randn(batch, channels, size, size).contiguous(memory_format=torch.channels_last)
    work = 3 * 2 * 9 * channels**2 * size**2 * batch
    return work / best(lambda: torch.autograd.grad(F.conv2d(x, weight, padding=1), (x, weight), g)) / 1e9


def best(function: Callable[[], object]) -> float:
    """The shortest of several times, in seconds: what the processor can do when nothing disturbs it."""

    def wait() -> None:
        if torch.get_default_device().type == "cuda":
            torch.cuda.synchronize()

    function()
    times = []
    for _ in range(REPEATS):
        wait()
        started = time.perf_counter()
        function()
        wait()
        times.append(time.perf_counter() - started)
    return min(times)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--core", type=int, help="processor core to measure on")
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    if options.core is not None and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {options.core})
    print(json.dumps(describe(options.device)))
