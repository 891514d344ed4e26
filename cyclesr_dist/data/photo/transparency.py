"""Colours where a picture is transparent: whatever a file has there is of no meaning, and must not be seen."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cyclesr_dist.data.photo.kinds import in_rows

Planes = NDArray[np.float32]
Rows = Callable[[slice], tuple[Planes, Planes]]
"""Colours, (rows, W, C), and weights, (rows, W, 1), of some rows of a picture."""
_LEVELS = 6
"""Of the pyramid, that are made for some rows only; what is above them is 1 / 4096 of the picture."""
_CELL = 1 << _LEVELS


def filled(colour: NDArray[Any], alpha: NDArray[Any]) -> NDArray[Any]:
    """(H, W, C) colours with those of transparent pixels, where the (H, W) `alpha` is 0, made from their neighbours.

    Both are whole numbers over their whole range, or floating point in [0, 1].
    Pixels that can be seen stay as they are. What is near to an edge is the mean of what can be seen next to it;
    what is further away, of more and more. A picture of which nothing can be seen stays as it is.
    """
    if not some_hidden(alpha):
        return colour
    whole = colour.dtype.kind == "u"
    full = np.float32(np.iinfo(alpha.dtype).max if whole else 1)

    def planes(rows: slice) -> tuple[Planes, Planes]:
        return colour[rows].astype(np.float32), (alpha[rows].astype(np.float32) / full)[:, :, None]

    filling = Filling(alpha.shape, planes)
    result = colour.copy()
    for rows in in_rows(*alpha.shape):
        hidden = alpha[rows] == 0
        if hidden.any():
            means = filling.means(rows)[hidden]
            result[rows][hidden] = (np.rint(means) if whole else means).astype(colour.dtype)
    return result


def some_hidden(alpha: NDArray[Any]) -> bool:
    """Whether there is something to fill, and something to fill it with."""
    return bool(alpha.min() == 0 and alpha.max() > 0)


class Filling:
    """Colours for the transparent pixels of a picture, some rows at a time: the same as of the whole picture."""

    def __init__(self, shape: tuple[int, ...], planes: Rows) -> None:
        """`shape` is (H, W) of the picture; `planes` gives its rows."""
        self._height, self._width = shape
        self._planes = planes
        coarse = [_coarse(*planes(rows)) for rows in in_rows(self._height, self._width, _CELL)]
        colour, weight = (np.concatenate(parts) for parts in zip(*coarse, strict=True))
        self._above = _pulled_and_pushed(colour, weight)

    def means(self, rows: slice) -> Planes:
        """(rows, W, C): of each pixel the weighted mean of what can be seen around it."""
        # A cell of the highest level more on each side, where levels lack neighbours, and so to whole cells.
        first = max(0, rows.start // _CELL - 1)
        last = min(-(-self._height // _CELL), -(-rows.stop // _CELL) + 1)
        top = first * _CELL
        colour, weight = self._planes(slice(top, min(last * _CELL, self._height)))
        means = _pulled_and_pushed(colour, weight, self._above[first:last], _LEVELS)
        return means[rows.start - top : rows.stop - top]


def _coarse(colour: Planes, weight: Planes) -> tuple[Planes, Planes]:
    for _ in range(_LEVELS):
        colour, weight = _halved(colour, weight)
    return colour, weight


def _pulled_and_pushed(colour: Planes, weight: Planes, above: Planes | None = None, levels: int = -1) -> Planes:
    """Means of the neighbourhood, weighted, as wide as it must be to have any weight in it.

    A pyramid: each level halves the one below, with its weights, and gives it colours where it has none. `above` has
    the means of the level that is so many `levels` up; without it, all are made.
    """
    if levels == 0 and above is not None:
        return above
    near, near_weight = _of_neighbours(colour, weight)
    known = near_weight > 0
    if known.all():
        return near
    if max(colour.shape[:2]) < 2 and above is None:
        return near
    coarse = _doubled(_pulled_and_pushed(*_halved(colour, weight), above, levels - 1), colour.shape[:2])
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
