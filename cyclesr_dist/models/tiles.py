"""The tiles that large images are enlarged in, each with the network's reach of true surroundings."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from cyclesr_dist.errors import NotFiniteError
from cyclesr_dist.models.tile_memory import tile_bytes
from cyclesr_dist.models.upscaler import Upscaler

DEFAULT_TILE = 256
"""LR px. Bounds memory at about half a gigabyte for 64 channels at HR size."""
LARGE_TILE = 384
"""LR px, for networks that take no more than `LARGE_TILE_BYTES` for it: less of it is surroundings."""
LARGE_TILE_BYTES = 400 * 2**20
UNTILED_PIXELS = 384 * 384
"""Smaller LR images are enlarged in one piece unless a tile size is given."""
# Some networks pad by reflection, which a side of a few pixels cannot serve.
_SMALLEST_SIDE = 8


@dataclass(frozen=True)
class Span:
    """Rows, or columns, of the LR image: those of a tile, and those that are read for it."""

    start: int
    stop: int
    first: int
    """Clipped, not padded, at the edges of the image: the network then sees the edge as in one piece."""
    last: int

    @property
    def read(self) -> slice:
        return slice(self.first, self.last)

    def made(self, scale: int) -> slice:
        """Where the result is in the enlarged image."""
        return slice(self.start * scale, self.stop * scale)

    def inner(self, scale: int) -> slice:
        """Where the result is in what was enlarged."""
        return slice((self.start - self.first) * scale, (self.stop - self.first) * scale)


@dataclass(frozen=True)
class Tiles:
    """How an image is cut."""

    side: int
    """LR px."""
    margin: int

    def spans(self, size: int) -> Iterator[Span]:
        """Of the rows, or columns, of an image with so many."""
        for start in range(0, size, self.side):
            stop = min(start + self.side, size)
            yield Span(start, stop, max(start - self.margin, 0), min(stop + self.margin, size))


def tiles_of(upscaler: Upscaler, height: int, width: int, tile: int | None) -> Tiles:
    """`tile` is the side in LR px, None: `DEFAULT_TILE` above `UNTILED_PIXELS`, 0: one piece. It is filled up to whole
    windows of attention. A network that sums up the whole image is given one piece, unless `tile` says otherwise."""
    if tile is None:
        tile = DEFAULT_TILE if _is_tiled(upscaler, height, width) else 0
    return Tiles(_whole(upscaler, tile or max(height, width)), _margin(upscaler))


def tiles_of_photo(upscaler: Upscaler, height: int, width: int, tile: int | None) -> Tiles:
    """Of a picture and of its file, which must be equal: `tiles_of`, but `LARGE_TILE` where the network takes little
    memory, which is tried."""
    if tile is None and _is_tiled(upscaler, height, width):
        side = LARGE_TILE + 2 * _margin(upscaler)
        tile = LARGE_TILE if tile_bytes(upscaler, side, side) <= LARGE_TILE_BYTES else None
    return tiles_of(upscaler, height, width, tile)


def tile_warning(upscaler: Upscaler, tile: int | None) -> str:
    """What users of tiles of this size must know; empty where there is nothing."""
    if not tile or not upscaler.reach.sums_up:
        return ""
    return (
        f"model {upscaler.name} normalises by the whole image: in tiles the result differs from that in one piece, and "
        "their borders may show"
    )


def _is_tiled(upscaler: Upscaler, height: int, width: int) -> bool:
    return height * width > UNTILED_PIXELS and not upscaler.reach.sums_up


def _margin(upscaler: Upscaler) -> int:
    # Not less than the smallest side, so that narrow last tiles need no padding.
    return _whole(upscaler, max(upscaler.reach.reach_px, _SMALLEST_SIDE))


def _whole(upscaler: Upscaler, side: int) -> int:
    grid = upscaler.reach.grid_px
    return -(-side // grid) * grid


def enlarged(upscaler: Upscaler, x: Any) -> Any:
    """(1, C, h, w) -> (1, C, h * scale, w * scale) in one piece, whatever the size, as `upscaler.arithmetic` has them.

    Raises NotFiniteError when the model gives values that are not finite.
    """
    h, w = x.shape[-2:]
    below, right = max(_SMALLEST_SIDE - h, 0), max(_SMALLEST_SIDE - w, 0)
    if below or right:
        x = upscaler.arithmetic.padded(x, below, right)
    y = upscaler(x)[:, :, : h * upscaler.scale, : w * upscaler.scale]
    if not upscaler.arithmetic.is_finite(y):
        raise NotFiniteError(f"model {upscaler.name}: gives values that are not finite")
    return y
