"""The directories of TIFF files and of EXIF: tags and their values, read with tolerance."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from fractions import Fraction

from cyclesr_dist.data.photo.kinds import DamagedError, Reader

_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
_INTEGERS = {1: "B", 3: "H", 4: "I", 6: "b", 8: "h", 9: "i", 13: "I", 16: "Q", 17: "q", 18: "Q"}
_RATIONALS = {5: "I", 10: "i"}
_MOST_ENTRIES = 4096


@dataclass(frozen=True)
class Layout:
    """How a file lays out its numbers."""

    order: str
    """'<' or '>'."""
    big: bool
    """BigTIFF."""
    first: int
    """Where the first directory is."""


class Directory:
    """One directory. Values that are damaged, or of another type than they should be, count as missing."""

    def __init__(self, reader: Reader, layout: Layout, offset: int, base: int = 0) -> None:
        """At `base` + `offset`. Raises DamagedError where it lies outside of the file."""
        self._reader, self._layout, self._base = reader, layout, base
        order, big = layout.order, layout.big
        count_size, entry_size = (8, 20) if big else (2, 12)
        (count,) = struct.unpack(order + ("Q" if big else "H"), reader.at(base + offset, count_size))
        raw = reader.upto(base + offset + count_size, entry_size * min(count, _MOST_ENTRIES))
        self._entries: dict[int, tuple[int, int, bytes]] = {}
        for start in range(0, len(raw) - entry_size + 1, entry_size):
            tag, kind, number = struct.unpack_from(order + ("HHQ" if big else "HHI"), raw, start)
            value = raw[start + (12 if big else 8) : start + entry_size]
            self._entries.setdefault(tag, (kind, number, value))
        self.next = self._next(base + offset + count_size + entry_size * count)

    def _next(self, place: int) -> int:
        """Offset of the directory that follows; 0: none."""
        size, letter = (8, "Q") if self._layout.big else (4, "I")
        if place + size > self._reader.size:
            return 0
        (offset,) = struct.unpack(self._layout.order + letter, self._reader.at(place, size))
        return int(offset)

    def __contains__(self, tag: int) -> bool:
        return tag in self._entries

    def raw(self, tag: int, most: int = 1 << 26) -> bytes:
        """The bytes of a value; empty: missing, damaged or longer than `most`."""
        if tag not in self._entries:
            return b""
        kind, number, value = self._entries[tag]
        size = _SIZES.get(kind, 0) * number
        if not 0 < size <= most:
            return b""
        if size <= len(value):
            return value[:size]
        (offset,) = struct.unpack(self._layout.order + ("Q" if self._layout.big else "I"), value)
        try:
            return self._reader.at(self._base + offset, size)
        except DamagedError:
            return b""

    def integers(self, tag: int, most: int = 1 << 22) -> tuple[int, ...]:
        """Empty: missing, or no integers."""
        letter = _INTEGERS.get(self._entries.get(tag, (0, 0, b""))[0])
        raw = self.raw(tag, most) if letter else b""
        if not letter or not raw:
            return ()
        return struct.unpack(f"{self._layout.order}{len(raw) // struct.calcsize(letter)}{letter}", raw)

    def integer(self, tag: int, default: int = 0) -> int:
        return next(iter(self.integers(tag)), default)

    def rationals(self, tag: int) -> tuple[Fraction, ...]:
        """Empty: missing, no rationals, or one with 0 below."""
        letter = _RATIONALS.get(self._entries.get(tag, (0, 0, b""))[0])
        raw = self.raw(tag, 1 << 16) if letter else b""
        if not letter or not raw:
            return ()
        numbers = struct.unpack(f"{self._layout.order}{len(raw) // 4}{letter}", raw)
        pairs = list(zip(numbers[::2], numbers[1::2], strict=True))
        return tuple(Fraction(above, below) for above, below in pairs) if all(below for _, below in pairs) else ()

    def text(self, tag: int) -> str:
        """Printable ASCII; empty: missing, or no text."""
        if self._entries.get(tag, (0, 0, b""))[0] != 2:
            return ""
        text = self.raw(tag, 1 << 16).split(b"\0")[0].decode("ascii", errors="replace").strip()
        return text if text.isascii() and text.isprintable() else ""


def layout_of(head: bytes) -> Layout | None:
    """Of the first 16 bytes of a TIFF file or an EXIF block; None: it is neither."""
    order = {b"II": "<", b"MM": ">"}.get(head[:2])
    if order is None or len(head) < 8:
        return None
    version, first = struct.unpack(order + "HI", head[2:8])
    if version == 42:
        return Layout(order, False, first)
    if version == 43 and len(head) >= 16 and struct.unpack(order + "HH", head[4:8]) == (8, 0):
        return Layout(order, True, struct.unpack(order + "Q", head[8:16])[0])
    return None
