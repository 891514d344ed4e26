"""No metric makes the host wait for the device: between logs, a watched step reads as many numbers as an unwatched one.

A host reads a tensor through `_local_scalar_dense` (item, float, bool) or by a copy (tolist, numpy, cpu): on a GPU each
waits for all that was queued before. On a CPU they cost nothing, and can be counted all the same.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from cyclesr_dist.telemetry.prometheus import Metrics
from cyclesr_dist.training.loop import Attempt
from cyclesr_dist.training.main import main as train

COPIES = ("tolist", "numpy", "cpu")
STEPS, LOG_EVERY = 4, 2


class Reads(TorchDispatchMode):
    """Counts what reaches the host as a number."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += func is torch.ops.aten._local_scalar_dense.default
        return func(*args, **(kwargs or {}))


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[Counter[str]]:
    """By step, what was read and copied in it, of all steps that are trained from now on."""
    counted: list[Counter[str]] = []
    true_advance = Attempt.advance

    def count(name: str, true: Any) -> Any:
        def method(self: torch.Tensor, *args: Any, **more: Any) -> Any:
            if counted:
                counted[-1][name] += 1
            return true(self, *args, **more)

        return method

    def advance(self: Attempt, *args: Any) -> None:
        counted.append(Counter())
        with Reads() as reads:
            true_advance(self, *args)
        counted[-1]["numbers"] += reads.count

    for name in COPIES:
        monkeypatch.setattr(torch.Tensor, name, count(name, getattr(torch.Tensor, name)))
    monkeypatch.setattr(Attempt, "advance", advance)
    return counted


def test_only_a_logged_step_fetches_anything_and_with_one_copy(
    config_file: Path, tiny_data: Any, tmp_path: Path, steps: list[Counter[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = [
        *tiny_data.overrides,
        f"train.max_steps={STEPS}",
        "train.validate_every_steps=0",
        "telemetry.port=19400",
    ]
    settings += [f"train.log_every_steps={LOG_EVERY}", "telemetry.port_search=100"]
    settings += ["train.checkpoint_every_steps=100", "telemetry.port=19400"]

    def run(name: str) -> list[Counter[str]]:
        steps.clear()
        assert train(["--config", str(config_file), "--run-dir", str(tmp_path / name), "--quiet", *settings]) == 0
        return [Counter({name: count for name, count in step.items() if count}) for step in steps[:STEPS]]

    watched = run("watched")
    for name in ("gradients", "stepped", "logged"):
        monkeypatch.setattr(Metrics, name, lambda *_: None)
    monkeypatch.setattr(Attempt, "log", lambda *_: None)
    unwatched = run("unwatched")
    assert min(step["numbers"] for step in unwatched) >= 1  # the norm that decides on the update
    for number, (step, alone) in enumerate(zip(watched, unwatched, strict=True), 1):
        assert step - alone == (Counter(tolist=1) if number % LOG_EVERY == 0 else Counter()), number
        assert not alone - step
