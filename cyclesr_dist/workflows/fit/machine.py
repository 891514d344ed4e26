"""What `cyclesr fit` has to work with, and how fast a network trains on it."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from functools import partial

import torch

from cyclesr_dist.config.schema import Config
from cyclesr_dist.config.systems import Phase
from cyclesr_dist.degradation.record import Degradation
from cyclesr_dist.distributed.build import build_backend
from cyclesr_dist.distributed.world import World
from cyclesr_dist.method.systems.build import build_system
from cyclesr_dist.runtime.memory import gib
from cyclesr_dist.runtime.wording import counted
from cyclesr_dist.training.memory_need import free_bytes
from cyclesr_dist.training.micro_batch import decide
from cyclesr_dist.training.trial import noise_batch, wait

_TIMED_STEPS = 3


@dataclass(frozen=True)
class Machine:
    gpus: int
    cores: int
    free_bytes: int
    name: str

    def __str__(self) -> str:
        cores = counted(self.cores, "core")
        if self.gpus:
            return f"{self.gpus} x {self.name}, {gib(self.free_bytes)} of memory free on the first; {cores}"
        return f"no GPU; {cores}, {gib(self.free_bytes)} of memory free"


def this_machine() -> Machine:
    cores = len(os.sched_getaffinity(0))
    gpus = torch.cuda.device_count()
    return Machine(gpus, cores, free_bytes(World()), torch.cuda.get_device_name(0) if gpus else "")


def seconds_a_step(config: Config, patch: int, degradation: Degradation | None = None) -> float:
    """Of a run by `config` on one device, measured on noise; without what reading photographs takes. Raises ConfigError
    where not even one sample fits into memory.

    `degradation` is what LR is imitated with: JPEG, for instance, takes its time in every step.
    """
    world = World()
    world.join()
    try:
        system = build_system(config, build_backend(config, world), world, None, degradation)
        if config.micro_batch == "auto":
            decide(config, world, system, patch, {})
        step = partial(system.step, noise_batch(config, patch, config.global_batch, world.device), Phase.SR)
        step()  # sets everything up
        wait(world.device)
        began = time.monotonic()
        for _ in range(_TIMED_STEPS):
            step()
        wait(world.device)
        return (time.monotonic() - began) / _TIMED_STEPS
    finally:
        world.leave()
