"""What an enlarged photograph was made from, written into its PNG file: so that it need not be made again.

The record is a text chunk right before the file's end. It is there only once the file is whole, and moves with it.
"""

from __future__ import annotations

import json
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cyclesr_dist.runtime.files import reading
from cyclesr_dist.runtime.passing import patiently

_VERSION = 1
"""Of what is done with the pixels: another one makes results of earlier versions differ."""
_KEYWORD = b"cyclesr\0"
_END = struct.pack(">I", 0) + b"IEND" + struct.pack(">I", zlib.crc32(b"IEND"))
_MOST_BYTES = 1024
"""Of the record."""


@dataclass(frozen=True)
class Origin:
    """Two results of one origin are alike."""

    source: str
    """SHA-256 of the photograph."""
    model: str
    """Of `fingerprint`."""

    def difference(self, path: Path) -> str:
        """What keeps the file at `path` from being this result, in words; empty: it is. Raises InputError."""
        found = _read(path)
        if found is None:
            return "was not made by cyclesr upscale, or is damaged"
        if found.get("version") != _VERSION:
            return "is of another version of cyclesr"
        if found.get("model") != self.model:
            return "is of another model"
        return "" if found.get("source") == self.source else "is of another photograph"

    def stamp(self, path: Path) -> None:
        """Write the record into a PNG file that ends with its IEND chunk. Raises OSError."""
        with path.open("r+b") as file:
            place = file.seek(-len(_END), 2)
            if file.read() != _END:
                raise ValueError(f"{path} does not end as PNG files do")
            file.seek(place)
            record = {"bytes": place, "model": self.model, "source": self.source, "version": _VERSION}
            data = b"tEXt" + _KEYWORD + json.dumps(record).encode("ascii")
            file.write(struct.pack(">I", len(data) - 4) + data + struct.pack(">I", zlib.crc32(data)) + _END)


def _read(path: Path) -> dict[str, Any] | None:
    """The record of a whole file; None: there is none."""

    def ending() -> tuple[int, bytes]:
        with path.open("rb") as file:
            start = max(0, file.seek(0, 2) - _MOST_BYTES)
            file.seek(start)
            return start, file.read()

    with reading(path):
        start, data = patiently(ending)
    place = data.rfind(b"tEXt" + _KEYWORD)
    if place < 4 or not data.endswith(_END):
        return None
    body, checksum = data[place : -len(_END) - 4], data[-len(_END) - 4 : -len(_END)]
    if struct.unpack(">I", data[place - 4 : place])[0] != len(body) - 4 or checksum != struct.pack(
        ">I", zlib.crc32(body)
    ):
        return None
    try:
        record = json.loads(body[4 + len(_KEYWORD) :])
    except ValueError:
        return None
    return record if isinstance(record, dict) and record.get("bytes") == start + place - 4 else None
