"""Colours where a picture is transparent: whatever a file has there is of no meaning, and must not be seen."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Planes = NDArray[np.float32]


def filled(colour: NDArray[Any], alpha: NDArray[Any]) -> NDArray[Any]:
    """(H, W, C) colours with those of transparent pixels, where the (H, W) `alpha` is 0, made from their neighbours.

    Both are whole numbers over their whole range, or floating point in [0, 1].
    Pixels that can be seen stay as they are. What is near to an edge is the mean of what can be seen next to it;
    what is further away, of more and more. A picture of which nothing can be seen stays as it is.
    """
    hidden = alpha == 0
    if not hidden.any() or hidden.all():
        return colour
    whole = colour.dtype.kind == "u"
    full = np.float32(np.iinfo(alpha.dtype).max if whole else 1)
    weight = (alpha.astype(np.float32) / full)[:, :, None]
    means = _pulled_and_pushed(colour.astype(np.float32), weight)
    result = colour.copy()
    result[hidden] = (np.rint(means[hidden]) if whole else means[hidden]).astype(colour.dtype)
    return result


def _pulled_and_pushed(colour: Planes, weight: Planes) -> Planes:
    """Means of the neighbourhood, weighted, as wide as it must be to have any weight in it.

    A pyramid: each level halves the one below, with its weights, and gives it colours where it has none.
    """
    near, near_weight = _of_neighbours(colour, weight)
    known = near_weight > 0
    if known.all():
        return near
    if min(colour.shape[:2]) < 2 and max(colour.shape[:2]) < 2:
        return near
    coarse = _doubled(_pulled_and_pushed(*_halved(colour, weight)), colour.shape[:2])
    return np.where(known, near, coarse)


def _of_neighbours(colour: Planes, weight: Planes) -> tuple[Planes, Planes]:
    """Weighted means of 3 x 3 px."""
    total, mass = _summed(colour * weight), _summed(weight)
    return _mean(total, mass), mass


def _mean(total: Planes, mass: Planes) -> Planes:
    mean: Planes = (total / np.maximum(mass, np.float32(1e-12))).astype(np.float32, copy=False)
    return mean


def _summed(planes: Planes) -> Planes:
    """Over 3 x 3 px; outside of the picture is nothing."""
    for axis in (0, 1):
        wide = np.pad(planes, [(1, 1) if i == axis else (0, 0) for i in range(3)])
        size = planes.shape[axis]
        planes = sum((wide.take(range(i, i + size), axis) for i in range(1, 3)), wide.take(range(size), axis))
    return planes


def _halved(colour: Planes, weight: Planes) -> tuple[Planes, Planes]:
    """Sums of 2 x 2 px as means and weights; an odd last row or column is alone."""
    odd = [(0, size % 2) for size in colour.shape[:2]]
    total = np.pad(colour * weight, [*odd, (0, 0)])
    mass = np.pad(weight, [*odd, (0, 0)])
    total = total[0::2, 0::2] + total[1::2, 0::2] + total[0::2, 1::2] + total[1::2, 1::2]
    mass = mass[0::2, 0::2] + mass[1::2, 0::2] + mass[0::2, 1::2] + mass[1::2, 1::2]
    return _mean(total, mass), mass


def _doubled(planes: Planes, size: tuple[int, ...]) -> Planes:
    return planes.repeat(2, axis=0).repeat(2, axis=1)[: size[0], : size[1]]
