"""`cyclesr bench score`: the NTIRE 2018 scorer against a loop over its shifts, on one core."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from cyclesr_dist.data.images import read_rgb8
from cyclesr_dist.runtime.bars import each
from cyclesr_dist.runtime.threads import one_thread
from cyclesr_dist.scoring.ntire import ntire2018
from cyclesr_dist.scoring.psnr import SSIM_C1, SSIM_C2, Image8, gaussian_window, psnr, ssim

_SHIFT = 40
_SIDE = 60


def bench_score(photos: list[Path], rounds: int, progress: bool) -> dict[str, Any]:
    """Score each photograph, moved and with noise, against itself, by loop once and by `ntire2018` `rounds` times.

    Returns what the command prints and writes; times in seconds. Raises InputError for images that cannot be read or
    are less than 160 px a side.
    """
    cases: list[dict[str, Any]] = []
    with one_thread():
        for path in each(photos, "images", "image", progress):
            hr = read_rgb8(path)
            sr = _restored(hr)
            times = []
            for _ in range(rounds):
                seconds, scores = _timed(ntire2018, sr, hr)
                times.append(seconds)
            plain_s, plain = _timed(loop_2018, sr, hr, _ssim_as_defined)
            separable_s, _ = _timed(loop_2018, sr, hr, ssim)
            cases.append(
                {
                    "name": path.name,
                    "seconds": median(times),
                    "loop_s": plain_s,
                    "separable_loop_s": separable_s,
                    "ratio": plain_s / median(times),
                    "separable_ratio": separable_s / median(times),
                    "max_difference_db": max(abs(scores[k] - plain[k]) for k in ("psnr", "psnr_raw")),
                    "ssim_difference": abs(scores["ssim"] - plain["ssim"]),
                }
            )
    return {
        "cases": cases,
        "ratio": median(case["ratio"] for case in cases),
        "separable_ratio": median(case["separable_ratio"] for case in cases),
    }


def loop_2018(sr: Image8, hr: Image8, ssim_of: Callable[[Image8, Image8], float]) -> dict[str, float]:
    """What `ntire2018` computes, written down as it is defined: one shift after the other."""
    top, left = ((size - size % 4 - _SIDE) // 2 for size in hr.shape[:2])
    window = hr[top : top + _SIDE, left : left + _SIDE]
    matched, raw, similar = [], [], []
    for dy in range(-_SHIFT, _SHIFT + 1):
        for dx in range(-_SHIFT, _SHIFT + 1):
            moved = sr[top + dy : top + dy + _SIDE, left + dx : left + dx + _SIDE]
            raw.append(psnr(moved, window))
            scaled = moved * (window.mean() / moved.mean())
            matched.append(float(10 * np.log10(255**2 / np.mean((scaled - window) ** 2))))
            if dy % 2 == 0 and dx % 2 == 0:
                similar.append(ssim_of(moved, window))
    return {"psnr": max(matched), "psnr_raw": max(raw), "ssim": max(similar)}


def _ssim_as_defined(sr: Image8, hr: Image8) -> float:
    """SSIM with its 11 x 11 window as one two-dimensional filter, as in its authors' program."""
    weights = gaussian_window()
    kernel = (weights[:, None] * weights)[None, None]

    def mean(planes: Tensor) -> Tensor:
        return F.conv2d(planes[:, None], kernel)

    x, y = (torch.from_numpy(image.transpose(2, 0, 1).astype(np.float64)) for image in (sr, hr))
    mean_x, mean_y = mean(x), mean(y)
    var_x, var_y = mean(x * x) - mean_x**2, mean(y * y) - mean_y**2
    covariance = mean(x * y) - mean_x * mean_y
    light = (2 * mean_x * mean_y + SSIM_C1) / (mean_x**2 + mean_y**2 + SSIM_C1)
    return float((light * (2 * covariance + SSIM_C2) / (var_x + var_y + SSIM_C2)).mean())


def describe(result: dict[str, Any]) -> str:
    """The figures as text for the terminal."""
    lines = [
        f"NTIRE 2018, all shifts of +-{_SHIFT} px, one core, torch {torch.__version__}; loops: plain with SSIM as a "
        "two-dimensional filter, separable with the project's own SSIM",
        f"{'':28}{'ours ms':>9}{'plain loop s':>14}{'ratio':>8}{'separable':>11}{'ratio':>8}{'dB apart':>10}"
        f"{'SSIM apart':>12}",
    ]
    for case in result["cases"]:
        lines.append(
            f"{case['name'][:27]:28}{1000 * case['seconds']:9.1f}{case['loop_s']:14.2f}{case['ratio']:7.0f}x"
            f"{case['separable_loop_s']:11.2f}{case['separable_ratio']:7.0f}x{case['max_difference_db']:10.0e}"
            f"{case['ssim_difference']:12.0e}"
        )
    lines.append(f"{'median':51}{result['ratio']:7.0f}x{'':11}{result['separable_ratio']:7.0f}x")
    return "\n".join(lines)


def _restored(hr: Image8) -> Image8:
    """`hr` moved by (3, -5) px, 3% darker and with noise, as a network could give it."""
    moved = np.roll(hr, (3, -5), axis=(0, 1)) * 0.97
    return np.clip(moved + np.random.default_rng(0).normal(0, 6, hr.shape), 0, 255).round().astype(np.uint8)


def _timed(function: Callable[..., dict[str, float]], *arguments: object) -> tuple[float, dict[str, float]]:
    start = time.perf_counter()
    result = function(*arguments)
    return time.perf_counter() - start, result
