"""The strips and tiles of a TIFF, put together. libtiff, in Pillow, undoes their compression, one at a time."""

from __future__ import annotations

import io
import struct
import zlib
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import imagecodecs
import numpy as np
from numpy.typing import NDArray
from PIL import TiffImagePlugin

from cyclesr_dist.data.photo.ifd import Directory
from cyclesr_dist.data.photo.kinds import DamagedError, UnreadError, decoder

_OFFSETS, _ROWS, _COUNTS = 273, 278, 279
_TILE_WIDTH, _TILE_LENGTH, _TILE_OFFSETS, _TILE_COUNTS = 322, 323, 324, 325
_FILL_ORDER, _T4_OPTIONS, _T6_OPTIONS, _PREDICTOR, _JPEG_TABLES = 266, 292, 293, 317, 347
PLAIN, JPEG = 1, 7
CCITT = (2, 3, 4)
_DEFLATE = (8, 32946)
_WITH_PREDICTOR = (5, *_DEFLATE, 34925, 50000)
"""LZW, Deflate, LZMA and Zstandard; beside all else libtiff does not look at the tag, and neither do its writers."""
_DIFFERENCES = 2
_MOST_TILE = 1 << 16
_MOST_SEGMENTS = 1 << 24
_UNPACKED_AT_A_TIME = 1 << 20


@dataclass(frozen=True)
class Layer:
    """What has to be known of the samples of a directory."""

    width: int
    height: int
    bits: int
    samples: int
    compression: int
    planar: bool
    ycbcr: bool
    order: str
    """'<' or '>', of 16-bit samples."""


@dataclass(frozen=True)
class _Segment:
    """A strip or a tile: where its bytes are, and which samples they are."""

    offset: int
    count: int
    plane: int
    top: int
    left: int
    rows: int
    across: int


def put_together(data: bytes, directory: Directory, layer: Layer) -> NDArray[Any]:
    """(H, W, samples) of a TIFF, whole numbers as they are stored; of YCbCr in a JPEG as RGB.

    Raises DamagedError where strips or tiles are missing, cut short or not as long as they must be; UnreadError.
    """
    predictor = directory.integer(_PREDICTOR, 1) if layer.compression in _WITH_PREDICTOR else 1
    if predictor not in (1, _DIFFERENCES) or (predictor == _DIFFERENCES and layer.bits not in (8, 16)):
        raise UnreadError("holds differences of a kind that is not read; save it without a predictor first")
    out = np.empty((layer.height, layer.width, layer.samples), np.uint8 if layer.bits <= 8 else np.uint16)
    whole = memoryview(data)
    for segment in list(_segments(directory, layer, len(data))):
        raw = whole[segment.offset : segment.offset + segment.count]
        part = (
            _jpeg(raw, directory, layer, segment)
            if layer.compression == JPEG
            else _rows(raw, directory, layer, segment)
        )
        if predictor == _DIFFERENCES:
            part = _summed(part)
        down, across = min(segment.rows, layer.height - segment.top), min(segment.across, layer.width - segment.left)
        place = slice(segment.top, segment.top + down), slice(segment.left, segment.left + across)
        if layer.planar:
            out[*place, segment.plane] = part[:down, :across, 0]
        else:
            out[place] = part[:down, :across]
    return out


def _summed(differences: NDArray[Any]) -> NDArray[Any]:
    """Along each row, whose values may be in another byte order, or not be there to be changed."""
    values = differences.astype(differences.dtype.newbyteorder("="))
    return np.cumsum(values, axis=1, dtype=values.dtype, out=values)


def _segments(directory: Directory, layer: Layer, size: int) -> Iterator[_Segment]:
    """Raises DamagedError unless all are there, and lie in the file."""
    tiled = _TILE_OFFSETS in directory
    offsets = directory.integers(_TILE_OFFSETS if tiled else _OFFSETS, _MOST_SEGMENTS)
    counts = directory.integers(_TILE_COUNTS if tiled else _COUNTS, _MOST_SEGMENTS)
    if tiled:
        across, rows = directory.integer(_TILE_WIDTH), directory.integer(_TILE_LENGTH)
        if not (0 < across <= _MOST_TILE and 0 < rows <= _MOST_TILE):
            raise DamagedError("has tiles without a size")
    else:
        across, rows = layer.width, min(directory.integer(_ROWS, layer.height) or layer.height, layer.height)
    tops, lefts = range(0, layer.height, rows), range(0, layer.width, across)
    planes = range(layer.samples if layer.planar else 1)
    if len(offsets) < len(tops) * len(lefts) * len(planes):
        raise DamagedError("does not say where all of its pixels are")
    counts = counts if len(counts) == len(offsets) else (0,) * len(offsets)
    ordered = [*sorted({*offsets}), size]
    places = iter(zip(offsets, counts, strict=True))
    for plane in planes:
        for top in tops:
            for left in lefts:
                offset, count = next(places)
                down = rows if tiled else min(rows, layer.height - top)
                if count < 1 and offset >= 8:  # as libtiff has it: what is there up to the next one
                    count = ordered[bisect_right(ordered, offset)] - offset if offset < size else 0
                if layer.compression == PLAIN and offset + count > size:
                    count = _row_bytes(layer, across) * down
                if count < 1 or offset < 8 or offset + count > size:
                    raise DamagedError("is cut short")
                yield _Segment(offset, count, plane, top, left, down, across)


def _row_bytes(layer: Layer, across: int) -> int:
    """Of a row of a strip or a tile, without its compression."""
    return (across * (1 if layer.planar else layer.samples) * layer.bits + 7) // 8


def _rows(raw: memoryview, directory: Directory, layer: Layer, segment: _Segment) -> NDArray[Any]:
    """(rows, across, samples) of a segment that is no JPEG."""
    samples = 1 if layer.planar else layer.samples
    number = segment.across * samples
    row_bytes = _row_bytes(layer, segment.across)
    if directory.integer(_FILL_ORDER, 1) == 2:
        raw = memoryview(np.packbits(np.unpackbits(np.frombuffer(raw, np.uint8)).reshape(-1, 8)[:, ::-1]).tobytes())
    plain = _plain(raw, directory, layer.compression, row_bytes, segment)
    if len(plain) < row_bytes * segment.rows:
        raise DamagedError("has a strip or a tile that is too short")
    table = np.frombuffer(plain, np.uint8, row_bytes * segment.rows).reshape(segment.rows, row_bytes)
    if layer.bits == 8:
        values = table
    elif layer.bits == 16:
        values = table.view(f"{layer.order}u2")
    else:
        values = _unpacked(table, number, layer.bits)
    return values.reshape(segment.rows, segment.across, samples)


def _plain(
    raw: memoryview, directory: Directory, compression: int, row_bytes: int, segment: _Segment
) -> bytes | memoryview:
    """Without its compression."""
    if compression == PLAIN:
        return raw
    if compression in _DEFLATE:
        with decoder("zlib"):
            return zlib.decompressobj().decompress(raw, row_bytes * segment.rows)
    bilevel = compression in CCITT
    width = segment.across if bilevel else row_bytes
    options = {tag: directory.integer(tag) for tag in (_T4_OPTIONS, _T6_OPTIONS) if bilevel and tag in directory}
    file = _one_strip(raw, width, segment.rows, 1 if bilevel else 8, compression, options)
    with decoder("libtiff"), TiffImagePlugin.TiffImageFile(io.BytesIO(file)) as image:
        return image.tobytes()


def _one_strip(raw: memoryview, width: int, rows: int, bits: int, compression: int, options: dict[int, int]) -> bytes:
    """A TIFF with compressed bytes as its only strip, and each byte, or bit, as a grey sample."""
    entries = {
        **{256: width, 257: rows, 258: bits, 259: compression, 262: 1, _OFFSETS: 8, 277: 1, _ROWS: rows},
        **{_COUNTS: len(raw)},
        **options,
    }
    table = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in sorted(entries.items()))
    padding = bytes(len(raw) % 2)
    head = struct.pack("<2sHI", b"II", 42, 8 + len(raw) + len(padding))
    return b"".join([head, raw, padding, struct.pack("<H", len(entries)), table, bytes(4)])


def _unpacked(table: NDArray[np.uint8], number: int, bits: int) -> NDArray[Any]:
    """Samples of `bits` that follow each other without a gap in each row."""
    kind = np.uint8 if bits <= 8 else np.uint16
    values = np.empty((len(table), number), kind)
    weights: Any = (1 << np.arange(bits - 1, -1, -1)).astype(kind)
    step = max(1, _UNPACKED_AT_A_TIME // number)
    for top in range(0, len(table), step):
        places: Any = np.unpackbits(table[top : top + step], axis=1, count=number * bits).reshape(-1, number, bits)
        values[top : top + step] = places.astype(kind) @ weights
    return values


def _jpeg(raw: memoryview, directory: Directory, layer: Layer, segment: _Segment) -> NDArray[Any]:
    """(rows, across, samples) of a segment that is a JPEG, whose tables may stand beside it."""
    samples = 1 if layer.planar else layer.samples
    spaces = {1: "grayscale", 3: "rgb"}  # of CMYK nobody knows whether it is inverted
    if layer.bits != 8 or samples not in spaces:
        raise UnreadError("holds a JPEG of a rare kind; save it as PNG first")
    with decoder("libjpeg"):
        part = imagecodecs.jpeg8_decode(
            bytes(raw),
            tables=directory.raw(_JPEG_TABLES) or None,
            colorspace="ycbcr" if layer.ycbcr else spaces[samples],
            outcolorspace=spaces[samples],
        )
    part = part.reshape(*part.shape[:2], -1)
    if part.shape[0] < segment.rows or part.shape[1] < segment.across or part.shape[2] != samples:
        raise DamagedError("has a strip or a tile that is too small")
    return part
