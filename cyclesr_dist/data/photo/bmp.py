"""BMP: its head, and the samples of it."""

from __future__ import annotations

import io
import struct

from PIL import BmpImagePlugin

from cyclesr_dist.data.photo.exif import sane_dpi
from cyclesr_dist.data.photo.kinds import DamagedError, Head, Kept, Raster, Reader, UnreadError, decoder
from cyclesr_dist.data.photo.of_pillow import of_pillow

_OS2 = 12
_EMBEDDED_PROFILE = b"DEBM"
_NONE, _RUNS_OF_8, _RUNS_OF_4, _JPEG, _PNG = 0, 1, 2, 4, 5
_LONGEST_RUN = 255
_INCH_METRES = 0.0254


def head(reader: Reader) -> Head:
    """Raises DamagedError, UnreadError."""
    (size,) = struct.unpack("<I", reader.at(14, 4))
    if size == _OS2:
        width, height, _, bits = struct.unpack("<HHHH", reader.at(18, 8))
        _check_size(reader, width, height, bits, _NONE)
        return Head(width, height)
    if not 16 <= size <= 1024:
        raise DamagedError("has no head")
    information = reader.at(14, size)
    width, height = struct.unpack("<ii", information[4:12])
    compression = int.from_bytes(information[16:20], "little")
    if compression in (_JPEG, _PNG):
        raise UnreadError("is a BMP around a JPEG or a PNG; save it as PNG first")
    _check_size(reader, width, abs(height), int.from_bytes(information[14:16], "little"), compression)
    dpi = None
    if size >= 40:
        across, down = struct.unpack("<ii", information[24:32])
        dpi = sane_dpi(across * _INCH_METRES, down * _INCH_METRES)
    icc = None
    if size >= 124 and information[56:60] == _EMBEDDED_PROFILE:
        start, length = struct.unpack("<II", information[112:120])
        icc = reader.upto(14 + start, length) if start + 14 <= reader.size else b""
    return Head(width, abs(height), 1, icc, Kept(dpi=dpi))


def _check_size(reader: Reader, width: int, height: int, bits: int, compression: int) -> None:
    """Raise DamagedError where the file is too short for its pixels, which Pillow would look for one by one."""
    start = int.from_bytes(reader.at(10, 4), "little")
    there = reader.size - start
    if compression in (_RUNS_OF_8, _RUNS_OF_4):
        enough = width * height <= max(there, 0) * _LONGEST_RUN
    else:
        enough = (width * bits + 31) // 32 * 4 * (height - 1) + (width * bits + 7) // 8 <= there
    if width > 0 and not enough:
        raise DamagedError("is cut short")


def decode(data: bytes, reader: Reader) -> Raster:
    """Raises DamagedError."""
    del reader
    with decoder("Pillow"), BmpImagePlugin.BmpImageFile(io.BytesIO(data)) as image:
        grey = image.mode in ("1", "L")
        samples = of_pillow(image, "L" if grey else "RGBA" if image.mode == "RGBA" else "RGB")
    return Raster(samples, "grey" if grey else "rgb", alpha=samples.shape[2] == 4)
