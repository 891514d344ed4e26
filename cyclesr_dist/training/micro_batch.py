"""`micro_batch: auto`: how many samples pass through a rank's networks at once, tried before training."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from cyclesr_dist.config.schema import Config
from cyclesr_dist.distributed.world import World
from cyclesr_dist.errors import ConfigError
from cyclesr_dist.method.systems.base import System
from cyclesr_dist.runtime.files import write_text
from cyclesr_dist.runtime.memory import gib, give_back, peak_growth
from cyclesr_dist.training.memory_need import free_bytes, kept_for_later
from cyclesr_dist.training.trial import Trial, trial_of

_SHARE = 0.85
"""Of what is free: the rest is for loader processes, validation, and what else the machine does."""
_CLEAR_BYTES = 64 * 2**20
"""On a CPU a batch that takes so much more than one sample says what a sample takes."""


def decide(
    config: Config, world: World, system: System, patch: int, before: dict[str, object]
) -> tuple[dict[str, object], str]:
    """Give all players the size of parts, and return what the run folder keeps of it, with a line that says it.

    `before` is what an earlier start of the run has kept: it stands where what decides is the same.
    Raises ConfigError where not even one sample fits. All ranks call it; all get the same.
    """
    rank_batch = world.rank_batch(config.global_batch)
    facts: dict[str, object] = {"rank_batch": rank_batch, "device": _device(world), "precision": config.precision}
    facts["recompute"] = config.speed.recompute
    size = before.get("micro_batch")
    known = isinstance(size, int) and size > 0 and all(before.get(name) == value for name, value in facts.items())
    if not isinstance(size, int) or not known:
        fits = world.gather_objects(world.together(lambda: _most(config, world, system, patch, rank_batch)))
        if not min(fits):
            raise world.told_once(_nothing_fits(config, world))
        parts = -(-rank_batch // min(fits))
        size = -(-rank_batch // parts)  # as many parts, all of about one size
    for player in system.players.values():
        player.micro_batch = size
    return facts | {"micro_batch": size}, _told(size, rank_batch, known)


def read_kept(path: Path) -> dict[str, object]:
    """What `keep` wrote; empty where there is nothing that can be read: it is tried again then."""
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return kept if isinstance(kept, dict) else {}


def keep(path: Path, decided: dict[str, object]) -> None:
    write_text(path, json.dumps(decided) + "\n")


def _told(size: int, rank_batch: int, resumed: bool) -> str:
    kept = ", as before" if resumed else ""
    if size >= rank_batch:
        return f"micro_batch = auto: all {rank_batch} samples of a rank pass at once{kept}"
    return f"micro_batch = auto: {size} of a rank's {rank_batch} samples at once, {-(-rank_batch // size)} parts{kept}"


def _nothing_fits(config: Config, world: World) -> ConfigError:
    where = "GPU memory" if world.device.type == "cuda" else "memory"
    return ConfigError(
        f"micro_batch = auto: not even one sample fits into {gib(free_bytes(world))} of free {where} a rank; allowed: "
        f"speed.recompute=true (now {str(config.speed.recompute).lower()}), smaller networks (nets.sr.channels, "
        "nets.sr.blocks) or smaller patches (shards.patch)"
    )


def _device(world: World) -> str:
    return torch.cuda.get_device_name(world.device) if world.device.type == "cuda" else "cpu"


def _most(config: Config, world: World, system: System, patch: int, rank_batch: int) -> int:
    """The most samples that fit on this rank, at most `rank_batch`; 0: not even one."""
    trial = trial_of(config, system, patch, world.device)
    later = kept_for_later(config, system, patch, rank_batch)
    if world.device.type == "cuda":
        return _most_on_gpu(trial, later, rank_batch)
    return _most_on_cpu(trial, int(free_bytes(world) * _SHARE) - later, rank_batch)


def _most_on_gpu(trial: Trial, later: int, rank_batch: int) -> int:
    """By trying, all samples first. What is needed later is taken meanwhile."""
    fits, too_many = 0, rank_batch + 1
    num = rank_batch
    while too_many - fits > 1:
        if _fits_on_gpu(trial, later, num):
            fits = num
        else:
            too_many = num
        num = (fits + too_many) // 2
    return fits


def _fits_on_gpu(trial: Trial, later: int, num: int) -> bool:
    try:
        aside = torch.empty(later, dtype=torch.uint8, device=trial.device)
        trial.step(num)
        del aside
    except torch.cuda.OutOfMemoryError:
        return False
    finally:
        torch.cuda.empty_cache()
    return True


def _most_on_cpu(trial: Trial, free: int, rank_batch: int) -> int:
    """By what one sample takes, and a batch that takes clearly more. A process that takes too much is killed here, so
    nothing larger is tried than what is known to fit."""
    trial.step(1)  # sets everything up
    one = _taken(trial, 1)
    num, several = 1, one
    while num < rank_batch and several - one < _CLEAR_BYTES and several * 2 < free:
        num = min(rank_batch, num * 2)
        several = _taken(trial, num)
    if num == 1:
        return int(one <= free)
    each = max(0, several - one) / (num - 1)
    if one > free:
        return 0
    return rank_batch if one + each * (rank_batch - 1) <= free else 1 + int((free - one) / each)


def _taken(trial: Trial, num: int) -> int:
    give_back()  # what freed memory the process keeps would hide what is taken anew
    return peak_growth(lambda: trial.step(num))
