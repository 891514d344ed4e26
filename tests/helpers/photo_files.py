"""Image files written by hand, from known samples: PNG, TIFF, BMP and the blocks that go into JPEG.

No library that reads photographs has a part in them, so that what is read can be held against what was written.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
PNG_COLOURS = {"grey": 0, "rgb": 2, "palette": 3, "grey_alpha": 4, "rgba": 6}


def ramp(height: int, width: int, channels: int, largest: int, seed: int = 0) -> Array:
    """Samples of every size up to `largest`, at least one of 0 and one of it in each channel."""
    rng = np.random.default_rng([seed, height, width, channels])
    samples = rng.integers(0, largest + 1, (height, width, channels))
    samples[0, 0], samples[-1, -1] = 0, largest
    return samples


def packed(samples: Array, bits: int, order: str = ">") -> bytes:
    """(rows, n) whole numbers, each row in whole bytes, the most significant bit first."""
    if bits in (8, 16):
        return samples.astype(f"{order}u{bits // 8}").tobytes()
    places = samples[:, :, None].astype(np.uint32) >> np.arange(bits - 1, -1, -1) & 1
    return np.packbits(places.reshape(len(samples), -1).astype(np.uint8), axis=1).tobytes()


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png(
    samples: Array,
    bits: int,
    colours: str,
    before: Sequence[tuple[bytes, bytes]] = (),
    after: Sequence[tuple[bytes, bytes]] = (),
    interlaced: bool = False,
) -> bytes:
    """(H, W, C) samples; further chunks stand before or after the pixels."""
    height, width, channels = samples.shape
    passes = [(0, 0, 1, 1)]
    if interlaced:
        passes = [(0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1)]
    data = b""
    for top, left, down, across in passes:
        part = samples[top::down, left::across]
        for row in part if part.size else ():
            data += b"\0" + packed(row.reshape(1, -1), bits)
    header = struct.pack(">IIBBBBB", width, height, bits, PNG_COLOURS[colours], 0, 0, int(interlaced))
    assert channels == {"grey": 1, "rgb": 3, "palette": 1, "grey_alpha": 2, "rgba": 4}[colours]
    chunks = [(b"IHDR", header), *before, (b"IDAT", zlib.compress(data)), *after, (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*each) for each in chunks)


def packbits(data: bytes) -> bytes:
    return b"".join(bytes([len(part) - 1]) + part for part in (data[i : i + 128] for i in range(0, len(data), 128)))


def plain(data: bytes) -> bytes:
    return data


COMPRESSIONS: dict[int, Callable[[bytes], bytes]] = {1: plain, 8: zlib.compress, 32946: zlib.compress, 32773: packbits}
_LETTERS = {1: "B", 2: "s", 3: "H", 4: "I", 5: "I", 7: "s", 16: "Q"}


def tiff(
    samples: Array,
    bits: int,
    photometric: int,
    *,
    order: str = "<",
    big: bool = False,
    compression: int = 1,
    planar: bool = False,
    rows: int = 0,
    tile: int = 0,
    predictor: bool = False,
    reversed_bits: bool = False,
    tags: dict[int, tuple[int, Any]] | None = None,
    pages: int = 1,
) -> bytes:
    """(H, W, C) samples in strips of `rows` (0: one) or square tiles; `tags`: number -> (type, value or values)."""
    height, width, channels = samples.shape
    planes = [samples[:, :, i : i + 1] for i in range(channels)] if planar else [samples]
    segments = []
    for plane in planes:
        for part in _tiles(plane, tile) if tile else _strips(plane, rows or height):
            if predictor:
                part = np.concatenate([part[:, :1], np.diff(part.astype(np.int64), axis=1) % (1 << bits)], axis=1)
            data = packed(part.reshape(len(part), -1), bits, order)
            if reversed_bits:
                data = np.packbits(np.unpackbits(np.frombuffer(data, np.uint8)).reshape(-1, 8)[:, ::-1]).tobytes()
            segments.append(COMPRESSIONS[compression](data))
    start = 16 if big else 8
    offsets, body = [], b""
    for segment in segments:
        offsets.append(start + len(body))
        body += segment + b"\0" * (len(segment) % 2)
    entries: dict[int, tuple[int, Any]] = {
        256: (4, width),
        257: (4, height),
        258: (3, [bits] * channels),
        259: (3, compression),
        262: (3, photometric),
        277: (3, channels),
        284: (3, 2 if planar else 1),
    }
    entries |= (
        {322: (4, tile), 323: (4, tile), 324: (4, offsets), 325: (4, list(map(len, segments)))}
        if tile
        else {
            273: (4, offsets),
            278: (4, rows or height),
            279: (4, list(map(len, segments))),
        }
    )
    entries |= {317: (3, 2)} if predictor else {}
    entries |= {266: (3, 2)} if reversed_bits else {}
    entries |= tags or {}
    file = body
    first = start + len(file)
    for page in range(pages):
        file += _directory(entries, order, big, start + len(file), page + 1 == pages)
    head = (b"II" if order == "<" else b"MM") + (
        struct.pack(order + "HHHQ", 43, 8, 0, first) if big else struct.pack(order + "HI", 42, first)
    )
    return head + file


def _strips(plane: Array, rows: int) -> list[Array]:
    return [plane[top : top + rows] for top in range(0, len(plane), rows)]


def _tiles(plane: Array, side: int) -> list[Array]:
    height, width = plane.shape[:2]
    padded = np.pad(plane, [(0, -height % side), (0, -width % side), (0, 0)])
    return [
        padded[top : top + side, left : left + side] for top in range(0, height, side) for left in range(0, width, side)
    ]


def _directory(entries: dict[int, tuple[int, Any]], order: str, big: bool, place: int, last: bool) -> bytes:
    inline, letter, entry = (8, "Q", 20) if big else (4, "I", 12)
    size = (8 if big else 2) + entry * len(entries) + inline
    table, data = b"", b""
    for tag, (kind, value) in sorted(entries.items()):
        if isinstance(value, bytes):
            raw, count = value, len(value)
        else:
            values = list(value) if isinstance(value, list | tuple) else [value]
            raw = struct.pack(f"{order}{len(values)}{_LETTERS[kind]}", *values)
            count = len(values) // (2 if kind == 5 else 1)
        table += struct.pack(f"{order}HH{letter}", tag, kind, count)
        if len(raw) <= inline:
            table += raw.ljust(inline, b"\0")
        else:
            table += struct.pack(order + letter, place + size + len(data))
            data += raw + b"\0" * (len(raw) % 2)
    following = 0 if last else place + size + len(data)
    return (
        struct.pack(order + ("Q" if big else "H"), len(entries)) + table + struct.pack(order + letter, following) + data
    )


def exif(orientation: int = 1, more: Sequence[tuple[int, int, int, bytes]] = (), order: str = "<") -> bytes:
    """An EXIF block; `more`: tag, type, count, and four bytes."""
    entries = [(274, 3, 1, struct.pack(order + "HH", orientation, 0)), *more]
    table = b"".join(struct.pack(order + "HHI", *entry[:3]) + entry[3] for entry in sorted(entries))
    head = (b"II" if order == "<" else b"MM") + struct.pack(order + "HI", 42, 8)
    return head + struct.pack(order + "H", len(entries)) + table + b"\0" * 4


def camera_exif(space: int, index: bytes, order: str = "<") -> bytes:
    """An EXIF block whose own directory has a colour space, and in a third one an interoperability index."""
    mark = b"II" if order == "<" else b"MM"
    file = mark + struct.pack(order + "HI", 42, 8)
    file += struct.pack(order + "HHHII", 1, 34665, 4, 1, 26) + bytes(4)
    file += struct.pack(order + "HHHIHHHHII", 2, 40961, 3, 1, space, 0, 40965, 4, 1, 56) + bytes(4)
    return file + struct.pack(order + "HHHI4s", 1, 1, 2, 4, index) + bytes(4)


def segment(marker: int, data: bytes) -> bytes:
    """Of a JPEG."""
    return bytes([0xFF, marker]) + struct.pack(">H", len(data) + 2) + data


def in_jpeg(file: bytes, *segments: bytes) -> bytes:
    """Behind the start of a JPEG."""
    return file[:2] + b"".join(segments) + file[2:]


def bmp(
    width: int,
    height: int,
    bits: int,
    pixels: bytes,
    *,
    palette: bytes = b"",
    compression: int = 0,
    masks: bytes = b"",
    down: bool = False,
) -> bytes:
    """Of rows that are packed already; `down`: the first row is the upper one."""
    size = 40 if not masks else 108
    header = struct.pack(
        "<IiiHHIIiiII",
        size,
        width,
        -height if down else height,
        1,
        bits,
        compression,
        len(pixels),
        0,
        0,
        len(palette) // 4,
        0,
    )
    if masks:
        header += masks + b"BGRs" + bytes(48)
    start = 14 + len(header) + len(palette)
    return b"BM" + struct.pack("<IHHI", start + len(pixels), 0, 0, start) + header + palette + pixels


def upright(samples: Array, orientation: int) -> Array:
    """What EXIF says of each orientation: where the stored row 0 and column 0 belong."""
    match orientation:
        case 1:
            return samples
        case 2:
            return samples[:, ::-1]
        case 3:
            return samples[::-1, ::-1]
        case 4:
            return samples[::-1]
        case 5:
            return samples.swapaxes(0, 1)
        case 6:
            return samples.swapaxes(0, 1)[:, ::-1]
        case 7:
            return samples.swapaxes(0, 1)[::-1, ::-1]
        case _:
            return samples.swapaxes(0, 1)[::-1]


def spread(samples: Array, bits: int) -> Array:
    """Over the range of 8 or 16 bits, to the nearest level: computed in floating point."""
    full = 255 if bits <= 8 else 65535
    return np.floor(samples / (2**bits - 1) * full + 0.5).astype(np.uint8 if bits <= 8 else np.uint16)
