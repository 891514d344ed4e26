"""JPEG 2000: its boxes and the head of its codestream, and the samples of it."""

from __future__ import annotations

import struct
from dataclasses import dataclass

import imagecodecs
import numpy as np

from cyclesr_dist.data.photo.boxes import boxes
from cyclesr_dist.data.photo.icc import space_of
from cyclesr_dist.data.photo.kinds import (
    CHANNELS,
    DamagedError,
    Head,
    Model,
    Raster,
    Reader,
    UnreadError,
    decoder,
    whole_range,
)
from cyclesr_dist.data.photo.tiff import divided

CODESTREAM = b"\xff\x4f\xff\x51"
_SRGB, _GREY = 16, 17
_STRAIGHT, _PREMULTIPLIED = 1, 2


@dataclass
class _Found:
    width: int = 0
    height: int = 0
    bits: int = 0
    components: int = 0
    colours: int | None = None
    """ISO's number of the colour space."""
    icc: bytes | None = None
    alpha: int = 0
    """What the channel after the colours is; 0: nothing known."""
    start: int = 0
    """Of the codestream."""
    end: int = 0


def head(reader: Reader) -> Head:
    """Raises DamagedError, UnreadError."""
    found = _look(reader)
    left_out = found.components - CHANNELS[_model(found)] - bool(found.alpha)
    remarks = [f"has {left_out} more channel{'s' * (left_out > 1)} than colours; left out"] if left_out else []
    if found.start and found.colours is None and found.icc is None:
        remarks.append("says its colours in no way that is read; it is read as sRGB")
    pixel_bytes = found.components * (2 if found.bits > 8 else 1)
    return Head(found.width, found.height, 1, found.icc, remarks=tuple(remarks), pixel_bytes=pixel_bytes)


def decode(data: bytes, reader: Reader) -> Raster:
    """Raises DamagedError, UnreadError."""
    found = _look(reader)
    model = _model(found)
    if not data.rstrip(b"\0").endswith(b"\xff\xd9") and data.rfind(b"\xff\xd9", len(data) // 2) < 0:
        raise DamagedError("is cut short")
    # Without its boxes: of a whole file the library converts the colours by their profile, and keeps it.
    codestream = data[found.start : found.end]
    with decoder("openjpeg"):
        samples = np.asarray(imagecodecs.jpeg2k_decode(codestream, planar=False, numthreads=1))
    samples = samples.reshape(*samples.shape[:2], -1)
    if samples.shape[2] != found.components or samples.dtype.kind != "u":
        raise DamagedError("its pixels are of another kind than its head says")
    samples = whole_range(samples, found.bits)[:, :, : CHANNELS[model] + bool(found.alpha)]
    return Raster(divided(samples) if found.alpha == _PREMULTIPLIED else samples, model, alpha=bool(found.alpha))


def _model(found: _Found) -> Model:
    return "grey" if found.components <= 2 else "rgb"


def _look(reader: Reader) -> _Found:
    found = _Found()
    if reader.upto(0, 4) == CODESTREAM:
        _size(reader, 0, found)
        found.end = reader.size
    else:
        for kind, start, end in boxes(reader, 0, reader.size):
            if kind == b"jp2h":
                for name, a, b in boxes(reader, start, end):
                    _note(name, reader.at(a, b - a), found)
            elif kind == b"jp2c":
                _size(reader, start, found)
                found.start, found.end = start, end
                break
    _check(found)
    return found


def _note(name: bytes, content: bytes, found: _Found) -> None:
    if name == b"pclr":
        raise UnreadError("is a JPEG 2000 with a palette; save it as PNG first")
    if name == b"colr" and found.colours is None and found.icc is None and len(content) >= 7:
        if content[0] == 1:
            found.colours = int.from_bytes(content[3:7])
        elif content[0] in (2, 3):
            found.icc = content[3:]
    elif name == b"cdef" and len(content) >= 2:
        kinds = [struct.unpack(">HHH", content[i : i + 6]) for i in range(2, len(content) - 5, 6)]
        channels = sorted((number, kind, place) for number, kind, place in kinds)
        if any(kind == 0 and place not in (0, number + 1) for number, kind, place in channels):
            raise UnreadError("has its colours in another order; save it as PNG first")
        number, kind, _ = next(((n, k, p) for n, k, p in channels if k in (_STRAIGHT, _PREMULTIPLIED)), (0, 0, 0))
        found.alpha = kind if number in (1, 3) else 0


def _size(reader: Reader, start: int, found: _Found) -> None:
    """The codestream's SIZ segment."""
    marker = reader.at(start, 4)
    if marker != CODESTREAM:
        raise DamagedError("has no picture where it must be")
    right, lower, left, upper = struct.unpack(">IIII", reader.at(start + 8, 16))
    (found.components,) = struct.unpack(">H", reader.at(start + 40, 2))
    if not 1 <= found.components <= 64:
        raise DamagedError(f"has {found.components} components")
    parts = reader.at(start + 42, 3 * found.components)
    depths = set(parts[::3])
    if any(depth & 0x80 for depth in depths):
        raise UnreadError("holds samples with a sign; save it as PNG first")
    if set(parts[1::3]) | set(parts[2::3]) != {1}:
        raise UnreadError("holds halved colours (sub-sampled components); save it as PNG first")
    if len(depths) > 1 or max(depths) + 1 > 16:
        raise UnreadError("has samples of different depths, or of more than 16 bits; save it as PNG first")
    found.width, found.height, found.bits = right - left, lower - upper, max(depths) + 1


def _check(found: _Found) -> None:
    if not found.components:
        raise DamagedError("has no picture")
    if found.colours not in (None, _SRGB, _GREY):
        raise UnreadError(
            f"is a JPEG 2000 of other colours than sRGB and grey (number {found.colours}); save it as PNG first"
        )
    space = space_of(found.icc) if found.icc else None
    if space is not None and space != _model(found):
        raise UnreadError(
            f"is a JPEG 2000 of other colours than sRGB and grey (its profile is for {space}); save it as PNG first"
        )
    colours = 1 if found.components <= 2 else 3
    if found.colours is not None and colours != {_SRGB: 3, _GREY: 1}[found.colours]:
        raise DamagedError("has other channels than its colours need")
    if found.alpha and found.components == colours:
        raise DamagedError("has no channel for the transparency that it names")
