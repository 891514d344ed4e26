"""EXIF: the orientation, a camera's colours, and the few facts that are carried over. All else may be damaged."""

from __future__ import annotations

import io
import struct

from cyclesr_dist.data.photo.icc import ADOBE_RGB, ADOBE_RGB_GAMMA, of_gamma
from cyclesr_dist.data.photo.ifd import Directory, Layout, layout_of
from cyclesr_dist.data.photo.kinds import DamagedError, Kept, Reader

_MAKE, _MODEL, _ORIENTATION, _DATE, _EXIF_IFD, _DATE_TAKEN = 271, 272, 274, 306, 34665, 36867
_ACROSS, _DOWN, _UNIT = 282, 283, 296
_NOT_CARRIED = (_EXIF_IFD, 34853, 700, 33723, 34377)
"""EXIF's own, the position, XMP, IPTC and Photoshop's."""
_INCH, _CENTIMETRE = 2, 3
_COLOUR_SPACE, _INTEROPERABILITY, _INDEX = 40961, 40965, 1
_SRGB, _ADOBE_RGB = 1, 2
"""EXIF's colour spaces; the second is not in its standard, which has 65535 for all others."""


def read_exif(block: bytes) -> tuple[int, Kept]:
    """The orientation, 1 to 8, and what is carried over, of an EXIF block, with or without its "Exif" before it.

    Of damaged blocks what can be read; never an error.
    """
    opened = _opened(block)
    return facts_of(*opened) if opened else (1, Kept())


def is_readable(block: bytes) -> bool:
    """Whether an EXIF block has a directory; some files have an empty or broken one before the true one."""
    return _opened(block) is not None


def camera_colours(block: bytes, grey: bool) -> tuple[bytes | None, tuple[str, ...]]:
    """The profile of a camera's picture that has none in its file, of its EXIF block, and what is to be said of it.

    None: sRGB.
    """
    opened = _opened(block)
    return colours_of(*opened, grey) if opened else (None, ())


def colours_of(
    directory: Directory, reader: Reader, layout: Layout, grey: bool
) -> tuple[bytes | None, tuple[str, ...]]:
    """The same of a directory, which may be that of a TIFF file.

    Cameras name AdobeRGB by the index "R03" of a directory in EXIF's own (DCF 2.0).
    """
    inner = _inner(directory, reader, layout, _EXIF_IFD)
    space = inner.integer(_COLOUR_SPACE, _SRGB) if inner else _SRGB
    if inner is None or space == _SRGB:
        return None, ()
    names = _inner(inner, reader, layout, _INTEROPERABILITY)
    if space == _ADOBE_RGB or (names and names.text(_INDEX) == "R03"):
        return of_gamma(ADOBE_RGB_GAMMA, ADOBE_RGB, grey), ()
    return None, ("says that it is not in sRGB, and not in what; it is read as sRGB",)


def _opened(block: bytes) -> tuple[Directory, Reader, Layout] | None:
    """The first directory; None: there is none that can be read. Some writers end "Exif" with another byte than 0."""
    block = block[6:] if block.startswith(b"Exif\0") else block
    layout = layout_of(block[:16])
    if layout is None:
        return None
    reader = Reader(io.BytesIO(block))
    try:
        return Directory(reader, layout, layout.first), reader, layout
    except DamagedError:
        return None


def _inner(directory: Directory, reader: Reader, layout: Layout, tag: int) -> Directory | None:
    """The directory that a tag points to."""
    place = directory.integer(tag)
    try:
        return Directory(reader, layout, place) if place else None
    except DamagedError:
        return None


def facts_of(directory: Directory, reader: Reader, layout: Layout) -> tuple[int, Kept]:
    """The same of a directory, which may be that of a TIFF file."""
    orientation = directory.integer(_ORIENTATION, 1)
    inner = _inner(directory, reader, layout, _EXIF_IFD)
    date = inner.text(_DATE_TAKEN) if inner else ""
    kept = Kept(
        dpi=_dpi(directory),
        date=date or directory.text(_DATE),
        make=directory.text(_MAKE),
        model=directory.text(_MODEL),
        more=any(tag in directory for tag in _NOT_CARRIED),
    )
    return orientation if 1 <= orientation <= 8 else 1, kept


def write_exif(kept: Kept) -> bytes:
    """A small EXIF block with the date and the camera, upright; empty: there are none."""
    texts = {tag: text for tag, text in ((_MAKE, kept.make), (_MODEL, kept.model), (_DATE, kept.date)) if text}
    if not texts:
        return b""
    data, entries = b"", []
    start = 8 + 2 + 12 * (len(texts) + 1) + 4
    for tag, text in sorted([*texts.items(), (_ORIENTATION, "")]):
        if tag == _ORIENTATION:
            entries.append(struct.pack(">HHIHH", tag, 3, 1, 1, 0))
            continue
        value = text.encode("ascii") + b"\0"
        if len(value) <= 4:
            entries.append(struct.pack(">HHI4s", tag, 2, len(value), value))
        else:
            entries.append(struct.pack(">HHII", tag, 2, len(value), start + len(data)))
            data += value + b"\0" * (len(value) % 2)
    return b"MM\0\x2a\0\0\0\x08" + struct.pack(">H", len(entries)) + b"".join(entries) + b"\0" * 4 + data


def _dpi(directory: Directory) -> tuple[float, float] | None:
    across, down = directory.rationals(_ACROSS), directory.rationals(_DOWN)
    unit = {_INCH: 1.0, _CENTIMETRE: 2.54}.get(directory.integer(_UNIT, _INCH))
    if not (across and down and unit):
        return None
    return sane_dpi(float(across[0]) * unit, float(down[0]) * unit)


def sane_dpi(across: float, down: float) -> tuple[float, float] | None:
    """None for numbers that no printer and no scanner has."""
    return (across, down) if all(1 <= value <= 100_000 for value in (across, down)) else None
