"""PBM, PGM and PPM, as text and binary, of any depth."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cyclesr_dist.data.photo.kinds import DamagedError, Head, Raster, Reader, Samples, UnreadError, levels

_MOST_HEAD = 65_536
_MOST_STARTS = 100
_COMMENT = re.compile(rb"#[^\n\r]*[\n\r]")
_TOKEN = re.compile(rb"(?:\s|#[^\n\r]*[\n\r])*(\d{1,10})")
_TOKEN_WITH_COMMENTS = re.compile(rb"(?:\s|#[^\n\r]*[\n\r])*(\d{1,10}(?:(?:#[^\n\r]*[\n\r])+\d{1,10})*)")
_MAGIC = re.compile(rb"\s*P[1-6][\s#]")
_CHANNELS = {b"P1": 1, b"P2": 1, b"P3": 3, b"P4": 1, b"P5": 1, b"P6": 3}
_TEXT, _BITMAPS = (b"P1", b"P2", b"P3"), (b"P1", b"P4")


@dataclass(frozen=True)
class _Found:
    kind: bytes
    width: int
    height: int
    largest: int
    start: int
    """Of the samples."""

    @property
    def bytes(self) -> int:
        """Of the samples; of text, which has no fixed length, 0."""
        if self.kind in _TEXT:
            return 0
        if self.kind == b"P4":
            return (self.width + 7) // 8 * self.height
        return self.width * self.height * _CHANNELS[self.kind] * (1 if self.largest < 256 else 2)


def head(reader: Reader) -> Head:
    """Raises DamagedError, UnreadError."""
    found = _look(reader)
    several = found.kind not in _TEXT and _follows(reader, found)
    return Head(
        found.width,
        found.height,
        remarks=("holds several pictures; only the first is read",) * several,
        pixel_bytes=_CHANNELS[found.kind] * (2 if found.largest > 255 else 1),
    )


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
    """Raises DamagedError, UnreadError.

    Netpbm's pages take a comment in a number for nothing, its programs for white space, so that a head can be read in
    two ways; and so can one with two characters between its last number and the samples. The file's length decides.
    """
    start = reader.upto(0, _MOST_HEAD)
    if start[:2] not in _CHANNELS:
        raise UnreadError("is a PNM of another kind than PBM, PGM and PPM; save it as PNG first")
    ways = list(dict.fromkeys(way for token in (_TOKEN, _TOKEN_WITH_COMMENTS) for way in _ways(start, token)))
    if not ways:
        raise DamagedError("has no sizes in its head")
    fitting = [way for way in ways if _is_whole(reader, way)] if len(ways) > 1 else ways
    if not fitting and all(way.start + way.bytes > reader.size for way in ways):
        raise DamagedError("is cut short")
    if len(fitting) != 1:
        raise UnreadError("has a head that can be read in two ways; write it anew, without comments")
    (found,) = fitting
    if not 1 <= found.largest <= 65535:
        raise DamagedError(f"says that its largest value is {found.largest}; 1 to 65535 are possible")
    return found


def _ways(start: bytes, token: re.Pattern[bytes]) -> list[_Found]:
    """What the head says, and each place where the samples may begin."""
    kind, place, numbers = start[:2], 2, []
    for _ in range(2 if kind in _BITMAPS else 3):
        found = token.match(start, place)
        if found is None:
            return []
        numbers.append(int(_COMMENT.sub(b"", found[1])))
        place = found.end()
    width, height, largest = [*numbers, 1][:3]
    if kind in _TEXT:
        starts = [place]
    else:
        starts = []
        comment: re.Match[bytes] | None = None
        while len(starts) < _MOST_STARTS:
            starts += [place] if comment else []
            starts += [place + 1] if start[place : place + 1].isspace() else []
            starts += [place + 2] if start[place : place + 2] == b"\r\n" else []
            if not (comment := _COMMENT.match(start, place)):
                break
            place = comment.end()
    return [_Found(kind, width, height, largest, first) for first in starts]


def _is_whole(reader: Reader, found: _Found) -> bool:
    """Whether the samples fill the file, or another picture follows them."""
    end = found.start + found.bytes
    return end == reader.size or _follows(reader, found)


def _follows(reader: Reader, found: _Found) -> bool:
    end = found.start + found.bytes
    return end < reader.size and _MAGIC.match(reader.upto(end, 16)) is not None


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
