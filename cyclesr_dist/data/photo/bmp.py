"""BMP: its head, its palette, and the samples of it."""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np

from cyclesr_dist.data.photo import bmp_fields, bmp_indices
from cyclesr_dist.data.photo.exif import sane_dpi
from cyclesr_dist.data.photo.kinds import DamagedError, Head, Kept, Raster, Reader, Samples, UnreadError

_OS2, _OS2_LATER = 12, 64
_WITH_MASKS, _WITH_ALPHA_MASK = 52, 56
"""Sizes of heads that have the masks in them; others have them behind."""
_EMBEDDED_PROFILE, _LINKED_PROFILE, _CALIBRATED = b"DEBM", b"KNIL", bytes(4)
_NONE, _RUNS_OF_8, _RUNS_OF_4, _FIELDS, _JPEG, _PNG, _FIELDS_WITH_ALPHA = 0, 1, 2, 3, 4, 5, 6
_INDEXED = {(1, _NONE), (2, _NONE), (4, _NONE), (8, _NONE), (8, _RUNS_OF_8), (4, _RUNS_OF_4)}
"""Bits of a pixel and compression of what has a palette."""
_LONGEST_RUN = 255
_INCH_METRES = 0.0254


@dataclass(frozen=True)
class _Found:
    """What the head says."""

    width: int
    height: int
    down: bool
    """The first row is the upper one."""
    bits: int
    compression: int
    start: int
    """Of the pixels."""
    palette: bytes
    """Four bytes a colour, of OS/2 three: blue, green, red."""
    entry: int
    masks: tuple[int, ...]
    """Of red, green, blue, and of alpha where there is one; of what has a palette none."""
    information: bytes

    @property
    def colour_space(self) -> bytes:
        return self.information[56:60] if len(self.information) >= 108 else b""


def head(reader: Reader) -> Head:
    """Raises DamagedError, UnreadError."""
    found = _look(reader)
    information, dpi, icc = found.information, None, None
    remarks: tuple[str, ...] = ()
    if len(information) >= 40:
        across, down = struct.unpack("<ii", information[24:32])
        dpi = sane_dpi(across * _INCH_METRES, down * _INCH_METRES)
    if len(information) >= 124 and found.colour_space == _EMBEDDED_PROFILE:
        start, length = struct.unpack("<II", information[112:120])
        icc = reader.upto(14 + start, length) if start + 14 <= reader.size else b""
    elif found.colour_space == _LINKED_PROFILE or (found.colour_space == _CALIBRATED and any(information[60:108])):
        remarks = ("has a colour space of its own (linked, or by primaries and gamma); it is read as sRGB",)
    deep = found.masks and bmp_fields.depth_of(found.masks, found.bits) > 8
    pixel_bytes = max(len(found.masks), 3) * (2 if deep else 1)
    return Head(found.width, found.height, 1, icc, Kept(dpi=dpi), remarks, pixel_bytes)


def _look(reader: Reader) -> _Found:
    start, size = struct.unpack("<II", reader.at(10, 8))
    if size != _OS2 and not 16 <= size <= 1024:
        raise DamagedError("has no head")
    information = reader.at(14, size)
    compression, colours = _NONE, 0
    if size == _OS2:
        width, height, _, bits = struct.unpack("<HHHH", information[4:12])
    else:
        width, height, _, bits = struct.unpack("<iiHH", information[4:16])
        compression = int.from_bytes(information[16:20], "little")
        colours = int.from_bytes(information[32:36], "little")
    if size == _OS2_LATER and compression in (3, 4):  # Huffman's codes, and run lengths of 24 bits
        raise UnreadError("is a BMP of OS/2 that is compressed in a way that is not read; save it as PNG first")
    if compression in (_JPEG, _PNG):
        raise UnreadError("is a BMP around a JPEG or a PNG; save it as PNG first")
    entry, palette, end = 3 if size == _OS2 else 4, b"", 14 + size
    masks: tuple[int, ...] = ()
    if (bits, compression) in _INDEXED:
        number = min(colours or 2**bits, 2**bits)
        room = start - end if start > end else reader.size
        palette = reader.upto(end, min(number, room // entry) * entry)
        end += len(palette)
    else:
        masks, end = _masks(reader, information, bits, compression)
    start = start or end
    if start < 14 + size:
        raise DamagedError("says that its pixels begin in its head")
    found = _Found(width, abs(height), height < 0, bits, compression, start, palette, entry, masks, information)
    _check_size(reader, found)
    return found


def _masks(reader: Reader, information: bytes, bits: int, compression: int) -> tuple[tuple[int, ...], int]:
    """Of red, green, blue, and of alpha where there is one; and where they end."""
    end = 14 + len(information)
    if compression == _NONE and bits in bmp_fields.PLAIN:
        return bmp_fields.PLAIN[bits], end
    if compression not in (_FIELDS, _FIELDS_WITH_ALPHA) or bits not in bmp_fields.PLAIN:
        raise DamagedError(f"has {bits} bits a pixel, compressed by number {compression}, which BMP does not have")
    size = 16 if compression == _FIELDS_WITH_ALPHA else 12
    if len(information) >= _WITH_ALPHA_MASK:
        raw = information[40:56]
    elif len(information) >= _WITH_MASKS and compression == _FIELDS:
        raw = information[40:52]
    else:
        raw, end = reader.at(end, size), end + size
    *colours, alpha = struct.unpack("<4I", raw.ljust(16, b"\0"))
    return (*colours, alpha) if alpha else tuple(colours), end


def _check_size(reader: Reader, found: _Found) -> None:
    """Raise DamagedError where the file is too short for its pixels."""
    width, height, bits = found.width, found.height, found.bits
    there = reader.size - found.start
    if found.compression in (_RUNS_OF_8, _RUNS_OF_4):
        enough = width * height <= max(there, 0) * _LONGEST_RUN
    else:
        enough = (width * bits + 31) // 32 * 4 * (height - 1) + (width * bits + 7) // 8 <= there
    if width > 0 and not enough:
        raise DamagedError("is cut short")


def decode(data: bytes, reader: Reader) -> Raster:
    """Raises DamagedError."""
    found = _look(reader)
    if (found.bits, found.compression) in _INDEXED:
        return _of_palette(data, found)
    body = memoryview(data)[found.start :]
    samples = bmp_fields.of_fields(body, found.width, found.height, found.bits, found.masks, found.down)
    return Raster(samples, "rgb", alpha=samples.shape[2] == 4)


def _of_palette(data: bytes, found: _Found) -> Raster:
    """Grey where every colour of the palette is."""
    indices_of = bmp_indices.of_rows if found.compression == _NONE else bmp_indices.of_runs
    indices = indices_of(data[found.start :], found.width, found.height, found.bits)
    number = len(found.palette) // found.entry
    if int(indices.max()) >= number:
        raise DamagedError(f"a pixel has colour {int(indices.max())} of a palette of {number} colours")
    palette = np.frombuffer(found.palette, np.uint8, number * found.entry).reshape(number, found.entry)[:, 2::-1]
    grey = bool((palette == palette[:, :1]).all())
    samples: Samples = (palette[:, :1] if grey else palette)[indices if found.down else indices[::-1]]
    return Raster(samples, "grey" if grey else "rgb")
