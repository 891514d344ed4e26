"""`cyclesr bench upscale`: megapixels a second and memory against the size of the image, from file to file, too."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch

from cyclesr_dist.models.infer import upscale_image
from cyclesr_dist.models.model_name import resolve_model
from cyclesr_dist.workflows.bench.plans import Size
from cyclesr_dist.workflows.bench.processes import in_a_process, resident_mb
from cyclesr_dist.workflows.bench.upscale_files import bench_files


def bench_upscale(models: Sequence[str], sizes: Sequence[Size], rounds: int, folder: Path) -> dict[str, Any]:
    """Images of these sizes, with each model; files are in `folder`. `memory_mb` is what the process needs at most
    beyond its start, less the input and the output themselves; `files` are `bench_files`. Raises InputError for models
    that cannot be used, CycleSRError where a process of the measurement fails."""
    for model in models:
        resolve_model(model)
    threads = torch.get_num_threads()
    cases = [
        in_a_process(f"{model} {size} px", _measure, model, size, rounds, threads) for model in models for size in sizes
    ]
    files = bench_files(models, sizes, rounds, folder)
    return {"cases": cases, "files": files, "threads": threads, "torch": torch.__version__}


def _measure(model: str, size: Size, rounds: int, threads: int) -> dict[str, Any]:
    torch.set_num_threads(threads)
    upscaler = resolve_model(model)
    rgb = np.random.default_rng(0).random((size.height, size.width, 3), dtype=np.float32)
    upscale_image(upscaler, rgb[:64, :64])
    before, times = resident_mb("VmRSS"), []
    for _ in range(rounds):
        start = time.perf_counter()
        out = upscale_image(upscaler, rgb)
        times.append(time.perf_counter() - start)
        shape, image_mb = out.shape, out.nbytes / 2**20
        del out  # or the next round would have two
    return {
        "name": f"{model} {size} px",
        "side_px": max(size),
        "pixels": size.width * size.height,
        "seconds": median(times),
        "megapixels_per_second": shape[0] * shape[1] / 1e6 / median(times),
        "memory_mb": resident_mb("VmHWM") - before - image_mb,
        "image_mb": image_mb,
    }


def describe(result: dict[str, Any]) -> str:
    """The figures as text for the terminal."""
    lines = [
        f"{result['threads']} threads, torch {result['torch']}; megapixels of output; memory besides input and output"
    ]
    lines += [
        f"{c['name']:44}{c['seconds']:9.2f} s{c['megapixels_per_second']:9.3f} MP/s{c['memory_mb']:9.0f} MB"
        for c in result["cases"]
    ]
    lines += ["from a file to a file, whole processes: wall and processor time, the most memory"]
    lines += [
        f"{c['name']:44}{c['seconds']:9.2f} s{c['cpu_seconds']:9.2f} s   {c['memory_mb']:9.0f} MB"
        for c in result["files"]
    ]
    return "\n".join(lines)
