"""PNG, written from top to bottom as its rows are made: no more of it is held than a few blocks of rows."""

from __future__ import annotations

import os
import struct
import zlib
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cyclesr_dist.data.photo.kinds import Kept, Samples
from cyclesr_dist.data.photo.png import HEADER, SIGNATURE, carried, packed

_COLOUR_TYPES = {1: 0, 2: 4, 3: 2, 4: 6}
_AVERAGE = 3
"""The filter of every row. With it, runs and Huffman's codes alone make photographs as small as zlib's level 6 does
with libpng's choice of filters, in a seventh of the time: they hold no longer strings that come again."""
_STREAM_START, _STREAM_END = b"\x78\x01", b"\x03\x00"
"""zlib's header, and a last deflate block without content."""
_BLOCK_BYTES = 1 << 20
_MOST_THREADS = 8

Rows = NDArray[np.uint8]


class PngStream:
    """A PNG file of (height, width, channels) samples of 8 or 16 bits; channels: grey, grey + alpha, RGB, RGBA.

    Blocks of rows are compressed in threads, each by itself, so that the file does not depend on their number. Leaving
    the `with` block ends the file. Raises OSError where it cannot be written.
    """

    def __init__(
        self,
        path: Path,
        shape: tuple[int, int, int],
        bits: int,
        icc: bytes | None = None,
        kept: Kept | None = None,
    ) -> None:
        """`icc` is a colour profile to embed, `kept` what else is carried over from a photograph."""
        self._left, width, channels = shape
        self._bits = bits
        self._step = channels * bits // 8
        """Bytes of a pixel."""
        self._above: Rows = np.zeros(width * self._step, np.uint8)
        self._rows = max(1, _BLOCK_BYTES // len(self._above))
        threads = min(_MOST_THREADS, len(os.sched_getaffinity(0)))
        self._threads = ThreadPoolExecutor(threads, "png")
        self._most_waiting = 2 * threads
        self._waiting: deque[Future[tuple[Rows, bytes]]] = deque()
        self._checksum = 1
        header = HEADER.pack(width, self._left, bits, _COLOUR_TYPES[channels], 0, 0, 0)
        self._file = path.open("wb")
        chunks = [(b"IHDR", header), *carried(icc, kept or Kept()), (b"IDAT", _STREAM_START)]
        self._start = SIGNATURE + b"".join(packed(name, value) for name, value in chunks)

    def __enter__(self) -> PngStream:
        self._file.write(self._start)
        return self

    def write(self, samples: Samples) -> None:
        """The next rows, (rows, width, channels)."""
        self._left -= len(samples)
        for top in range(0, len(samples), self._rows):
            part = samples[top : top + self._rows]
            # PNG has the high byte first. A copy, so that nobody's array is held while the block waits.
            rows: Rows = np.array(part, ">u2" if self._bits == 16 else np.uint8, order="C").view(np.uint8)
            rows = rows.reshape(len(part), -1)
            if len(self._waiting) == self._most_waiting:
                self._write_first()
            self._waiting.append(self._threads.submit(_compressed, rows, self._above, self._step))
            self._above = rows[-1]

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            if error is None:
                if self._left:
                    raise ValueError(f"{self._left} rows of a PNG are missing, or too many")
                while self._waiting:
                    self._write_first()
                end = _STREAM_END + struct.pack(">I", self._checksum)
                self._file.write(packed(b"IDAT", end) + packed(b"IEND", b""))
        finally:
            self._threads.shutdown(cancel_futures=True)
            self._file.close()

    def _write_first(self) -> None:
        filtered, compressed = self._waiting.popleft().result()
        self._checksum = zlib.adler32(filtered.data, self._checksum)
        self._file.write(packed(b"IDAT", compressed))


def _compressed(rows: Rows, above: Rows, step: int) -> tuple[Rows, bytes]:
    """Filtered rows, and what deflate makes of them, up to the end of a byte; `above` is the row before."""
    left = np.zeros_like(rows)
    left[:, step:] = rows[:, :-step]
    before = np.concatenate([above[None], rows[:-1]])
    filtered = np.empty((rows.shape[0], rows.shape[1] + 1), np.uint8)
    filtered[:, 0] = _AVERAGE
    mean: Any = (left & before) + ((left ^ before) >> 1)
    np.subtract(rows, mean, out=filtered[:, 1:])
    deflate = zlib.compressobj(1, zlib.DEFLATED, -zlib.MAX_WBITS, 9, zlib.Z_RLE)
    return filtered, deflate.compress(filtered.data) + deflate.flush(zlib.Z_SYNC_FLUSH)
