"""What a rank of a training exports. Numbers are those that the loop has on the host anyway, durations the host's
clock: nothing here waits for a device."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TypeVar

import psutil
import torch

from cyclesr_dist import __version__
from cyclesr_dist.config.schema import Config, Optim, Telemetry
from cyclesr_dist.distributed.world import World
from cyclesr_dist.telemetry import definitions as d
from cyclesr_dist.telemetry.endpoint import Endpoint, Pusher
from cyclesr_dist.telemetry.record import StepRecord, ValidationRecord
from cyclesr_dist.telemetry.series import Series
from cyclesr_dist.telemetry.targets import address

T = TypeVar("T")

_HISTOGRAMS = {
    "step": d.STEP_SECONDS,
    "data_wait": d.DATA_WAIT_SECONDS,
    "validation": d.VALIDATION_SECONDS,
    "checkpoint": d.CHECKPOINT_COPY_SECONDS,
}
"""By part of the loop, of which `seconds` keeps the sums."""


def run_info(config: Config) -> tuple[str, ...]:
    """The labels of `definitions.RUN_INFO`."""
    return config.system, config.backend, config.precision, config.track, str(config.seed)


class Metrics:
    """`/metrics` on `telemetry.port` + the rank on its machine, and what metrics.jsonl says of time."""

    def __init__(
        self,
        telemetry: Telemetry,
        optim: Optim,
        info: Sequence[str],
        world: World,
        run: str,
        num_steps: int,
        warn: Callable[[str], None] = print,
    ) -> None:
        """`run` is the run's name, `info` what `run_info` says of it. Raises InputError when the port cannot be had.

        All ranks call it.
        """
        labels = {"run": run, "rank": str(world.rank)}
        self.host = telemetry.host
        self.optim = optim
        self.is_main = world.is_main
        self.device = world.device
        self.series = Series(d.TRAINING, labels)
        self._seconds: dict[str, float] = {}
        self._written: list[float] = []
        self._photographs: dict[str, set[str]] = {"hr": set(), "lr": set()}
        self._phase = ""
        self._process = psutil.Process()
        set_ = self.series.set
        set_(d.BUILD_INFO, 1, __version__, torch.__version__, sys.version.split()[0])
        set_(d.RUN_INFO, 1, *info)
        set_(d.WORLD_SIZE, world.num_ranks)
        set_(d.STEPS_PLANNED, num_steps)
        set_(d.REMAINING, math.inf)
        set_(d.LAST_STEP, time.time())
        set_(d.MFU, math.nan)
        if world.is_main:
            set_(d.LAST_CHECKPOINT, time.time())
        self.endpoint = Endpoint(telemetry, world.local_rank, self.series.registry)
        self.pusher = Pusher(telemetry.push_gateway, labels, self.series.registry, warn)

    @property
    def address(self) -> str:
        """Where this rank can be scraped; empty: nowhere."""
        return address(self.host, self.endpoint.port)

    @contextmanager
    def timed(self, part: str) -> Iterator[None]:
        """Count the block as a part of the loop."""
        began = time.monotonic()
        yield
        self._took(part, time.monotonic() - began)

    def waiting(self, items: Iterable[T]) -> Iterator[T]:
        """The same items, with the wait for each counted."""
        iterator = iter(items)
        while True:
            began = time.monotonic()
            try:
                item = next(iterator)
            except StopIteration:
                return
            self._took("data_wait", time.monotonic() - began)
            yield item

    def seconds(self) -> dict[str, float]:
        """By part, since the last call."""
        seconds, self._seconds = self._seconds, {}
        return seconds

    def written_seconds(self) -> float:
        """Of checkpoints that were written beside training, since the last call."""
        written, self._written = self._written, []
        return sum(written)

    def started(self, step: int, restarts: int) -> None:
        self.series.set(d.STEP, step)
        self.series.add(d.RESTARTS, restarts)

    def stepped(self, step: int, phase: str, hr_keys: Sequence[str], lr_keys: Sequence[str]) -> None:
        """After every step; `step` counts from 1. Keys are those of this rank's samples."""
        series = self.series
        series.add(d.STEPS, 1)
        series.set(d.STEP, step)
        series.set(d.LAST_STEP, time.time())
        for domain, keys in (("hr", hr_keys), ("lr", lr_keys)):
            seen = self._photographs[domain]
            seen.update(key.rsplit("_", 2)[0] for key in keys)  # a key is a photograph's name and a position
            series.add(d.PATCHES, len(keys), domain)
            series.set(d.PHOTOGRAPHS, len(seen), domain)
        if phase != self._phase:
            for name in d.PHASE.values:
                series.set(d.PHASE, name == phase, name)
            self._phase = phase

    def gradients(self, norms: Mapping[str, float]) -> None:
        """Of every step, by player, before clipping."""
        for player, norm in norms.items():
            self.series.set(d.GRAD_NORM, norm, player)
            self.series.add(d.CLIPPED, norm > self.optim.clip_norm, player)  # also inf: nan is not above

    def skipped(self, reason: str) -> None:
        """A step went without an update; see `definitions.SKIPPED`."""
        self.series.add(d.SKIPPED, 1, reason)

    def logged(self, record: StepRecord) -> None:
        series, optim = self.series, self.optim
        series.set(d.EPOCH, record.epoch)
        series.set(d.LEARNING_RATE, optim.lr_cyclegan * record.lr_factor, "cyclegan")
        series.set(d.LEARNING_RATE, optim.lr_sr * record.lr_factor, "sr")
        series.set(d.REMAINING, record.left_seconds)
        series.set(d.THROUGHPUT, record.patches_per_second)
        series.add(d.FORWARD_SECONDS, record.forward_seconds)
        for definition, name in ((d.STEP_FLOPS, "step_flops"), (d.MODEL_FLOPS, "flops_per_second"), (d.MFU, "mfu")):
            if name in record.work:
                series.set(definition, record.work[name])
        groups = (
            (d.LOSS, record.losses),
            (d.DRIFT, record.drift),
            (d.NETWORK_GRAD_NORM, record.network_norms),
            (d.LOSS_SCALE, record.loss_scales),
            (d.MEMORY, record.memory_bytes),
        )
        for definition, values in groups:
            for name, value in values.items():
                series.set(definition, value, name)

    def memory(self) -> dict[str, float]:
        """Bytes by kind: torch's own counters, which ask no device."""
        memory = {"resident": float(self._process.memory_info().rss)}
        if self.device.type == "cuda":
            memory["device"] = float(torch.cuda.memory_allocated(self.device))
            memory["device_peak"] = float(torch.cuda.max_memory_allocated(self.device))
        return memory

    def validated(self, record: ValidationRecord) -> None:
        for score, value in record.scores.items():
            self.series.set(d.VALIDATION, value, score)

    def checkpoint_written(self, seconds: float) -> None:
        """Of the main rank. Any thread may call it."""
        self._written.append(seconds)
        self.series.observe(d.CHECKPOINT_SECONDS, seconds)
        self.series.set(d.LAST_CHECKPOINT, time.time())

    def rolled_back(self) -> None:
        self.series.add(d.ROLLBACKS, 1)

    def corrupt(self, samples: int) -> None:
        self.series.add(d.CORRUPT_SAMPLES, samples)

    def close(self) -> None:
        self.endpoint.close()
        self.pusher.close()

    def _took(self, part: str, seconds: float) -> None:
        self._seconds[part] = self._seconds.get(part, 0.0) + seconds
        if part in _HISTOGRAMS:
            self.series.observe(_HISTOGRAMS[part], seconds)
