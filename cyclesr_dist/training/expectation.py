"""What `--dry-run` expects of a training's memory and time, from a few steps on noise."""

from __future__ import annotations

import time

import torch

from cyclesr_dist.config.schema import Config
from cyclesr_dist.distributed.world import World
from cyclesr_dist.method.systems.base import System
from cyclesr_dist.runtime.bars import clock
from cyclesr_dist.runtime.memory import gib, give_back, peak_growth
from cyclesr_dist.training.memory_need import free_bytes, step_bytes
from cyclesr_dist.training.micro_batch import decide
from cyclesr_dist.training.opening import at_once
from cyclesr_dist.training.trial import noise_batch, phases, trial_of, wait

_PATIENCE_SECONDS = 10.0
"""A step that takes longer is not made: its time is counted from that of few samples."""
_TIMED_STEPS = 2


def expected(config: Config, world: World, system: System, patch: int, num_steps: int) -> list[str]:
    """Lines of text, the same on all ranks; the system has then made steps. Raises ConfigError as `decide`.

    What does not fit here may fit where it will run: that is said, and no error. All ranks call it.
    """
    lines = []
    if config.micro_batch == "auto":
        lines.append(decide(config, world, system, patch, {})[1])
    num = at_once(config, world, system)
    free = min(world.gather_objects(free_bytes(world)))
    need, one = (step_bytes(config, system, patch, samples) for samples in (num, 1))
    if max(world.gather_objects(one or 0)) > free:
        return [*lines, f"memory: about {gib(one or 0)} a rank for one sample, {gib(free)} free: too little here"]
    if (need or 0) > free and config.micro_batch != "auto":
        say = "too little here; micro_batch=auto finds what fits"
        return [*lines, f"memory: about {gib(need or 0)} a rank, {gib(free)} free: {say}"]
    return [*lines, *_tried(config, world, system, patch, num_steps, need, free)]


def _tried(
    config: Config, world: World, system: System, patch: int, num_steps: int, need: int | None, free: int
) -> list[str]:
    rank_batch = world.rank_batch(config.global_batch)
    trial = trial_of(config, system, patch, world.device)
    few = min(2, at_once(config, world, system))  # a BatchNorm behind a global mean takes no single sample
    world.together(lambda: trial.step(few))  # sets everything up
    seconds = max(world.gather_objects(world.together(lambda: trial.step(few)))) * rank_batch / few
    how = "counted from few samples"
    lines = (
        [f"memory: about {gib(need)} a rank with libraries and loader processes, counted; {gib(free)} free"]
        if need
        else []
    )
    if seconds < _PATIENCE_SECONDS:
        took, seconds = _of_steps(config, world, system, patch, rank_batch)
        how = "measured"
        lines = [f"memory: {gib(took)} a rank, measured; {gib(free)} free"]
    left = f"about {clock(seconds * num_steps)} for {num_steps:,} steps"
    each = f"{seconds:.2g}" if seconds < 10 else f"{seconds:.0f}"
    return [*lines, f"time: {each} s a step on noise ({how}), so {left}; reading photographs comes to it"]


def _of_steps(config: Config, world: World, system: System, patch: int, rank_batch: int) -> tuple[int, float]:
    """Bytes that the first step of the last phase takes, and seconds of each after it. All ranks call it."""
    device, phase = world.device, phases(config)[-1]
    batch = noise_batch(config, patch, rank_batch, device)

    def step() -> None:
        system.step(batch, phase)
        wait(device)

    give_back()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        step()
        took = torch.cuda.max_memory_allocated(device)
    else:
        took = peak_growth(step)
    began = time.monotonic()
    for _ in range(_TIMED_STEPS):
        step()
    each = (time.monotonic() - began) / _TIMED_STEPS
    return max(world.gather_objects(took)), max(world.gather_objects(each))
