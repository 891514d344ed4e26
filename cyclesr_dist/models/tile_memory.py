"""How much memory an upscaler takes for a tile, counted on a small one."""

from __future__ import annotations

from collections.abc import Hashable
from functools import lru_cache
from typing import Any, cast

from cyclesr_dist.models.upscaler import BicubicUpscaler, NetUpscaler, Upscaler

_SIDE = 32
"""LR px."""
_BESIDES = 1.5
"""What libraries take for themselves while they compute: other layouts, parts of a sum."""
_UNKNOWN_CHANNELS = 128
"""At HR size, where torch does not compute."""
_SAMPLES_BYTES = 2 * 3 * 4
"""Of an HR pixel: what becomes samples, and a copy on the way."""


def tile_bytes(upscaler: Upscaler, height: int, width: int) -> int:
    """At most at once, for (1, 3, height, width); what the upscaler holds anyway is not counted."""
    return round(_bytes_a_pixel(cast("Hashable", upscaler)) * height * width)


@lru_cache(maxsize=4)
def _bytes_a_pixel(upscaler: Any) -> float:
    """Of LR: memory grows with the pixels."""
    area = int(upscaler.scale) ** 2
    if not isinstance(upscaler, NetUpscaler | BicubicUpscaler):
        return area * _UNKNOWN_CHANNELS * 4
    import torch

    from cyclesr_dist.models.meter import Meter

    x = torch.zeros(1, 3, _SIDE, _SIDE, device=upscaler.device)
    with Meter() as meter:
        upscaler(x)
    return float(meter.most * _BESIDES / _SIDE**2 + area * _SAMPLES_BYTES)
