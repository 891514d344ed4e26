"""The colours of a BMP of 16, 24 or 32 bits a pixel: which bits of a pixel are which of them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cyclesr_dist.data.photo.kinds import DamagedError, Samples, UnreadError, in_rows

PLAIN: dict[int, tuple[int, ...]] = {
    16: (0x7C00, 0x3E0, 0x1F),
    24: (0xFF0000, 0xFF00, 0xFF),
    32: (0xFF0000, 0xFF00, 0xFF),
}
"""Masks of red, green and blue where a file names none, by the bits of a pixel."""
_BYTE, _MOST_BITS = 8, 16


def depth_of(masks: tuple[int, ...], bits: int) -> int:
    """8, or 16 where a colour or the alpha has more than 8 bits. Raises DamagedError, UnreadError."""
    together = 0
    for mask in masks:
        ones = mask >> _shift(mask) if mask else 0
        if not ones or ones & (ones + 1) or mask & together or mask >> bits:
            raise DamagedError(f"has colours that its pixels do not hold (masks {', '.join(map(hex, masks))})")
        together |= mask
    most = max(map(int.bit_count, masks))
    if most > _MOST_BITS:
        raise UnreadError(f"has {most}-bit colours; save it as PNG first")
    return 8 if most <= _BYTE else 16


def of_fields(body: memoryview, width: int, height: int, bits: int, masks: tuple[int, ...], down: bool) -> Samples:
    """(height, width, masks), upright, of rows in whole words of four bytes; `down`: the first is the upper one.

    Each value goes to its nearest level. Raises DamagedError, UnreadError.
    """
    depth, stride, used, size = depth_of(masks, bits), (width * bits + 31) // 32 * 4, width * bits // 8, bits // 8
    if len(body) < stride * (height - 1) + used:
        raise DamagedError("is cut short")
    stored = np.ndarray((height, width, size), np.uint8, body, strides=(stride, size, 1))
    pixels = stored if down else stored[::-1]
    bytewise = all(mask == 0xFF << _shift(mask) and _shift(mask) % _BYTE == 0 for mask in masks)
    if not bytewise and bits not in (16, 32):
        raise UnreadError("has colours at rare places of its pixels; save it as PNG first")
    shape = height, width, len(masks)
    out: Samples = np.empty(shape, np.uint8) if depth == _BYTE else np.empty(shape, np.uint16)
    for rows in in_rows(height, width):
        part = np.ascontiguousarray(pixels[rows])
        words = part if bytewise else part.view(f"<u{size}")[:, :, 0].astype(np.uint64)
        for channel, mask in enumerate(masks):
            out[rows, :, channel] = part[:, :, _shift(mask) // _BYTE] if bytewise else _spread(words, mask, depth)
    return out


def _shift(mask: int) -> int:
    return (mask & -mask).bit_length() - 1


def _spread(words: NDArray[np.uint64], mask: int, depth: int) -> NDArray[np.uint64]:
    shift = _shift(mask)
    largest, full = mask >> shift, 2**depth - 1
    values = (words & np.uint64(mask)) >> np.uint64(shift)
    nearest: NDArray[np.uint64] = (values * np.uint64(full) + np.uint64(largest // 2)) // np.uint64(largest)
    return nearest
