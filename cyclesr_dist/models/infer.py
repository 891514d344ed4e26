"""Enlarging whole photographs, in tiles where they are large. Arrays are (H, W, 3) float32 in [0, 1]."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from cyclesr_dist.data.images import Picture, read_picture, write_picture
from cyclesr_dist.data.photo.transparency import filled
from cyclesr_dist.data.resize import bicubic_up
from cyclesr_dist.errors import InputError
from cyclesr_dist.models.upscaler import Upscaler
from cyclesr_dist.runtime.passing import unwritable

DEFAULT_TILE = 256
"""LR px. Bounds memory at about half a gigabyte for 64 channels at HR size."""
UNTILED_PIXELS = 384 * 384
"""Smaller LR images are enlarged in one piece unless a tile size is given."""
# Some networks pad by reflection, which a side of a few pixels cannot serve.
_SMALLEST_SIDE = 8


def upscale_image(upscaler: Upscaler, rgb: NDArray[np.floating[Any]], tile: int | None = None) -> NDArray[np.float32]:
    """(h, w, 3) in [0, 1] -> (h * scale, w * scale, 3), about [0, 1] (not clipped).

    `tile` is the side in LR px of the squares worked on, None: `DEFAULT_TILE` above `UNTILED_PIXELS`, 0: one piece.
    Each square is given the network's reach of true surroundings, so that the result does not depend on `tile`.
    Raises InputError when the model gives values that are not finite.
    """
    h, w = rgb.shape[:2]
    if tile is None:
        tile = DEFAULT_TILE if h * w > UNTILED_PIXELS else 0
    x = torch.from_numpy(np.ascontiguousarray(rgb, dtype=np.float32)).permute(2, 0, 1)[None]
    y = _in_tiles(upscaler, x, tile) if 0 < tile < max(h, w) else _whole(upscaler, x)
    return y[0].permute(1, 2, 0).contiguous().numpy()


def upscale_picture(upscaler: Upscaler, picture: Picture, tile: int | None = None) -> Picture:
    """`upscale_image` on the colours and bicubic enlargement of the alpha; depth, greyness and profile are kept.

    Colours that nobody can see, where alpha is 0, are made from their neighbours first: they would reach into others.
    """
    rgb, alpha = picture.rgb, picture.alpha
    if alpha is not None:
        rgb = filled(rgb, alpha)
        alpha = bicubic_up(torch.from_numpy(alpha)[None, None], upscaler.scale)[0, 0].clamp(0, 1).numpy()
    return replace(picture, rgb=upscale_image(upscaler, rgb, tile), alpha=alpha)


def upscale_file(upscaler: Upscaler, source: Path, target: Path, tile: int | None = None) -> None:
    """`upscale_picture` from an image file to a PNG file. Raises InputError when one cannot be read or written."""
    picture = upscale_picture(upscaler, read_picture(source), tile)
    try:
        write_picture(target, picture)
    except OSError as error:
        raise unwritable(target, error) from error


def _in_tiles(upscaler: Upscaler, x: Tensor, tile: int) -> Tensor:
    """(1, 3, h, w) -> (1, 3, h * scale, w * scale): the middles of tiles that overlap by the network's reach."""
    h, w = x.shape[-2:]
    s, margin = upscaler.scale, max(upscaler.reach_px, _SMALLEST_SIDE)  # so that narrow last tiles need no padding
    y = torch.empty(1, 3, h * s, w * s)
    for top, left in product(range(0, h, tile), range(0, w, tile)):
        bottom, right = min(top + tile, h), min(left + tile, w)
        # Clipped, not padded, at the edges of the image: the network then sees the edge as in one piece.
        y0, x0 = max(top - margin, 0), max(left - margin, 0)
        part = _whole(upscaler, x[:, :, y0 : bottom + margin, x0 : right + margin])
        y[:, :, top * s : bottom * s, left * s : right * s] = part[
            :, :, (top - y0) * s : (bottom - y0) * s, (left - x0) * s : (right - x0) * s
        ]
    return y


def _whole(upscaler: Upscaler, x: Tensor) -> Tensor:
    """(1, 3, h, w) -> (1, 3, h * scale, w * scale) in one piece, whatever the size."""
    h, w = x.shape[-2:]
    padding = (0, max(_SMALLEST_SIDE - w, 0), 0, max(_SMALLEST_SIDE - h, 0))
    if any(padding):
        x = F.pad(x, padding, mode="replicate")
    y = upscaler(x)[:, :, : h * upscaler.scale, : w * upscaler.scale]
    if not torch.isfinite(y).all():  # here, by tile: of a whole photograph the test takes more memory than itself
        raise InputError(f"model {upscaler.name}: gives values that are not finite")
    return y
