"""The peer in JAX: one jitted function for a whole iteration, for one run or vmapped over members."""

import os
import time
from collections.abc import Callable

os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + " --xla_cpu_multi_thread_eigen=false"

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array
from problems import IMAGES, LEARNING_RATE, ODES, RHO, Problem

Layers = dict[str, Array]
TRANSFORMS: dict[str, Callable[..., Array]] = {
    "none": lambda raw, lower, upper: raw,
    "softplus": lambda raw, lower, upper: lower + jax.nn.softplus(raw),
    "sigmoid": lambda raw, lower, upper: lower + (upper - lower) * jax.nn.sigmoid(raw),
}


def to_jax(values: np.ndarray) -> np.ndarray:
    """A layer's parameters as JAX uses them: matrices (in, out), convolutions (y, x, in, out)."""
    return values.transpose({2: (1, 0), 4: (2, 3, 1, 0)}.get(values.ndim, range(values.ndim)))


def to_torch(values: np.ndarray) -> np.ndarray:
    """The inverse of :func:`to_jax`."""
    return values.transpose({2: (1, 0), 4: (3, 2, 0, 1)}.get(values.ndim, range(values.ndim)))


def mlp(phi: Layers, x: Array) -> Array:
    last = len(phi) // 2 - 1
    for i in range(last + 1):
        x = x @ phi[f"{i}.weight"] + phi[f"{i}.bias"]
        x = jax.nn.relu(x) if i < last else x
    return x


def conv(phi: Layers, name: str, x: Array) -> Array:
    """A convolution that keeps the size, zeros beyond the edge; x (sample, y, x, channel)."""
    layout = ("NHWC", "HWIO", "NHWC")
    x = jax.lax.conv_general_dilated(x, phi[f"{name}.weight"], (1, 1), "SAME", dimension_numbers=layout)
    return x + phi[f"{name}.bias"]


def conv_net(phi: Layers, x: Array) -> Array:
    """3 x 3 convolutions with BatchNorm, by the statistics of the batch, and ReLU between them."""
    last = sum(values.ndim == 4 for values in phi.values()) - 1
    for i in range(last):
        x = conv(phi, str(i), x)
        x = (x - x.mean((0, 1, 2))) * jax.lax.rsqrt(x.var((0, 1, 2)) + 1e-5)
        x = jax.nn.relu(x * phi[f"{i}.norm.weight"] + phi[f"{i}.norm.bias"])
    return conv(phi, str(last), x)


def unet(phi: Layers, x: Array, levels: int) -> Array:
    """Two 3 x 3 convolutions a level, maximum pooling down, nearest neighbours up."""

    def block(x: Array, *names: str) -> Array:
        for name in names:
            x = jax.nn.relu(conv(phi, name, x))
        return x

    def halved(x: Array) -> Array:
        samples, height, width, channels = x.shape
        return x.reshape(samples, height // 2, 2, width // 2, 2, channels).max((2, 4))

    skipped = []
    for level in range(levels):
        skipped.append(block(x, f"down{level}.0", f"down{level}.1"))
        x = halved(skipped[-1])
    x = block(x, f"down{levels}.0", f"down{levels}.1")
    for level in reversed(range(levels)):
        x = block(x.repeat(2, 1).repeat(2, 2), f"up{level}.0")
        x = block(jnp.concatenate([x, skipped[level]], -1), f"up{level}.1", f"up{level}.2")
    return conv(phi, "out", x)


def pendulum(theta: Array, x: Array) -> Array:
    return jnp.stack([x[..., 1], -(theta[0] ** 2) * jnp.sin(x[..., 0])], -1)


def duffing(theta: Array, x: Array) -> Array:
    return jnp.stack([x[..., 1], -theta[0] * x[..., 0]], -1)


def diffusion(theta: Array, x: Array, spacing: float) -> Array:
    """x (sample, y, x, component), no flux through the edges."""
    p = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), "edge")
    around = p[:, :-2, 1:-1] + p[:, 2:, 1:-1] + p[:, 1:-1, :-2] + p[:, 1:-1, 2:]
    return theta * ((around - 4 * x) / spacing**2)


def field_of(problem: Problem) -> Callable[[Array, Array, Layers], Array]:
    """dx/dt of (x, theta, phi)."""
    if problem.task == "reaction_diffusion":
        spacing = problem.settings["model"]["side"] / (problem.targets.shape[2] - 1)
        return lambda x, theta, phi: diffusion(theta, x, spacing) + conv_net(phi, x)
    science = {"pendulum": pendulum, "duffing": duffing}[problem.task]
    return lambda x, theta, phi: science(theta, x) + mlp(phi, x)


def rollout_by_scan(problem: Problem) -> Callable[[Array, Layers], Array]:
    """States after the initial one, time first: the classical Runge-Kutta method, stepped by lax.scan."""
    field, h, initial = field_of(problem), problem.step, jnp.asarray(problem.inputs["states"][:, 0])

    def rollout(theta: Array, phi: Layers) -> Array:
        def step(x: Array, _) -> tuple[Array, Array]:
            k1 = field(x, theta, phi)
            k2 = field(x + h / 2 * k1, theta, phi)
            k3 = field(x + h / 2 * k2, theta, phi)
            k4 = field(x + h * k3, theta, phi)
            x = x + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
            return x, x

        steps = problem.substeps * (len(problem.times) - 1)
        # Convolutions in a loop are 40 times slower on a CPU, so that loop is unrolled; others gain nothing by it.
        unroll = steps if problem.task in IMAGES else 1
        states = jax.lax.scan(step, initial, None, length=steps, unroll=unroll)[1]
        return states[problem.substeps - 1 :: problem.substeps]

    return rollout


def rollout_by_diffrax(problem: Problem) -> Callable[[Array, Layers], Array]:
    """The same by diffrax, which has no classical Runge-Kutta method of its own."""
    import diffrax

    classical = diffrax.ButcherTableau(
        c=np.array([1 / 2, 1 / 2, 1]),
        b_sol=np.array([1 / 6, 1 / 3, 1 / 3, 1 / 6]),
        b_error=np.zeros(4),
        a_lower=(np.array([1 / 2]), np.array([0, 1 / 2]), np.array([0.0, 0, 1])),
    )

    class ClassicalRungeKutta(diffrax.AbstractERK):
        tableau = classical
        interpolation_cls = diffrax.ThirdOrderHermitePolynomialInterpolation.from_k

        def order(self, terms) -> int:
            return 4

    field, initial = field_of(problem), jnp.asarray(problem.inputs["states"][:, 0])
    term = diffrax.ODETerm(lambda t, x, both: field(x, *both))
    steps = problem.substeps * (len(problem.times) - 1)
    grid = jnp.asarray(np.arange(steps + 1) * problem.step, jnp.float32)

    def rollout(theta: Array, phi: Layers) -> Array:
        solution = diffrax.diffeqsolve(
            term,
            ClassicalRungeKutta(),
            grid[0],
            grid[-1],
            None,
            initial,
            args=(theta, phi),
            stepsize_controller=diffrax.StepTo(grid),
            saveat=diffrax.SaveAt(steps=True),
            max_steps=steps,
            adjoint=diffrax.RecursiveCheckpointAdjoint(checkpoints=steps),  # all fit into memory: nothing twice
        )
        return solution.ys[problem.substeps - 1 :: problem.substeps]

    return rollout


def error_of(problem: Problem, by_diffrax: bool) -> Callable[[Array, Layers, Array | None], Array]:
    """Mean squared error of (theta, phi, mini-batch)."""
    targets = jnp.asarray(problem.targets)
    if problem.task in ODES:
        rollout = rollout_by_diffrax(problem) if by_diffrax else rollout_by_scan(problem)
        in_time = jnp.moveaxis(targets, 1, 0)
        return lambda theta, phi, batch: jnp.mean((rollout(theta, phi) - in_time) ** 2)
    known = {name: jnp.asarray(values) for name, values in problem.science().items()}

    def wind_tunnel(theta: Array, phi: Layers, batch: Array | None) -> Array:
        science = ((1 - theta[0]) * known["pressure"] - problem.mean) / problem.scale
        return jnp.mean((mlp(phi, jnp.concatenate([science, known["beside"]], -1)) - targets) ** 2)

    def light_tunnel(theta: Array, phi: Layers, batch: Array | None) -> Array:
        w, parallel, crossed = theta.reshape(3, 3)
        colour = w * known["light"][batch] * ((parallel - crossed) * known["malus"][batch] + crossed)
        image = colour[:, None, None, :] * known["mask"][:, :, None]
        levels = len(problem.settings["model"]["channels"]) - 1
        return jnp.mean((unet(phi, image, levels) - targets[batch]) ** 2)

    return {"wind_tunnel": wind_tunnel, "light_tunnel": light_tunnel}[problem.task]


class JaxPeer:
    """One run, or ``members`` runs vmapped. name: ``jax``, or ``diffrax`` for its solver."""

    def __init__(self, problem: Problem, members: int, device: str, name: str) -> None:
        jax.config.update("jax_platforms", "cuda" if device.startswith("cuda") else "cpu")
        jax.config.update("jax_default_matmul_precision", "highest")  # single precision throughout, as the others
        self.problem, self.members, self.step = problem, members, 0
        transform, error = problem.transform, error_of(problem, by_diffrax=name == "diffrax")
        constrain = TRANSFORMS[transform["transform"]]

        def objective(raw: Array, phi: Layers, batch: Array | None) -> Array:
            return error(constrain(raw, transform["lower"], transform["upper"]), phi, batch)

        self.objective, self.adam = objective, optax.adam(LEARNING_RATE)
        layers = [{name: to_jax(values) for name, values in problem.layers(k).items()} for k in range(members)]
        raw, phi = jnp.asarray(problem.theta[:members]), jax.tree.map(lambda *parts: jnp.stack(parts), *layers)
        state, iteration = jax.vmap(self.adam.init)((raw, phi)), jax.vmap(self._iteration)
        self.carried, batches = (raw, phi, state), [jnp.asarray(batch[:members]) for batch in problem.batches]
        if members == 1:
            self.carried, batches = jax.tree.map(lambda values: values[0], (self.carried, batches))
            iteration = self._iteration
        self.batches = batches or [None]
        started = time.perf_counter()
        self.compiled = jax.jit(iteration).lower(*self.carried, self.batches[0]).compile()
        self.compile_seconds = time.perf_counter() - started

    def _iteration(self, raw: Array, phi: Layers, state, batch: Array | None):
        """One iteration of SAM with Adam: the new theta, phi and state, and the loss before."""
        loss, gradient = jax.value_and_grad(self.objective, 1)(raw, phi, batch)
        climb = RHO / (optax.tree.norm(gradient) + 1e-12)
        perturbed = jax.tree.map(lambda values, g: values + climb * g, phi, gradient)
        gradients = jax.grad(self.objective, (0, 1))(raw, perturbed, batch)
        updates, state = self.adam.update(gradients, state)
        raw, phi = optax.apply_updates((raw, phi), updates)
        return (raw, phi, state), loss

    def iterate(self, n: int) -> Array:
        """Returns the losses (member,) before the last iteration."""
        for _ in range(n):
            self.carried, loss = self.compiled(*self.carried, self.batches[self.step % len(self.batches)])
            self.step += 1
        return jax.block_until_ready(loss)

    def gradient(self) -> tuple[float, np.ndarray]:
        raw, phi, _ = self.carried
        both = jax.jit(jax.value_and_grad(self.objective, (0, 1)))
        loss, (g_raw, g_phi) = both(raw, phi, self.batches[0])
        parts = [to_torch(np.asarray(g_phi[name])).ravel() for name in self.problem.shapes]
        return float(loss), np.concatenate([np.asarray(g_raw).ravel(), *parts])

    def losses(self, n: int) -> list[float]:
        return [float(self.iterate(1)) for _ in range(n)]
