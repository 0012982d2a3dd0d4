"""What training costs: the work of an iteration, counted, and laws for the seconds and the memory that it takes here.

Work is counted with a few samples and members, and is linear in both. What it takes follows from the rate at which this
CPU multiplies large matrices, which is measured, and from constants of each path to the gradient. docs/performance.md
shows the law beside measurements.
"""

import time
from dataclasses import astuple, dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from hybridsam.core.methods import Method
from hybridsam.models.hybrid import HybridModel
from hybridsam.models.networks import RunningStatistics
from hybridsam.models.samples import Samples
from hybridsam.training.compiled import CompiledMap
from hybridsam.training.devices import members_at_once, saved_bytes
from hybridsam.training.loop import Training, generator
from hybridsam.training.loss import Loss, Objective, objective
from hybridsam.training.methods import gradient

SQUARE, SECONDS = 1024, 0.1  # of the matrices that are multiplied to find this CPU's rate, and for how long


@dataclass(frozen=True)
class Work:
    """What is to be done.

    products, convolutions: floating-point operations in matrix products and in convolutions. convolved: what
    convolutions write, numbers: what all else writes. calls, convolution_calls: operations.
    """

    products: float = 0.0
    convolutions: float = 0.0
    numbers: float = 0.0
    convolved: float = 0.0
    calls: float = 0.0
    convolution_calls: float = 0.0

    def __add__(self, other: "Work") -> "Work":
        return Work(*(a + b for a, b in zip(astuple(self), astuple(other), strict=True)))

    def __mul__(self, factor: float) -> "Work":
        return Work(*(factor * a for a in astuple(self)))

    def __sub__(self, other: "Work") -> "Work":
        return self + other * -1


class Counter(TorchDispatchMode):
    """Counts the work of all operations of PyTorch in its context, by the formulas of torch.utils.flop_counter.

    FlopCounterMode counts operations in products alone, and takes a second at first, to import PyTorch's compiler.
    """

    def __init__(self) -> None:
        super().__init__()
        self.counts = dict.fromkeys((field.name for field in fields(Work)), 0.0)

    @property
    def work(self) -> Work:
        return Work(**self.counts)

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # to keep torch.compile away from this, PyTorch would import it

    def __torch_dispatch__(self, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = operation(*args, **(kwargs or {}))
        if operation.is_view:
            return found
        convolution = "convolution" in operation.name()
        results = found if isinstance(found, (tuple, list)) else [found]
        written = sum(result.numel() for result in results if isinstance(result, Tensor))
        self.counts["convolved" if convolution else "numbers"] += written
        self.counts["convolution_calls" if convolution else "calls"] += 1
        if formula := flop_registry.get(operation.overloadpacket):
            flops = formula(*args, **(kwargs or {}), out_val=found)
            self.counts["convolutions" if convolution else "products"] += flops
        return found


@dataclass(frozen=True)
class Speed:
    """Of one way to compute: what a unit of work takes.

    products, convolutions: time of a floating-point operation, 1 being its time in a product of large matrices. The
    others, in seconds: to write a number, in a convolution or not, and an operation or a convolution beside that.
    """

    products: float
    convolutions: float
    number: float
    convolved: float
    call: float = 0.0
    convolution_call: float = 0.0

    def seconds(self, work: Work, rate: float) -> float:
        """Of this work on a CPU that does ``rate`` floating-point operations a second in products of large matrices."""
        flops = self.products * work.products + self.convolutions * work.convolutions
        written = self.number * work.numbers + self.convolved * work.convolved
        return flops / rate + written + self.call * work.calls + self.convolution_call * work.convolution_calls


# Fitted by benchmarks/scaling.py --tasks to short trainings of all tasks, by default and at the paper's sizes, and to
# those around the pendulum. Nine in ten are within a factor of 1.3, all within 1.65. The extremes are pendulum_images,
# which takes longer, as its images have their channels first, and light_tunnel, both at the paper's sizes.
PYTORCH = Speed(2.7, 2.9, 0.24e-9, 0.56e-9, 4.9e-6, 267e-6)
COMPILED = Speed(0.87, 0.37, 0.29e-9, 5.1e-9)
UPDATE, ITERATION = 35e-9, 0.43e-3  # seconds: of Adam and a perturbation for a parameter of a member; of any iteration
FEW = 2  # members and samples from which work is extrapolated; with one alone PyTorch leaves out some operations

# Memory, from the same measurements: what a forward pass keeps, three times (3.7 at most) where it is much; vectors as
# long as theta and phi of all members; Python, the libraries and the compiled code.
ACTIVATIONS, VECTORS, LIBRARIES = 3.7, 14, 420e6


@dataclass(frozen=True)
class Gradient:
    """The work of a gradient.

    By PyTorch: few, of FEW members on FEW samples; sample, what another sample adds for a member; member, what another
    member adds. compiled: of a member on a sample, by compiled C++. bytes_few, bytes_sample: what a member's forward
    pass keeps for the way back, on FEW samples and for another one.
    """

    few: Work
    sample: Work
    member: Work
    compiled: Work
    bytes_few: int
    bytes_sample: int

    def of(self, members: int, samples: int) -> tuple[Work, Work]:
        """The work of all members on all samples, by PyTorch and by compiled C++."""
        more = self.sample * (members * (samples - FEW)) + self.member * (members - FEW)
        return self.few + more, self.compiled * (members * samples)

    def seconds(self, members: int, samples: int, rate: float) -> float:
        by_pytorch, compiled = self.of(members, samples)
        return PYTORCH.seconds(by_pytorch, rate) + COMPILED.seconds(compiled, rate)


def gradient_of(model: HybridModel, faster: Loss | None, method: Method, data: Samples) -> Gradient:
    """The work of a gradient of what a method minimizes, on samples like the first one of data.

    faster: of :func:`hybridsam.training.compiled.faster_loss`.
    """
    loss = faster or Loss(model)
    few, member, sample = _count(loss, method, data)
    compiled = Work()
    if faster:
        compiled = _count(Loss(model), method, data)[2] - sample  # what PyTorch would have to do besides
        if isinstance(faster, CompiledMap) and method.penalty == "network":
            compiled = compiled * 2  # the penalty, of the same prediction, is computed anew
    kept = _kept(loss, method, data, FEW)
    return Gradient(few, sample, member, compiled, kept, _kept(loss, method, data, FEW + 1) - kept)


def _count(loss: Loss, method: Method, data: Samples) -> tuple[Work, Work, Work]:
    """The work of PyTorch for FEW members on FEW samples, and what another member and, for a member, sample adds."""
    sizes = ((FEW, FEW), (FEW + 1, FEW), (FEW, FEW + 1))
    few, members, samples = (_seen(loss, method, data, *n) for n in sizes)
    return few, members - few, replace((samples - few) * (1 / FEW), calls=0.0, convolution_calls=0.0)


def _seen(loss: Loss, method: Method, data: Samples, members: int, samples: int) -> Work:
    minimized, raw, phi = _losses(loss, method, data, members, samples)
    with Counter() as counter:
        gradient(minimized, raw, phi)
    return counter.work


def _losses(loss: Loss, method: Method, data: Samples, members: int, samples: int) -> tuple[Objective, Tensor, Tensor]:
    """What a method minimizes, on copies of the first sample, and theta and phi of members that are alike."""
    model, few = loss.model, data.batch(torch.zeros(1, samples, dtype=torch.long))
    raw = model.parameters.initial(members).to(data.targets)
    phi = model.initial(generator(0, "initialisation")).to(raw).expand(members, -1)
    running = RunningStatistics(model.network.initial_running().to(raw).expand(members, -1), training=True)
    return objective(loss, method, raw.new_zeros(members), few, running), raw, phi


def _kept(loss: Loss, method: Method, data: Samples, samples: int) -> int:
    """Bytes that the forward pass of a member keeps for the way back."""
    minimized, raw, phi = _losses(loss, method, data, 1, samples)
    return saved_bytes(lambda: minimized(raw.requires_grad_(), phi.detach().requires_grad_()))


def multiplication_rate(dtype: torch.dtype) -> float:
    """Floating-point operations a second in a product of large matrices, by the threads that PyTorch uses.

    In CPU time, which other processes hardly change, and the best of several, as the first ones are slower.
    """
    a = torch.ones(SQUARE, SQUARE, dtype=dtype)
    started, best = time.perf_counter(), float("inf")
    while time.perf_counter() - started < SECONDS:
        start = time.thread_time()
        torch.mm(a, a)
        best = min(best, time.thread_time() - start)
    return 2 * SQUARE**3 / best


@dataclass(frozen=True)
class Cost:
    """What a training takes. parameters: of a member. samples, validation: how many the splits have."""

    gradient: Gradient
    passes: int
    parameters: int
    training: Training
    samples: int
    validation: int

    @property
    def batch(self) -> int:
        return min(self.training.batch_size or self.samples, self.samples)

    def megabytes(self, members: int) -> float:
        """Memory on a CPU, data left out."""
        kept = self.gradient.bytes_few + (self.batch - FEW) * self.gradient.bytes_sample
        at_once = min(members, members_at_once(kept, torch.device("cpu")))
        vectors = members * self.parameters * getattr(torch, self.training.dtype).itemsize
        return (LIBRARIES + ACTIVATIONS * at_once * kept + VECTORS * vectors) / 1e6

    def iteration(self, members: int, rate: float) -> float:
        """Seconds of one iteration of all members by one thread, its share of what is recorded included."""
        batch = self.batch
        # A loss takes about a third of the time of its gradient.
        recorded = self.gradient.seconds(members, batch + self.validation, rate) / 3 / self.training.record_every
        update = ITERATION + UPDATE * members * self.parameters
        return self.passes * self.gradient.seconds(members, batch, rate) + recorded + update


def cost_of(
    model: HybridModel, method: Method, gradient: Gradient, training: Training, samples: int, validation: int
) -> Cost:
    """The cost of a training whose gradients are known to take ``gradient``."""
    parameters = len(model.parameters) + len(model.network)
    return Cost(gradient, 2 if method.perturbation else 1, parameters, training, samples, validation)
