"""The scorers of the NTIRE 2017 and 2018 challenges: the best score over shifts of one image against the other.

Misalignment is part of the degradation there, so scores are maxima over thousands of windows. Sums of squared
differences for all shifts at once come from Σ(a - b)² = Σa² - 2 Σab + Σb²: Σb² from an integral image and Σab from an
FFT cross-correlation. The pixels are integers, so rounding each Σab to the nearest integer makes the result exact.

Images are (H, W, 3) uint8, 0..255. Scores are in dB (PSNR) or at most 1 (SSIM).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cyclesr_dist.errors import InputError
from cyclesr_dist.scoring.psnr import SSIM_RADIUS, Image8, ssim
from cyclesr_dist.scoring.ssim_search import best_ssim

BORDER = 10
"""Pixels that both challenges cut from every side."""
WINDOW = 60
"""Side of the central window of NTIRE 2018."""


def ntire2018(sr: Image8, hr: Image8, max_shift: int = 40) -> dict[str, float]:
    """NTIRE 2018, tracks 2 to 4, as its scoring program: `psnr`, `psnr_raw`, `ssim`.

    Both images are cropped to a multiple of 4 and lose 10 px a side. HR's central 60 x 60 window is compared with SR's
    window moved by every (dy, dx) in [-max_shift, max_shift]². `psnr`: each SR window is scaled by mean(HR window) /
    mean(SR window) first, one factor for all channels (1 for a black window); `psnr_raw`: it is not. `ssim`: over even
    shifts, not scaled. Each is a maximum of its own.
    Raises InputError when the sizes differ or are less than 160 px (at max_shift 40).
    """
    _check_sizes(sr, hr, WINDOW + 2 * max_shift + 2 * BORDER)
    height, width = (size - size % 4 for size in hr.shape[:2])
    top, left = ((size - WINDOW) // 2 for size in (height, width))
    reach = slice(-max_shift, WINDOW + max_shift)
    window = hr[top : top + WINDOW, left : left + WINDOW]
    area = sr[top + reach.start : top + reach.stop, left + reach.start : left + reach.stop]

    raw, matched = _squared_errors(window, area)
    return {
        "psnr": _psnr(matched.min() / window.size),
        "psnr_raw": _psnr(raw.min() / window.size),
        "ssim": best_ssim(window, area),
    }


def ntire2017(sr: Image8, hr: Image8) -> dict[str, float]:
    """NTIRE 2017 over the full image less 10 px a side, RGB.

    `psnr`, `ssim`: without shifts. `psnr_shift10`: best over HR moved by up to ±10 px into the border that was cut (the
    CycleSR authors' code). `psnr_shift40`: best over SR moved by up to ±40 px inside the image less 10 px a side, HR
    being cut by 40 px more (the paper's "shifted from 0 to 40 pixels"). `ssim_shift10`, `ssim_shift40`: at the shift of
    the best PSNR. Raises InputError when the sizes differ or are less than 111 px.
    """
    _check_sizes(sr, hr, 2 * BORDER + 2 * 40 + 2 * SSIM_RADIUS + 1)
    sr_inner, hr_inner = _cut(sr, BORDER), _cut(hr, BORDER)
    unshifted = int(np.sum((sr_inner.astype(np.int64) - hr_inner) ** 2))
    psnr10, ssim10 = _at_best_shift(sr_inner, hr)
    psnr40, ssim40 = _at_best_shift(_cut(hr_inner, 40), sr_inner)
    return {
        "psnr": _psnr(unshifted / hr_inner.size),
        "ssim": ssim(sr_inner, hr_inner),
        "psnr_shift10": psnr10,
        "ssim_shift10": ssim10,
        "psnr_shift40": psnr40,
        "ssim_shift40": ssim40,
    }


def _check_sizes(sr: Image8, hr: Image8, smallest: int) -> None:
    if sr.shape != hr.shape:
        raise InputError(f"sizes differ: {sr.shape[1]}x{sr.shape[0]} px against {hr.shape[1]}x{hr.shape[0]} px")
    if min(hr.shape[:2]) < smallest:
        raise InputError(
            f"{hr.shape[1]}x{hr.shape[0]} px is too small for this protocol: {smallest}x{smallest} px at least"
        )


def _cut(image: Image8, border: int) -> Image8:
    return image[border:-border, border:-border]


def _psnr(mse: float) -> float:
    return float(10 * np.log10(255**2 / mse)) if mse > 0 else float("inf")


def _at_best_shift(window: Image8, area: Image8) -> tuple[float, float]:
    """PSNR and SSIM of `window` against that window of `area` which is nearest in mean square."""
    raw, _ = _squared_errors(window, area)
    dy, dx = np.unravel_index(np.argmin(raw), raw.shape)
    nearest = area[dy : dy + window.shape[0], dx : dx + window.shape[1]]
    return _psnr(float(raw[dy, dx]) / window.size), ssim(nearest, window)


def _squared_errors(window: Image8, area: Image8) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Sums of squared differences between `window` (h, w, 3) and every window of `area` (h + r, w + c, 3): (r+1, c+1).

    The second result is with each window of `area` scaled to the mean of `window`.
    """
    a, b = window.astype(np.int64), area.astype(np.int64)
    size = window.shape[:2]
    sum_a, sum_aa = a.sum(), (a * a).sum()
    sum_b, sum_bb = _window_sums(b.sum(axis=2), size), _window_sums((b * b).sum(axis=2), size)
    sum_ab = _cross_correlation(window, area)
    raw = (sum_aa - 2 * sum_ab + sum_bb).astype(np.float64)
    factor = np.divide(sum_a, sum_b, out=np.ones(sum_b.shape), where=sum_b > 0)
    return raw, sum_aa - 2 * factor * sum_ab + factor**2 * sum_bb


def _window_sums(plane: NDArray[np.int64], size: tuple[int, ...]) -> NDArray[np.int64]:
    """Sum over every (h, w) window of `plane`, by an integral image."""
    h, w = size
    total = np.pad(plane, ((1, 0), (1, 0))).cumsum(axis=0).cumsum(axis=1)
    return np.asarray(total[h:, w:] - total[:-h, w:] - total[h:, :-w] + total[:-h, :-w])


def _cross_correlation(window: Image8, area: Image8) -> NDArray[np.int64]:
    """Σ window · area's window, over pixels and channels, for every window of `area`; exact."""
    shape = (_fast_length(area.shape[0]), _fast_length(area.shape[1]))
    spectrum = sum(
        np.fft.rfft2(area[:, :, c].astype(np.float64), shape)
        * np.conj(np.fft.rfft2(window[:, :, c].astype(np.float64), shape))
        for c in range(3)
    )
    # A transform as large as the area wraps around only for shifts that leave it, which are cut off here.
    rows, columns = (whole - part + 1 for whole, part in zip(area.shape[:2], window.shape[:2], strict=True))
    return np.rint(np.fft.irfft2(spectrum, shape)[:rows, :columns]).astype(np.int64)


def _fast_length(n: int) -> int:
    """The smallest length >= n without prime factors above 5."""
    while True:
        rest = n
        for prime in (2, 3, 5):
            while rest % prime == 0:
                rest //= prime
        if rest == 1:
            return n
        n += 1
