"""Enlarging whole photographs, in tiles where they are large. Arrays are (H, W, 3) float32 in [0, 1]."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cyclesr_dist.data.images import Picture, look_at, read_stored, say_what_is_left_out
from cyclesr_dist.data.photo.png_stream import PngStream
from cyclesr_dist.data.photo.transparency import filled
from cyclesr_dist.models.in_flight import InFlight
from cyclesr_dist.models.strip_memory import memory_shortage
from cyclesr_dist.models.strips import strips
from cyclesr_dist.models.tiles import Tiles, enlarged, tiles_of, tiles_of_photo
from cyclesr_dist.models.upscaler import BicubicUpscaler, Upscaler
from cyclesr_dist.runtime.files import size_of
from cyclesr_dist.runtime.passing import unwritable


def upscale_image(upscaler: Upscaler, rgb: NDArray[np.floating[Any]], tile: int | None = None) -> NDArray[np.float32]:
    """(h, w, 3) in [0, 1] -> (h * scale, w * scale, 3), about [0, 1] (not clipped).

    `tile` is the side in LR px of the squares worked on, None: `DEFAULT_TILE` above `UNTILED_PIXELS`, 0: one piece.
    Each square is given the network's reach of true surroundings, so that the result does not depend on `tile`.
    Raises InputError when the model gives values that are not finite.
    """
    return _in_tiles(upscaler, rgb, tiles_of(upscaler, rgb.shape[0], rgb.shape[1], tile))


def upscale_picture(upscaler: Upscaler, picture: Picture, tile: int | None = None) -> Picture:
    """`upscale_image` on the colours and bicubic enlargement of the alpha; depth, greyness and profile are kept.

    Colours that nobody can see, where alpha is 0, are made from their neighbours first: they would reach into others.
    """
    rgb, alpha = picture.rgb, picture.alpha
    cut = tiles_of_photo(upscaler, rgb.shape[0], rgb.shape[1], tile)
    if alpha is not None:
        rgb = filled(rgb, alpha)
        alpha = _in_tiles(BicubicUpscaler(upscaler.scale), alpha[:, :, None], cut)[:, :, 0].clip(0, 1)
    return replace(picture, rgb=_in_tiles(upscaler, rgb, cut), alpha=alpha)


def upscale_file(
    upscaler: Upscaler, source: Path, target: Path, tile: int | None = None, flight: InFlight | None = None
) -> None:
    """`upscale_picture` from an image file to a PNG file, strip by strip; `flight`: of others at the same time.

    Raises InputError when one cannot be read or written, MemoryShortError when there is too little memory, Stopped when
    `flight` ends first.
    """
    flight = flight or InFlight(alone=True)
    head = look_at(source)
    room = flight.room.given(upscaler, source, head, size_of(source) or 0, tile)
    with room, memory_shortage(upscaler, source, head):
        photo = read_stored(source)
        height, width, channels = photo.samples.shape
        shape = (height * upscaler.scale, width * upscaler.scale, channels)
        try:
            with PngStream(target, shape, 8 * photo.samples.itemsize, photo.icc, photo.kept) as file:
                for strip in strips(upscaler, photo.samples, tile, flight.go_on):
                    file.write(strip)
        except OSError as error:
            raise unwritable(target, error) from error
    say_what_is_left_out(photo.kept)


def _in_tiles(upscaler: Upscaler, planes: NDArray[np.floating[Any]], cut: Tiles) -> NDArray[np.float32]:
    """(h, w, C) -> (h * scale, w * scale, C): the middles of tiles that overlap by `cut.margin`."""
    (height, width, channels), scale = planes.shape, upscaler.scale
    arithmetic = upscaler.arithmetic
    out = np.empty((height * scale, width * scale, channels), np.float32)
    for row in cut.spans(height):
        for column in cut.spans(width):
            x = arithmetic.taken(planes[row.read, column.read].astype(np.float32, copy=False))
            y = enlarged(upscaler, x)[:, :, row.inner(scale), column.inner(scale)]
            arithmetic.give(y, out[row.made(scale), column.made(scale)])
    return out
