"""`cyclesr bench checkpoint`: how long a step is stopped, against torch.save in the training thread."""

from __future__ import annotations

import time
from pathlib import Path
from statistics import median
from typing import Any

import torch

from cyclesr_dist.config.schema import Config
from cyclesr_dist.distributed.build import build_backend
from cyclesr_dist.distributed.world import World
from cyclesr_dist.method.systems.base import System
from cyclesr_dist.method.systems.build import build_system
from cyclesr_dist.models.checkpoint import Checkpoint
from cyclesr_dist.runtime.bars import each
from cyclesr_dist.training.checkpoint_store import LocalStore
from cyclesr_dist.training.saver import Saver


def bench_checkpoint(config: Config, folder: Path, rounds: int, progress: bool) -> dict[str, Any]:
    """Save `config`'s networks, moments included, both ways in turn into `folder`.

    Seconds: `stopped` (the copy, and handing it over), `written` (until it is on the disk and verified by checksum,
    beside training), `torch_save` (what a blocking save takes, without a wait for the disk).
    """
    world = World()
    world.join()
    try:
        system = build_system(config, build_backend(config, world), world)
        _start_moments(system)
        times: dict[str, list[float]] = {"stopped": [], "written": [], "torch_save": []}
        saver = Saver(LocalStore(folder / "checkpoints"), {}, keep=1)
        for step in each(range(1, rounds + 1), "rounds", "round", progress):
            start = time.perf_counter()
            saver.begin(Checkpoint(step, system.state()))
            times["stopped"].append(time.perf_counter() - start)
            saver.finish()
            times["written"].append(time.perf_counter() - start)
            live = [vars(player.state()) for player in system.players.values()]  # stands for the tensors themselves
            start = time.perf_counter()
            torch.save(live, folder / "blocking.pt")
            times["torch_save"].append(time.perf_counter() - start)
        size = sum(path.stat().st_size for path in (folder / "checkpoints").rglob("*") if path.is_file())
    finally:
        world.leave()
    medians = {name: median(values) for name, values in times.items()}
    return {"megabytes": size / 1e6, "seconds": medians, "ratio": medians["torch_save"] / medians["stopped"]}


def describe(result: dict[str, Any]) -> str:
    """The figures as text for the terminal."""
    s = result["seconds"]
    return (
        f"{result['megabytes']:.0f} MB, torch {torch.__version__}\n"
        f"step stopped      {s['stopped']:8.3f} s\n"
        f"written beside it {s['written']:8.3f} s, on the disk, with checksums\n"
        f"torch.save        {s['torch_save']:8.3f} s, {result['ratio']:.1f}x as long as the step is stopped"
    )


def _start_moments(system: System) -> None:
    """One update of every parameter, after which Adam has its moments."""
    for player in system.players.values():
        loss = torch.stack([p.sum() for p in player.module.parameters()]).sum()
        player.update(loss)
