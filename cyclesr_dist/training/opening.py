"""The first lines of every training: where it runs, what memory it needs and what there is, how long it will take."""

from __future__ import annotations

import os
import time

import torch
from torch import nn

from cyclesr_dist.config.schema import Config
from cyclesr_dist.distributed.world import World
from cyclesr_dist.errors import ConfigError
from cyclesr_dist.method.systems.base import System
from cyclesr_dist.runtime.bars import clock
from cyclesr_dist.runtime.memory import gib
from cyclesr_dist.runtime.wording import counted
from cyclesr_dist.training.memory_need import free_bytes, step_bytes, way_out

_SURE = 0.7
"""What is certainly needed, of what was counted: a run is refused for no less."""
_FIRST_STEP, _LAST_STEP = 1, 3
"""The steps between these are timed: the first one sets everything up."""


def first_lines(config: Config, world: World, system: System, patch: int, num_steps: int, start: int) -> list[str]:
    """Device, ranks, precision and memory; the same on all ranks. All ranks call it.

    Raises ConfigError, with a setting that would fit, when a step certainly needs more memory than there is.
    """
    batch = at_once(config, world, system)
    need = step_bytes(config, system, patch, batch)
    free = min(world.gather_objects(free_bytes(world)))
    where = "GPU memory" if world.device.type == "cuda" else "memory"
    if need is not None and need * _SURE > free and config.micro_batch != "auto":  # that was tried
        key = f"global_batch = {config.global_batch}"
        if batch < world.rank_batch(config.global_batch):
            key = f"micro_batch = {config.micro_batch}"
        raise ConfigError(
            f"{key} needs about {gib(need)} of {where} a rank, and {gib(free)} are "
            f"free; {way_out(config, system, patch, world.num_ranks, free)}"
        )
    is_over = start >= num_steps
    steps = f"steps {start + 1:,} to {num_steps:,}" if start and not is_over else f"{num_steps:,} steps"
    steps += f" of {config.global_batch} samples" + ", all done already" * is_over
    ranks = counted(world.num_ranks, "rank")
    expected = "unknown for this network" if need is None else f"about {gib(need)}"
    parts = [_of_parts(batch)] if batch < world.rank_batch(config.global_batch) and _has_batchnorm(system) else []
    return [
        f"{config.system} on {_device(world)}: {ranks}, {config.precision}, {steps}",
        f"memory: {expected} a rank, {gib(free)} free",
        *parts,
    ]


def _of_parts(batch: int) -> str:
    return f"BatchNorm normalises by the {batch} samples that pass at once: with another micro_batch it is another step"


def _has_batchnorm(system: System) -> bool:
    modules = (module for player in system.players.values() for module in player.module.modules())
    return any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in modules)


def at_once(config: Config, world: World, system: System) -> int:
    """Samples that pass through the networks of a rank at once."""
    rank_batch = world.rank_batch(config.global_batch)
    sizes = [player.micro_batch or rank_batch for player in system.players.values()]
    return min(rank_batch, *sizes)


def _device(world: World) -> str:
    if world.device.type == "cuda":
        return torch.cuda.get_device_name(world.device)
    return f"CPU with {counted(len(os.sched_getaffinity(0)), 'core')}"


class Stopwatch:
    """Says after the first steps how long all of them will take."""

    def __init__(self, num_steps: int) -> None:
        self.num_steps = num_steps
        self._steps = 0
        self._began = 0.0

    def stepped(self, step: int) -> str:
        """Call it after every step; the line to show after the third one, else nothing."""
        self._steps += 1
        if self._steps == _FIRST_STEP:
            self._began = time.monotonic()
        if self._steps != _LAST_STEP or step >= self.num_steps:
            return ""
        seconds = (time.monotonic() - self._began) / (_LAST_STEP - _FIRST_STEP)
        to_come = self.num_steps - step
        left = clock(seconds * to_come)
        return f"time: {seconds:.2g} s a step, so about {left} for the {counted(to_come, 'step')} to come"
