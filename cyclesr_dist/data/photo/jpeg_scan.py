"""Whether the compressed data of a JPEG are all there, as far as that can be known: libjpeg goes on without them.

It fills what is missing with grey, and its warnings do not reach Python. All is about baseline files with one scan.
"""

from __future__ import annotations

import io
import re

import numpy as np
from PIL import JpegImagePlugin

from cyclesr_dist.data.photo.kinds import DamagedError, Samples, decoder

_RESTARTS = re.compile(rb"\xff([\xd0-\xd7])")
_MARKER = re.compile(rb"\xff+([\x01-\xcf\xd8-\xfe])")
"""Which ends the compressed data: neither a restart nor an escaped FF."""
_FRAMES, _INTERVAL, _START, _END = (0xC0, 0xC1), 0xDD, b"\xd8", b"\xd9"
_FILLING = 128
_BLOCK = 8
_MORE = 4096


def check_restarts(file: bytes, scan: int) -> None:
    """Raise DamagedError where restart markers are missing, or out of order, or another picture has been written over.

    `file` is the JPEG without metadata, `scan` where its first scan's head begins.
    """
    start, end, marker = _data_of(file, scan)
    if marker == _START:
        raise DamagedError("another picture begins before its own ends")
    expected = _restarts(file, scan)
    if marker != _END or expected is None:
        return
    # Some cameras' chips write one more, behind all blocks.
    found = [number[0] - 0xD0 for number in _RESTARTS.findall(file[start:end].removesuffix(_restart(expected)))]
    if found != [i % 8 for i in range(expected)]:
        raise DamagedError(f"its data are damaged: it has {len(found)} restart markers of {expected}, or out of order")


def check_end(file: bytes, scan: int, samples: Samples, ended: bool) -> None:
    """Raise DamagedError where the data end before the (H, W, C) picture is whole.

    A picture whose last block is the grey that libjpeg fills in, or whose file has not `ended`, is decoded again with
    more data at its end. Where it was whole, they change nothing.
    """
    start, end, marker = _data_of(file, scan)
    if marker != _END:
        if not ended:
            raise DamagedError("is cut short")
        return
    top, left = ((size - 1) // _BLOCK * _BLOCK for size in samples.shape[:2])
    if ended and (np.abs(samples[top:, left:].astype(int) - _FILLING) > 1).any():
        return
    more = re.split(rb"\xff[^\0]", file[start : min(start + _MORE, end)])[0].removesuffix(b"\xff")
    with decoder("libjpeg"), JpegImagePlugin.JpegImageFile(io.BytesIO(file[:end] + more + file[end:])) as image:
        again = np.asarray(image).reshape(samples.shape)
    if not np.array_equal(again, samples):
        raise DamagedError("is cut short: its data end before its picture does")


def _restart(number: int) -> bytes:
    return bytes([0xFF, 0xD0 + number % 8])


def _data_of(file: bytes, scan: int) -> tuple[int, int, bytes]:
    """Start and end of the compressed data of a scan, and the marker behind them."""
    start = scan + 2 + int.from_bytes(file[scan + 2 : scan + 4])
    marker = _MARKER.search(file, start)
    return (start, marker.start(), marker[1]) if marker else (start, len(file), b"")


def _restarts(file: bytes, scan: int) -> int | None:
    """How many restart markers the scan must have; None: it has none, or does not hold all components."""
    interval, place, frame = 0, 2, b""
    while place < scan:
        while file[place + 1] == 0xFF:
            place += 1
        size, marker = int.from_bytes(file[place + 2 : place + 4]), file[place + 1]
        value = file[place + 4 : place + 2 + size]
        interval = int.from_bytes(value[:2]) if marker == _INTERVAL else interval
        frame = value if marker in _FRAMES else frame
        place += 2 + size
    components = frame[5] if len(frame) > 5 else 0
    if not interval or len(frame) < 6 + 3 * components or file[scan + 4 : scan + 5] != bytes([components]):
        return None
    height, width = int.from_bytes(frame[1:3]), int.from_bytes(frame[3:5])
    factors = [frame[7 + 3 * i] for i in range(components)]
    across, down = (1, 1) if components == 1 else (max(f >> 4 for f in factors), max(f & 15 for f in factors))
    units = -(-width // (_BLOCK * max(across, 1))) * -(-height // (_BLOCK * max(down, 1)))
    return (units - 1) // interval
