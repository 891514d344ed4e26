"""Enlarging the samples of a photograph strip by strip, from top to bottom: floating point only where a tile is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cyclesr_dist.data.photo.kinds import Samples
from cyclesr_dist.data.photo.transparency import Filling, Planes, some_hidden
from cyclesr_dist.models.tiles import Span, enlarged, tiles_of_photo
from cyclesr_dist.models.upscaler import BicubicUpscaler, Upscaler


def strips(
    upscaler: Upscaler, samples: Samples, tile: int | None = None, go_on: Callable[[], None] = lambda: None
) -> Iterator[Samples]:
    """(h, w, 1|2|3|4) -> rows of tiles of (h * scale, w * scale, 1|2|3|4), each (rows, w * scale, ...), top to bottom.

    `go_on` is called before each tile, and ends the work by raising. Equal to `upscale_picture`'s result, rounded.
    Raises InputError when the model gives values that are not finite.
    """
    height, width, channels = samples.shape
    scale, cut = upscaler.scale, tiles_of_photo(upscaler, height, width, tile)
    of_alpha = BicubicUpscaler(scale)
    colours = _Colours(samples)
    for row in cut.spans(height):
        strip: Samples = np.empty(((row.stop - row.start) * scale, width * scale, channels), samples.dtype)
        band = colours.rows(row)
        for column in cut.spans(width):
            go_on()
            inner, place = (..., row.inner(scale), column.inner(scale)), strip[:, column.made(scale)]
            x = upscaler.arithmetic.taken(_in_colour(band[:, column.read]))
            upscaler.arithmetic.give_samples(enlarged(upscaler, x)[inner], place[:, :, : 1 if channels <= 2 else 3])
            if channels in (2, 4):
                alpha = of_alpha.arithmetic.taken(samples[row.read, column.read, -1:])
                of_alpha.arithmetic.give_samples(enlarged(of_alpha, alpha)[inner], place[:, :, -1:])
        yield strip


class _Colours:
    """Rows of a picture's colours without its alpha, which says only what nobody can see: that is filled."""

    def __init__(self, samples: Samples) -> None:
        self._samples = samples
        channels = samples.shape[2]
        self._colours = 1 if channels <= 2 else 3
        self._full = np.float32(np.iinfo(samples.dtype).max)
        self._filling: Filling | None = None
        if channels in (2, 4) and some_hidden(samples[:, :, -1]):
            self._filling = Filling(samples.shape[:2], self._levels)

    def rows(self, row: Span) -> NDArray[Any]:
        """Those that are read for a tile: (rows, w, 1|3), samples, or in [0, 1] where some are filled."""
        hidden = self._samples[row.read, :, -1] == 0
        if self._filling is None or not hidden.any():
            return self._samples[row.read, :, : self._colours]
        colour, _ = self._levels(row.read)
        colour[hidden] = self._filling.means(row.read)[hidden]
        return colour

    def _levels(self, rows: slice) -> tuple[Planes, Planes]:
        levels = self._samples[rows].astype(np.float32) / self._full
        return levels[:, :, : self._colours].copy(), levels[:, :, -1:]


def _in_colour(values: NDArray[Any]) -> NDArray[Any]:
    """(h, w, 1|3) -> (h, w, 3)."""
    return values if values.shape[2] == 3 else np.repeat(values, 3, axis=2)
