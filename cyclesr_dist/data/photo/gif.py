"""GIF: its blocks, and the samples of its first picture."""

from __future__ import annotations

import io
import struct
from dataclasses import dataclass

import numpy as np
from PIL import GifImagePlugin

from cyclesr_dist.data.photo.kinds import DamagedError, Head, Raster, Reader, Samples, UnreadError, decoder
from cyclesr_dist.data.photo.of_pillow import of_pillow

_EXTENSION, _PICTURE = 0x21, 0x2C
_MOST_BLOCKS = 100_000


@dataclass(frozen=True)
class _Picture:
    """Its place on the canvas in px, and its palette, three bytes a colour."""

    left: int
    top: int
    width: int
    height: int
    palette: bytes


def head(reader: Reader) -> Head:
    """Raises DamagedError."""
    width, height = (int.from_bytes(reader.at(place, 2), "little") for place in (6, 8))
    pictures = _pictures(reader)
    first = pictures[0]
    width = max(width, first.left + first.width)  # a canvas too small grows, as browsers have it
    height = max(height, first.top + first.height)
    remarks = ("is an animation; only the first picture is read",) if len(pictures) > 1 else ()
    return Head(width, height, remarks=remarks)


def decode(data: bytes, reader: Reader) -> Raster:
    """Raises DamagedError, UnreadError.

    Colours are looked up here: Pillow takes those of the file for a picture whose own palette is a row of greys.
    """
    first = _pictures(reader)[0]
    colours = np.frombuffer(first.palette, np.uint8).reshape(-1, 3)
    if not len(colours):
        raise DamagedError("has no palette")
    with decoder("Pillow"), GifImagePlugin.GifImageFile(io.BytesIO(data)) as image:
        unseen = image.info.get("transparency")
        canvas = of_pillow(image)
    if canvas.shape[2] != 1:
        raise UnreadError("is not read while Pillow's LOADING_STRATEGY for GIF is another than its default")
    place = slice(first.top, first.top + first.height), slice(first.left, first.left + first.width)
    indices = canvas[:, :, 0][place]
    seen = np.ones(indices.shape, bool) if unseen is None else indices != unseen
    if (most := int(indices.max(initial=0, where=seen))) >= len(colours):
        raise DamagedError(f"a pixel has colour {most} of a palette of {len(colours)} colours")
    if unseen is None and indices.shape == canvas.shape[:2]:
        return Raster(colours[indices], "rgb")
    table = np.zeros((256, 4), np.uint8)
    table[: len(colours), :3], table[:, 3] = colours, 255
    if unseen is not None:
        table[unseen, 3] = 0
    whole: Samples = np.zeros((*canvas.shape[:2], 4), np.uint8)
    whole[place] = table[indices]
    return Raster(whole, "rgb", alpha=True)


def _pictures(reader: Reader) -> list[_Picture]:
    """Up to two: more need not be looked for."""
    everyones = reader.at(13, _palette(reader.at(10, 1)[0]))
    place = 13 + len(everyones)
    found: list[_Picture] = []
    for _ in range(_MOST_BLOCKS):
        kind = reader.upto(place, 1)
        if kind == bytes([_PICTURE]):
            own = reader.at(place + 10, _palette(reader.at(place + 9, 1)[0]))
            left, top, width, height = struct.unpack("<4H", reader.at(place + 1, 8))
            found.append(_Picture(left, top, width, height, own or everyones))
            if len(found) == 2:
                return found
            place += 11 + len(own)
        elif kind == bytes([_EXTENSION]):
            place += 2
        else:
            break
        while size := int.from_bytes(reader.at(place, 1)):
            place += 1 + size
        place += 1
    if not found:
        raise DamagedError("holds no picture")
    return found


def _palette(flags: int) -> int:
    """Its bytes."""
    return 3 << 1 + (flags & 7) if flags & 0x80 else 0
