"""JPEG: its segments, and the samples of what is in use of it."""

from __future__ import annotations

import io
import struct
from dataclasses import dataclass, field, replace

import imagecodecs
import numpy as np
from PIL import JpegImagePlugin

from cyclesr_dist.data.photo import jpeg_scan
from cyclesr_dist.data.photo.exif import camera_colours, is_readable, read_exif, sane_dpi
from cyclesr_dist.data.photo.ifd import Directory, layout_of
from cyclesr_dist.data.photo.kinds import (
    CHANNELS,
    DamagedError,
    Head,
    Model,
    Raster,
    Reader,
    Samples,
    UnreadError,
    decoder,
    whole_range,
)
from cyclesr_dist.data.photo.of_pillow import of_pillow

_BASELINE, _EXTENDED, _PROGRESSIVE, _LOSSLESS, _ARITHMETIC, _ARITHMETIC_PROGRESSIVE = 0xC0, 0xC1, 0xC2, 0xC3, 0xC9, 0xCA
_READ = (_BASELINE, _EXTENDED, _PROGRESSIVE, _LOSSLESS, _ARITHMETIC, _ARITHMETIC_PROGRESSIVE)
_SEQUENTIAL = (_BASELINE, _EXTENDED)
_FRAMES = {*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC}
"""Markers that begin a picture; C4, C8 and CC are tables and a reserved one; F7 is JPEG-LS."""
_ALONE = {0x01, *range(0xD0, 0xD9)}
"""Markers without a length."""
_APP0, _APP1, _APP2, _APP14, _START_OF_SCAN, _END, _COMMENT = 0xE0, 0xE1, 0xE2, 0xEE, 0xDA, 0xD9, 0xFE
_METADATA = {*range(0xE0, 0xF0), _COMMENT} - {_APP0, _APP14}
"""Left out before a library sees the file: what decoding needs is in APP0 and APP14."""
_MODELS: dict[int, Model] = {1: "grey", 3: "rgb", 4: "cmyk"}
_UNITS = {1: 1.0, 2: 2.54}
_MP_ENTRIES, _THUMBNAIL = 0xB002, 0x010000


@dataclass
class _Found:
    """What stands before the first scan."""

    frame: int = 0
    bits: int = 0
    width: int = 0
    height: int = 0
    components: int = 0
    adobe: bool = False
    exif: bytes = b""
    dpi: tuple[float, float] | None = None
    profile: dict[int, bytes] = field(default_factory=dict)
    profile_parts: int = 0
    pictures: int = 1
    more: bool = False
    kept: list[tuple[int, int]] = field(default_factory=list)
    """Start and end of each segment that decoding needs."""
    scan: int = 0


def head(reader: Reader) -> Head:
    """Raises DamagedError, UnreadError."""
    found = _look(reader)
    remarks = []
    orientation, kept = read_exif(found.exif)
    if found.pictures > 1:
        remarks.append(f"holds {found.pictures} pictures; only the first is read")
    icc = None
    if found.profile_parts:
        if sorted(found.profile) == list(range(1, found.profile_parts + 1)):
            icc = b"".join(found.profile[number] for number in sorted(found.profile))
        else:
            remarks.append("its colour profile is damaged; it is read as sRGB")
    elif found.components <= CHANNELS["rgb"]:
        icc, said = camera_colours(found.exif, grey=found.components == 1)
        remarks += said
    kept = replace(kept, dpi=kept.dpi or found.dpi, more=kept.more or found.more)
    pixel_bytes = found.components * (2 if found.bits > 8 else 1)
    return Head(found.width, found.height, orientation, icc, kept, tuple(remarks), pixel_bytes)


def decode(data: bytes, reader: Reader) -> Raster:
    """Raises DamagedError, UnreadError."""
    found = _look(reader)
    before = b"\xff\xd8" + b"".join(data[start:end] for start, end in found.kept)
    plain, scan = before + data[found.scan :], len(before)
    checked = found.frame in _SEQUENTIAL and found.bits == 8
    ended = plain.find(b"\xff\xd9", scan) >= 0
    if not ended and not checked:
        raise DamagedError("is cut short")
    if checked:
        plain = plain if ended else plain.rstrip(b"\xff") + b"\xff\xd9"
        jpeg_scan.check_restarts(plain, scan)
    model = _MODELS[found.components]
    if found.bits == 8 and found.frame != _LOSSLESS:
        with decoder("libjpeg"), JpegImagePlugin.JpegImageFile(io.BytesIO(plain)) as image:
            samples: Samples = of_pillow(image)
    else:
        with decoder("libjpeg"):
            samples = np.asarray(imagecodecs.jpeg8_decode(plain))
        samples = whole_range(samples, found.bits)
    samples = samples.reshape(*samples.shape[:2], -1)
    if checked:
        jpeg_scan.check_end(plain, scan, samples, ended)
    if samples.shape[2] != CHANNELS[model]:
        raise DamagedError("its pixels are of another kind than its head says")
    return Raster(samples, model)


def _look(reader: Reader) -> _Found:
    found, place = _Found(), 2
    while not found.scan:
        marker, place = _marker(reader, place)
        if marker in _ALONE:
            continue
        if marker == _END:
            raise DamagedError("ends before its picture")
        size = int.from_bytes(reader.at(place, 2))
        if size < 2:
            raise DamagedError("a segment without a length")
        if marker == _START_OF_SCAN:
            found.scan = place - 2
            break
        if marker not in _METADATA:
            found.kept.append((place - 2, place + size))
        _note(found, marker, reader.at(place + 2, size - 2))
        place += size
    _check(found)
    return found


def _marker(reader: Reader, place: int) -> tuple[int, int]:
    """The next one, and where its length stands. Zeros and fill bytes may stand before it."""
    ahead = reader.upto(place, 4096)
    padding = len(ahead) - len(ahead.lstrip(b"\0"))
    skipped = len(ahead) - len(ahead[padding:].lstrip(b"\xff"))
    if skipped == padding or skipped >= len(ahead):
        raise DamagedError("is cut short" if skipped == len(ahead) else "has no marker where one must be")
    return ahead[skipped], place + skipped + 1


def _note(found: _Found, marker: int, value: bytes) -> None:
    if marker in _FRAMES:
        if found.frame or len(value) < 6:
            raise DamagedError("has two heads, or half of one")
        found.frame = marker
        found.bits, found.height, found.width, found.components = struct.unpack(">BHHB", value[:6])
    elif marker == _APP0 and value.startswith(b"JFIF\0") and len(value) >= 12:
        unit, across, down = struct.unpack(">BHH", value[7:12])
        found.dpi = sane_dpi(across * _UNITS[unit], down * _UNITS[unit]) if unit in _UNITS else None
    elif marker == _APP1 and value.startswith(b"Exif\0"):
        if not is_readable(found.exif):
            found.exif = value
    elif marker == _APP2 and value.startswith(b"ICC_PROFILE\0") and len(value) > 14:
        found.profile.setdefault(value[12], value[14:])
        found.profile_parts = max(found.profile_parts, value[13], 1)
    elif marker == _APP2 and value.startswith(b"MPF\0"):
        found.pictures = _pictures(value[4:])
    elif marker == _APP14 and value.startswith(b"Adobe"):
        found.adobe = True
    elif marker in _METADATA:
        found.more = True


def _pictures(index: bytes) -> int:
    """How many an MPO's index names, without the small ones that cameras add for their screens."""
    layout = layout_of(index[:16])
    if layout is None:
        return 1
    try:
        entries = Directory(Reader(io.BytesIO(index)), layout, layout.first).raw(_MP_ENTRIES, 1 << 16)
    except DamagedError:
        return 1
    kinds = struct.unpack(f"{layout.order}{len(entries) // 16 * 4}I", entries[: len(entries) // 16 * 16])[::4]
    return max(1, sum(int(kind & 0xFF0000 != _THUMBNAIL) for kind in kinds))


def _check(found: _Found) -> None:
    if not found.frame:
        raise DamagedError("has no head before its picture")
    if found.frame not in _READ:
        raise UnreadError(
            "is a JPEG of a rare kind (JPEG-LS, hierarchical or lossless arithmetic); save it as PNG first"
        )
    if found.height == 0:
        raise UnreadError("does not say its height before its end (DNL); save it as PNG first")
    if found.components not in _MODELS:
        raise UnreadError(f"is a JPEG of {found.components} components; 1, 3 and 4 are read")
    depths = tuple(range(2, 17)) if found.frame == _LOSSLESS else (8,) if found.frame == _BASELINE else (8, 12)
    if found.bits not in depths:
        raise DamagedError(f"has {found.bits} bits")
    if found.components == 4 and (found.bits != 8 or found.frame == _LOSSLESS):
        raise UnreadError("is a CMYK JPEG with more than 8 bits, or a lossless one; save it as TIFF first")
    if found.components == 4 and not found.adobe:
        raise UnreadError("is a CMYK JPEG that does not say whether its inks are inverted; save it as TIFF first")
