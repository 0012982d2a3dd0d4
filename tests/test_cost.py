"""The estimate of what training costs: work counted against closed forms, the command, the line of a dry run."""

import json
from dataclasses import astuple
from pathlib import Path

import pandas as pd
import pytest
import torch
from helpers import small
from helpers.marks import slow_but_for

from hybridsam.core.blocks import Block
from hybridsam.core.methods import get_method
from hybridsam.core.settings import typed
from hybridsam.training import cost, estimate
from hybridsam.training.compiled import faster_loss
from hybridsam.training.loop import Training
from hybridsam.training.loss import Loss

GRID = {"erm": ["0"], "freg": ["0.1", "1"], "sam": ["0.05"]}


def gradient_of(task, folder, method="erm", compiled=False, model=None, **data):
    """The work of a gradient of a small task, and the loss that it is of."""
    built = small.build(task, model)
    samples = built.data(small.dataset_of(task, folder, **data), "train", torch.float32, "cpu")
    faster = faster_loss(built, samples) if compiled else None
    assert faster or not compiled
    return cost.gradient_of(built, faster, get_method(method), samples), faster or Loss(built)


# Work


def products(task, folder, members, samples, **options):
    work, _ = gradient_of(task, folder, **options)
    by_pytorch, compiled = work.of(members, samples)
    return by_pytorch.products + compiled.products


def test_products_in_a_rollout_are_three_times_those_of_its_evaluations(tmp_path):
    evaluations, weights = 4 * 2 * 3, 2 * 8 + 8 * 8 + 8 * 2  # rk4, two steps for each of three times
    forward = 2 * evaluations * weights * 5 * 7
    # The first evaluation is of data, for which no gradient is needed.
    assert products("pendulum", tmp_path, members=5, samples=7) == 3 * forward - 2 * 2 * 8 * 5 * 7


def test_products_of_a_map(tmp_path):
    weights = 48 * 8 + 8 * 8 + 8 * 12
    # Its input depends on theta, so that all three products are needed.
    assert products("wind_tunnel", tmp_path, members=2, samples=9) == 3 * 2 * weights * 2 * 9


def test_operations_in_convolutions(tmp_path):
    work, _ = gradient_of("reaction_diffusion", tmp_path)
    evaluations, pixels, channels = 4 * 2, 6 * 6, 2 * 4 + 4 * 4 + 4 * 2
    forward = 2 * 9 * channels * pixels * evaluations
    of_data = 2 * 9 * 2 * 4 * pixels  # as above
    assert work.of(3, 4)[0].convolutions == (3 * forward - of_data) * 3 * 4


def test_a_penalty_on_the_network_adds_the_products_at_all_states(tmp_path):
    erm, freg = (products("pendulum", tmp_path, 1, 1, method=method) for method in ("erm", "freg"))
    weights, states = 2 * 8 + 8 * 8 + 8 * 2, 4
    assert freg - erm == states * (3 * 2 * weights - 2 * 2 * 8)


@pytest.mark.slow
@pytest.mark.parametrize("task", small.SIMULATED)
def test_work_is_linear_in_samples_and_members(task, tmp_path, monkeypatch):
    few, _ = gradient_of(task, tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(cost, "FEW", 4)
        more, _ = gradient_of(task, tmp_path)
    assert astuple(few.of(4, 4)[0]) == pytest.approx(astuple(more.few), rel=0.05)


@pytest.mark.parametrize("task", ["pendulum", "wind_tunnel", "reaction_diffusion"])
def test_what_is_compiled_is_counted_apart(task, tmp_path):
    slow, _ = gradient_of(task, tmp_path)
    fast, _ = gradient_of(task, tmp_path, compiled=True)
    by_pytorch, compiled = fast.of(3, 4)
    (everything, nothing) = slow.of(3, 4)
    assert nothing == cost.Work()
    assert (by_pytorch.products, by_pytorch.convolutions) == (0, 0)
    assert (compiled.products, compiled.convolutions) == (everything.products, everything.convolutions)
    assert fast.seconds(3, 4, 1e11) < slow.seconds(3, 4, 1e11)


# Memory


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("task", slow_but_for(["wind_tunnel"], ["pendulum", "reaction_diffusion", "wind_tunnel"]))
def test_what_a_pass_keeps_is_extrapolated_to_all_samples(task, compiled, tmp_path):
    work, loss = gradient_of(task, tmp_path, compiled=compiled)
    samples = loss.model.data(small.dataset_of(task, tmp_path), "train", torch.float32, "cpu")
    kept = cost._kept(loss, get_method("erm"), samples, 40)
    assert work.bytes_few + (40 - cost.FEW) * work.bytes_sample == pytest.approx(kept, rel=0.02)


def test_more_members_need_more_memory_until_they_take_turns(tmp_path):
    work, loss = gradient_of("reaction_diffusion", tmp_path)
    training = typed(Training, small.settings_of("reaction_diffusion")["training"], "training")
    many = cost.cost_of(loss.model, get_method("erm"), work, training, 2000, 25)
    needs = [many.megabytes(members) for members in (1, 4, 1000, 2000)]
    assert needs == sorted(needs)
    assert needs[0] > cost.LIBRARIES / 1e6
    vectors = 1000 * many.parameters * 4 * cost.VECTORS / 1e6
    assert needs[3] - needs[2] == pytest.approx(vectors)


# Time


def test_an_iteration_takes_longer_with_more_of_everything(tmp_path):
    work, loss = gradient_of("pendulum", tmp_path)
    training = typed(Training, small.settings_of("pendulum")["training"], "training")
    erm, sam = (cost.cost_of(loss.model, get_method(method), work, training, 25, 25) for method in ("erm", "sam"))
    batches = cost.cost_of(
        loss.model,
        get_method("erm"),
        work,
        typed(Training, small.settings_of("pendulum", training={"batch_size": 5})["training"], "training"),
        25,
        25,
    )
    times = [batches.iteration(2, 1e11), erm.iteration(2, 1e11), sam.iteration(2, 1e11), sam.iteration(4, 1e11)]
    assert times == sorted(times) and len(set(times)) == 4
    assert sam.iteration(2, 1e11) < 2 * erm.iteration(2, 1e11)


def test_the_rate_of_this_cpu_is_plausible():
    assert 1e8 < cost.multiplication_rate(torch.float32) < 1e14


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.01, "1 s"), (45.2, "45 s"), (180, "3 min"), (5900, "98 min"), (7 * 3600, "7 h"), (1e6, "12 days")],
)
def test_times_in_words(seconds, words):
    assert estimate.in_words(seconds) == words


def test_the_log_says_how_long_training_takes(caplog, tmp_path):
    task, dataset, block = (
        small.settings_of("pendulum"),
        small.dataset_of("pendulum", tmp_path),
        Block("sam", 0.1, (0, 1)),
    )
    (tmp_path / "broken.py").write_text("raise ValueError('broken,\\nin two lines')\n")  # as training will say
    with caplog.at_level("INFO"):
        estimate.log_training(task, dataset, block)
        estimate.log_training(task | {"module": str(tmp_path / "broken.py")}, dataset, block)
        estimate.log_training(task | {"module": "absent.py"}, dataset, block)
    assert caplog.messages == ["about 1 s in all (estimated)"]


# Studies


def studied(*tasks, datasets=None, cache=None):
    return estimate.study(tasks, datasets or [None] * len(tasks), GRID, [[2, 1]] * len(tasks), cache)


def small_settings(task, **changes):
    """The settings of a small task with a twin, if it has any, of its size."""
    chosen = small.settings_of(task, **changes)
    if "twin" in chosen:
        for name in {"runs", "rows", "images", "image_size"} & set(chosen["twin"]):
            chosen["twin"][name] = chosen["data"][name]
    return chosen


@pytest.mark.slow
@pytest.mark.parametrize("task", ["pendulum", "reaction_diffusion", "pendulum_images", "wind_tunnel", "light_tunnel"])
def test_every_task_with_a_simulator_has_an_estimate(task):
    chosen = small_settings(task)
    [found] = studied(chosen)["tasks"]
    assert set(found["jobs"]) == set(GRID)
    longest = max(job["seconds"] for job in found["jobs"].values())
    assert 4 * 2 * estimate.START_SECONDS < found["seconds"] <= 4 * 2 * longest  # four trainings of two blocks
    assert all(400 < job["megabytes"] < 1000 for job in found["jobs"].values())


def test_measurements_that_are_not_here_have_no_estimate():
    pendulum, sensors = small_settings("pendulum"), small_settings("light_sensors")
    found = studied(pendulum, sensors)
    assert found["tasks"][1] == {"reason": "its data are measured and not here yet"}
    assert found["summary"].startswith("Training: 24 runs in 16 jobs, about ")
    assert "without Light sensors (its data are measured and not here yet)" in found["summary"]
    alone = studied(sensors)["summary"]
    assert alone.startswith("Training: 12 runs in 8 jobs, no estimate of the time for Light sensors")


def test_a_dataset_that_is_here_gives_shapes_and_sizes(tmp_path):
    sensors, file = small_settings("light_sensors"), tmp_path / "dataset.nc"
    dataset = small.dataset_of("light_sensors", tmp_path)
    dataset.assign_attrs(constants=json.dumps(sensors["data"])).to_netcdf(file)
    assert "seconds" in studied(sensors, datasets=[file])["tasks"][0]
    other = small_settings("light_sensors", data={"train": 5})  # than the dataset was made with
    assert "reason" in studied(other, datasets=[file])["tasks"][0]


def test_the_estimate_of_an_unchanged_task_is_found_again(tmp_path, monkeypatch):
    first = studied(small_settings("pendulum"), cache=tmp_path)
    monkeypatch.setattr(estimate, "of_task", lambda *_: pytest.fail("estimated again"))
    assert studied(small_settings("pendulum"), cache=tmp_path) == first


def test_a_change_of_the_code_of_a_task_is_estimated_anew(tmp_path):
    """And so `snakemake -n` sees a mistake in it."""
    module = tmp_path / "own.py"
    module.write_text("from hybridsam.tasks.pendulum import build, simulate\n")
    task = small_settings("pendulum") | {"module": str(module)}
    assert "seconds" in studied(task, cache=tmp_path / "cache")["tasks"][0]
    module.write_text("from hybridsam.tasks.pendulum import build, simulate\n\nMISTAKE = 1\n")
    studied(task, cache=tmp_path / "cache")
    assert len(list((tmp_path / "cache").iterdir())) == 2


@pytest.mark.slow
def test_a_change_of_a_task_gives_another_estimate(tmp_path):
    [before], [after] = (
        studied(small_settings("pendulum", data={"steps": steps}), cache=tmp_path)["tasks"] for steps in (3, 30)
    )
    assert before["seconds"] < after["seconds"]


@pytest.mark.slow
def test_a_table_that_has_grown_gives_another_estimate(tmp_path):
    table = {
        "file": str(tmp_path / "own.csv"),
        "time": {"column": "t", "unit": "s"},
        "state": {"q": "rad", "p": "rad s-1"},
        "window": 3,
        "split": {"by": "time", "train": 0.6, "validation": 0.2, "test": 0.2},
    }
    task = {key: value for key, value in small_settings("pendulum").items() if key != "data"} | {"table": table}
    costs = []
    for rows in (30, 3000):
        lines = [f"{number},{number % 7},{number % 5}" for number in range(rows)]
        Path(table["file"]).write_text("\n".join(["t,q,p", *lines]))
        costs.append(studied(task, cache=tmp_path / "cache")["tasks"][0]["seconds"])
    assert costs[0] < costs[1]


def test_an_unknown_failure_is_a_reason_and_is_not_kept(tmp_path, monkeypatch):
    def fail(*_):
        raise RuntimeError("it is broken\nin two lines")

    with monkeypatch.context() as patch:
        patch.setattr(estimate, "of_task", fail)
        assert (
            "no estimate of the time for Pendulum time series (it is broken)"
            in studied(small_settings("pendulum"), cache=tmp_path)["summary"]
        )
    assert "about" in studied(small_settings("pendulum"), cache=tmp_path)["summary"]


@pytest.mark.parametrize(
    ("science", "mistake"),
    [
        ("theta['omga'][..., None] * x", "asks for 'omga', which is not there: theta has omega"),
        ("np.sqrt(theta['omega'][..., None] * x)", "fails on theta[name]"),
        ("x[", "line 7: '[' was never closed"),
    ],
)
def test_a_mistake_in_a_model_is_called_one(tmp_path, science, mistake):
    own = tmp_path / "own.py"
    own.write_text(
        "import numpy as np\nfrom hybridsam import HybridODE, MLP, Parameters, Solver\n"
        "from hybridsam.tasks.pendulum import simulate\n\n\ndef science(theta, x):\n"
        f"    return {science}\n\n\ndef build(model):\n"
        "    theta = Parameters.from_settings(model['theta'])\n"
        "    return HybridODE(science, theta, MLP((2, 4, 2)), Solver(step=0.1))\n"
    )
    [found] = studied(small_settings("pendulum") | {"module": str(own)})["tasks"]
    assert mistake in found["mistake"] and found["reason"] == found["mistake"]


def test_measurements_that_are_not_here_are_no_mistake():
    assert "mistake" not in studied(small_settings("light_sensors"))["tasks"][0]


# The benchmark


@pytest.fixture
def scaling(monkeypatch, tmp_path):
    """benchmarks/scaling.py, which measures for a moment and draws into a temporary folder."""
    monkeypatch.syspath_prepend(str(small.ROOT / "benchmarks"))
    import scaling

    monkeypatch.setattr(scaling, "SECONDS", 1e-3)
    monkeypatch.setattr(scaling, "IMAGES", tmp_path)
    yield scaling
    torch.set_flush_denormal(False)


@pytest.mark.slow
def test_what_is_measured_is_drawn_with_its_numbers(scaling, monkeypatch, tmp_path):
    monkeypatch.setattr(scaling, "BASE", {"members": 2, "samples": 3, "horizon": 2, "width": 8})
    values = {"members": [1, 2], "samples": [3], "horizon": [2], "width": [8]}
    monkeypatch.setattr(scaling, "PATHS", dict.fromkeys(scaling.PATHS, values))
    points = scaling.scaling_points(["members"])
    measured = [point | scaling.measure(point) for point in points]
    scaling.write_figures(measured, ["members"])
    assert (tmp_path / "scaling-members.png").stat().st_size > 0
    numbers = pd.read_csv(tmp_path / "scaling-members.csv")
    assert sorted(zip(numbers["path"], numbers["members"], strict=True)) == [
        (path, members) for path in sorted(scaling.PATHS) for members in (1, 2)
    ]
    assert (numbers[["seconds", "predicted", "megabytes"]] > 0).all(axis=None)


@pytest.mark.slow
def test_the_fit_finds_the_constants_of_times_that_follow_the_law(scaling):
    points = [
        point | scaling.measure(point)
        for point in scaling.task_points()
        if point["sizes"] == "config" and point["task"] in ("pendulum", "light_tunnel")
    ]
    for point in points:
        point["seconds"] = [scaling.predicted(point)] * 3
    found = scaling.fit(points)
    assert found["worst ratio"] == pytest.approx(1, abs=1e-3)
    assert found["PYTORCH.call"] == pytest.approx(cost.PYTORCH.call, rel=1e-3)


@pytest.mark.slow
def test_the_law_of_memory_is_above_what_was_measured_but_not_by_much(scaling):
    measured = json.loads((small.ROOT / "benchmarks/scaling.json").read_text())
    points = [point for point in measured["tasks"] if point["method"] == "sam" and "megabytes" in point]
    ratios = []
    for point in points:
        model, data, training = (scaling.task if "task" in point else scaling.pendulum)(point)
        faster = faster_loss(model, data) if point["path"] == "compiled" else None
        assert faster or point["path"] == "PyTorch"
        method = get_method(point["method"])
        work = cost.gradient_of(model, faster, method, data)
        law = cost.cost_of(model, method, work, training, len(data), len(data))
        ratios.append(point["megabytes"] / law.megabytes(point["members"]))
    assert len(ratios) > 12
    assert min(ratios) > 0.4 and max(ratios) < 1.05


# Dry runs


@pytest.mark.slow
def test_a_dry_run_says_how_long_training_takes_and_stops_at_a_mistake(unused):
    unused.append("src/hybridsam/tasks/duffing.py", "\nraise RuntimeError('broken on import')\n")
    result = unused.snakemake("-n")
    assert result.returncode != 0
    said = result.stdout.splitlines()[-1]
    assert said.startswith("config/tasks/duffing.yaml: module: ") and said.endswith("RuntimeError: broken on import")
    assert "duffing.py, line " in said

    unused.edit("src/hybridsam/tasks/duffing.py", "\nraise RuntimeError('broken on import')\n", "")
    result = unused.snakemake("-n")
    (line,) = training_lines(result)
    assert result.returncode == 0
    assert line.startswith("Training: 28 runs in 14 jobs, about ")
    assert "CPU time" in line and "docs/performance.md" in line

    for kept in (unused.root / ".snakemake/estimates").glob("*.json"):
        kept.write_text(json.dumps({"seconds": 18000.0, "jobs": {}}))
    assert "about 10 h of CPU time" in training_lines(unused.snakemake("-n"))[0]


@pytest.mark.slow
def test_a_dry_run_goes_on_where_the_estimate_fails(unused):
    unused.append("src/hybridsam/training/estimate.py", "\nraise RuntimeError\n")
    result = unused.snakemake("-n")
    assert result.returncode == 0, result.stdout
    assert training_lines(result) == ["Training: no estimate of the time"]


@pytest.mark.slow
def test_only_a_dry_run_estimates(unused):
    assert training_lines(unused.snakemake("--list")) == []
    assert not (unused.root / ".snakemake/estimates").exists()


def training_lines(result):
    return [line for line in result.stdout.splitlines() if line.startswith("Training:")]
