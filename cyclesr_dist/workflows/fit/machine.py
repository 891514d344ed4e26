"""What `cyclesr fit` has to work with, and how fast a network trains on it."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from functools import partial

import torch

from cyclesr_dist.config.schema import Config, noise_channels
from cyclesr_dist.config.systems import Phase
from cyclesr_dist.data.batch import Batch
from cyclesr_dist.degradation.record import Degradation
from cyclesr_dist.distributed.build import build_backend
from cyclesr_dist.distributed.world import World
from cyclesr_dist.method.systems.build import build_system
from cyclesr_dist.runtime.memory import gib
from cyclesr_dist.training.memory_need import free_bytes

_TIMED_STEPS = 3


@dataclass(frozen=True)
class Machine:
    gpus: int
    cores: int
    free_bytes: int
    name: str

    def __str__(self) -> str:
        cores = f"{self.cores} core{'s' * (self.cores > 1)}"
        if self.gpus:
            return f"{self.gpus} x {self.name}, {gib(self.free_bytes)} of memory free on the first; {cores}"
        return f"no GPU; {cores}, {gib(self.free_bytes)} of memory free"


def this_machine() -> Machine:
    cores = len(os.sched_getaffinity(0))
    gpus = torch.cuda.device_count()
    return Machine(gpus, cores, free_bytes(World()), torch.cuda.get_device_name(0) if gpus else "")


def seconds_a_step(config: Config, patch: int, degradation: Degradation | None = None) -> float:
    """Of a run by `config` on one device, measured on noise; without what reading photographs takes.

    `degradation` is what LR is imitated with: JPEG, for instance, takes its time in every step.
    """
    world = World()
    world.join()
    try:
        system = build_system(config, build_backend(config, world), world, None, degradation)
        step = partial(system.step, _noise_batch(config, patch, world.device), Phase.SR)
        step()  # sets everything up
        _wait(world.device)
        began = time.monotonic()
        for _ in range(_TIMED_STEPS):
            step()
        _wait(world.device)
        return (time.monotonic() - began) / _TIMED_STEPS
    finally:
        world.leave()


def _noise_batch(config: Config, patch: int, device: torch.device) -> Batch:
    n, scale = config.global_batch, config.scale
    lr, hr = (torch.rand(n, 3, side, side, device=device) for side in (patch, patch * scale))
    noise = torch.randn(2, n, noise_channels(config), patch, patch, device=device)
    return Batch(lr, lr, hr, noise, 0, (), ())


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
