"""The benchmark of planning and collecting: what it measures is what it says. Times are not tested."""

import json
import os
import sys
import time

import netCDF4
import psutil
import pytest
from helpers import small, waiting

sys.path.insert(0, str(small.ROOT / "benchmarks"))

import dag

from hybridsam.core import records
from hybridsam.core.blocks import seed_ranges

ENDLESS = "import subprocess, sys; subprocess.Popen(['sleep', '31415']); print('rule train:'); sys.stdin.read()"


def python(code):
    return [sys.executable, "-c", code]


@pytest.mark.parametrize("runs", [50, 1000])
def test_an_experiment_has_the_runs_that_are_asked_for(runs):
    chosen = dag.experiment(runs, 20)
    settings = sum(len(chosen["rho"].get(method, [0])) for method in chosen["methods"])
    assert len(chosen["tasks"]) * settings * len(chosen["seeds"]) == runs
    assert len(dag.TASKS) * len(dag.RHOS) == dag.RUNS_PER_SEED  # by which jobs are counted


@pytest.mark.slow
def test_memory_is_that_of_the_process_and_of_what_it_starts(tmp_path):
    use = "import time; held = b'x' * 300_000_000; time.sleep(2)"
    nothing = dag.measure(python("import time; time.sleep(2)"), tmp_path)
    direct = dag.measure(python(use), tmp_path)
    started = dag.measure(python(f"import subprocess, sys; subprocess.run([sys.executable, '-c', {use!r}])"), tmp_path)
    assert nothing["megabytes"] < 100
    for found in (direct, started):
        assert 286 < found["megabytes"] < 400
        assert found["seconds"] > 2


def test_a_command_is_killed_with_all_its_children_at_the_line_that_is_waited_for(tmp_path):
    before = time.perf_counter()
    found = dag.measure(python(ENDLESS), tmp_path, until="rule train:")
    assert found["seconds"] < time.perf_counter() - before
    waiting.until("the end of all children", lambda: not any(map(is_ours, psutil.process_iter())))


def is_ours(process):
    try:
        return process.cmdline() == ["sleep", "31415"] and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


@pytest.mark.parametrize("until", ["", "rule train:"])
def test_a_command_that_fails_is_no_measurement(tmp_path, until):
    with pytest.raises(SystemExit, match="what went wrong"):
        dag.measure(python("import sys; sys.exit('what went wrong')"), tmp_path, until)


@pytest.mark.slow
def test_copies_of_a_run_are_runs_of_other_seeds_and_rho(tmp_path):
    (tmp_path / dag.SETTINGS).write_text(json.dumps(small.settings_of("pendulum")))
    records.write(small.dataset_of("pendulum", tmp_path), tmp_path / "dataset.nc", "dataset", "Data")
    run = ["--method", "sam", "--rho", dag.RHOS[0], "--seeds", "0", "--output", "run.nc"]
    dag.hybridsam(tmp_path, "train", "dataset.nc", "--settings", dag.SETTINGS, *run)
    for runs in (10, 30):
        dag.copy_runs(tmp_path, runs)
        dag.collect(tmp_path, runs)
    cube = records.read(tmp_path / "cube.nc", "cube")
    assert cube["seed"].values.tolist() == [0, 1, 2]
    assert cube["rho"].values.tolist() == [float(rho) for rho in dag.RHOS]
    with netCDF4.Dataset(tmp_path / f"runs/sam/rho={dag.RHOS[-1]}/seeds=2-2.nc") as file:
        assert (file["rho"][0], file["seed"][0]) == (float(dag.RHOS[-1]), 2)
    (tmp_path / f"runs/sam/rho={dag.RHOS[3]}/seeds=1-1.nc").unlink()
    with pytest.raises(SystemExit, match="no such file"):
        dag.collect(tmp_path, 30)


def test_measurements_are_written_with_their_spread_and_shown(tmp_path, monkeypatch, capsys):
    times = iter(range(1, 1000))

    def measured(command, folder, until=""):
        seconds = float(next(times))
        found = {"load": 0.5, "seconds": seconds, "cpu_seconds": seconds, "megabytes": 100.0}
        return found | ({"choice_seconds": 0.1} if until else {})

    monkeypatch.setattr(dag, "measure", measured)
    output = tmp_path / "dag.json"
    arguments = ["--parts", "plan,start", "--runs", "1000", "--repeats", "3", "--output", str(output)]
    monkeypatch.setattr(sys, "argv", ["dag.py", *arguments])
    dag.main()
    found = json.loads(output.read_text(encoding="utf-8"))
    assert [(one["part"], one["jobs"]) for one in found.values()] == [
        *(("plan", 1000), ("plan", 50 * len(seed_ranges(range(20), 20)))),
        *(("start", 1000), ("start", 50)),
    ]
    first = found["plan 1000 1"]
    assert first["seconds"] == [2.0, 3.0, 4.0]  # the first was making the data
    assert first["machine"]["cores"] == os.cpu_count() and first["command"].endswith(str(output))
    assert "| plan | 1,000 | 1,000 | 3.0 | 2.0–4.0 | 3.0 | 3 | 100 |" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"), [("--parts plans", "'plans' is not one of plan"), ("--runs 60", "60 is no multiple")]
)
def test_a_wrong_option_gets_one_clear_line(arguments, message, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["dag.py", *arguments.split()])
    with pytest.raises(SystemExit):
        dag.main()
    assert message in capsys.readouterr().err


@pytest.mark.slow
def test_a_study_is_planned_and_its_first_training_started_and_killed(tmp_path, monkeypatch):
    monkeypatch.setattr(dag, "TASKS", ("pendulum",))
    monkeypatch.setattr(dag, "RUNS_PER_SEED", len(dag.RHOS))
    dag.prepare(tmp_path)
    planned, started = dag.plan(tmp_path, 20, 1), dag.start(tmp_path, 20, 1)
    assert 0 < started["choice_seconds"] < started["seconds"]
    assert "choice_seconds" not in planned
    assert (tmp_path / "results/many/pendulum/dataset.nc").exists()
    assert list(tmp_path.glob("results/many/pendulum/runs/*/*/*")) == []
