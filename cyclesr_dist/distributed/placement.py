"""What a machine has for the ranks that a launcher has started on it."""

from __future__ import annotations

import math
import os
import socket
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from cyclesr_dist.distributed.launchers import alone_by_mistake
from cyclesr_dist.distributed.world import World
from cyclesr_dist.errors import ConfigError
from cyclesr_dist.runtime.control_groups import groups
from cyclesr_dist.runtime.hostfile import check_launchers_hostfile
from cyclesr_dist.runtime.wording import counted


def check_launch(world: World, warn: Callable[[str], None]) -> None:
    """Refuse what a launcher starts and no training can use, and warn of what makes it slow. All ranks call it.

    Raises ConfigError for more ranks than GPUs, InputError for a hostfile that is not there.
    """
    world.together(lambda: refuse(world))
    every = world.gather_objects((socket.gethostname(), _only_gpu(world)))
    world.together(lambda: refuse_shared(every))
    if world.is_main and (line := alone_by_mistake(os.environ)):
        warn(line)
    ranks, cores = _sharing(world)
    if world.is_main and world.device.type == "cpu" and ranks > cores:
        warn(
            f"{ranks} ranks share {counted(cores, 'CPU core')}; start at most {cores} "
            f"(deepspeed --num_accelerators {cores}, torchrun --nproc-per-node {cores})"
        )


def refuse(world: World) -> None:
    check_launchers_hostfile()
    gpus = torch.cuda.device_count()
    if world.device.type == "cuda" and (world.device.index or 0) >= gpus:
        ranks = max(world.local_num_ranks, world.local_rank + 1)
        raise ConfigError(
            f"{ranks} ranks on a machine with {counted(gpus, 'GPU')}; start one for each at most "
            f"(deepspeed --num_gpus {gpus}, torchrun --nproc-per-node {gpus})"
        )


def refuse_shared(every: Sequence[tuple[str, str]]) -> None:
    """Where ranks see one GPU each, it must not be the same one. `every`: host and GPU of each rank, "" without one."""
    for (host, gpu), ranks in Counter(every).items():
        if gpu and ranks > 1:
            raise ConfigError(
                f"{ranks} ranks share the one GPU that they see ({host}, {gpu}); start one for each GPU at most, or "
                "have the launcher show every rank its own (srun --gpus-per-task=1)"
            )


def _only_gpu(world: World) -> str:
    """What tells the one GPU that this process sees from those of others, which all are cuda:0; empty where it sees
    none, or several."""
    if world.device.type != "cuda" or torch.cuda.device_count() != 1:
        return ""
    shown = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    part = shown if shown.startswith("MIG-") else ""  # parts of a GPU may have its number
    return f"{torch.cuda.get_device_properties(0).uuid}{part and ' '}{part}"


def _sharing(world: World) -> tuple[int, int]:
    """How many ranks are on the main rank's machine, and on how many cores. A launcher may bind each to its own."""
    own = (socket.gethostname(), os.sched_getaffinity(0), quota_cores())
    every = world.gather_objects(own)
    here = [(cores, quota) for name, cores, quota in every if name == every[0][0]]
    bound = len(set().union(*(cores for cores, _ in here)))
    return len(here), max(1, min(bound, here[0][1] or bound))


def quota_cores() -> int:
    """Cores' worth of time that this process's control groups allow, rounded up; 0: no limit that can be read."""
    limits = [_cores(_words(folder / "cpu.max")) for folder in groups()]
    for folder in groups("cpu"):
        limits.append(_cores(_words(folder / "cpu.cfs_quota_us") + _words(folder / "cpu.cfs_period_us")))
    return min((cores for cores in limits if cores), default=0)


def _cores(limit: Sequence[str]) -> int:
    """Of quota and period; 0 for "max", -1 and what is no limit."""
    if len(limit) != 2 or not all(number.isdecimal() for number in limit) or not int(limit[1]):
        return 0
    return math.ceil(int(limit[0]) / int(limit[1]))


def _words(path: Path) -> list[str]:
    try:
        return path.read_text().split()
    except OSError:
        return []
