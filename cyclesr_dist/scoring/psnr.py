"""Plain PSNR and SSIM, on RGB and on luma, without any search over shifts.

All scorers take two (H, W, 3) uint8 arrays, 0..255, of equal size, compute in float64, and leave out `border` pixels on
every side. They raise InputError when the sizes differ or nothing (for SSIM: less than 11 x 11 px) is left.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cyclesr_dist.errors import InputError
from cyclesr_dist.runtime.threads import one_thread

Image8 = NDArray[np.uint8]

SSIM_RADIUS = 5
"""Of the Gaussian window: sigma 1.5 cut at 3.5 sigma, so 11 x 11 px."""
SSIM_C1 = (0.01 * 255) ** 2
SSIM_C2 = (0.03 * 255) ** 2
_STRIP = 32
_LUMA_BT601 = np.array([65.481, 128.553, 24.966]) / 255


def psnr(sr: Image8, hr: Image8, border: int = 0) -> float:
    """Peak signal-to-noise ratio in dB over the three channels together; infinity for equal images."""
    return _psnr(*(image.astype(np.float64) for image in _inner(sr, hr, border, 1)))


def psnr_y(sr: Image8, hr: Image8, border: int = 0) -> float:
    """`psnr` of the luma alone (see `luma`)."""
    return _psnr(*(luma(image) for image in _inner(sr, hr, border, 1)))


def ssim(sr: Image8, hr: Image8, border: int = 0) -> float:
    """Structural similarity (Wang et al. 2004), mean over the channels.

    Gaussian window of sigma 1.5, K1 0.01, K2 0.03, biased covariances, range 255, averaged where the window fits:
    scikit-image's `structural_similarity(gaussian_weights=True, use_sample_covariance=False)`.
    """
    return _ssim(*(_planes(image) for image in _inner(sr, hr, border, 2 * SSIM_RADIUS + 1)))


def ssim_y(sr: Image8, hr: Image8, border: int = 0) -> float:
    """`ssim` of the luma alone (see `luma`)."""
    return _ssim(*(torch.from_numpy(luma(image)) for image in _inner(sr, hr, border, 2 * SSIM_RADIUS + 1)))


def luma(image: Image8) -> NDArray[np.float64]:
    """(H, W, 3) uint8 -> Y (H, W) in 16..235, ITU-R BT.601 as MATLAB's rgb2ycbcr, not rounded."""
    return np.asarray(16 + image @ _LUMA_BT601, dtype=np.float64)


def gaussian_window() -> Tensor:
    """The 11 weights of the SSIM window along one axis, float64, sum 1."""
    weights = torch.exp(-0.5 * (torch.arange(-SSIM_RADIUS, SSIM_RADIUS + 1, dtype=torch.float64) / 1.5) ** 2)
    return weights / weights.sum()


def gaussian_filter(x: Tensor) -> Tensor:
    """Windowed mean of (..., H, W) where the window fits: (..., H - 10, W - 10)."""
    weights = gaussian_window().tolist()
    for axis in (-1, -2):
        size = x.shape[axis] - 2 * SSIM_RADIUS
        total = x.narrow(axis, 0, size) * weights[0]
        for offset, weight in enumerate(weights[1:], start=1):
            total.add_(x.narrow(axis, offset, size), alpha=weight)
        x = total
    return x


def _psnr(sr: NDArray[np.float64], hr: NDArray[np.float64]) -> float:
    mse = float(np.mean((sr - hr) ** 2))
    return 10 * math.log10(255**2 / mse) if mse else math.inf


def _ssim(x: Tensor, y: Tensor) -> float:
    """(..., H, W) float64 each -> mean SSIM, a strip of rows at a time so that the intermediates stay in cache."""
    height, total = x.shape[-2] - 2 * SSIM_RADIUS, 0.0
    with one_thread():
        for top in range(0, height, _STRIP):
            rows = min(_STRIP, height - top)
            strips = (plane.narrow(-2, top, rows + 2 * SSIM_RADIUS) for plane in (x, y))
            total += float(_similarity(*strips).mean()) * rows
    return total / height


def _similarity(x: Tensor, y: Tensor) -> Tensor:
    """The SSIM map (..., H - 10, W - 10)."""
    mean_x, mean_y = gaussian_filter(x), gaussian_filter(y)
    product, squares = mean_x * mean_y, mean_x**2 + mean_y**2
    covariance = gaussian_filter(x * y) - product
    variances = gaussian_filter(x**2 + y**2) - squares
    return (2 * product + SSIM_C1) * (2 * covariance + SSIM_C2) / ((squares + SSIM_C1) * (variances + SSIM_C2))


def _planes(image: Image8) -> Tensor:
    """(H, W, 3) uint8 -> (3, H, W) float64, 0..255."""
    return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1), dtype=np.float64))


def _inner(sr: Image8, hr: Image8, border: int, smallest: int) -> tuple[Image8, Image8]:
    """Both images less `border` px a side."""
    if sr.shape != hr.shape:
        raise InputError(f"sizes differ: {sr.shape[1]}x{sr.shape[0]} px against {hr.shape[1]}x{hr.shape[0]} px")
    height, width = (size - 2 * border for size in sr.shape[:2])
    if min(height, width) < smallest:
        least = smallest + 2 * border
        raise InputError(f"{sr.shape[1]}x{sr.shape[0]} px is too small to score: {least}x{least} px at least")
    inner = np.s_[border : border + height, border : border + width]
    return sr[inner], hr[inner]
