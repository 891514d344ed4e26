"""One of several ways to compute the same step, in a process of its own.

In one process they would share what is allocated, and what of the memory is warm: who goes first would pay for all.
"""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable
from dataclasses import replace
from multiprocessing.connection import Connection
from typing import Protocol

import torch

from cyclesr_dist.data.batch import Batch
from cyclesr_dist.distributed.world import World
from cyclesr_dist.errors import CycleSRError
from cyclesr_dist.runtime.memory import give_back
from cyclesr_dist.workflows.bench.processes import ended, reason, resident_mb


class Stepper(Protocol):
    """The update of all networks."""

    def step(self, batch: Batch) -> object: ...


class Contender:
    """A context manager: the process ends with it."""

    def __init__(self, name: str, make: Callable[[], Stepper], some: list[Batch]) -> None:
        """`make`, which is called in the process, and the batches that all steps take in turns."""
        self.name = name
        context = multiprocessing.get_context("spawn")
        self._pipe, self._theirs = context.Pipe()
        arguments = (make, [moved(one, torch.device("cpu")) for one in some], torch.get_num_threads(), self._theirs)
        self._process = context.Process(target=_serve, args=arguments, daemon=True)

    def __enter__(self) -> Contender:
        self._process.start()
        self._theirs.close()
        return self

    def __exit__(self, *error: object) -> None:
        self._process.kill()
        self._process.join()
        self._pipe.close()

    def turn(self, steps: int) -> float:
        """Seconds a step, of so many, after one that is not timed. Raises CycleSRError when the process fails."""
        return self._ask(steps)

    def peak_mb(self) -> float:
        """What steps have needed at most beyond the process itself: GPU memory, or resident."""
        return self._ask(0)

    def _ask(self, steps: int) -> float:
        try:
            self._pipe.send(steps)
            answer = self._pipe.recv()
        except (EOFError, OSError) as error:
            self._process.join()
            raise CycleSRError(f"{self.name}: its process {ended(self._process.exitcode)}") from error
        if isinstance(answer, str):
            raise CycleSRError(f"{self.name}: {answer}")
        return float(answer)


def moved(batch: Batch, device: torch.device) -> Batch:
    """The batch with its tensors on `device`."""
    tensors = {name: getattr(batch, name).to(device) for name in ("syn", "real", "hr", "noise")}
    return replace(batch, **tensors)


def _serve(make: Callable[[], Stepper], some: list[Batch], threads: int, pipe: Connection) -> None:
    world = World()
    world.join()
    torch.set_num_threads(threads)
    cuda = world.device.type == "cuda"
    some = [moved(one, world.device) for one in some]
    before = resident_mb("VmRSS")
    stepper = None
    while True:
        steps = pipe.recv()
        if not steps:
            peak = torch.cuda.max_memory_allocated(world.device) / 2**20 if cuda else resident_mb("VmHWM") - before
            pipe.send(peak)
            continue
        try:
            stepper = stepper or make()
            seconds = _seconds_a_step(stepper, some, steps, world.device)
        except (RuntimeError, MemoryError) as error:  # out of memory, or a compiler that fails
            pipe.send(reason(error))
            continue
        # The others' turn: theirs is all the memory.
        torch.cuda.empty_cache() if cuda else give_back()
        pipe.send(seconds)


def _seconds_a_step(stepper: Stepper, some: list[Batch], steps: int, device: torch.device) -> float:
    stepper.step(some[-1])
    _wait(device)
    start = time.perf_counter()
    for i in range(steps):
        stepper.step(some[i % len(some)])
    _wait(device)
    return (time.perf_counter() - start) / steps


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
