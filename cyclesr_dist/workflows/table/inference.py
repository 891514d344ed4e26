"""What each row costs once it is trained: its networks, their size, and seconds and memory to enlarge a photograph."""

from __future__ import annotations

import multiprocessing
import resource
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from cyclesr_dist.config.systems import spec_of
from cyclesr_dist.data.folders import list_images
from cyclesr_dist.data.images import read_picture
from cyclesr_dist.models.infer import upscale_image
from cyclesr_dist.models.model_name import resolve_model
from cyclesr_dist.models.upscaler import NetUpscaler, Upscaler
from cyclesr_dist.runtime.lifeline import end_with_parent
from cyclesr_dist.workflows.table.data import TableData
from cyclesr_dist.workflows.table.jobs import Job

_PHOTOGRAPHS = 8
"""At most so many are timed; the median is of them."""


def costs(data: TableData, jobs: Sequence[Job]) -> dict[str, dict[str, float]]:
    """By system, of its first finished run: `networks` that a photograph goes through, their `parameters`, `seconds`
    (median of a photograph) and `peak_memory_mb` (of a process that does nothing else), on test photographs of the
    first track, one thread, whatever trained elsewhere meanwhile."""
    folder = next(iter(data.tracks.values())).test_lr
    found: dict[str, dict[str, float]] = {}
    for job in jobs:
        system = job.config.system
        if job.done and system not in found:
            networks = 2 if spec_of(system).translates_first else 1
            found[system] = {"networks": networks} | alone(_measure, job.folder, folder)
    return found


def timed(model: Upscaler, photographs: Sequence[Path]) -> dict[str, float]:
    """`seconds` to enlarge one, decoded already (median), and `peak_memory_mb` of this process so far. One thread."""
    torch.set_num_threads(1)
    seconds = []
    with torch.no_grad():
        for path in photographs:
            picture = read_picture(path, srgb=True).rgb
            started = time.perf_counter()
            upscale_image(model, picture)
            seconds.append(time.perf_counter() - started)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
    return {"seconds": statistics.median(seconds), "peak_memory_mb": peak}


def alone(function: Any, *arguments: Any) -> Any:
    """In a fresh process, so that peak memory is of this alone."""
    with multiprocessing.get_context("spawn").Pool(1, end_with_parent) as pool:
        return pool.apply(function, arguments)


def _measure(run: Path, lr: Path) -> dict[str, float]:
    model = resolve_model(str(run), allow_module=True)
    assert isinstance(model, NetUpscaler)
    parameters = sum(p.numel() for p in model.net.parameters())
    return {"parameters": parameters} | timed(model, list_images(lr)[:_PHOTOGRAPHS])
