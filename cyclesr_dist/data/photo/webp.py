"""WebP: its chunks, and the samples of its first picture."""

from __future__ import annotations

import io
from dataclasses import dataclass, field, replace

from PIL import WebPImagePlugin

from cyclesr_dist.data.photo.exif import camera_colours, read_exif
from cyclesr_dist.data.photo.kinds import DamagedError, Head, Raster, Reader, decoder
from cyclesr_dist.data.photo.of_pillow import of_pillow

_READ = (b"ICCP", b"EXIF")
_MOST_CHUNKS = 100_000


@dataclass
class _Found:
    width: int = 0
    height: int = 0
    chunks: dict[bytes, bytes] = field(default_factory=dict)
    frames: int = 0
    more: bool = False


def head(reader: Reader) -> Head:
    """Raises DamagedError."""
    found = _look(reader)
    orientation, kept = read_exif(found.chunks.get(b"EXIF", b""))
    remarks: tuple[str, ...] = ("is an animation; only the first picture is read",) if found.frames > 1 else ()
    kept = replace(kept, more=kept.more or found.more)
    icc = found.chunks.get(b"ICCP") or None
    if icc is None:
        icc, said = camera_colours(found.chunks.get(b"EXIF", b""), grey=False)
        remarks += said
    return Head(found.width, found.height, orientation, icc, kept, remarks)


def decode(data: bytes, reader: Reader) -> Raster:
    """Raises DamagedError."""
    _look(reader)
    size = min(int.from_bytes(data[4:8], "little"), len(data) - 8)
    said = size.to_bytes(4, "little")
    whole = data if data[4:8] == said else data[:4] + said + data[8:]
    with decoder("libwebp"), WebPImagePlugin.WebPImageFile(io.BytesIO(whole)) as image:
        samples = of_pillow(image)
    if samples.shape[2] not in (3, 4):
        raise DamagedError("its pixels are of another kind than its head says")
    return Raster(samples, "rgb", alpha=samples.shape[2] == 4)


def _look(reader: Reader) -> _Found:
    found = _Found()
    end = 8 + int.from_bytes(reader.at(4, 4), "little")
    if end > reader.size + 1:
        raise DamagedError("is cut short")
    end = min(end, reader.size)  # some writers count a byte that they do not write
    place = 12
    for _ in range(_MOST_CHUNKS):
        if place + 8 > end:
            break
        name, size = reader.at(place, 4), int.from_bytes(reader.at(place + 4, 4), "little")
        if name in (b"VP8X", b"VP8 ", b"VP8L"):
            size_there = _size(name, reader.at(place + 8, 10))
            if found.width and size_there != (found.width, found.height):
                raise DamagedError("says two sizes")
            found.width, found.height = size_there
        elif name in _READ:
            found.chunks.setdefault(name, reader.upto(place + 8, size))
        found.frames += name == b"ANMF"
        found.more = found.more or name == b"XMP "
        place += 8 + size + size % 2
    if not found.width:
        raise DamagedError("does not say its size")
    return found


def _size(name: bytes, head: bytes) -> tuple[int, int]:
    if name == b"VP8X":
        return 1 + int.from_bytes(head[4:7], "little"), 1 + int.from_bytes(head[7:10], "little")
    if name == b"VP8L":
        bits = int.from_bytes(head[1:5], "little")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    if head[3:6] != b"\x9d\x01\x2a":
        raise DamagedError("has no picture where it must be")
    return int.from_bytes(head[6:8], "little") & 0x3FFF, int.from_bytes(head[8:10], "little") & 0x3FFF
