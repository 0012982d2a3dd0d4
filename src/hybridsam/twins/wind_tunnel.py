"""Synthetic twin of wt_walks_v1, experiments loads_hatch_mix_fast_run_1 to 5: fans, hatch and barometers of a tunnel.

The science that is fitted has the fans at their steady speed (model A1) and one airflow ratio (model C2). The twin
adds what measurements show: inertia of the fans (A2), the air of the faster fan driving the slower one (windmilling),
a hatch that opens with a lag and changes the airflow ratio (C3), ambient pressure that wanders, barometers with
offsets and noise. Models as in Gamella, Peters, Bühlmann (2025), appendix IV.1. Inside: SI units and rad/s.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from hybridsam.core.errors import UserError
from hybridsam.twins.archive import write_twin

EXPERIMENT = "loads_hatch_mix_fast_run_{run}"
PROTOCOL_ROWS = 10000
COLUMNS = (  # of the measured table, in its order
    "timestamp config counter flag intervention hatch pot_1 pot_2 osr_1 osr_2 osr_mic osr_in osr_out osr_upwind"
    " osr_downwind osr_ambient osr_intake v_1 v_2 v_mic v_in v_out load_in load_out current_in current_out res_in"
    " res_out rpm_in rpm_out pressure_upwind pressure_downwind pressure_ambient pressure_intake mic signal_1 signal_2"
)
# What the experiment sets once, before the first row: sensors, potentiometers, reference voltages.
SETTINGS: dict[str, Any] = (
    {"config": "standard", "flag": 0.0, "intervention": 1.0, "pot_1": 0.0, "pot_2": 0.0, "osr_mic": 1.0}
    | dict.fromkeys(["osr_1", "osr_2", "res_in", "res_out"], 1.0)
    | dict.fromkeys(["osr_in", "osr_out", "osr_upwind", "osr_downwind", "osr_ambient", "osr_intake"], 8.0)
    | {"v_1": 5.0, "v_2": 5.0, "v_mic": 5.0, "v_in": 1.1, "v_out": 1.1}
)
RPM = np.pi / 30  # rad/s
OPEN = 45.0  # degrees of the open hatch
COUNTS = 1023  # of the analogue-to-digital converter


def simulate(constants: Mapping[str, Any], folder: Path) -> None:
    """Write the twin's runs into ``folder``, whole or not at all; constants: section ``twin`` of the task file."""
    what = f"wt_walks_v1, {EXPERIMENT.format(run='*')}"
    write_twin(folder, what, constants, lambda part: _write_runs(constants, part))


def _write_runs(constants: Mapping[str, Any], folder: Path) -> None:
    for run, table in enumerate(runs(constants), 1):
        table.to_csv(folder / f"{EXPERIMENT.format(run=run)}.csv", index=False)


def runs(constants: Mapping[str, Any]) -> list[pd.DataFrame]:
    """A table for each run. All have the same inputs; clock, weather and noise are a run's own, drawn from its seed."""
    c = constants
    load_in, load_out, hatch = protocol(c["rows"])
    seeds = np.random.SeedSequence(c["seed"]).spawn(c["runs"])
    generators = [np.random.default_rng(seed) for seed in seeds]
    steps = np.stack([np.maximum(rng.normal(c["dt"], c["dt_jitter"], c["rows"]), c["dt_min"]) for rng in generators], 1)
    angle = hatch_angle(hatch, steps, c["hatch_lag"])
    speeds = fan_speeds(np.stack([load_in, load_out], 1), angle, steps, c)
    inputs = {"load_in": load_in, "load_out": load_out, "hatch": hatch}
    return [measure(inputs, steps[:, i], speeds[..., i], angle[:, i], c, rng) for i, rng in enumerate(generators)]


def protocol(rows: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The first rows of the experiment's inputs, the same in each run: two loads from 0 to 1, the hatch in degrees."""
    if not 2 <= rows <= PROTOCOL_ROWS:
        raise UserError(f"twin.rows: {rows} is not from 2 to {PROTOCOL_ROWS}, the length of the experiment")
    t = np.linspace(0.1, 32, PROTOCOL_ROWS)[:rows]
    load_in = (np.sin(2 * t) + 1) / 2
    load_out = (np.sign(np.sin(3 * t)) + 1) / 2
    hatch = np.where(np.sin(t / 8 * 2 * np.pi) < 0, OPEN, 0.0)
    return np.maximum(load_in, 0.01).round(4), np.maximum(load_out, 0.01).round(4), hatch


def steady_speed(load: np.ndarray, c: Mapping[str, Any]) -> np.ndarray:
    """Model A1, rad/s."""
    return np.where(load == 0, 0.0, np.maximum(load, c["L_min"])) * c["omega_max"] * RPM


def hatch_angle(command: np.ndarray, steps: np.ndarray, lag: float) -> np.ndarray:
    """Where the hatch is, degrees (row, run), when it follows its command (row,) as a first-order lag in seconds.

    steps: (row, run), seconds since the row before.
    """
    angle = np.full(steps.shape, command[0])
    share = -np.expm1(-steps / lag)
    for row in range(1, len(angle)):
        angle[row] = angle[row - 1] + share[row] * (command[row] - angle[row - 1])
    return angle


def fan_speeds(
    loads: np.ndarray, angle: np.ndarray, steps: np.ndarray, c: Mapping[str, Any], substeps: int = 2
) -> np.ndarray:
    """Speeds of both fans, rad/s (row, fan, run), for loads (row, fan), hatch angles and steps (row, run).

    Model A2 with windmilling, dw/dt = K/I (w_A1(load)^2 - w^2 + q max(w_other^2 - w^2, 0)), so that a fan alone settles
    at model A1. A row's load acts since the row before. Classical Runge-Kutta, ``substeps`` steps a row.
    """
    drive = steady_speed(loads, c) ** 2
    q = c["windmill"] + c["windmill_hatch"] * angle / OPEN
    k = c["K"] / c["I"]

    def rate(w: np.ndarray, row: int) -> np.ndarray:
        square = w**2
        return k * (drive[row, :, None] - square + q[row] * np.maximum(square[::-1] - square, 0))

    speeds = np.empty((*loads.shape, steps.shape[1]))
    w = speeds[0] = np.sqrt(drive[0])[:, None]
    for row in range(1, len(loads)):
        h = steps[row] / substeps
        for _ in range(substeps):
            k1 = rate(w, row)
            k2 = rate(w + h / 2 * k1, row)
            k3 = rate(w + h / 2 * k2, row)
            w = w + h / 6 * (k1 + 2 * k2 + 2 * k3 + rate(w + h * k3, row))
        speeds[row] = w
    return speeds


def pressure_rise(speeds: np.ndarray, angle: np.ndarray, c: Mapping[str, Any]) -> np.ndarray:
    """Model C3, Pa: the downwind pressure over the ambient one, from speeds (row, fan) in rad/s and the hatch angle.

    The intersection of fan and tunnel characteristics in closed form, in which the largest airflow Q_max cancels.
    """
    r = np.minimum(1, c["r_0"] + c["beta"] * angle / OPEN)
    squares = (speeds / (c["omega_max"] * RPM)) ** 2
    return c["S_max"] * (1 - r) * (squares[:, 0] - squares[:, 1])


def ambient_pressure(time: np.ndarray, c: Mapping[str, Any], rng: np.random.Generator) -> np.ndarray:
    """Pressure around the tunnel, Pa, at these seconds: a slow swing and a random walk."""
    swing = np.sin(time / rng.uniform(*c["ambient_swing_time"]) + rng.uniform(0, 2 * np.pi))
    walk = np.cumsum(rng.standard_normal(len(time)) * np.sqrt(np.diff(time, prepend=0.0)))
    return c["ambient"] + c["ambient_swing"] * swing + c["ambient_walk"] * walk


def measure(
    inputs: Mapping[str, np.ndarray],
    steps: np.ndarray,
    speeds: np.ndarray,
    angle: np.ndarray,
    c: Mapping[str, Any],
    rng: np.random.Generator,
) -> pd.DataFrame:
    """The table of one run, with the columns of the measured one, from speeds (row, fan) and hatch angle (row,)."""
    time = np.cumsum(steps)
    ambient = ambient_pressure(time, c, rng)
    rise = pressure_rise(speeds, angle, c)
    fastest = speeds.max(1) / (c["omega_max"] * RPM)
    pressures = {
        "downwind": ambient + rise,
        "upwind": ambient + c["upwind_share"] * rise - c["upwind_suction"] * fastest**2,
        "ambient": ambient,
        "intake": ambient - c["intake_suction"] * fastest**2,
    }

    def noise(scale: float | np.ndarray) -> np.ndarray:
        return rng.normal(0, scale, len(time))

    columns = {"timestamp": (c["clock_start"] + time).round(6), "counter": np.arange(len(time), dtype=float)}
    for fan, speed in zip(("in", "out"), speeds.T, strict=True):
        columns[f"rpm_{fan}"] = (speed / RPM * (1 + noise(c["rpm_noise"]))).round(4)
        columns[f"current_{fan}"] = current_counts(inputs[f"load_{fan}"], c, noise(c["current_noise"]))
    for place, pressure in pressures.items():
        columns[f"pressure_{place}"] = (pressure + c[f"offset_{place}"] + noise(c["barometer_noise"])).round(4)
    columns["mic"] = (c["mic_level"] + noise(c["mic_noise"] + c["mic_fans"] * fastest)).round()
    for name in ("signal_1", "signal_2"):
        columns[name] = np.abs(noise(c["signal_noise"])).round()
    return pd.DataFrame(SETTINGS | dict(inputs) | columns, index=range(len(time)))[COLUMNS.split()]


def current_counts(load: np.ndarray, c: Mapping[str, Any], relative_noise: np.ndarray) -> np.ndarray:
    """Readings of a fan's current (model B1, ampere) at the converter's reference of nominally 1.1 V."""
    ampere = c["C_min"] + np.maximum(load, c["L_min"]) ** 3 * (c["C_max"] - c["C_min"])
    counts = ampere / c["current_range"] * c["current_volts"] / c["reference_volts"] * COUNTS
    return np.clip((counts * (1 + relative_noise)).round(), 0, COUNTS)
