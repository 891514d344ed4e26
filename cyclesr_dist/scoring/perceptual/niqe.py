"""NIQE, the natural image quality evaluator (Mittal, Soundararajan and Bovik 2013): how far the statistics of one image
are from those of undamaged photographs. It needs no original; lower is better.

Follows the authors' MATLAB program: 36 features of each block of 96 x 96 px, 18 at each of two scales.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray

from cyclesr_dist.errors import InputError
from cyclesr_dist.scoring.perceptual.constants import constants
from cyclesr_dist.scoring.psnr import Image8, luma

BLOCK = 96
"""Side in px; what is left over at the right and at the bottom does not count."""
_SHIFTS = ((0, 1), (1, 0), (1, 1), (1, -1))
_ROUNDING = 1e-9
"""Differences of 8-bit images from their weighted means are larger, or errors of float64."""
_HALVING = np.array([-0.01171875, -0.03515625, 0.11328125, 0.43359375])  # MATLAB's bicubic, antialiased; then mirrored

Plane = NDArray[np.float64]


def niqe(image: Image8, y: bool = False) -> float:
    """Of (H, W, 3) uint8: a distance of 0 or more; undamaged photographs have about 2 to 5.

    In grey by MATLAB's `rgb2gray`, as the authors' program, or of luma (`y`) as BasicSR's; both rounded. Raises
    InputError when there are fewer than two whole blocks, or fewer than two that are not flat.
    """
    plane = np.rint(luma(image) if y else image @ np.array([0.298936021293775, 0.587043074451121, 0.114020904255103]))
    check_size(*plane.shape)
    rows, columns = (side // BLOCK for side in plane.shape)
    plane = plane[: rows * BLOCK, : columns * BLOCK]
    features = np.concatenate([_features(p, BLOCK // n) for n, p in ((1, plane), (2, _halved(plane)))], axis=1)
    complete = features[~np.isnan(features).any(axis=1)]
    if len(complete) < 2:
        raise InputError("niqe: cannot be had of an image that is flat nearly everywhere")
    mean, covariance = (constants()[f"niqe.{name}"].numpy() for name in ("mean", "covariance"))
    off = mean - np.nanmean(features, axis=0)
    inverse = np.linalg.pinv((covariance + np.cov(complete, rowvar=False)) / 2)
    return float(np.sqrt(off @ inverse @ off))


def check_size(height: int, width: int) -> None:
    """Raises InputError for an image with fewer than two whole blocks."""
    if (height // BLOCK) * (width // BLOCK) < 2:
        raise InputError(f"{width}x{height} px is too small for niqe: two blocks of {BLOCK}x{BLOCK} px at least")


def _features(plane: Plane, side: int) -> Plane:
    """(H, W), multiples of `side` -> (blocks, 18). NaN where a block is flat."""
    mean = _blurred(plane)
    contrast = np.sqrt(np.abs(_blurred(plane * plane) - mean * mean))
    off = plane - mean
    off[np.abs(off) < _ROUNDING] = 0  # where the image is flat: else the sign of rounding errors would count below
    normal = off / (contrast + 1)
    height, width = plane.shape
    blocks = normal.reshape(height // side, side, width // side, side).swapaxes(1, 2).reshape(-1, side, side)
    shape, left, right = _asymmetric_gaussian(blocks)
    found = [shape, (left + right) / 2]
    for shift in _SHIFTS:
        shape, left, right = _asymmetric_gaussian(blocks * np.roll(blocks, shift, axis=(1, 2)))
        skew = (right - left) * np.exp(_log_gamma(2 / shape) - _log_gamma(1 / shape))
        found += [shape, skew, left, right]
    return np.stack(found, axis=1)


def _asymmetric_gaussian(blocks: Plane) -> tuple[Plane, Plane, Plane]:
    """The generalised Gaussian with a side of its own on either side of 0, by moments: its exponent and its two widths,
    of each block."""
    values = blocks.reshape(len(blocks), -1)
    squares = values * values
    with np.errstate(invalid="ignore"):  # 0 / 0 of flat blocks
        left, right = (
            np.sqrt(np.where(mask, squares, 0).sum(axis=1) / mask.sum(axis=1)) for mask in (values < 0, values > 0)
        )
        ratio = left / right
        moments = np.abs(values).mean(axis=1) ** 2 / squares.mean(axis=1)
        wanted = moments * (ratio**3 + 1) * (ratio + 1) / (ratio**2 + 1) ** 2
    exponents, of_exponents = _exponents()
    above = np.searchsorted(of_exponents, wanted).clip(1, len(exponents) - 1)
    nearer = wanted - of_exponents[above - 1] <= of_exponents[above] - wanted
    index = np.where(np.isnan(wanted), 0, np.where(nearer, above - 1, above))
    shape = exponents[index]
    width = np.exp((_log_gamma(1 / shape) - _log_gamma(3 / shape)) / 2)
    return shape, left * width, right * width


@cache
def _exponents() -> tuple[Plane, Plane]:
    """0.2 to 10, and the squared mean absolute value of each over its variance, which grows with it."""
    exponents = np.arange(200, 10001) / 1000
    inverse = 1 / exponents
    ratios = np.exp(2 * _log_gamma(2 * inverse) - _log_gamma(inverse) - _log_gamma(3 * inverse))
    return exponents, ratios


def _log_gamma(x: Plane) -> Plane:
    return np.asarray(torch.lgamma(torch.from_numpy(x)).numpy())


def _blurred(plane: Plane) -> Plane:
    """Under a Gaussian window of 7 x 7 px, sigma 7/6; pixels of the border are repeated."""
    weights = np.exp(-((np.arange(-3, 4) / (7 / 6)) ** 2) / 2)
    return _filtered(plane, weights / weights.sum(), 1, "edge")


def _halved(plane: Plane) -> Plane:
    """MATLAB's `imresize(plane, 0.5)`, sides even: bicubic, antialiased, mirrored at the border."""
    return _filtered(plane, np.concatenate([_HALVING, _HALVING[::-1]]), 2, "symmetric")


def _filtered(plane: Plane, weights: Plane, step: int, border: str) -> Plane:
    """Both axes, of which every `step`-th value is kept."""
    for axis in (0, 1):
        size = plane.shape[axis]
        padded = np.pad(plane, [(3, 3) if a == axis else (0, 0) for a in (0, 1)], mode=border)  # type: ignore[call-overload]
        taken = (np.take(padded, np.arange(i, i + size - step + 1, step), axis=axis) for i in range(len(weights)))
        plane = np.asarray(sum(weight * part for weight, part in zip(weights, taken, strict=True)))
    return plane
