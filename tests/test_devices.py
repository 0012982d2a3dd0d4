"""Members at once by the memory they need, and what a GPU would do, as far as a CPU can show it."""

import logging

import pytest
import torch

from hybridsam.training import devices
from hybridsam.training.loop import initial_state

CPU = torch.device("cpu")


def test_saved_bytes_are_those_that_the_backward_pass_needs():
    x = torch.randn(100, 50, requires_grad=True)
    w = torch.randn(50, 30, requires_grad=True)
    assert devices.saved_bytes(lambda: (x @ w).sum()) == 4 * (100 * 50 + 50 * 30)
    assert devices.saved_bytes(lambda: torch.relu(x @ w).square().sum()) == 4 * (100 * 50 + 50 * 30 + 100 * 30)
    assert devices.saved_bytes(lambda: (x + 1).sum()) == 0


def test_members_at_once_fill_the_memory_and_are_at_least_one():
    assert devices.members_at_once(devices.BYTES_ON_CPU // 7, CPU) == 7
    assert devices.members_at_once(10 * devices.BYTES_ON_CPU, CPU) == 1
    assert devices.members_at_once(0, CPU) > 10**6


@pytest.mark.slow
@pytest.mark.parametrize("name", ["freg", "asam"])
@pytest.mark.parametrize("batch_size", [0, 3])
def test_groups_of_members_change_nothing(fit, loss, trajectories, monkeypatch, caplog, name, batch_size):
    rhos, seeds = [0.01, 0.02, 0.05, 0.1, torch.nan], [4, 1, 0, 2, 3]
    whole = fit(name, rhos, seeds, batch_size=batch_size)
    needed = devices.saved_bytes(lambda: loss(*weights(loss.model, seeds), trajectories()))
    monkeypatch.setattr(devices, "BYTES_ON_CPU", 2 * needed / len(seeds))
    with caplog.at_level(logging.INFO):
        parts = fit(name, rhos, seeds, batch_size=batch_size)
    assert "5 members, " in caplog.text and " at once" in caplog.text
    torch.testing.assert_close(parts.w, whole.w, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(parts.skipped, whole.skipped)
    assert whole.skipped.tolist() == [0, 0, 0, 0, 3]


def weights(model, seeds):
    from hybridsam.training.loop import Training

    how = Training(1, 1e-3, 1e-3, 1.0, 1.0, "network", 1, 1, "float64")
    w = initial_state(model, seeds, how).w
    return w[:, :1].abs().requires_grad_(), w[:, 1:].requires_grad_()


def test_the_memory_of_64_members_is_bounded(build, dataset):
    """At the paper's sizes PyTorch keeps some 70 MB for each member of the pendulum: they take turns."""
    model = build(hidden=[128, 128])
    data = model.data(dataset, "train", torch.float32)
    kept = devices.saved_bytes(lambda: model.predict(*(v.float() for v in weights(model, [0])), data))
    at_once = devices.members_at_once(kept, CPU)
    assert 0 < kept * at_once <= devices.BYTES_ON_CPU


def test_subnormal_numbers_are_zero_and_products_exact_only_inside():
    tiny = torch.tensor(1e-40)
    before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    with devices.arithmetic(tf32=True):
        assert tiny * 1 == 0
        assert torch.get_float32_matmul_precision() == "high" and torch.backends.cudnn.allow_tf32
    with devices.arithmetic(tf32=False):
        assert torch.get_float32_matmul_precision() == "highest" and not torch.backends.cudnn.allow_tf32
    assert tiny * 1 != 0
    assert (torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32) == before


def test_on_a_cpu_nothing_is_captured():
    def function():
        return [torch.zeros(1)]

    assert devices.captured(function, CPU) is function


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
@pytest.mark.parametrize("name", ["freg", "asam"])
def test_training_on_a_gpu_agrees_with_that_on_a_cpu(fit, model, trajectories, training, name):
    from hybridsam.core.methods import get_method
    from hybridsam.training.loop import train
    from hybridsam.training.loss import Loss

    on_cpu = fit(name, [0.02, 0.1], [0, 1])
    data = [
        type(split)({k: v.cuda() for k, v in split.inputs.items()}, split.targets.cuda(), split.times)
        for split in (trajectories("train"), trajectories("validation"))
    ]
    on_gpu = train(Loss(model), get_method(name), [0.02, 0.1], [0, 1], *data, training())
    torch.testing.assert_close(on_gpu.w.cpu(), on_cpu.w, rtol=1e-8, atol=1e-8)
