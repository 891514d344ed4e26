"""`cyclesr bench upscale`, file to file: whole processes, beside a plain program with onnxruntime where it is there."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from statistics import median
from typing import Any

import torch
from PIL import Image

from cyclesr_dist.errors import CycleSRError
from cyclesr_dist.workflows.bench.plans import Size
from cyclesr_dist.workflows.bench.processes import ended

_PLAIN = """
import sys
import numpy as np
import onnxruntime
from PIL import Image
model, source, target, threads = sys.argv[1:]
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = int(threads)
session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
x = np.asarray(Image.open(source).convert("RGB"), np.float32).transpose(2, 0, 1)[None] / 255
y = session.run(None, {session.get_inputs()[0].name: x})[0]
samples = np.rint(y[0].clip(0, 1) * 255).astype(np.uint8).transpose(1, 2, 0)
Image.fromarray(samples).save(target)
"""
"""In one piece, as a first program with onnxruntime is written."""


def bench_files(models: Sequence[str], sizes: Sequence[Size], rounds: int, folder: Path) -> list[dict[str, Any]]:
    """A bundled photograph of each size, from a PNG file to a PNG file, in processes that take turns; the
    files are in `folder`.

    Wall time, processor time and the most memory of the whole process, imports included: medians. Raises CycleSRError
    where a process fails.
    """
    threads = str(torch.get_num_threads())
    commands: dict[tuple[str, Size], list[str]] = {}
    for size in sizes:
        source = _photo(folder / f"{size}.png", size)
        for model in models:
            ours = ["-m", "cyclesr_dist.cli.main", "upscale", str(source), "--model", model, "--quiet"]
            commands[f"{model} {size} px", size] = [*ours, "--overwrite", "--out", str(folder / "out")]
            if model.endswith(".onnx") and importlib.util.find_spec("onnxruntime"):
                plain = ["-c", _PLAIN, model, str(source), str(folder / "plain.png"), threads]
                commands[f"onnxruntime: {model} {size} px", size] = plain
    runs: dict[tuple[str, Size], list[tuple[float, float, float]]] = {key: [] for key in commands}
    for _ in range(rounds):
        for key, words in commands.items():
            for made in (folder / "out").glob("*.png"):  # or it would be kept
                made.unlink()
            runs[key].append(_measured(key[0], [sys.executable, *words], threads))
    fields = ("seconds", "cpu_seconds", "memory_mb")
    return [
        {
            "name": name,
            "side_px": max(size),
            "pixels": size.width * size.height,
            **dict(zip(fields, map(median, zip(*found, strict=True)), strict=True)),
        }
        for (name, size), found in runs.items()
    ]


def _photo(path: Path, size: Size) -> Path:
    photos = Path(str(resources.files("cyclesr_dist.workflows") / "demo_photos"))
    with Image.open(min(photos.glob("*.webp"))) as image:
        image.convert("RGB").resize(size, Image.Resampling.BICUBIC).save(path)
    return path


def _measured(name: str, command: list[str], threads: str) -> tuple[float, float, float]:
    """Seconds, processor seconds and MB of a process. Raises CycleSRError, beginning with `name`, where it fails."""
    start = time.perf_counter()
    env = {**os.environ, "OMP_NUM_THREADS": threads}
    process = subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    try:
        said = process.stderr.read()
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    finally:
        if process.returncode is None:  # broken off
            process.kill()
            process.wait()
    if process.returncode != 0:
        lines = said.strip().splitlines() or [f"its process {ended(process.returncode)}"]
        raise CycleSRError(f"{name}: {lines[-1].removeprefix('cyclesr: error: ')}")
    return time.perf_counter() - start, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024
