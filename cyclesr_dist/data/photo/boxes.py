"""The boxes of ISO's media files, which AVIF, HEIC and JPEG 2000 are made of."""

from __future__ import annotations

from collections.abc import Iterator

from cyclesr_dist.data.photo.kinds import DamagedError, Reader

_MOST = 10_000


def boxes(reader: Reader, start: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Kind, start and end of the content of each box between two places. Raises DamagedError."""
    for _ in range(_MOST):
        if start + 8 > end:
            return
        size, kind = int.from_bytes(reader.at(start, 4)), reader.at(start + 4, 4)
        inner = start + 8
        if size == 1:
            size, inner = int.from_bytes(reader.at(inner, 8)), start + 16
        stop = end if size == 0 else start + size
        if not inner <= stop <= end:
            raise DamagedError("is cut short")
        yield kind, inner, stop
        start = stop
