"""From a file to its head and its upright samples: one way for every format."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from cyclesr_dist.data.formats import HEAD_BYTES, recognised
from cyclesr_dist.data.photo.kinds import (
    DamagedError,
    Head,
    Raster,
    Reader,
    UnreadError,
    check_pixels,
    turned,
)
from cyclesr_dist.errors import InputError, MemoryShortError
from cyclesr_dist.runtime.files import reading
from cyclesr_dist.runtime.passing import patiently

T = TypeVar("T")


def look(path: Path) -> Head:
    """What the head of a file says; nothing is decoded. Raises InputError."""

    def read() -> Head:
        with path.open("rb") as file:
            return refusing(str(path), lambda: _head(Reader(file)))

    with reading(path):
        return patiently(read)


def read(path: Path) -> tuple[Head, Raster]:
    """The head of a file, and its samples turned upright. Raises InputError."""
    with reading(path):
        data = patiently(path.read_bytes)
    return read_bytes(data, str(path))


def read_bytes(data: bytes, where: str) -> tuple[Head, Raster]:
    """The same of the bytes of a file; errors begin with `where`."""
    return refusing(where, lambda: _decoded(data))


def _head(reader: Reader) -> Head:
    head = recognised(reader.upto(0, HEAD_BYTES)).codec.head(reader)
    check_pixels(head.width, head.height)
    return head.with_upright_resolution()


def _decoded(data: bytes) -> tuple[Head, Raster]:
    reader = Reader(io.BytesIO(data))
    head = _head(reader)
    raster = recognised(data[:HEAD_BYTES]).codec.decode(data, reader)
    if raster.samples.shape[:2] != (head.height, head.width):
        height, width = raster.samples.shape[:2]
        raise DamagedError(f"is {width} x {height} px, and its head says {head.width} x {head.height}")
    return head, Raster(turned(raster.samples, head.orientation), raster.model, raster.alpha)


def refusing(where: str, read: Callable[[], T]) -> T:
    """`read`, whose DamagedError and UnreadError become InputError that begins with `where`."""
    try:
        return read()
    except UnreadError as error:
        raise InputError(f"{where}: {error}") from error
    except (DamagedError, struct.error) as error:
        raise InputError(f"{where}: cannot be read as an image ({error})") from error
    except MemoryError as error:
        raise MemoryShortError(f"{where}: needs more memory than is free") from error
