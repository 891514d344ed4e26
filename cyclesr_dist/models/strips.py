"""Enlarging the samples of a photograph strip by strip, from top to bottom: floating point only where a tile is."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cyclesr_dist.data.images import luma
from cyclesr_dist.data.photo.kinds import Samples
from cyclesr_dist.data.photo.transparency import Filling, Planes, some_hidden
from cyclesr_dist.models.tiles import Span, enlarged, fetched, tiles_of_photo
from cyclesr_dist.models.upscaler import BicubicUpscaler, Upscaler


def strips(upscaler: Upscaler, samples: Samples, tile: int | None = None) -> Iterator[Samples]:
    """(h, w, 1|2|3|4) -> rows of tiles of (h * scale, w * scale, 1|2|3|4), each (rows, w * scale, ...), top to bottom.

    Equal to `upscale_picture`'s result, rounded. Raises InputError when the model gives values that are not finite.
    """
    height, width, channels = samples.shape
    scale, cut = upscaler.scale, tiles_of_photo(upscaler, height, width, tile)
    of_alpha = BicubicUpscaler(scale)
    colours = _Colours(samples)
    for row in cut.spans(height):
        strip: Samples = np.empty(((row.stop - row.start) * scale, width * scale, channels), samples.dtype)
        band = colours.rows(row)
        for column in cut.spans(width):
            inner, place = (..., row.inner(scale), column.inner(scale)), strip[:, column.made(scale)]
            x = _in_levels(band[:, column.read], upscaler.device)
            y = enlarged(upscaler, x if x.shape[1] == 3 else _three(x))[inner]
            _put(y, place[:, :, : 1 if channels <= 2 else 3])
            if channels in (2, 4):
                alpha = _in_levels(samples[row.read, column.read, -1:], of_alpha.device)
                _put(enlarged(of_alpha, alpha)[inner], place[:, :, -1:])
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


def _in_levels(values: NDArray[Any], device: torch.device) -> Tensor:
    """(h, w, C) samples, or values in [0, 1], as (1, C, h, w) in [0, 1]."""
    there = torch.from_numpy(np.ascontiguousarray(values)).to(device)
    x = there.float()
    if values.dtype.kind == "u":
        # A tensor: by a number a GPU would not divide, but multiply with its reciprocal.
        x = x / torch.tensor(float(np.iinfo(values.dtype).max), device=device)
    return x.permute(2, 0, 1)[None]


def _three(grey: Tensor) -> Tensor:
    """(1, 1, h, w) -> (1, 3, h, w), which lie in memory as RGB does: another layout is rounded otherwise."""
    return grey[0].permute(1, 2, 0).repeat(1, 1, 3).permute(2, 0, 1)[None]


def _put(y: Tensor, place: Samples) -> None:
    """(1, C, h, w) about [0, 1] as samples into (h, w, c); c = 1 of colours is their luma. Rounded where `y` is."""
    planes = y[0].permute(1, 2, 0)
    if planes.shape[2] > place.shape[2]:
        planes = luma(planes)
    levels = planes.clamp(0, 1).mul_(float(np.iinfo(place.dtype).max)).round_()
    eight = place.dtype == np.uint8
    # torch's uint16 knows little: with a sign on the way.
    whole = fetched(levels.to(torch.uint8) if eight else (levels - 32768).to(torch.int16)).numpy()
    for channel in range(place.shape[2]):  # planes lie one behind the other, and are copied faster one by one
        plane = whole[:, :, channel]
        place[:, :, channel] = plane if eight else plane.view(np.uint16) ^ np.uint16(32768)
