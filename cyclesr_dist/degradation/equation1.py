"""Tracks of equation (1), y = (x * k) down_s + n, like the NTIRE challenges' ones.

The challenges never published their parameters, so these are "unknown-like", "mild-like" and "wild-like":

- `unknown`: one fixed kernel, elongated, rotated and lopsided, drawn from the seed alone; no noise, no shift.
- `mild`: motion blur along a bent path, Poisson noise and a pixel shift. One level for all images; the direction and
  bend of the path, the direction of the shift and the noise itself are drawn per image.
- `wild`: the same with the levels drawn per image too, four variants a scene.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from cyclesr_dist.config.schema import Degrade
from cyclesr_dist.data.resize import bicubic_down, to_8bit_grid
from cyclesr_dist.degradation.track import Draws, SimulatedTrack

_LEVELS = ("blur_px", "noise", "shift_px")


def unknown_kernel(width_px: float, seed: int) -> NDArray[np.float32]:
    """The kernel of track `unknown`: (K, K), K = `width_px` rounded down to odd, non-negative, sum 1.

    A long rotated Gaussian with two smaller ones at its side, so that it is neither round nor symmetrical; their
    common centre of mass is the middle (but for the cut at the border), so it does not shift the image.
    """
    radius = int(width_px // 2)
    random = Draws(seed, "unknown", "")("kernel")
    weights = np.array([1.0, *random.uniform(0.25, 0.5, 2)])
    centres = np.vstack([np.zeros((1, 2)), random.uniform(0.15, 0.3, (2, 1)) * _directions(random, 2)]) * width_px
    centres -= weights @ centres / weights.sum()
    long, short = random.uniform((0.2, 0.08, 0.08), (0.28, 0.12, 0.12)), random.uniform(0.05, 0.09, 3)
    angles = random.uniform(0, math.pi, 3)

    y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1].astype(np.float64)
    kernel = np.zeros_like(y)
    for weight, (cy, cx), along, across, angle in zip(weights, centres, long, short, angles, strict=True):
        u = (x - cx) * math.cos(angle) + (y - cy) * math.sin(angle)
        v = (y - cy) * math.cos(angle) - (x - cx) * math.sin(angle)
        # Never narrower than a pixel can sample.
        s, t = max(along * width_px, 0.4), max(across * width_px, 0.4)
        kernel += weight / (s * t) * np.exp(-0.5 * ((u / s) ** 2 + (v / t) ** 2))
    normalised: NDArray[np.float32] = (kernel / kernel.sum()).astype(np.float32)
    return normalised


def motion_kernel(length_px: float, angle: float, bend: float) -> NDArray[np.float32]:
    """Blur by a camera that moves `length_px` along an arc: (K, K), K odd, non-negative, sum 1, centre of mass centred.

    `angle` is the direction half-way along the arc, `bend` by how much it turns in all (radians). Length 0: identity.
    """
    steps = max(1, math.ceil(length_px * 16))
    along = (np.arange(steps) + 0.5) / steps - 0.5
    heading = angle + bend * along
    path = np.stack([np.sin(heading), np.cos(heading)], axis=1).cumsum(axis=0) * (length_px / steps)
    path -= path.mean(axis=0)
    radius = math.ceil(np.abs(path).max())
    kernel = np.zeros((2 * radius + 2, 2 * radius + 2))
    corner = np.floor(path).astype(np.int64)
    fy, fx = (path - corner).T
    row, column = (corner + radius).T
    for dy, wy in ((0, 1 - fy), (1, fy)):  # bilinear: a moving point covers pixels by its share
        for dx, wx in ((0, 1 - fx), (1, fx)):
            np.add.at(kernel, (row + dy, column + dx), wy * wx)
    kernel = kernel[: 2 * radius + 1, : 2 * radius + 1]
    normalised: NDArray[np.float32] = (kernel / kernel.sum()).astype(np.float32)
    return normalised


def _draw_motion(levels: Degrade, draws: Draws, *, wild: bool) -> dict[str, Any]:
    """`blur_px`: length of the path; `angle`: its direction half-way, `bend`: by how much it turns, both in radians;
    `noise`: standard deviation at mid grey, in [0, 1]; `shift_px`: (down, right)."""
    random = draws("parameters")
    share, share_noise, share_shift = random.random_sample(3) if wild else (1.0, 1.0, 1.0)
    largest_shift = math.floor(share_shift * (levels.shift_px + 1)) if wild else levels.shift_px
    return {
        "blur_px": float(share * levels.blur_px),
        "angle": float(random.uniform(0, math.pi)),
        "bend": float(random.uniform(-math.pi / 2, math.pi / 2)),
        "noise": float(share_noise * levels.noise),
        "shift_px": [int(random.randint(-largest_shift, largest_shift + 1)) for _ in range(2)],
    }


def _apply_motion(hr: Tensor, scale: int, levels: Degrade, parameters: dict[str, Any], draws: Draws) -> Tensor:
    kernel = motion_kernel(parameters["blur_px"], parameters["angle"], parameters["bend"])
    lr = bicubic_down(_blur_and_shift(hr, kernel, tuple(parameters["shift_px"])), scale)
    if parameters["noise"] > 0:
        lr = _poisson(lr, parameters["noise"], draws("noise"))
    return to_8bit_grid(lr)


def _draw_unknown(levels: Degrade, draws: Draws) -> dict[str, Any]:
    """One kernel for all images: there is nothing to draw."""
    return {}


def _directions(random: np.random.RandomState, count: int) -> NDArray[np.float64]:
    angles = random.uniform(0, 2 * math.pi, count)
    return np.stack([np.sin(angles), np.cos(angles)], axis=1)


def _blur_and_shift(x: Tensor, kernel: NDArray[np.float32], shift: tuple[int, int]) -> Tensor:
    """(1, 3, H, W) to the same size: convolve, move content by `shift` (down, right), replicate the border."""
    radius = kernel.shape[0] // 2
    margin = radius + max(abs(shift[0]), abs(shift[1]))
    padded = F.pad(x, (margin, margin, margin, margin), mode="replicate")
    top, left = margin - radius - shift[0], margin - radius - shift[1]
    window = padded[..., top : top + x.shape[-2] + 2 * radius, left : left + x.shape[-1] + 2 * radius]
    if radius == 0:
        return window
    # conv2d correlates; flipped, it is the convolution of equation (1). Channels go through as a batch.
    flipped = torch.from_numpy(kernel[::-1, ::-1].copy()).to(x.dtype)
    return F.conv2d(window.transpose(0, 1), flipped[None, None]).transpose(0, 1)


def _poisson(x: Tensor, noise: float, random: np.random.RandomState) -> Tensor:
    """Count photons: the variance is proportional to brightness, the standard deviation at 0.5 is `noise`."""
    photons = 0.5 / noise**2  # at brightness 1
    counts = random.poisson(x.clamp(0, 1).double().numpy() * photons)
    return torch.from_numpy(counts / photons).to(x.dtype)


def _apply_unknown(hr: Tensor, scale: int, levels: Degrade, parameters: dict[str, Any], draws: Draws) -> Tensor:
    return to_8bit_grid(bicubic_down(_blur_and_shift(hr, unknown_kernel(levels.blur_px, draws.seed), (0, 0)), scale))


def _unknown_record(levels: Degrade, seed: int) -> dict[str, Any]:
    return {"kernel": unknown_kernel(levels.blur_px, seed).tolist()}


UNKNOWN = SimulatedTrack(_draw_unknown, _apply_unknown, levels=_LEVELS, record=_unknown_record)
MILD = SimulatedTrack(partial(_draw_motion, wild=False), _apply_motion, ("m",), levels=_LEVELS)
WILD = SimulatedTrack(partial(_draw_motion, wild=True), _apply_motion, ("w1", "w2", "w3", "w4"), levels=_LEVELS)
