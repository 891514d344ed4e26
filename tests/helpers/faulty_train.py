"""launch/train.py with a fault, FAULT=kind:rank:step of the environment. Tests start it, through launchers.

COLLECTIVE_SECONDS, where it is set, is the time that torch waits for the other ranks, in place of minutes.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist

from cyclesr_dist.data.loader import RankBatches
from cyclesr_dist.method.systems.joint import JointSystem
from cyclesr_dist.runtime.command import end_process
from cyclesr_dist.training.main import main


def install(kind: str, rank: int, step: int) -> None:
    """Make the joint system of this rank misbehave in its `step`-th step."""
    if int(os.environ.get("RANK", "0")) != rank:
        return
    if kind == "starved":  # from the beginning: storage that takes half a second for each batch
        true_item = RankBatches.__getitem__

        def slow_item(self: RankBatches, step: int) -> Any:
            threading.Event().wait(0.5)
            return true_item(self, step)

        RankBatches.__getitem__ = slow_item  # type: ignore[method-assign]
    true_step = JointSystem.step
    calls = 0

    def faulty_step(self: JointSystem, batch: Any, phase: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == step:
            match kind:
                case "exception":
                    raise ValueError("a fault for the test")
                case "killed":
                    os.kill(os.getpid(), signal.SIGKILL)
                case "frozen":
                    os.kill(os.getpid(), signal.SIGSTOP)
                case "slow":
                    threading.Event().wait(3600)
                case "nan":
                    batch = replace(batch, real=torch.full_like(batch.real, torch.nan))
        return true_step(self, batch, phase)

    JointSystem.step = faulty_step  # type: ignore[method-assign]


def install_from(environment: Mapping[str, str]) -> None:
    """The fault that FAULT names."""
    kind, rank, step = environment["FAULT"].split(":")
    install(kind, int(rank), int(step))


def time_out_after(seconds: float) -> None:
    true_init = dist.init_process_group

    def init(*arguments: Any, **named: Any) -> None:
        true_init(*arguments, **named | {"timeout": timedelta(seconds=seconds)})

    dist.init_process_group = init


if __name__ == "__main__":
    if "COLLECTIVE_SECONDS" in os.environ:
        time_out_after(float(os.environ["COLLECTIVE_SECONDS"]))
    if os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") == "0":  # ranks that torchrun starts again have no fault
        install_from(os.environ)
    end_process(main)
