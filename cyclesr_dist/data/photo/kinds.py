"""What a photograph is between its file and the rest: what its head says, and its samples; and why one is refused."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, BinaryIO, Literal

import numpy as np
from numpy.typing import NDArray

from cyclesr_dist.errors import ConfigError

Samples = NDArray[np.uint8] | NDArray[np.uint16]
Model = Literal["grey", "rgb", "cmyk"]

MAX_PIXELS = 178_956_970
"""Of one photograph; more is taken for damage, or for a bomb, unless the environment says otherwise. Some
13,000 x 13,000.

Pillow's own limit is in `Image.open`, which is not used: formats are known already.
"""
MAX_MEGAPIXELS = "CYCLESR_MAX_MEGAPIXELS"
"""The environment's place for another limit, in 10^6 px."""
_PX_AT_A_TIME = 1 << 20
CHANNELS: dict[Model, int] = {"grey": 1, "rgb": 3, "cmyk": 4}


class UnreadError(Exception):
    """A file that is not read, and why, in words that stand behind its name and a colon."""


class DamagedError(Exception):
    """A file that does not hold what its head promises."""


@dataclass(frozen=True)
class Kept:
    """What is carried over from a photograph to its enlargement, besides pixels and their meaning."""

    dpi: tuple[float, float] | None = None
    """Pixels per inch, across and down."""
    date: str = ""
    """As EXIF has it: "2026:11:26 10:30:00"."""
    make: str = ""
    model: str = ""
    """Of the camera."""
    more: bool = False
    """There is more in the file, which is not carried over."""


@dataclass(frozen=True)
class Head:
    """What the head of a file says of the picture in it."""

    width: int
    height: int
    """As stored, before the picture is turned upright."""
    orientation: int = 1
    """EXIF's, 1 to 8."""
    icc: bytes | None = None
    """Colour profile; also one made of what else the file says of its colours. None: sRGB."""
    kept: Kept = field(default_factory=Kept)
    remarks: tuple[str, ...] = ()
    """What people should be told, in words that stand behind the file's name and a colon."""
    pixel_bytes: int = 3
    """Of the decoded samples of a pixel, alpha included."""

    @property
    def upright(self) -> tuple[int, int]:
        """Width and height in px when turned upright."""
        return (self.height, self.width) if self.orientation > 4 else (self.width, self.height)

    def with_upright_resolution(self) -> Head:
        """With the pixels per inch of the upright picture, in the place of those of the stored one."""
        if self.orientation <= 4 or self.kept.dpi is None:
            return self
        across, down = self.kept.dpi
        return replace(self, kept=replace(self.kept, dpi=(down, across)))


@dataclass(frozen=True)
class Raster:
    """Decoded samples as they are stored: (H, W, channels of the model, and one more with alpha).

    uint8, or uint16 where the file has more than 8 bits; over the whole range of the type, whatever the file's depth.
    CMYK is the amount of ink. Colours are not multiplied by alpha.
    """

    samples: Samples
    model: Model
    alpha: bool = False


class Reader:
    """Bytes of a file at given places; a short read is damage."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.size = file.seek(0, 2)

    def upto(self, offset: int, count: int) -> bytes:
        """`count` bytes, or fewer at the end of the file. Raises DamagedError for a place outside it."""
        if not 0 <= offset <= self.size or count < 0:
            raise DamagedError("points outside of the file")
        self._file.seek(offset)
        return self._file.read(min(count, self.size - offset))

    def at(self, offset: int, count: int) -> bytes:
        """Exactly `count` bytes. Raises DamagedError where the file ends before."""
        found = self.upto(offset, count)
        if len(found) < count:
            raise DamagedError("is cut short")
        return found


@dataclass(frozen=True)
class Codec:
    """How one format is read. Both raise DamagedError and UnreadError."""

    head: Callable[[Reader], Head]
    decode: Callable[[bytes, Reader], Raster]
    """Of the whole file, given twice."""


@contextmanager
def decoder(name: str) -> Iterator[None]:
    """Around a call of a library that decodes: whatever it raises on a damaged file becomes DamagedError."""
    try:
        yield
    except MemoryError:
        raise
    except Exception as error:  # each library, and each format of one, raises other types
        text = str(error).strip().splitlines()
        raise DamagedError(f"{name}: {text[0] if text else type(error).__name__}") from error


def check_pixels(width: int, height: int) -> None:
    """Raise UnreadError for sides that no photograph has, ConfigError for a limit of the environment that is none."""
    if width < 1 or height < 1:
        raise DamagedError(f"{width} x {height} px")
    if width * height > (most := max_pixels()):
        raise UnreadError(
            f"{width} x {height} px are too many; at most {most:,} px are read; "
            f"{MAX_MEGAPIXELS}={-(-width * height // 1_000_000)} in the environment raises that"
        )


def max_pixels() -> int:
    """Of one photograph. Raises ConfigError for a limit of the environment that is none."""
    text = os.environ.get(MAX_MEGAPIXELS, "")
    if not text:
        return MAX_PIXELS
    try:
        most = float(text)
    except ValueError:
        most = 0
    if not 0 < most < 1e9:
        raise ConfigError(f"environment variable {MAX_MEGAPIXELS} = {text!r}; allowed: megapixels, above 0")
    return round(most * 1e6)


def whole_range(samples: NDArray[Any], bits: int) -> Samples:
    """Samples of `bits`, 1 to 16, spread over the range of 8 or 16 bits, to the nearest level.

    Raises DamagedError where a sample has more bits.
    """
    largest = 2**bits - 1
    if bits == 8 and samples.dtype == np.uint8:
        return samples.astype(np.uint8, copy=False)
    if bits == 16 and samples.dtype == np.uint16:
        return samples.astype(np.uint16, copy=False)
    if samples.size and int(samples.max()) > largest:
        raise DamagedError(f"a sample is larger than {bits} bits allow")
    spread: Samples = levels(largest)[samples]
    return spread


def to_8_bits(samples: Samples) -> NDArray[np.uint8]:
    """(H, W, C), of 16 bits to the nearest of 256 levels."""
    if samples.dtype == np.uint8:
        return samples.astype(np.uint8, copy=False)
    eight = np.empty(samples.shape, np.uint8)
    for rows in in_rows(*samples.shape[:2]):
        eight[rows] = (samples[rows].astype(np.uint32) + 128) // 257
    return eight


def in_rows(height: int, width: int, multiple: int = 1) -> Iterator[slice]:
    """Rows of a picture from top to bottom, so many at a time that what is made of them takes little memory; all but
    the last ones a multiple of `multiple`."""
    step = max(1, _PX_AT_A_TIME // width // multiple) * multiple
    for top in range(0, height, step):
        yield slice(top, min(top + step, height))


def levels(largest: int) -> Samples:
    """Of each value up to `largest` the nearest level of 8 bits, or of 16 where they are needed."""
    full = 255 if largest <= 255 else 65535
    nearest = (np.arange(largest + 1, dtype=np.uint64) * full + largest // 2) // largest
    return nearest.astype(np.uint8) if full == 255 else nearest.astype(np.uint16)


def turned(samples: Samples, orientation: int) -> Samples:
    """(H, W, C) upright, of an EXIF orientation."""
    upright: Any = samples.transpose(1, 0, 2) if orientation > 4 else samples
    down, across = {1: (1, 1), 2: (1, -1), 3: (-1, -1), 4: (-1, 1), 5: (1, 1), 6: (1, -1), 7: (-1, -1), 8: (-1, 1)}[
        orientation
    ]
    result: Samples = np.ascontiguousarray(upright[::down, ::across])
    return result
