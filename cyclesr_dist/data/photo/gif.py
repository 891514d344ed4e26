"""GIF: its blocks, and the samples of its first picture."""

from __future__ import annotations

import io
import struct

import numpy as np
from PIL import GifImagePlugin

from cyclesr_dist.data.photo.kinds import DamagedError, Head, Raster, Reader, decoder
from cyclesr_dist.data.photo.of_pillow import of_pillow

_EXTENSION, _PICTURE = 0x21, 0x2C
_MOST_BLOCKS = 100_000


def head(reader: Reader) -> Head:
    """Raises DamagedError."""
    width, height = (int.from_bytes(reader.at(place, 2), "little") for place in (6, 8))
    pictures = _pictures(reader)
    left, top, across, down = pictures[0]
    width, height = max(width, left + across), max(height, top + down)  # a canvas too small grows, as browsers have it
    remarks = ("is an animation; only the first picture is read",) if len(pictures) > 1 else ()
    return Head(width, height, remarks=remarks)


def decode(data: bytes, reader: Reader) -> Raster:
    """Raises DamagedError."""
    with decoder("Pillow"), GifImagePlugin.GifImageFile(io.BytesIO(data)) as image:
        see_through = image.has_transparency_data
        samples = of_pillow(image, "RGBA" if see_through else "RGB")
    left, top, width, height = _pictures(reader)[0]
    covered = np.zeros((*samples.shape[:2], 1), np.uint8)
    covered[top : top + height, left : left + width] = 255
    if not covered.all():
        alpha = np.minimum(samples[:, :, 3:], covered) if see_through else covered
        return Raster(np.concatenate([samples[:, :, :3], alpha], axis=2), "rgb", alpha=True)
    return Raster(samples, "rgb", alpha=see_through)


def _pictures(reader: Reader) -> list[tuple[int, int, int, int]]:
    """Left, top, width and height in px on the canvas of each, up to two: more need not be looked for."""
    place = 13 + _palette(reader.at(10, 1)[0])
    found: list[tuple[int, int, int, int]] = []
    for _ in range(_MOST_BLOCKS):
        kind = reader.upto(place, 1)
        if kind == bytes([_PICTURE]):
            found.append(struct.unpack("<4H", reader.at(place + 1, 8)))
            if len(found) == 2:
                return found
            place += 11 + _palette(reader.at(place + 9, 1)[0])
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
    return 3 << 1 + (flags & 7) if flags & 0x80 else 0
