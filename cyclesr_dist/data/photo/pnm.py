"""PBM, PGM and PPM, as text and binary, of any depth."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cyclesr_dist.data.photo.kinds import DamagedError, Head, Raster, Reader, Samples, UnreadError, levels

_MOST_HEAD = 65_536
_TOKEN = re.compile(rb"(?:\s|#[^\n\r]*[\n\r])*(\d{1,10})")
_CHANNELS = {b"P1": 1, b"P2": 1, b"P3": 3, b"P4": 1, b"P5": 1, b"P6": 3}
_TEXT, _BITMAPS = (b"P1", b"P2", b"P3"), (b"P1", b"P4")


@dataclass
class _Found:
    kind: bytes
    width: int
    height: int
    largest: int
    start: int
    """Of the samples."""


def head(reader: Reader) -> Head:
    """Raises DamagedError, UnreadError."""
    found = _look(reader)
    return Head(found.width, found.height, pixel_bytes=_CHANNELS[found.kind] * (2 if found.largest > 255 else 1))


def decode(data: bytes, reader: Reader) -> Raster:
    """Raises DamagedError, UnreadError."""
    found = _look(reader)
    channels = _CHANNELS[found.kind]
    body = memoryview(data)[found.start :]
    number = found.width * found.height * channels
    if found.kind == b"P4":
        rows = _binary(body, (found.width + 7) // 8 * found.height, ">u1").reshape(found.height, -1)
        values = np.unpackbits(rows, axis=1)[:, : found.width].astype(np.uint16)
    elif found.kind == b"P1":
        digits = np.frombuffer(re.sub(rb"#[^\n\r]*|\s", b"", bytes(body))[:number], np.uint8)
        values = digits.astype(np.uint16) - ord("0")
        if len(values) < number or values.max() > 1:
            raise DamagedError("is cut short, or holds more than 0 and 1")
    elif found.kind in _TEXT:
        values = _numbers(body, number)
    else:
        values = _binary(body, number, ">u1" if found.largest < 256 else ">u2")
    if int(values.max()) > found.largest:
        raise DamagedError(f"holds more than its largest value, {found.largest}")
    if found.kind in _BITMAPS:
        values = 1 - values  # 1 is black
    samples: Samples = levels(found.largest)[values].reshape(found.height, found.width, channels)
    return Raster(samples, "grey" if channels == 1 else "rgb")


def _look(reader: Reader) -> _Found:
    start = reader.upto(0, _MOST_HEAD)
    kind, place, numbers = start[:2], 2, []
    if kind not in _CHANNELS:
        raise UnreadError("is a PNM of another kind than PBM, PGM and PPM; save it as PNG first")
    for _ in range(2 if kind in _BITMAPS else 3):
        found = _TOKEN.match(start, place)
        if found is None:
            raise DamagedError("has no sizes in its head")
        numbers.append(int(found[1]))
        place = found.end()
    width, height, largest = [*numbers, 1][:3]
    if not 1 <= largest <= 65535:
        raise DamagedError(f"says that its largest value is {largest}; 1 to 65535 are possible")
    return _Found(kind, width, height, largest, place + 1)


def _binary(body: memoryview, number: int, kind: str) -> NDArray[np.unsignedinteger]:
    if len(body) < number * np.dtype(kind).itemsize:
        raise DamagedError("is cut short")
    return np.frombuffer(body, kind, number)


def _numbers(body: memoryview, number: int) -> NDArray[np.uint16]:
    words = re.sub(rb"#[^\n\r]*", b"", bytes(body)).split(None, number)[:number]
    if len(words) < number:
        raise DamagedError("is cut short")
    try:
        values = np.array(words).astype(np.uint32)
    except (ValueError, OverflowError) as error:
        raise DamagedError("holds something else than numbers") from error
    if values.max() > 65535:
        raise DamagedError("holds a value above 65535")
    return values.astype(np.uint16)
