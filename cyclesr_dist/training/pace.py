"""How fast this rank is by itself. A step ends for all ranks together, since they average gradients in it: its time
tells nothing of who was slow. The forward passes of the players come before, and in them nobody waits.

Two exceptions: ZeRO stage 3 gathers parameters in forward passes, and the relativistic loss of cyclesrgan means.
"""

from __future__ import annotations

import time
from typing import Any

import torch

from cyclesr_dist.distributed.world import World
from cyclesr_dist.method.systems.base import System
from cyclesr_dist.runtime.host_load import NAMES, HostLoad

_MOST_TIMED = 200
"""Forward passes between two logs; on a GPU each of them holds two events."""


class Pace:
    """Times the forward passes of a system's players until it is closed, and gathers what each rank says of itself."""

    def __init__(self, system: System, world: World) -> None:
        self.world = world
        self._cuda = world.device.type == "cuda"
        self._load = HostLoad()
        self._began: list[Any] = []
        self._passes: list[tuple[Any, Any]] = []
        self._num_passes = 0
        self._handles = [
            handle
            for player in system.players.values()
            for handle in (
                player.module.register_forward_pre_hook(self._begin),
                player.module.register_forward_hook(self._end),
            )
        ]

    def close(self) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles = []

    def of_ranks(self, forward: float, wait: float) -> tuple[dict[str, float], dict[str, float]]:
        """From this rank's seconds a step in forward passes and waiting for batches: the slowest rank's, and the mean
        of the others; and the largest growth of `host_load.NAMES` since the last call. All ranks call it."""
        load = self._load.since_last()
        rows = self.world.gather_numbers([forward, wait, *(load.get(name, -1.0) for name in NAMES)])
        ranks = _slowest("forward", [row[0] for row in rows]) | _slowest("wait", [row[1] for row in rows])
        largest = [max(row[2 + at] for row in rows) for at in range(len(NAMES))]
        return ranks, {name: value for name, value in zip(NAMES, largest, strict=True) if value >= 0}

    def forward_seconds(self, num_steps: int) -> float:
        """A step, of `num_steps` steps since the last call. Reads the device's own clock, which must be past them."""
        passes, num = self._passes, self._num_passes
        self._passes, self._num_passes = [], 0
        if not passes or not num_steps:
            return 0.0
        if self._cuda:
            seconds = sum(began.elapsed_time(ended) for began, ended in passes) / 1e3
        else:
            seconds = sum(ended - began for began, ended in passes)
        return float(seconds) * num / len(passes) / num_steps

    def _begin(self, *_: object) -> None:
        self._began.append(self._now())

    def _end(self, *_: object) -> None:
        began = self._began.pop()
        self._num_passes += 1
        if len(self._passes) < _MOST_TIMED:
            self._passes.append((began, self._now()))

    def _now(self) -> Any:
        if not self._cuda:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]  # torch's own annotation
        event.record()
        return event


def _slowest(name: str, seconds: list[float]) -> dict[str, float]:
    slowest = max(range(len(seconds)), key=seconds.__getitem__)
    found = {f"{name}_seconds": seconds[slowest]}
    if len(seconds) > 1:
        others = (sum(seconds) - seconds[slowest]) / (len(seconds) - 1)
        found |= {f"{name}_seconds_others": others, f"{name}_slowest": float(slowest)}
    return found
