"""Synthetic twins: their physics against an independent implementation, their files against the measured ones'."""

import contextlib
import hashlib
import io
import json
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from helpers import waiting

from hybridsam.core import settings
from hybridsam.core.errors import UserError
from hybridsam.data.chambers import is_twin, read_images, read_table
from hybridsam.twins import light_tunnel, wind_tunnel
from hybridsam.twins.archive import write_twin

TASKS = Path(__file__).resolve().parents[1] / "config/tasks"
WIND_HEADER = (
    "timestamp,config,counter,flag,intervention,hatch,pot_1,pot_2,osr_1,osr_2,osr_mic,osr_in,osr_out,osr_upwind,"
    "osr_downwind,osr_ambient,osr_intake,v_1,v_2,v_mic,v_in,v_out,load_in,load_out,current_in,current_out,res_in,"
    "res_out,rpm_in,rpm_out,pressure_upwind,pressure_downwind,pressure_ambient,pressure_intake,mic,signal_1,signal_2"
)
LIGHT_HEADER = (
    "timestamp,config,counter,flag,intervention,red,green,blue,osr_c,v_c,current,pol_1,pol_2,osr_angle_1,osr_angle_2,"
    "v_angle_1,v_angle_2,angle_1,angle_2,ir_1,vis_1,ir_2,vis_2,ir_3,vis_3,l_11,l_12,l_21,l_22,l_31,l_32,diode_ir_1,"
    "diode_vis_1,diode_ir_2,diode_vis_2,diode_ir_3,diode_vis_3,t_ir_1,t_vis_1,t_ir_2,t_vis_2,t_ir_3,t_vis_3,camera,"
    "v_board,v_reg,aperture,iso,shutter_speed,image_file,image_timestamp,brightness_value"
)
UNIFORM = "uniform_ap_1.8_iso_500.0_ss_0.005"


def constants(task):
    """The constants of a task's twin, from its task file or from the part that is to become one."""
    for path in (TASKS / f"{task}.yaml", TASKS / f"{task}.twin.fragment"):
        if path.exists() and "twin" in (found := settings.load(str(path))):
            return settings.values_of(found["twin"])
    raise FileNotFoundError(f"{task}: no twin")


WIND, LIGHT = constants("wind_tunnel"), constants("light_tunnel")
FEW = {"wind": {"runs": 2, "rows": 300}, "light": {"images": 12, "image_size": 16}}
TWINS = {
    "wind": lambda folder, **changes: wind_tunnel.simulate(WIND | FEW["wind"] | changes, folder),
    "light": lambda folder, **changes: light_tunnel.simulate(LIGHT | FEW["light"] | changes, folder),
}
each_twin = pytest.mark.parametrize("twin", TWINS)


@pytest.fixture(scope="module")
def chamber():
    """The simulators of the package causalchamber: wind tunnel and light tunnel. Importing them prints."""
    with contextlib.redirect_stdout(io.StringIO()):
        import causalchamber.simulators.lt as lt
        import causalchamber.simulators.wt.main as wt
    return wt, lt


def contents(folder):
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


# Wind tunnel: physics

RPM = np.pi / 30
ALONE = WIND | {"windmill": 0.0, "windmill_hatch": 0.0}


def test_steady_speed_is_model_a1(chamber):
    load = np.array([0, 0.01, 0.1, 0.5, 1.0])
    model = chamber[0].ModelA1(L_min=WIND["L_min"], omega_max=WIND["omega_max"])
    expected = model.simulate_from_inputs(pd.DataFrame({"load": load}))
    np.testing.assert_allclose(wind_tunnel.steady_speed(load, WIND) / RPM, expected, rtol=1e-14)


def test_fans_alone_follow_model_a2(chamber):
    """causalchamber integrates by Euler's method: its results for three steps are extrapolated to none."""
    rows = 40
    time = np.arange(rows) * 0.25
    load = np.where(time < 2, 0.2, np.where(time < 6, 0.9, 0.01))

    def torque(load):
        return WIND["K"] * wind_tunnel.steady_speed(load, WIND) ** 2

    def euler(n):
        model = chamber[0].ModelA2(WIND["I"], torque, WIND["K"], 0.2 * WIND["omega_max"], simulation_steps=n)
        return model.simulate_from_inputs(pd.DataFrame({"load": load, "timestamp": time}))

    one, two, four = (euler(n) for n in (500, 1000, 2000))
    expected = (one - 6 * two + 8 * four) / 3
    assert np.abs(four - expected).max() > 1e-3  # what Euler's method leaves is seen
    steps, closed = np.full((rows, 1), 0.25), np.zeros((rows, 1))
    speeds = wind_tunnel.fan_speeds(np.stack([load, load], 1), closed, steps, ALONE, substeps=50)[..., 0] / RPM
    np.testing.assert_allclose(speeds, np.stack([expected, expected], 1), rtol=0, atol=1e-6)


@pytest.mark.slow
def test_the_integrator_is_of_fourth_order_and_its_default_step_fine_enough():
    load_in, load_out, hatch = wind_tunnel.protocol(2000)
    steps = np.full((2000, 1), 0.25)
    angle = wind_tunnel.hatch_angle(hatch, steps, WIND["hatch_lag"])

    def speeds(c, **substeps):
        return wind_tunnel.fan_speeds(np.stack([load_in, load_out], 1), angle, steps, c, **substeps) / RPM

    assert np.abs(speeds(WIND) - speeds(WIND, substeps=16)).max() < 0.1  # rev/min, of 3000
    exact = speeds(ALONE, substeps=32)
    errors = [np.abs(speeds(ALONE, substeps=n) - exact).max() for n in (1, 2)]
    assert 12 < errors[0] / errors[1] < 24


def test_the_faster_fan_drives_the_slower_one_and_not_the_other_way():
    loads, steps = np.tile([1.0, 0.01], (400, 1)), np.full((400, 1), 0.25)
    closed, wide_open = np.zeros((400, 1)), np.full((400, 1), 45.0)
    alone, driven, less = (
        wind_tunnel.fan_speeds(loads, angle, steps, c)[-1, :, 0] / RPM
        for angle, c in ((closed, ALONE), (closed, WIND), (wide_open, WIND))
    )
    assert driven[0] == less[0] == pytest.approx(alone[0]) == pytest.approx(WIND["omega_max"])
    assert alone[1] == pytest.approx(WIND["L_min"] * WIND["omega_max"])
    q = WIND["windmill"]  # at rest, w^2 (1 + q) = w_A1^2 + q w_other^2
    assert driven[1] == pytest.approx(WIND["omega_max"] * np.sqrt((0.01 + q) / (1 + q)), rel=1e-6)
    assert alone[1] < less[1] < driven[1]


@pytest.mark.parametrize("r_0", [0.3, 0.75, 0.89])
def test_pressure_rise_is_model_c3(chamber, r_0):
    rng = np.random.default_rng(0)
    c = WIND | {"r_0": r_0, "beta": 0.1}
    speeds, angle = rng.uniform(1, 320, (50, 2)), rng.uniform(0, 45, 50)
    top = c["omega_max"] * RPM
    expected = chamber[0].model_c3(*speeds.T, angle, 0.0, c["S_max"], top, 186.7 / 3600, r_0, 0.1)
    np.testing.assert_allclose(wind_tunnel.pressure_rise(speeds, angle, c), expected, rtol=0, atol=1e-9)


def test_currents_are_model_b1(chamber):
    load = np.array([0.01, 0.05, 0.1, 0.5, 1.0])
    model = chamber[0].ModelB1(C_min=WIND["C_min"], C_max=WIND["C_max"], L_min=WIND["L_min"])
    ampere = wind_tunnel.current_counts(load, WIND, np.zeros(5)) / 1023 * 2.5 * 1.16 / 5
    expected = model.simulate_from_inputs(pd.DataFrame({"load": load}))
    np.testing.assert_allclose(ampere, expected, atol=2.5 * 1.16 / 5 / 1023)


def test_the_hatch_follows_its_command_with_a_lag():
    command = np.array([0.0, 45.0, 45.0, 45.0])
    angle = wind_tunnel.hatch_angle(command, np.full((4, 1), 0.25), 0.4)[:, 0]
    np.testing.assert_allclose(angle, 45 * (1 - np.exp(-np.array([0, 1, 2, 3]) * 0.25 / 0.4)), rtol=1e-12)


def test_the_protocol_is_that_of_the_experiment():
    """The formulas of the data set's generator: a sine, a square wave, and a hatch that opens every eight seconds."""
    load_in, load_out, hatch = wind_tunnel.protocol(10000)
    t = np.linspace(0.1, 32, 10000)
    np.testing.assert_allclose(load_in, np.maximum((np.sin(2 * t) + 1) / 2, 0.01), atol=5.1e-5)
    assert set(load_out) == {0.01, 1.0} and set(hatch) == {0.0, 45.0}
    np.testing.assert_array_equal(load_out == 1, np.sin(3 * t) > 0)
    np.testing.assert_array_equal(hatch == 45, np.sin(t / 4 * np.pi) < 0)
    with pytest.raises(UserError, match=r"twin\.rows: 10001"):
        wind_tunnel.protocol(10001)


def test_the_science_explains_the_twin_in_part():
    """A1 + C2 fitted by least squares: r between those of closed and open hatch, and the rest is more than noise."""
    table = wind_tunnel.runs(WIND | {"runs": 1, "rows": 10000})[0]
    rise = (table["pressure_downwind"] - table["pressure_ambient"]).to_numpy()
    z = np.maximum(table["load_in"], 0.1) ** 2 - np.maximum(table["load_out"], 0.1) ** 2
    slope, offset = np.polyfit(z, rise, 1)
    assert WIND["r_0"] < 1 - slope / WIND["S_max"] < WIND["r_0"] + WIND["beta"]
    unexplained = np.var(rise - slope * z - offset)
    assert unexplained > 5 * 2 * WIND["barometer_noise"] ** 2
    assert unexplained < 0.2 * np.var(rise)


# Light tunnel: physics


def column(values):
    return np.array([values]).T


@pytest.mark.filterwarnings("ignore:Arrays of 2-dimensional vectors:DeprecationWarning")
def test_colour_is_model_f3(chamber):
    inputs = light_tunnel.protocol(40, 0)
    w = dict(zip(("w_r", "w_g", "w_b"), LIGHT["w"], strict=True))
    model = chamber[1].ModelF3(
        **w,
        S=np.array(LIGHT["S"]),
        exposure=LIGHT["exposure"],
        Tp=column(LIGHT["Tp"]),
        Tc=column(LIGHT["Tc"]),
        center_x=0.5,
        center_y=0.5,
        radius=0.22,
        offset=0,
        image_size=20,
    )
    colours = light_tunnel.colour(inputs, LIGHT)
    assert colours.max() > 1  # F3 clips it
    expected = model.simulate_from_inputs(inputs)[:, 10, 10]
    np.testing.assert_allclose(np.clip(colours, 0, 1), expected, rtol=0, atol=1e-12)


def test_sensor_readings_are_those_of_the_deterministic_model(chamber):
    inputs = light_tunnel.protocol(40, 0)
    near, middle, far = LIGHT["sensor_distance"]
    model = chamber[1].Deterministic(
        **{name: np.array(LIGHT[f"sensor_{name}"]) for name in ("S", "Ts", "Tp", "Tc")},
        **{"d1": near, "d2": middle, "d3": far, "Q": np.array(LIGHT["current_Q"]), "C0": LIGHT["current_C0"]},
        **{"A": LIGHT["angle_A"], "a1": LIGHT["angle_zeros"][0], "a2": LIGHT["angle_zeros"][1]},
    )
    expected = model.simulate_from_inputs(inputs.assign(**light_tunnel.SETTINGS))
    readings = light_tunnel.sensors(inputs, LIGHT)
    assert set(readings) == set(model.outputs_names)
    for name, values in zip(model.outputs_names, expected, strict=True):
        np.testing.assert_allclose(readings[name], values, rtol=1e-12, err_msg=name)


def test_inputs_are_drawn_as_the_experiment_drew_them():
    """numpy's default generator with the data set's seed; pol_1 and pol_2 on the grid of the motors."""
    rng = np.random.default_rng(0)
    inputs = light_tunnel.protocol(5, 0)
    for row in inputs.itertuples():
        assert [row.red, row.green, row.blue] == [rng.integers(0, 255) for _ in range(3)]
        for angle in (row.pol_1, row.pol_2):
            asked = float(f"{rng.choice(np.arange(-180, 180, 0.1)):.1f}")
            assert abs(angle - asked) <= 0.1125 / 2 + 1e-9
            assert angle / 0.1125 == pytest.approx(round(angle / 0.1125))
    pd.testing.assert_frame_equal(light_tunnel.protocol(3, 0), inputs.head(3))


def test_images_brighten_with_the_colour_and_saturate():
    quiet = LIGHT | {"image_size": 16, "shot_noise": 0.0, "read_noise": 0.0}
    colours = np.array([[0, 0, 0], [0.1, 0, 0], [0.2, 0, 0], [0.4, 0.4, 0.4], [9, 9, 9]])
    images = np.stack(list(light_tunnel.render(colours, quiet, np.random.default_rng(0)))).astype(float)
    assert images.shape == (5, 16, 16, 3)
    assert not images[0].any() and not images[1:3, ..., 1:].any()
    centre = images[:, 6:10, 6:9].mean((1, 2))
    assert (np.diff(centre[:, 0]) > 0).all() and centre[2, 0] < 2 * centre[1, 0]
    assert centre[-1].min() > 250
    assert images[3, 7, 7].min() > images[3, 0, 7:9].max() > 0  # the board outshines what the wall reflects


def test_images_do_not_depend_on_how_many_are_drawn_at_once(monkeypatch):
    colours = light_tunnel.colour(light_tunnel.protocol(7, 0), LIGHT)
    c = LIGHT | {"image_size": 8}
    first = list(light_tunnel.render(colours, c, np.random.default_rng(0)))
    monkeypatch.setattr(light_tunnel, "BATCH", 3)
    np.testing.assert_array_equal(first, list(light_tunnel.render(colours, c, np.random.default_rng(0))))


# Files


def test_the_wind_twin_has_the_files_of_the_archive(tmp_path):
    folder = tmp_path / "wt_walks_v1"
    TWINS["wind"](folder)
    names = [f"loads_hatch_mix_fast_run_{i}.csv" for i in (1, 2)]
    assert set(contents(folder)) == {"TWIN.json", *names}
    inputs = []
    for name in names:
        assert (folder / name).read_text().splitlines()[0] == WIND_HEADER
        numeric = [column for column in WIND_HEADER.split(",") if column != "config"]
        table = read_table(folder / name, numeric, rows=300)
        assert (table["timestamp"].diff().iloc[1:] >= WIND["dt_min"] - 1e-6).all()
        assert table["pressure_ambient"].sub(WIND["ambient"]).abs().max() < 50
        assert table["rpm_in"].between(250, 3200).all()
        assert table["current_in"].between(0, 1023).all()
        inputs.append(table[["load_in", "load_out", "hatch"]])
    pd.testing.assert_frame_equal(*inputs)


def test_the_light_twin_has_the_files_of_the_archive(tmp_path):
    folder = tmp_path / "lt_camera_v1"
    TWINS["light"](folder)
    file = folder / UNIFORM / f"{UNIFORM}.csv"
    assert file.read_text().splitlines()[0] == LIGHT_HEADER
    numeric = [column for column in LIGHT_HEADER.split(",") if column not in ("config", "image_file")]
    table = read_table(file, [*numeric, "image_file"], rows=12, text_columns=["image_file"])
    assert table["image_file"].is_unique
    assert (table["image_file"] == table["image_timestamp"].map("{:.0f}.jpg".format)).all()
    images = {f"{UNIFORM}/images_16/{name}" for name in table["image_file"]}
    assert set(contents(folder)) == {"TWIN.json", f"{UNIFORM}/{UNIFORM}.csv", *images}
    pixels = read_images(folder / UNIFORM, table["image_file"].tolist(), 16)
    colours = light_tunnel.colour(table, LIGHT).mean(1)
    assert np.corrcoef(pixels.mean((1, 2, 3)), colours)[0, 1] > 0.9  # each image belongs to its row


@each_twin
def test_a_twin_says_that_it_is_one(twin, tmp_path):
    folder = tmp_path / "archive"
    TWINS[twin](folder)
    assert is_twin(folder)
    mark = json.loads((folder / "TWIN.json").read_text())
    assert mark["synthetic"] is True and "SYNTHETIC TWIN" in mark["what"]
    assert mark["constants"] == {"wind": WIND, "light": LIGHT}[twin] | FEW[twin]


@each_twin
def test_the_same_constants_give_the_same_bytes_and_another_seed_others(twin, tmp_path):
    for name, seed in (("one", 0), ("again", 0), ("other", 1)):
        TWINS[twin](tmp_path / name, seed=seed)
    one, again, other = (contents(tmp_path / name) for name in ("one", "again", "other"))
    assert one == again
    assert one.keys() == other.keys()
    assert not any(one[name] == other[name] for name in one)


def test_runs_differ_and_do_not_depend_on_their_number():
    few, more = (wind_tunnel.runs(WIND | {"runs": n, "rows": 50}) for n in (2, 3))
    for one, other in zip(few, more, strict=False):
        pd.testing.assert_frame_equal(one, other)
    assert not np.isclose(more[0]["pressure_ambient"], more[2]["pressure_ambient"]).any()


# Whole or not at all


def test_a_twin_replaces_a_twin_but_no_measurements(tmp_path):
    folder = tmp_path / "archive"
    folder.mkdir()
    TWINS["wind"](folder, runs=2)
    TWINS["wind"](folder, runs=1)
    assert len(contents(folder)) == 2
    (folder / "TWIN.json").unlink()
    before = contents(folder)
    with pytest.raises(UserError, match="no synthetic twin"):
        TWINS["wind"](folder)
    assert contents(folder) == before


def test_a_failed_simulation_leaves_nothing(tmp_path):
    def fail(part):
        (part / "half.csv").write_text("x\n")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write_twin(tmp_path / "archive", "a test", {}, fail)
    assert not list(tmp_path.iterdir())


SIMULATE = """
import json, sys
from pathlib import Path
from hybridsam.twins import light_tunnel
light_tunnel.simulate(json.loads(sys.argv[1]), Path(sys.argv[2]))
"""


@pytest.mark.slow
def test_a_killed_simulation_leaves_no_folder_that_counts(tmp_path):
    folder = tmp_path / "lt_camera_v1"
    command = [sys.executable, "-c", SIMULATE, json.dumps(LIGHT | {"images": 3000, "image_size": 64}), str(folder)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    waiting.until("the first picture", lambda: list(tmp_path.rglob("*.jpg")), process)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not folder.exists() and list(tmp_path.iterdir())
    TWINS["light"](folder)
    assert [path.name for path in tmp_path.iterdir()] == ["lt_camera_v1"]
    assert len(contents(folder)) == 2 + FEW["light"]["images"]
