"""`cyclesr bench telemetry`: the training loop with everything that tells of it, against the same loop in silence."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from functools import partial
from itertools import cycle, islice
from pathlib import Path
from statistics import median
from typing import Any, TypeVar

import torch
from prometheus_client import generate_latest
from rich.console import Console

from cyclesr_dist.config.schema import Config
from cyclesr_dist.config.systems import spec_of
from cyclesr_dist.data.batch import Batch
from cyclesr_dist.data.faults import FaultLog
from cyclesr_dist.data.loader import Sources, batches
from cyclesr_dist.distributed.build import build_backend
from cyclesr_dist.distributed.world import World
from cyclesr_dist.method.step import StepResult
from cyclesr_dist.method.systems.base import System
from cyclesr_dist.method.systems.build import build_system
from cyclesr_dist.runtime.bars import Bar
from cyclesr_dist.telemetry.progress import REDRAW_SECONDS, LiveView, Progress
from cyclesr_dist.telemetry.prometheus import Metrics
from cyclesr_dist.telemetry.record import StepRecord
from cyclesr_dist.training.loop import Attempt
from cyclesr_dist.training.run_folder import RunFolder
from cyclesr_dist.training.saver import Saver
from cyclesr_dist.training.schedule import Schedule
from cyclesr_dist.training.setup import RunInputs, build_run
from cyclesr_dist.training.validation_set_up import open_validator
from cyclesr_dist.workflows.bench.data import make_sets
from cyclesr_dist.workflows.bench.plans import ENDLESS, Settings, TelemetryBench
from cyclesr_dist.workflows.bench.scraper import Scraper

T = TypeVar("T")
_CALLS = 200
_LOGS = 20


def bench_telemetry(plan: TelemetryBench, photos: list[Path], folder: Path, progress: bool) -> dict[str, Any]:
    """Train on patches of the photographs, packed in `folder`, in blocks of steps that take turns.

    With telemetry: all series, a scrape in so many seconds from a process of its own, metrics.jsonl, diagnosis, the
    live view, trackers if the overrides name some. Without: nothing of it. The networks are the same ones. `wall` and
    `cpu` are what telemetry adds to the duration of a step, and to the processor time of all threads of the process, in
    seconds: `added_s`, the median over pairs of blocks, `low_s` and `high_s`, its 95% interval, `off_s`, a step
    without. With several threads those that wait for others spin, and count as busy: CYCLESR_NUM_THREADS=1 has none.
    `alone` are seconds of each part by itself. Raises ConfigError for overrides that cannot be used.
    """
    config = plan.config()
    world = World()
    world.join()
    try:
        sets_of = Settings(config.shards.patch, config.scale, max(64, 4 * config.global_batch), config.global_batch, 1)
        sources = make_sets(photos, folder / "data", sets_of).sources
        some = [batch for batch, _ in batches(sources, config, world, 0, 4)]
        system = build_system(config, build_backend(config, world), world)
        with Scraper(plan.scrape_seconds) as scraper:
            telling = replace(config.train, log_every_steps=plan.block)
            loud = _Loop(replace(config, train=telling), sources, system, folder / "on", scraper)
            quiet = _Loop(
                replace(config, train=replace(telling, log_every_steps=ENDLESS)), sources, system, folder / "off"
            )
            try:
                seconds = _in_turns({"on": loud, "off": quiet}, some, plan, progress)
                alone = _alone(loud, some[0])
            finally:
                loud.close()
                quiet.close()
            scrapes = scraper.count
    finally:
        world.leave()
    wall, cpu = (_added({name: [of[i] for of in pairs] for name, pairs in seconds.items()}) for i in (0, 1))
    step = wall["off_s"]
    by_part = {
        "series": alone["series"] / step,
        "log": alone["log"] / (plan.block * step),
        "scrape": alone["scrape"] / plan.scrape_seconds,
        "redraw": alone["redraw"] / max(plan.block * step, REDRAW_SECONDS),
    }
    return {
        "case": plan.case,
        "batch": config.global_batch,
        "wall": wall,
        "cpu": cpu,
        "alone_s": alone,
        "alone_share": by_part,
        "pairs": plan.pairs,
        "block": plan.block,
        "scrapes": scrapes,
        "scrape_seconds": plan.scrape_seconds,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }


def _added(seconds: dict[str, list[float]]) -> dict[str, Any]:
    """What `on` costs more than `off`, of pairs."""
    differences = sorted(on - off for on, off in zip(seconds["on"], seconds["off"], strict=True))
    low, high = _interval(len(differences))
    return {
        "off_s": median(seconds["off"]),
        "added_s": median(differences),
        "low_s": differences[low],
        "high_s": differences[high],
        "rounds": seconds,
    }


class _NoMetrics(Metrics):
    """Counts nothing."""

    def __init__(self) -> None:
        """Without a registry or a port."""

    def timed(self, part: str) -> Any:
        return nullcontext()

    def waiting(self, items: Iterable[T]) -> Iterator[T]:
        return iter(items)

    def gradients(self, norms: Mapping[str, float]) -> None: ...

    def stepped(self, step: int, phase: str, hr_keys: Sequence[str], lr_keys: Sequence[str]) -> None: ...

    def started(self, step: int, restarts: int) -> None: ...

    @property
    def address(self) -> str:
        return ""

    def close(self) -> None: ...


class _Loop:
    """A training run as `training/launched.py` puts it together; without a scraper, one that tells nothing."""

    def __init__(
        self, config: Config, sources: Sources, system: System, folder: Path, scraper: Scraper | None = None
    ) -> None:
        world = World()
        self.scraper = scraper
        telemetry = replace(config.telemetry, trackers=(), port=0)
        if scraper:
            telemetry = replace(config.telemetry, port=scraper.port, host="127.0.0.1")
        config = replace(config, telemetry=telemetry)
        schedule = Schedule(replace(config.train, pretrain_epochs=0), 1, spec_of(config.system).rounds)
        inputs = RunInputs(config, sources, open_validator(config, world), schedule)
        silent = None if scraper else _NoMetrics()
        self.run = build_run(inputs, world, RunFolder(folder), quiet=True, system=system, metrics=silent)
        self.metrics = self.run.metrics
        self.attempt = Attempt(self.run, Saver(self.run.checkpoints, {}, 1))
        self.faults = FaultLog(0, world)

    def advance(self, some: Iterable[Batch]) -> tuple[float, float]:
        """Train on them. Returns seconds, and seconds of processor time."""
        with self._viewed():
            start, cpu = time.perf_counter(), time.process_time()
            for batch in self.metrics.waiting(some):
                self.attempt.advance(batch, (), self.faults)
            if batch.hr.device.type == "cuda":
                torch.cuda.synchronize()
            return time.perf_counter() - start, time.process_time() - cpu

    @contextmanager
    def _viewed(self) -> Iterator[None]:
        """Loud for the block: the live view draws and the scraper asks. Beginning and ending are not timed."""
        if not self.scraper:
            yield
            return
        with open(os.devnull, "w") as nowhere:
            view = LiveView("bench", Console(file=nowhere, force_terminal=True, width=120))
            self.run.progress = view
            self.scraper.on.set()
            try:
                yield
            finally:
                self.scraper.on.clear()
                view.close()

    def close(self) -> None:
        self.run.close()


Seconds = list[tuple[float, float]]
"""Of a step: duration, processor time."""


def _in_turns(loops: dict[str, _Loop], some: list[Batch], plan: TelemetryBench, progress: bool) -> dict[str, Seconds]:
    """By name and pair."""
    seconds: dict[str, Seconds] = {name: [] for name in loops}
    with Bar(plan.pairs, "telemetry", "pair", progress) as bar:
        for number in range(-1, plan.pairs):  # the first is the warm-up
            for name in sorted(loops, reverse=number % 2 == 0):
                wall, cpu = loops[name].advance(islice(cycle(some), plan.block))
                if number >= 0:
                    seconds[name].append((wall / plan.block, cpu / plan.block))
            bar.update(number >= 0)
    return seconds


def _alone(loop: _Loop, batch: Batch) -> dict[str, float]:
    """Seconds that each part takes by itself: the series of a step, a log, a scrape, a redraw of the live view."""
    metrics, attempt = loop.metrics, loop.attempt

    def series() -> None:
        for _ in metrics.waiting((batch,)):
            with metrics.timed("step"):
                metrics.gradients({"g": 1.0, "d": 1.0})
            metrics.stepped(attempt.step, "joint", batch.hr_keys, batch.lr_keys)

    def step() -> StepResult:
        return attempt.run.system.step(batch, attempt.run.schedule.phase(attempt.step))

    result = step()
    with open(os.devnull, "w") as nowhere:
        view = LiveView("bench", Console(file=nowhere, force_terminal=True, width=120))
        terms = {name: float(value) for name, value in result.losses.items()}
        view.logged(StepRecord(1, 2, 0, "joint", 1.0, 1.0, losses=terms))
        loop.run.progress = Progress()
        try:
            return {
                "series": _median_seconds(series),
                "log": median(_seconds(partial(attempt.log, step())) for _ in range(_LOGS)),
                "scrape": _median_seconds(lambda: generate_latest(metrics.series.registry)),
                "redraw": _median_seconds(view.live.refresh),
            }
        finally:
            view.close()


def _median_seconds(call: Callable[[], object]) -> float:
    return median(_seconds(call) for _ in range(_CALLS))


def _seconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def _interval(count: int) -> tuple[int, int]:
    """Ranks, from 0, of the values that bound the median of as many with 95%: of the binomial distribution."""
    off = 0
    for k in range(count // 2):
        if 2 * sum(math.comb(count, i) for i in range(k + 1)) > 0.05 * 2**count:
            break
        off = k + 1
    low = max(0, off - 1)
    return low, count - 1 - low


def describe(result: dict[str, Any]) -> str:
    """The figures as text for the terminal."""
    parts = {
        "series": ("the series", "every step"),
        "log": ("a log", f"every {result['block']} steps"),
        "scrape": ("a scrape", f"every {result['scrape_seconds']:g} s"),
        "redraw": ("a redraw", "with a log, on a terminal"),
    }
    alone, share = result["alone_s"], result["alone_share"]
    lines = [
        f"{result['case']}, batch {result['batch']}, {result['threads']} threads, torch {result['torch']}; "
        f"{result['pairs']} pairs of blocks of {result['block']} steps, {result['scrapes']} scrapes",
        f"{'':15}{'silent step':>13}{'telemetry adds':>17}  95% interval, ms",
    ]
    for name, title in (("wall", "duration"), ("cpu", "processor time")):
        a = result[name]
        added, low, high = (a[key] * 1e3 for key in ("added_s", "low_s", "high_s"))
        of_step = a["added_s"] / a["off_s"]
        lines.append(f"{title:15}{a['off_s'] * 1e3:10.2f} ms{added:+8.3f} ms{of_step:+6.2%}  {low:+.3f} to {high:+.3f}")
    lines.append("by itself, on the host, and of a silent step's duration:")
    for name, (title, often) in parts.items():
        lines.append(f"  {title:13} {alone[name] * 1e6:11.0f} us {share[name]:7.2%}, {often}")
    lines.append(f"  all {sum(share.values()):32.2%}")
    return "\n".join(lines)
