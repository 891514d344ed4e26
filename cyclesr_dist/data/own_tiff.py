"""The TIFF files that `encoding.encode` writes, decoded without a general reader, which takes longer than the pixels.

Only a file whose directory is, byte for byte, that of such a file is decoded; any other one is left to Pillow.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

import imagecodecs
import numpy as np
from numpy.typing import NDArray

_DATA = 8
"""Where the one strip begins: behind the byte order, 42 and the directory's place."""
_ENTRY = struct.Struct("<HHII")
_BITS, _COUNT = 258, 279
_TAIL = 6
"""Bytes of the list of bits, three numbers, the last of the file."""
_LITTLE_ENDIAN = b"II*\0"


@dataclass(frozen=True)
class Layout:
    """The directory of patches of one size, with zeros for the two numbers that differ between them."""

    directory: bytes
    bits_at: int
    """Where it says where the directory's own list of bits a sample is, from the directory's start."""
    count_at: int
    """Where it says how many bytes the strip has."""


def layout_of(data: bytes) -> Layout | None:
    """Of a file that `encode` has written; None where it is not as expected: another Pillow, or another machine."""
    place = _place(data)
    if place is None:
        return None
    directory = bytearray(data[place:])
    found = {}
    for at in range(2, 2 + _ENTRY.size * int.from_bytes(directory[:2], "little"), _ENTRY.size):
        tag, kind, number, value = _ENTRY.unpack_from(directory, at)
        found[tag] = at + 8, kind, number, value
    bits, count = found.get(_BITS), found.get(_COUNT)
    if bits is None or count is None or bits[1:3] != (3, 3) or count[1:3] != (4, 1):
        return None
    layout = Layout(_without(directory, bits[0], count[0]), bits[0], count[0])
    return layout if _strip(data, layout) is not None else None


def decoded(data: bytes, layout: Layout, size: int) -> NDArray[np.uint8] | None:
    """The (size, size, 3) patch, read-only; None: it is another file, or a damaged one, and Pillow may say what."""
    strip = _strip(data, layout)
    if strip is None:
        return None
    try:
        differences = imagecodecs.zstd_decode(strip, out=3 * size * size)
    except imagecodecs.ZstdError:
        return None
    if len(differences) != 3 * size * size:
        return None
    rows = np.frombuffer(differences, np.uint8).reshape(size, size, 3)
    patch: NDArray[np.uint8] = imagecodecs.delta_decode(rows, axis=1)
    patch.flags.writeable = False
    return patch


def _place(data: bytes) -> int | None:
    """Where the directory is."""
    if len(data) < _DATA or data[:4] != _LITTLE_ENDIAN:
        return None
    place = int.from_bytes(data[4:_DATA], "little")
    return place if _DATA <= place <= len(data) - 2 - _ENTRY.size else None


def _strip(data: bytes, layout: Layout) -> bytes | None:
    """The compressed samples, where the directory is the expected one and both of its numbers are right."""
    place = _place(data)
    if place is None or len(data) - place != len(layout.directory):
        return None
    directory = data[place:]
    count, bits = (int.from_bytes(directory[at : at + 4], "little") for at in (layout.count_at, layout.bits_at))
    # The directory begins at an even place.
    if _without(directory, layout.bits_at, layout.count_at) != layout.directory or not 0 <= place - _DATA - count <= 1:
        return None
    return data[_DATA : _DATA + count] if bits == len(data) - _TAIL else None


def _without(directory: bytes | bytearray, *places: int) -> bytes:
    changed = bytearray(directory)
    for place in places:
        changed[place : place + 4] = bytes(4)
    return bytes(changed)
