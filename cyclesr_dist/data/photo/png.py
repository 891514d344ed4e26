"""PNG: its chunks, and the samples of every kind of it."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import imagecodecs
import numpy as np
from numpy.typing import NDArray

from cyclesr_dist.data.photo.exif import camera_colours, read_exif, sane_dpi, write_exif
from cyclesr_dist.data.photo.icc import SRGB, Chromaticities, ProfileError, of_cicp, of_gamma, of_primaries
from cyclesr_dist.data.photo.kinds import (
    DamagedError,
    Head,
    Kept,
    Raster,
    Reader,
    UnreadError,
    decoder,
)

SIGNATURE = b"\x89PNG\r\n\x1a\n"
_OF_PIXELS = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND")
"""All else is left out before a library sees the file, damaged or not."""
_READ = (b"iCCP", b"sRGB", b"gAMA", b"cHRM", b"cICP", b"eXIf", b"pHYs", b"acTL")
HEADER = struct.Struct(">IIBBBBB")
_DEPTHS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}
_GREY, _PALETTE = (0, 4), 3
_CHANNELS = {0: 1, 2: 3, 3: 3, 4: 2, 6: 4}
"""Of a colour type, palettes as RGB."""
_INCH_METRES = 0.0254
_MOST_PROFILE = 1 << 25
_PER_CENT_THOUSANDTH = 100_000


@dataclass
class _Found:
    """What the chunks of interest hold."""

    header: tuple[int, ...]
    chunks: dict[bytes, bytes] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)
    key: bytes = b""
    """tRNS: the transparent colour, or the alphas of a palette."""
    first_frame: bool = False
    """The picture is the first frame of the animation, too."""
    pixels: bool = False
    """They have begun."""
    more: bool = False


def head(reader: Reader) -> Head:
    """Raises DamagedError, UnreadError."""
    found = _look(reader)
    width, height, _, colour_type, *_ = found.header
    icc = _profile(found, grey=colour_type in _GREY)
    orientation, kept = read_exif(found.chunks.get(b"eXIf", b""))
    density = found.chunks.get(b"pHYs", b"")
    if len(density) == 9:
        across, down, unit = struct.unpack(">IIB", density)
        kept = replace(kept, dpi=sane_dpi(across * _INCH_METRES, down * _INCH_METRES) if unit == 1 else None)
    if int.from_bytes(found.chunks.get(b"acTL", b"")[:4]) > found.first_frame:
        found.remarks.append("is an animation; only the picture that stands for it is read")
    kept = replace(kept, more=kept.more or found.more)
    return Head(width, height, orientation, icc, kept, tuple(found.remarks), _pixel_bytes(found, reader))


def decode(data: bytes, reader: Reader) -> Raster:
    """Raises DamagedError."""
    found = _look(reader)
    colour_type = found.header[3]
    indexed = colour_type == _PALETTE
    whole, palette = memoryview(data), b""
    parts: list[bytes | memoryview] = [whole[: len(SIGNATURE)]]
    for name, start, size in _chunks(reader):
        if name in _OF_PIXELS and start + size + 4 > reader.size:
            raise DamagedError("is cut short")
        if indexed and name in (b"IHDR", b"PLTE"):  # libpng does not see these, and not their checksums
            _check_sum(whole, start, size)
        if name == b"PLTE":
            palette = palette or data[start : start + size]
        elif name == b"IHDR" and indexed:
            parts.append(packed(b"IHDR", HEADER.pack(*found.header[:3], 0, *found.header[4:])))
        elif name in _OF_PIXELS and name != b"tRNS":
            parts.append(whole[start - 8 : start + size + 4])
    if found.key and not indexed:
        parts.insert(2, packed(b"tRNS", _of_depth(found.key, found.header[2])))
    as_it_is = not indexed and not found.key and sum(map(len, parts)) == len(data)
    plain = data if as_it_is else b"".join(parts)
    with decoder("libpng"):
        samples = np.asarray(imagecodecs.png_decode(plain))
    if indexed:
        return _of_palette(samples // (255 // (2 ** found.header[2] - 1)), palette, found.key)
    samples = samples[:, :, None] if samples.ndim == 2 else samples
    return Raster(samples, "grey" if colour_type in _GREY else "rgb", alpha=samples.shape[2] in (2, 4))


def _check_sum(file: memoryview, start: int, size: int) -> None:
    """Raise DamagedError where the checksum of a chunk is not that of its name and data."""
    end = start + size
    if not _is_whole(bytes(file[start - 4 : start]), file[start : end + 4]):
        raise DamagedError(f"its {bytes(file[start - 4 : start]).decode()} is damaged")


def _is_whole(name: bytes, value: bytes | memoryview) -> bool:
    """Whether the checksum at the end of `value` is that of a chunk's name and data."""
    return zlib.crc32(value[:-4], zlib.crc32(name)) == int.from_bytes(value[-4:])


def _of_depth(key: bytes, bits: int) -> bytes:
    """A transparent colour without what stands above the bits of a sample: PNG says that it counts for nothing."""
    words = struct.unpack(f">{len(key) // 2}H", key)
    return struct.pack(f">{len(words)}H", *(word & (2**bits - 1) for word in words))


def _of_palette(indices: NDArray[np.uint8], palette: bytes, alphas: bytes) -> Raster:
    """Raises DamagedError where a pixel has no colour: readers show black, or whatever comes next in their memory."""
    number = len(palette) // 3
    if not number or len(palette) % 3:
        raise DamagedError("has no palette")
    if int(indices.max()) >= number:
        raise DamagedError(f"a pixel has colour {int(indices.max())} of a palette of {number} colours")
    colours = np.frombuffer(palette, np.uint8).reshape(number, 3)
    if alphas:
        alpha = np.frombuffer(alphas[:number].ljust(number, b"\xff"), np.uint8)
        colours = np.concatenate([colours, alpha[:, None]], axis=1)
    return Raster(colours[indices], "rgb", alpha=bool(alphas))


def _pixel_bytes(found: _Found, reader: Reader) -> int:
    depth, colour_type = found.header[2:4]
    see_through = any(name == b"tRNS" for name, *_ in _chunks(reader))
    return (_CHANNELS[colour_type] + (see_through and colour_type < 4)) * (2 if depth == 16 else 1)


def carried(icc: bytes | None, kept: Kept) -> list[tuple[bytes, bytes]]:
    """The chunks that go between a PNG's header and its pixels."""
    chunks = [(b"iCCP", b"ICC Profile\0\0" + zlib.compress(icc))] if icc else []
    if kept.dpi:
        across, down = (round(value / _INCH_METRES) for value in kept.dpi)
        chunks.append((b"pHYs", struct.pack(">IIB", across, down, 1)))
    if exif := write_exif(kept):
        chunks.append((b"eXIf", exif))
    return chunks


def packed(name: bytes, value: bytes) -> bytes:
    return struct.pack(">I", len(value)) + name + value + struct.pack(">I", zlib.crc32(name + value))


def _chunks(reader: Reader) -> Iterator[tuple[bytes, int, int]]:
    """Name, start of the data and size of each chunk, up to the end of the picture."""
    place = len(SIGNATURE)
    while place < reader.size:
        size, name = struct.unpack(">I4s", reader.at(place, 8))
        yield name, place + 8, size
        if name == b"IEND":
            return
        place += 12 + size


def _look(reader: Reader) -> _Found:
    found: _Found | None = None
    for name, start, size in _chunks(reader):
        if found is None:
            if name == b"CgBI":
                raise UnreadError("is a PNG in Apple's own form for its devices; save it as an ordinary one first")
            if name != b"IHDR" or size != HEADER.size:
                raise DamagedError("a PNG without a header")
            found = _Found(HEADER.unpack(reader.at(start, size)))
            _, _, depth, colour_type, compression, filtering, interlacing = found.header
            if depth not in _DEPTHS.get(colour_type, ()) or compression or filtering or interlacing > 1:
                raise DamagedError("a PNG header that says nothing of this world")
        elif name in _READ and name not in found.chunks and size <= _MOST_PROFILE:
            value = reader.upto(start, size + 4)
            if _is_whole(name, value) and len(value) == size + 4:
                found.chunks[name] = value[:-4]
            else:
                found.remarks.append(f"its {name.decode()} is damaged, and is not used")
        elif name == b"tRNS" and not found.key:
            _note_key(found, reader.upto(start, min(size, 256) + 4) if size <= 256 else b"")
        elif name == b"fcTL":
            found.first_frame |= not found.pixels
        elif name == b"IDAT":
            found.pixels = True
        elif name not in _OF_PIXELS and name not in _READ and name != b"fdAT":
            found.more = True
    if found is None:
        raise DamagedError("a PNG without a header")
    return found


def _note_key(found: _Found, value: bytes) -> None:
    """With its checksum. One that is damaged, or does not fit, would be left out by libpng without the file's name."""
    key = value[:-4]
    fits = {0: len(key) == 2, 2: len(key) == 6, _PALETTE: len(key) > 0}.get(found.header[3], False)
    if fits and _is_whole(b"tRNS", value):
        found.key = key
    else:
        found.remarks.append("its tRNS is damaged, and is not used")


def _profile(found: _Found, grey: bool) -> bytes | None:
    """In the order of precedence of PNG's third edition: cICP, iCCP, sRGB, gAMA with cHRM; else EXIF."""
    cicp = found.chunks.get(b"cICP", b"")
    if len(cicp) == 4:
        if cicp[2] or not cicp[3]:
            raise UnreadError(
                "has colours as video has them (cICP: YCbCr, or a narrow range); convert it to sRGB first"
            )
        try:
            return of_cicp(cicp[0], cicp[1], grey)
        except ProfileError as error:
            raise DamagedError(str(error)) from error
    if b"iCCP" in found.chunks:
        return _inflated(found)
    if b"sRGB" in found.chunks:
        return None
    if not found.chunks.keys() & {b"gAMA", b"cHRM"}:
        icc, said = camera_colours(found.chunks.get(b"eXIf", b""), grey)
        found.remarks += said
        return icc
    return _of_gamma_and_primaries(found, grey)


def _inflated(found: _Found) -> bytes | None:
    _, _, rest = found.chunks[b"iCCP"].partition(b"\0")
    stream = zlib.decompressobj()
    try:
        profile = stream.decompress(rest[1:], _MOST_PROFILE)
    except zlib.error:
        profile = b""
    if rest[:1] == b"\0" and profile and stream.eof:
        return profile
    found.remarks.append("its colour profile is damaged; it is read as sRGB")
    return None


def _of_gamma_and_primaries(found: _Found, grey: bool) -> bytes | None:
    """A file that says one of the two is taken to have the other of sRGB."""
    gamma, chromaticities = _whole(found, b"gAMA", 1), _whole(found, b"cHRM", 8)
    points: Chromaticities = tuple(chromaticities) if chromaticities else SRGB  # type: ignore[assignment]
    try:
        return of_gamma(1 / max(gamma[0], 1e-9), points, grey) if gamma else of_primaries(points, grey)
    except ProfileError as error:
        found.remarks.append(f"says of its colours what cannot be ({error}); it is read as sRGB")
        return None


def _whole(found: _Found, name: bytes, count: int) -> list[float]:
    value = found.chunks.get(name, b"")
    if len(value) != 4 * count:
        return []
    return [number / _PER_CENT_THOUSANDTH for number in struct.unpack(f">{count}I", value)]
