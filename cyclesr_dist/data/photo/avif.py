"""AVIF: what its boxes say of its main picture, and the samples of it. HEIC, which has the same boxes, is refused."""

from __future__ import annotations

import io
import struct
from collections import defaultdict
from dataclasses import dataclass, field, replace

import imagecodecs
import numpy as np
from PIL import AvifImagePlugin

from cyclesr_dist.data.photo.boxes import boxes
from cyclesr_dist.data.photo.exif import read_exif
from cyclesr_dist.data.photo.icc import ProfileError, of_cicp
from cyclesr_dist.data.photo.kinds import (
    CHANNELS,
    DamagedError,
    Head,
    Kept,
    Model,
    Raster,
    Reader,
    Samples,
    UnreadError,
    decoder,
    turned,
    whole_range,
)
from cyclesr_dist.data.photo.of_pillow import of_pillow

_MOST_EXIF = 1 << 20
_MONOCHROME = 0x10


@dataclass
class _Item:
    """The main picture."""

    width: int = 0
    height: int = 0
    bits: int = 0
    channels: int = 3
    icc: bytes | None = None
    cicp: tuple[int, int] | None = None
    turns: list[tuple[bytes, int]] = field(default_factory=list)


def head(reader: Reader) -> Head:
    """Raises DamagedError, UnreadError."""
    item, kept, film = _look(reader)
    icc = item.icc
    if item.cicp:
        try:
            made = of_cicp(*item.cicp, grey=item.channels == 1)
        except ProfileError as error:
            raise DamagedError(str(error)) from error
        icc = icc or made
    remarks = ("is an animation; only the first picture is read",) if film else ()
    pixel_bytes = item.channels * (2 if item.bits > 8 else 1)
    return Head(item.width, item.height, _orientation(item.turns), icc, kept, remarks, pixel_bytes)


def decode(data: bytes, reader: Reader) -> Raster:
    """Raises DamagedError, UnreadError."""
    item, _, film = _look(reader)
    if item.bits == 8:
        with decoder("libavif"), AvifImagePlugin.AvifImageFile(io.BytesIO(data)) as image:
            samples: Samples = of_pillow(image)
    elif film:
        raise UnreadError("is an animation with more than 8 bits; save its first picture by itself")
    else:
        with decoder("libavif"):
            samples = np.asarray(imagecodecs.avif_decode(data, numthreads=1))
    samples = samples.reshape(*samples.shape[:2], -1)
    if item.channels == 1 and samples.shape[2] >= CHANNELS["rgb"]:  # as Pillow has grey with alpha
        samples = np.delete(samples, (1, 2), axis=2)
    model: Model = "grey" if samples.shape[2] <= 2 else "rgb"
    samples = whole_range(samples, item.bits)
    return Raster(samples, model, alpha=samples.shape[2] > CHANNELS[model])


def _look(reader: Reader) -> tuple[_Item, Kept, bool]:
    brands = b""
    for kind, start, end in boxes(reader, 0, reader.size):
        if kind == b"ftyp":
            brands = reader.at(start, min(end - start, 1024))
        elif kind == b"meta":
            item, kept = _meta(reader, start + 4, end)
            return item, kept, b"avis" in brands
    raise UnreadError("is a film, without a picture that stands for it")


def _meta(reader: Reader, start: int, end: int) -> tuple[_Item, Kept]:
    primary, exif_item = 0, 0
    properties: list[tuple[bytes, bytes]] = []
    uses: dict[int, list[int]] = {}
    places: dict[int, tuple[int, int]] = {}
    for kind, inner, stop in boxes(reader, start, end):
        content = reader.at(inner, stop - inner)
        if kind == b"pitm":
            primary = int.from_bytes(content[4:6] if content[:1] == b"\0" else content[4:8])
        elif kind == b"iprp":
            properties, uses = _properties(reader, inner, stop)
        elif kind == b"iinf":
            exif_item = _exif_item(content)
        elif kind == b"iloc":
            places = _places(content)
    item = _item([properties[i - 1] for i in uses.get(primary, ()) if 0 < i <= len(properties)], properties)
    kept = Kept()
    if exif_item in places:
        offset, length = places[exif_item]
        try:
            block = reader.upto(offset, min(length, _MOST_EXIF))
        except DamagedError:
            block = b""
        # Four bytes say where the TIFF head begins. The orientation in it is none: the picture's own properties are.
        _, kept = read_exif(block[4 + int.from_bytes(block[:4]) :])
        kept = replace(kept, more=True)
    return item, kept


def _properties(reader: Reader, start: int, end: int) -> tuple[list[tuple[bytes, bytes]], dict[int, list[int]]]:
    """All properties, and the numbers of those that belong to each item, in their order."""
    found: list[tuple[bytes, bytes]] = []
    uses: dict[int, list[int]] = defaultdict(list)
    for kind, inner, stop in boxes(reader, start, end):
        if kind == b"ipco":
            found = [(name, reader.at(a, b - a)) for name, a, b in boxes(reader, inner, stop)]
        elif kind == b"ipma":
            content = reader.at(inner, stop - inner)
            wide_ids, wide_numbers = content[:1] != b"\0", bool(content[3:4] and content[3] & 1)
            place = 8
            while place < len(content):
                size = 4 if wide_ids else 2
                item, count = int.from_bytes(content[place : place + size]), _byte(content, place + size)
                place += size + 1
                for _ in range(count):
                    number = int.from_bytes(content[place : place + 1 + wide_numbers])
                    uses[item].append(number & (0x7FFF if wide_numbers else 0x7F))
                    place += 1 + wide_numbers
    return found, uses


def _byte(content: bytes, place: int) -> int:
    if place >= len(content):
        raise DamagedError("is cut short")
    return content[place]


def _item(own: list[tuple[bytes, bytes]], everyone: list[tuple[bytes, bytes]]) -> _Item:
    item = _Item()
    for name, content in own:
        if name == b"ispe" and len(content) >= 12:
            item.width, item.height = struct.unpack(">II", content[4:12])
        elif name == b"clap":
            raise UnreadError("shows a part of a larger picture (clean aperture); save it as PNG first")
        elif name == b"irot" and content:
            item.turns.append((name, content[0] & 3))
        elif name == b"imir" and content:
            item.turns.append((name, content[0] & 1))
        elif name == b"colr" and content[:4] in (b"prof", b"rICC"):
            item.icc = content[4:]
        elif name == b"colr" and content[:4] == b"nclx" and len(content) >= 8:
            primaries, transfer = struct.unpack(">HH", content[4:8])
            item.cicp = primaries, transfer
        elif name == b"pixi" and len(content) >= 6:
            item.channels = content[4]
    # A picture put together from tiles has no av1C of its own; theirs are alike.
    for name, content in [*own, *everyone]:
        if name == b"av1C" and len(content) >= 3 and not item.bits:
            item.bits = (12 if content[2] & 0x20 else 10) if content[2] & 0x40 else 8
    for name, content in own:
        if name == b"av1C" and len(content) >= 3:
            item.channels = 1 if content[2] & _MONOCHROME else 3
    if any(name == b"hvcC" for name, _ in everyone):
        raise UnreadError("is a HEIC photograph (HEVC); save it as JPEG, PNG or AVIF first")
    if not item.bits or not item.width:
        raise DamagedError("does not say what its main picture is")
    return item


def _orientation(turns: list[tuple[bytes, int]]) -> int:
    """EXIF's number for turns (by 90 degrees to the left) and mirrorings (0: upside down, 1: left and right)."""
    probe = np.arange(6, dtype=np.uint8).reshape(2, 3, 1)
    result = probe
    for name, value in turns:
        result = np.rot90(result, value) if name == b"irot" else np.flip(result, value)
    return next(number for number in range(1, 9) if np.array_equal(turned(probe, number), result))


def _exif_item(content: bytes) -> int:
    """Number of the item that is EXIF, from the list of items; 0: none."""
    place = content.find(b"Exif")
    while place > 0:
        if content[place - 12 : place - 8] == b"infe" and content[place - 8] == 2:
            return int.from_bytes(content[place - 4 : place - 2])
        place = content.find(b"Exif", place + 1)
    return 0


def _places(content: bytes) -> dict[int, tuple[int, int]]:
    """Offset and length of the first extent of each item that lies in the file itself."""
    if len(content) < 8:
        return {}
    version = content[0]
    offset_size, length_size, base_size, index_size = content[4] >> 4, content[4] & 15, content[5] >> 4, content[5] & 15
    id_size = 4 if version == 2 else 2
    place, found = 6 + id_size, {}

    def number(size: int) -> int:
        nonlocal place
        place += size
        return int.from_bytes(content[place - size : place])

    for _ in range(int.from_bytes(content[6 : 6 + id_size])):
        if place >= len(content):
            break
        item = number(id_size)
        method = number(2) & 15 if version else 0
        number(2)
        base, extents = number(base_size), number(2)
        for i in range(min(extents, len(content))):
            if version and index_size:
                number(index_size)
            offset, length = base + number(offset_size), number(length_size)
            if i == 0 and method == 0:
                found[item] = offset, length
    return found
