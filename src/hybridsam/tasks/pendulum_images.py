"""Images of a damped pendulum, whose motion the science knows but for the damping (Takeishi 2026).

Data:     frames that show the bob of the pendulum of hybridsam.tasks.pendulum.
Science:  f = (p, -omega^2 sin q), theta = omega.
Network:  one encoder gives the initial (q, p) from the first frames, another a latent vector; a field g(q, p)
          supplies what f leaves out; a decoder makes an image of every (q, latent).

That is the paper's model. By settings of the model g sees the latent vector, too (field_sees_latent), so that each
sample may move by a field of its own, and the decoder sees p (decoder_sees_velocity), so that q alone need not be the
angle.

What q and p mean is for the encoder to choose, up to a sign: |omega| is identifiable, phase and sign are not.
"""

from collections.abc import Callable, Mapping
from copy import copy

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from hybridsam import (
    MLP,
    Decoder,
    HybridModel,
    HybridODE,
    Network,
    Networks,
    Parameters,
    RunningStatistics,
    Samples,
    Solver,
    UserError,
    samples,
)
from hybridsam.tasks import pendulum


def simulate(constants: Mapping) -> xr.Dataset:
    """Frames of the damped pendulum, and the states that they show."""
    dataset = pendulum.simulate(constants).drop_vars("state_of_truth", errors="ignore")  # models start from no state
    pixels = constants["pixels"]
    centres = (2 * np.arange(pixels) + 1) / pixels - 1
    angle = dataset["state_true"].values[..., 0]
    frames = render(angle, centres, constants["arm"], constants["blob"] * 2 / pixels)
    axis = {name: (name, centres, {"long_name": name, "units": "half images"}) for name in ("y", "x")}
    dataset = dataset.assign_coords(axis | {"channel": ["brightness"]})
    dims, attributes = ("sample", "time", "y", "x", "channel"), {"long_name": "frame", "units": "1"}
    dataset["image"] = (dims, frames[..., None].astype(np.float32), attributes)
    return dataset.assign_attrs(target="image")


def render(angle: np.ndarray, centres: np.ndarray, arm: float, width: float) -> np.ndarray:
    """The bob as a Gaussian blob of that standard deviation, (..., y, x) from an angle (...) in rad; y points up."""
    x = centres - arm * np.sin(angle)[..., None]
    y = centres + arm * np.cos(angle)[..., None]
    return np.exp(-(y[..., :, None] ** 2 + x[..., None, :] ** 2) / (2 * width**2))


class EncodedODE(HybridModel):
    """A hybrid vector field whose states are seen through images only.

    motion, latent: encoders of the first ``seen`` frames. field: g, of the state, and of the latent vector where
    ``field_sees_latent``. decoder: of angle and latent vector, and of the velocity where ``decoder_sees_velocity``.
    reduction: an affine map from the angle to an image. hidden: the model of the states, for diagnosis.
    """

    target = "image"

    def __init__(
        self,
        science: Callable[[dict[str, Tensor], Tensor], Tensor],
        parameters: Parameters,
        motion: Network,
        latent: Network,
        field: Network,
        decoder: Decoder,
        reduction: Network,
        solver: Solver,
        seen: int,
        field_sees_latent: bool,
        decoder_sees_velocity: bool,
    ) -> None:
        self.parameters = parameters
        self.motion, self.latent, self.field, self.decoder, self.reduction = motion, latent, field, decoder, reduction
        parts = Networks(motion=motion, latent=latent, field=field, decoder=decoder, reduction=reduction)
        self.network: Network = parts
        self._part = parts.layers_of
        self.hidden = HybridODE(science, parameters, field, solver)
        self.seen, self.field_sees_latent, self.decoder_sees_velocity = seen, field_sees_latent, decoder_sees_velocity

    def data(self, dataset: xr.Dataset, split: str, dtype: torch.dtype, device: str) -> Samples:
        """The first frames as inputs, all frames as targets, (1, sample, time, y, x, 1)."""
        frames = samples.tensor(samples.in_split(dataset, split)["image"], dtype, device)
        return Samples({"frames": frames[:, :, : self.seen]}, frames, samples.times_of(dataset))

    def predict(self, theta: Tensor, phi: Tensor, data: Samples, running: RunningStatistics | None = None) -> Tensor:
        """All frames, (member, sample, time, y, x, 1)."""
        layers = self.network.unflatten(phi)
        latent = self._encode(self.latent, self._part("latent", layers), data)
        return self._decode(layers, self._states(theta, layers, data, latent), latent, running)

    def predict_science(
        self, theta: Tensor, phi: Tensor, data: Samples, running: RunningStatistics | None = None
    ) -> Tensor:
        """The frames that the decoder makes of the motion without g."""
        layers = self.network.unflatten(phi)
        latent = self._encode(self.latent, self._part("latent", layers), data)
        return self._decode(layers, self._states(theta, layers, data), latent, running)

    def finer(self, data: Samples) -> "EncodedODE":
        """The same model with steps half as long."""
        model = copy(self)
        model.hidden = self.hidden.finer(data)
        return model

    def penalty(self, theta: Tensor, phi: Tensor, data: Samples, prediction: Tensor) -> Tensor:
        """Mean square difference to the science alone, seen through the affine map (Takeishi & Kalousis 2023)."""
        layers = self.network.unflatten(phi)
        angle = self._states(theta, layers, data)[..., :1]
        images = self.reduction(self._part("reduction", layers), angle.flatten(1, 2))
        return (prediction - images.view(prediction.shape)).square().flatten(1).mean(1)

    def _encode(self, encoder: Network, layers: dict[str, Tensor], data: Samples) -> Tensor:
        frames = data.inputs["frames"].flatten(2)
        return encoder(layers, frames.expand(len(layers["0.weight"]), *frames.shape[1:]))

    def _states(self, theta: Tensor, layers: dict[str, Tensor], data: Samples, latent: Tensor | None = None) -> Tensor:
        """States (member, sample, time, 2), the first as the encoder sees it; with g if ``latent`` is given."""

        def of(own: slice) -> Callable[[float, Tensor], Tensor]:
            named = self.parameters.named(theta[own])
            if latent is None:
                return lambda t, x: self.hidden.science(named, x)
            field = {name: w[own] for name, w in self._part("field", layers).items()}
            if not self.field_sees_latent:
                return lambda t, x: self.hidden.science(named, x) + self.field(field, x)
            code = latent if own == slice(None) else latent[own]  # gradients would add up in another order
            return lambda t, x: self.hidden.science(named, x) + self.field(field, torch.cat([x, code], -1))

        initial = self._encode(self.motion, self._part("motion", layers), data)
        return torch.cat([initial.unsqueeze(2), self.hidden.solver.rollouts(of, initial, data.times)], 2)

    def _decode(
        self, layers: dict[str, Tensor], states: Tensor, latent: Tensor, running: RunningStatistics | None
    ) -> Tensor:
        shown = states if self.decoder_sees_velocity else states[..., :1]
        seen = torch.cat([shown, latent.unsqueeze(2).expand(-1, -1, states.shape[2], -1)], -1)
        if running and not running.training:
            layers = layers | self.network.unflatten_running(running.values)
        images, statistics = self.decoder.decode(self._part("decoder", layers), seen.flatten(1, 2))
        if running and running.training:
            running.see(statistics)
        return images.unflatten(1, states.shape[1:3])


def build(model: Mapping) -> EncodedODE:
    """The hybrid model from the ``model`` section of the task file."""
    field_sees_latent = switch(model, "field_sees_latent")
    decoder_sees_velocity = switch(model, "decoder_sees_velocity")
    decoder = Decoder(1 + decoder_sees_velocity + model["latent"], model["decoder"])
    pixels = decoder.size**2
    return EncodedODE(
        pendulum.science,
        Parameters.from_settings(model["theta"]),
        motion=MLP((model["seen"] * pixels, *model["encoder"], 2)),
        latent=MLP((model["seen"] * pixels, *model["encoder"], model["latent"])),
        field=MLP((2 + field_sees_latent * model["latent"], *model["hidden"], 2)),
        decoder=decoder,
        reduction=MLP((1, pixels)),
        solver=Solver.from_settings(model["solver"]),
        seen=model["seen"],
        field_sees_latent=field_sees_latent,
        decoder_sees_velocity=decoder_sees_velocity,
    )


def switch(model: Mapping, key: str) -> bool:
    """A key of the ``model`` section that is true or false; raises UserError for anything else."""
    if not isinstance(model[key], bool):
        raise UserError(f"model.{key}: {model[key]!r} is not allowed; allowed are true, false")
    return model[key]
