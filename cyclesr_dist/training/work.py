"""How much a step computes, and how much of what the device can do that is: model FLOP/s and MFU, live.

FLOPs are counted on the second step of each phase of the process, on the main rank; the ranks' shares are alike.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from cyclesr_dist.config.schema import Speed
from cyclesr_dist.distributed.world import World
from cyclesr_dist.telemetry.flops import OperationCount, SmallOperations, measure_ceiling

_COUNTED_STEP = 2
"""The first one sets everything up."""
_TIMED_STEPS = (3, 5)
"""The steps after these are compared: how long the run will take."""
_MEASURED_SECONDS = 1.0
_LONG_SECONDS = 120.0
"""A run that takes longer is worth less than a second of measuring what the device can do."""


class Work:
    """On other ranks than the main one, and with `speed.compile`, whose kernels cannot be looked into, nothing is
    counted."""

    def __init__(self, precision: str, global_batch: int, speed: Speed, world: World) -> None:
        self.precision, self.global_batch = precision, global_batch
        self.device, self.num_ranks = world.device, world.num_ranks
        self._counts = world.is_main and not speed.compile
        self._seen: dict[str, int] = {}
        self._counted: dict[str, OperationCount] = {}
        self._steps = 0
        self._since = 0.0
        self._small: SmallOperations | None = None
        self._small_seconds = self._small_at = 0.0
        self._ceiling = 0.0
        """FLOPs a second of one device; 0: not known."""

    @contextmanager
    def counted(self, phase: str) -> Iterator[None]:
        """Around the update of a step."""
        self._seen[phase] = self._seen.get(phase, 0) + 1
        if not self._counts or self._seen[phase] != _COUNTED_STEP:
            yield
            return
        with OperationCount() as count:
            yield
        self._counted[phase] = count
        self._small = self._small or SmallOperations(self.device)

    def is_ceiling_due(self, steps_left: int) -> bool:
        """Call it after every step. Whether `measure` is to be called now: once, in a run that lasts for minutes."""
        self._steps += 1
        first, last = _TIMED_STEPS
        if self._steps == first:
            self._since = time.monotonic()
        if self._steps != last or not self._counts:
            return False
        return (time.monotonic() - self._since) / (last - first) * steps_left > _LONG_SECONDS

    def measure(self) -> None:
        """What the device can do; where there is no memory for that it stays unknown."""
        try:
            self._ceiling = max(measure_ceiling(self.precision, self.device, brief=True).values())
        except torch.OutOfMemoryError:
            self._ceiling = 0.0
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def numbers(self, phase: str, patches_per_second: float, step_seconds: float) -> dict[str, float]:
        """Of a logged step, by name as in metrics.jsonl; empty where nothing was counted.

        `step_flops` of one rank's step, `flops_per_second` of all ranks, and `mfu`, that as a share of what their
        devices can do; `overhead`, the share of the `step_seconds` that its operations would take with next to nothing
        to compute.
        """
        count = self._counted.get(phase)
        if count is None:
            return {}
        rate = count.flops * self.num_ranks * patches_per_second / self.global_batch
        overhead = min(1.0, count.operations * self._operation_seconds() / max(step_seconds, 1e-9))
        found = {"step_flops": float(count.flops), "flops_per_second": rate, "overhead": overhead}
        return found | ({"mfu": rate / (self._ceiling * self.num_ranks)} if self._ceiling else {})

    def _operation_seconds(self) -> float:
        """Measured anew while the run goes on: on a busy machine everything takes longer, the steps too."""
        now = time.monotonic()
        if self._small and now - self._small_at > _MEASURED_SECONDS:
            self._small_seconds, self._small_at = self._small.seconds(), now
        return self._small_seconds
