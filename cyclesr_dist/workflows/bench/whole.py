"""`cyclesr bench all`: the figures of docs/performance.md in one run that nobody has to watch."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch

from cyclesr_dist.config.schema import Config, load
from cyclesr_dist.errors import CycleSRError
from cyclesr_dist.models.model_file import save_model
from cyclesr_dist.nets.build import build_sr
from cyclesr_dist.workflows.bench import checkpoint, data, train, upscale
from cyclesr_dist.workflows.bench.plans import CASES, Settings, Size, StepBench
from cyclesr_dist.workflows.bench.processes import reason

_ON_GPU = ("precision=bf16", "precision=bf16 speed.compile=true", "precision=bf16 speed.recompute=true")
_ON_CPU = ("speed.plain=true", "speed.recompute=true")

Result = dict[str, Any]
Tell = Callable[[str, Result], None]
Measure = Callable[[list[Path], Path, bool, bool, Callable[[Result], None]], Result]
Describe = Callable[[Result], str]


def bench_all(
    parts: tuple[str, ...],
    photos: list[Path],
    folder: Path,
    quick: bool,
    progress: bool,
    so_far: Tell,
) -> dict[str, Result]:
    """Measure the parts one after the other in `folder`; `so_far`(part, result) is called as there is more.

    quick: the smallest sizes, once: to see that all of it runs. A part that fails has `error` as its result, and the
    next one is measured.
    """
    results: dict[str, Result] = {}
    for part in parts:
        (folder / part).mkdir()
        try:
            results[part] = _MEASUREMENTS[part](photos, folder / part, quick, progress, partial(so_far, part))
        except (CycleSRError, OSError, RuntimeError, MemoryError) as error:  # e.g. a full disk, or GPU
            results[part] = {"error": reason(error)}
        so_far(part, results[part])
    return results


def describe(part: str, result: Result) -> str:
    """The part's figures as text for the terminal."""
    return f"failed: {result['error']}" if "error" in result else _DESCRIPTIONS[part](result)


def _train(photos: list[Path], folder: Path, quick: bool, progress: bool, so_far: Callable[[Result], None]) -> Result:
    gpu = torch.cuda.is_available()
    cases = ("cyclesr small",) if quick else train.default_cases()
    variants = _ON_GPU if gpu else _ON_CPU
    plan = StepBench(cases, rounds=1 if quick else 5, variants=variants[:1] if quick else variants)
    return train.bench_train(plan, photos, folder, progress, so_far)


def _upscale(_photos: list[Path], folder: Path, quick: bool, _progress: bool, *_: object) -> Result:
    models = []
    for name, config in (("paper", _paper()), ("demo", load(None, list(CASES["cyclesr small"])))):
        torch.manual_seed(0)
        models.append(str(folder / f"{name}.safetensors"))
        save_model(Path(models[-1]), build_sr(config.nets.sr, config.scale).state_dict(), config.nets.sr, 4, {})
    sides = (64,) if quick else (256, 512, 1024)
    return upscale.bench_upscale(models, [Size(side, side) for side in sides], 1 if quick else 3, folder)


def _data(photos: list[Path], folder: Path, quick: bool, progress: bool, *_: object) -> Result:
    if quick:
        settings = Settings(patch=24, pairs=32, batch=4, workers=1, rounds=1, seconds=0.5, epochs=2)
    else:
        settings = Settings(batch=32, workers=8, rounds=3, epochs=5) if torch.cuda.is_available() else Settings()
    return data.bench_data(photos, folder, settings, progress)


def _checkpoint(_photos: list[Path], folder: Path, quick: bool, progress: bool, *_: object) -> Result:
    return checkpoint.bench_checkpoint(_paper(), folder, 1 if quick else 5, progress)


def _paper() -> Config:
    return load(None, ["backend=single", *CASES["cyclesr paper"]])


_MEASUREMENTS: dict[str, Measure] = {"train": _train, "upscale": _upscale, "data": _data, "checkpoint": _checkpoint}
_DESCRIPTIONS: dict[str, Callable[[Result], str]] = {
    "train": train.describe,
    "upscale": upscale.describe,
    "data": data.describe,
    "checkpoint": checkpoint.describe,
}
