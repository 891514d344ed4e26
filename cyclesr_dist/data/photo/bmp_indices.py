"""Which colour of its palette each pixel of a BMP has: rows of 1 to 8 bits, plain or as run lengths."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cyclesr_dist.data.photo.kinds import DamagedError

_END_OF_ROW, _END, _SKIP = 0, 1, 2

Indices = NDArray[np.uint8]


def of_rows(body: bytes, width: int, height: int, bits: int) -> Indices:
    """(height, width) of rows in whole words of four bytes; the first is the first. Raises DamagedError."""
    stride, used = (width * bits + 31) // 32 * 4, (width * bits + 7) // 8
    if len(body) < stride * (height - 1) + used:
        raise DamagedError("is cut short")
    padded = body[: stride * height].ljust(stride * height, b"\0")
    rows = np.frombuffer(padded, np.uint8).reshape(height, stride)[:, :used]
    return _split(rows, bits)[:, :width]


def of_runs(body: bytes, width: int, height: int, bits: int) -> Indices:
    """The same of run lengths of 8 or 4 bits. Pixels that they leave out have index 0. Raises DamagedError."""
    out = np.zeros((height, width), np.uint8)
    place, row, column = 0, 0, 0
    while row < height:
        count, value = _pair(body, place)
        place += 2
        if count:
            run = _split(np.array([[value]], np.uint8), bits)[0]
            column = _put(out, row, column, np.resize(run, count))
        elif value == _END:
            return out
        elif value == _END_OF_ROW:
            row, column = row + 1, 0
        elif value == _SKIP:
            across, down = _pair(body, place)
            row, column, place = row + down, column + across, place + 2
        else:
            size = (value * bits + 7) // 8
            if place + size > len(body):
                raise DamagedError("is cut short")
            pixels = _split(np.frombuffer(body, np.uint8, size, place)[None], bits)[0, :value]
            column = _put(out, row, column, pixels)
            place += size + size % 2
        if row == height - 1 and column >= width:  # some writers leave out the end
            return out
    return out


def _pair(body: bytes, place: int) -> tuple[int, int]:
    if place + 2 > len(body):
        raise DamagedError("is cut short")
    return body[place], body[place + 1]


def _put(out: Indices, row: int, column: int, pixels: Indices) -> int:
    """The column behind them. What would lie beyond the end of the row is filling."""
    end = min(column + len(pixels), out.shape[1])
    if end > column:
        out[row, column:end] = pixels[: end - column]
    return column + len(pixels)


def _split(rows: Indices, bits: int) -> Indices:
    """(n, bytes) -> (n, pixels): the first pixel is in the highest bits."""
    if bits == 8:
        return rows
    shifts = np.arange(8 - bits, -1, -bits, dtype=np.uint8)
    parts: Indices = rows[:, :, None] >> shifts & np.uint8(2**bits - 1)
    return parts.reshape(len(rows), -1)
