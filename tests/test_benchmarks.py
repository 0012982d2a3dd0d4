"""The benchmarks: all variants compute the same; what is measured is written and shown. Times are not tested."""

import json
import os
import shutil
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers import small

sys.path.insert(0, str(small.ROOT / "benchmarks"))

os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")  # compiles faster

import compare
import problems
import remote
import tables
from ours import Ours
from peer_torch import TorchPeer

MEMBERS = 2
FEWER = {"reaction_diffusion": {"steps": 1}}  # than the small tasks have: compiling convolutions takes long


@pytest.fixture(scope="module")
def problem(tmp_path_factory):
    """Task -> its small problem, and the folder that it is in."""
    made = {}

    def of(task):
        if task not in made:
            folder = tmp_path_factory.mktemp(task)
            dataset = small.dataset_of(task, folder, **FEWER.get(task, {}))
            made[task] = problems.write(task, small.settings_of(task), dataset, MEMBERS, folder / "problem"), folder
        return made[task]

    return of


def checked(variant):
    """What a worker answers to --check."""
    loss, gradient = variant.gradient()
    return {"loss": loss, "gradient": gradient.tolist(), "losses": variant.losses(3)}


def variants(task, problem):
    kinds = ["", *(["dopri5"] if task in ("pendulum", "duffing") else [])]
    kinds += ["channels_last"] if task in problems.IMAGES else []
    found = {f"torch_{kind}": TorchPeer(problem, "cpu", kind) for kind in kinds}
    jax = pytest.importorskip("peer_jax")
    return found | {"jax": jax.JaxPeer(problem, 1, "cpu", "jax")}  # diffrax takes long to compile


@pytest.mark.slow
@pytest.mark.parametrize("task", problems.TASKS)
def test_the_peers_compute_what_the_library_computes(task, problem):
    small_problem, _ = problem(task)
    ours = checked(Ours(small_problem, MEMBERS, "cpu", compiled=False))
    found = {name: remote.difference(name, ours, checked(peer)) for name, peer in variants(task, small_problem).items()}
    assert all(difference["agrees"] for difference in found.values()), found


def test_a_peer_that_computes_something_else_is_found(problem):
    small_problem, _ = problem("pendulum")
    peer = TorchPeer(small_problem, "cpu")
    ours = checked(Ours(small_problem, 1, "cpu", compiled=False))
    with torch.no_grad():
        peer.model.raw += 0.01
    assert not remote.difference("torch", ours, checked(peer))["agrees"]


@pytest.mark.slow
def test_members_in_jax_are_those_of_the_library(problem):
    jax = pytest.importorskip("peer_jax")
    small_problem, _ = problem("wind_tunnel")
    ours, peer = Ours(small_problem, MEMBERS, "cpu", compiled=False), jax.JaxPeer(small_problem, MEMBERS, "cpu", "jax")
    as_the_peers = {"learning_rate": problems.LEARNING_RATE, "theta_rate_factor": 1.0, "clip_norm": float("inf")}
    ours.training = replace(ours.training, **as_the_peers)
    ours.iterate(2)
    peer.iterate(2)
    np.testing.assert_allclose(peer.carried[0], ours.pacer.state.w[:, :1], rtol=1e-4)


def test_the_library_goes_on_where_it_stopped(problem):
    small_problem, _ = problem("pendulum")
    at_once, with_a_stop = (Ours(small_problem, MEMBERS, "cpu", compiled=False) for _ in range(2))
    at_once.iterate(5)
    with_a_stop.iterate(2)
    with_a_stop.iterate(3)
    assert at_once.pacer.state.step == with_a_stop.pacer.state.step == 5
    torch.testing.assert_close(at_once.pacer.state.w, with_a_stop.pacer.state.w, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("task", "flops"),
    [
        # samples × evaluations of the field or network × (products and sums of its layers) × passes
        ("pendulum", 6 * (3 * 2 * 4) * 2 * (2 * 8 + 8 * 8 + 8 * 2) * 6),
        ("wind_tunnel", 6 * 2 * (48 * 8 + 8 * 8 + 8 * 12) * 6),
        ("reaction_diffusion", 6 * 4 * 2 * 9 * (2 * 4 + 4 * 4 + 4 * 2) * 36 * 6),
    ],
)
def test_work_is_counted(task, flops, problem):
    assert problem(task)[0].gigaflops() == pytest.approx(flops / 1e9)


@pytest.mark.slow
def test_a_measurement_is_written_and_shown(problem, tmp_path, monkeypatch, capsys):
    task, output = "pendulum", tmp_path / "results.json"
    rates = {"sgemm_gigaflops": 100.0, "convolution_gigaflops": 50.0}
    about = {"processor": "a processor", "flags": ["avx2"], "cores": 2} | rates
    monkeypatch.setattr(compare, "machine_of", lambda core, device: about)
    monkeypatch.setattr(compare, "prepare", lambda task, members, folder: copied(*problem(task), folder))
    monkeypatch.setattr(compare, "check", lambda *_: checked(TorchPeer(problem(task)[0], "cpu")))
    arguments = f"--tasks {task} --variants torch --rounds 2 --seconds 0.01 --output {output}"
    monkeypatch.setattr(sys, "argv", ["compare.py", *arguments.split()])
    compare.main()
    measured = json.loads(output.read_text(encoding="utf-8"))["cpu"][task]
    variant = measured["variants"]["torch x1"]
    assert len(variant["rounds"]) == 2 and min(variant["rounds"]) > 0
    assert variant["ratio"] == {"median": 1.0, "least": 1.0, "most": 1.0}
    assert measured["agreement"]["torch"]["agrees"] and not measured["failed"]
    assert "PyTorch by hand" in capsys.readouterr().out
    page = tables.page(json.loads(output.read_text(encoding="utf-8")))
    assert "a processor" in page and "### Pendulum" in page


def copied(small_problem, folder, to):
    """The problem in another folder."""
    shutil.copytree(folder / "problem", to, dirs_exist_ok=True)
    return small_problem


def test_what_does_not_run_is_told_from_what_does(tmp_path):
    with pytest.raises(remote.Failed, match=r"problem\.json"):
        remote.Job(tmp_path, "torch", 1, [None], "cpu", 0.01)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--tasks pendulums", "'pendulums' is not one of pendulum"),
        ("--processes 1000", "there are"),
        ("--device cuda", "no GPU"),
    ],
)
def test_a_wrong_option_gets_one_clear_line(arguments, message, monkeypatch, capsys):
    monkeypatch.setattr(compare.machine, "gpu", lambda: "")
    monkeypatch.setattr(sys, "argv", ["compare.py", *arguments.split()])
    with pytest.raises(SystemExit) as error:
        compare.main()
    assert message in f"{error.value} {capsys.readouterr().err}"
