"""The peer in PyTorch, as one writes it by hand: nn.Module, torchdiffeq, a two-step SAM wrapper, one run at a time."""

from collections.abc import Callable, Iterable
from itertools import pairwise

import numpy as np
import torch
import torch.nn.functional as F
from problems import LEARNING_RATE, RHO, Problem
from torch import Tensor, nn
from torch.nn.utils import vector_to_parameters
from torchdiffeq import odeint

TRANSFORMS: dict[str, Callable[..., Tensor]] = {
    "none": lambda raw, lower, upper: raw,
    "softplus": lambda raw, lower, upper: lower + F.softplus(raw),
    "sigmoid": lambda raw, lower, upper: lower + (upper - lower) * torch.sigmoid(raw),
}


class Sam:
    """Sharpness-aware minimization around an optimizer, perturbing some of its parameters (Foret et al. 2021)."""

    def __init__(self, base: torch.optim.Optimizer, perturbed: Iterable[Tensor], rho: float) -> None:
        self.base, self.perturbed, self.rho = base, list(perturbed), rho
        self.kept: list[Tensor] = []

    @torch.no_grad()
    def first_step(self) -> None:
        """Climb to the perturbed parameters and forget the gradients."""
        norm = torch.stack([p.grad.norm() for p in self.perturbed]).norm()
        self.kept = [p.clone() for p in self.perturbed]
        for p in self.perturbed:
            p.add_(p.grad, alpha=float(self.rho / (norm + 1e-12)))
        self.base.zero_grad()

    @torch.no_grad()
    def second_step(self) -> None:
        """Go back, and descend by the gradients taken at the perturbed parameters."""
        for p, kept in zip(self.perturbed, self.kept, strict=True):
            p.copy_(kept)
        self.base.step()
        self.base.zero_grad()


class Hybrid(nn.Module):
    """theta, unconstrained, and a network; ``loss`` is the mean squared error of a mini-batch or of all samples."""

    def __init__(self, problem: Problem, network: nn.Module, channels_last: bool = False) -> None:
        super().__init__()
        self.raw = nn.Parameter(torch.tensor(problem.theta[0]))
        self.network = network
        vector_to_parameters(torch.tensor(problem.phi[0]), network.parameters())
        self.transform = problem.transform
        self.format = torch.channels_last if channels_last else torch.contiguous_format
        if channels_last:
            network.to(memory_format=torch.channels_last)

    @property
    def theta(self) -> Tensor:
        """In natural units."""
        t = self.transform
        return TRANSFORMS[t["transform"]](self.raw, t["lower"], t["upper"])

    def buffer(self, name: str, values: np.ndarray) -> None:
        """Keep data with the module, so that it moves to its device; images in the layout of the convolutions."""
        tensor = torch.tensor(values, dtype=torch.float32)
        self.register_buffer(name, tensor.contiguous(memory_format=self.format) if tensor.ndim == 4 else tensor)

    def loss(self, batch: Tensor | None) -> Tensor:
        raise NotImplementedError


class Trajectories(Hybrid):
    """dx/dt = science + network, solved by torchdiffeq: pendulum, Duffing oscillator, reaction-diffusion."""

    def __init__(self, problem: Problem, solver: str, channels_last: bool) -> None:
        grid = problem.task == "reaction_diffusion"
        super().__init__(problem, conv_net(problem) if grid else mlp(problem), channels_last)
        self.science = getattr(self, problem.task)
        self.how = {"method": "rk4", "options": {"step_size": problem.step}} if solver == "rk4" else {"method": solver}
        states = np.moveaxis(problem.inputs["states"], 1, 0)  # time first, as odeint returns them
        states = np.moveaxis(states, -1, 2) if grid else states
        self.buffer("initial", states[0])
        self.buffer("targets", states[1:])
        # Doubles, so that step_size divides the times exactly; the state stays in single precision.
        self.register_buffer("times", torch.tensor(problem.times))
        if grid:
            self.side = problem.settings["model"]["side"] / (states.shape[-1] - 1)

    def loss(self, batch: Tensor | None) -> Tensor:
        theta = self.theta
        states = odeint(lambda t, x: self.science(theta, x) + self.network(x), self.initial, self.times, **self.how)
        return (states[1:] - self.targets).square().mean()

    @staticmethod
    def pendulum(theta: Tensor, x: Tensor) -> Tensor:
        q, p = x.unbind(-1)
        return torch.stack([p, -(theta[0] ** 2) * torch.sin(q)], -1)

    @staticmethod
    def duffing(theta: Tensor, x: Tensor) -> Tensor:
        x, v = x.unbind(-1)
        return torch.stack([v, -theta[0] * x], -1)

    def reaction_diffusion(self, theta: Tensor, x: Tensor) -> Tensor:
        """Diffusion; x (sample, component, y, x), no flux through the edges."""
        p = F.pad(x, (1, 1, 1, 1), mode="replicate")
        around = p[..., :-2, 1:-1] + p[..., 2:, 1:-1] + p[..., 1:-1, :-2] + p[..., 1:-1, 2:]
        return theta[:, None, None] * ((around - 4 * x) / self.side**2)


class WindTunnel(Hybrid):
    """Pressure over a window of time; inputs and targets in standard units."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem, mlp(problem))
        self.mean, self.scale = problem.mean, problem.scale
        for name, values in {**problem.science(), "targets": problem.targets}.items():
            self.buffer(name, values)

    def loss(self, batch: Tensor | None) -> Tensor:
        science = ((1 - self.theta[0]) * self.pressure - self.mean) / self.scale
        return (self.network(torch.cat([science, self.beside], -1)) - self.targets).square().mean()


class LightTunnel(Hybrid):
    """Images; the science paints a hexagon, the network the rest."""

    def __init__(self, problem: Problem, channels_last: bool) -> None:
        super().__init__(problem, UNet(3, problem.settings["model"]["channels"], 3), channels_last)
        for name, values in {**problem.science(), "targets": np.moveaxis(problem.targets, -1, 1)}.items():
            self.buffer(name, values)

    def loss(self, batch: Tensor | None) -> Tensor:
        w, parallel, crossed = self.theta.view(3, 3)
        colour = w * self.light[batch] * ((parallel - crossed) * self.malus[batch] + crossed)
        image = (colour[:, :, None, None] * self.mask).contiguous(memory_format=self.format)
        return (self.network(image) - self.targets[batch]).square().mean()


def mlp(problem: Problem) -> nn.Module:
    weights = [shape for shape in problem.shapes.values() if len(shape) == 2]
    layers = [layer for n_out, n_in in weights for layer in (nn.Linear(n_in, n_out), nn.ReLU())]
    return nn.Sequential(*layers[:-1])


def conv_net(problem: Problem) -> nn.Module:
    """3 x 3 convolutions with BatchNorm, by the statistics of the batch, and ReLU between them."""
    layers: list[nn.Module] = []
    for n_in, n_out in pairwise((2, *problem.settings["model"]["channels"])):
        norm = nn.BatchNorm2d(n_out, track_running_stats=False)
        layers += [nn.Conv2d(n_in, n_out, 3, padding=1), norm, nn.ReLU()]
    return nn.Sequential(*layers, nn.Conv2d(n_out, 2, 3, padding=1))


class UNet(nn.Module):
    """Two 3 x 3 convolutions a level, maximum pooling down, nearest neighbours up."""

    def __init__(self, n_in: int, channels: list[int], n_out: int) -> None:
        super().__init__()

        def conv(before: int, here: int) -> nn.Module:
            return nn.Sequential(nn.Conv2d(before, here, 3, padding=1), nn.ReLU())

        def double(before: int, here: int) -> nn.Module:
            return nn.Sequential(conv(before, here), conv(here, here))

        pairs = list(reversed(list(pairwise(channels))))
        self.down = nn.ModuleList([double(before, here) for before, here in pairwise((n_in, *channels))])
        self.up = nn.ModuleList([nn.ModuleList([conv(below, here), double(2 * here, here)]) for here, below in pairs])
        self.out = nn.Conv2d(channels[0], n_out, 1)

    def forward(self, x: Tensor) -> Tensor:
        skipped: list[Tensor] = []
        for level, block in enumerate(self.down):
            x = block(F.max_pool2d(x, 2) if level else x)
            skipped.append(x)
        for before, after in self.up:
            x = after(torch.cat([before(F.interpolate(x, scale_factor=2)), skipped[-2]], 1))
            skipped.pop()
        return self.out(x)


class TorchPeer:
    """One run.

    kind: ``dopri5`` solves by torchdiffeq's default method and tolerances; ``channels_last`` lays images out so.
    """

    def __init__(self, problem: Problem, device: str, kind: str = "") -> None:
        torch.set_num_threads(1)
        torch.backends.cudnn.allow_tf32 = False  # single precision throughout, as the others
        channels_last = kind == "channels_last"
        if problem.task == "wind_tunnel":
            self.model: Hybrid = WindTunnel(problem)
        elif problem.task == "light_tunnel":
            self.model = LightTunnel(problem, channels_last)
        else:
            self.model = Trajectories(problem, "dopri5" if kind == "dopri5" else "rk4", channels_last)
        self.model.to(device)
        self.members, self.compile_seconds, self.device, self.step = 1, 0.0, device, 0
        self.batches = torch.tensor(problem.batches[:, 0]).to(device) if problem.batches.size else None
        adam = torch.optim.Adam(self.model.parameters(), lr=LEARNING_RATE)
        self.sam = Sam(adam, self.model.network.parameters(), RHO)

    def iterate(self, n: int) -> None:
        for _ in range(n):
            self._iteration()
        if self.device.startswith("cuda"):
            torch.cuda.synchronize()

    def gradient(self) -> tuple[float, np.ndarray]:
        loss = self.model.loss(self._batch())
        gradients = torch.autograd.grad(loss, list(self.model.parameters()))
        return loss.item(), torch.cat([g.flatten() for g in gradients]).cpu().numpy()

    def losses(self, n: int) -> list[float]:
        return [self._iteration().item() for _ in range(n)]

    def _iteration(self) -> Tensor:
        batch = self._batch()
        loss = self.model.loss(batch)
        loss.backward()
        self.sam.first_step()
        self.model.loss(batch).backward()
        self.sam.second_step()
        self.step += 1
        return loss.detach()

    def _batch(self) -> Tensor | None:
        return None if self.batches is None else self.batches[self.step % len(self.batches)]
