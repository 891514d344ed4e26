"""The end of an SR network that works at LR size, in ways that suit CPUs. It is PyTorch's until `tune` says so.

Values are the same but for rounding (tests/nets/test_to_pixels.py). Effects: docs/performance.md.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor, nn

from cyclesr_dist.data.resize import bicubic_up

_MOST_PX = 128
"""A matrix product costs as much as the image has pixels, times its sides: above this it is slower."""


class ToPixels(nn.PixelShuffle):
    """(N, C * s * s, h, w) -> (N, C, h * s, w * s), by one copy there and one back, which PyTorch's makes in two.

    The result lies plane by plane, as the HR images that it is compared with; the gradient pixel by pixel, as
    convolutions want it.
    """

    fast = False

    def forward(self, x: Tensor) -> Tensor:
        if not self.fast or x.device.type == "cuda":
            return super().forward(x)
        s = self.upscale_factor
        n, inputs, h, w = x.shape
        pixels = x.permute(0, 2, 3, 1).view(n, h, w, inputs // (s * s), s, s)
        return pixels.permute(0, 3, 1, 4, 2, 5).reshape(n, inputs // (s * s), h * s, w * s)


class BicubicSkip(nn.Module):
    """`bicubic_up` of (N, C, h, w). A patch is enlarged by two matrix products, in a sixth of the time of PyTorch's."""

    fast = False

    def __init__(self, scale: int) -> None:
        super().__init__()
        self.scale = scale

    def forward(self, x: Tensor) -> Tensor:
        if not self.fast or not _is_patch(x):
            return bicubic_up(x, self.scale)
        rows, columns = (_matrix(side, self.scale, x.dtype) for side in x.shape[2:])
        out: Tensor = rows @ (x.contiguous() @ columns.T)
        return out


def _is_patch(x: Tensor) -> bool:
    """Whether matrix products are faster, and as exact: in bf16 they would not be."""
    if torch.compiler.is_compiling() or torch.is_autocast_enabled("cpu"):
        return False
    return x.device.type == "cpu" and x.dtype in (torch.float32, torch.float64) and max(x.shape[2:]) <= _MOST_PX


@lru_cache(maxsize=32)
@torch.inference_mode(False)
@torch.no_grad()
def _matrix(side: int, scale: int, dtype: torch.dtype) -> Tensor:
    """What enlarges a line of `side` pixels: (side * scale, side)."""
    lines = torch.eye(side, dtype=torch.float64).view(side, 1, side, 1)
    return bicubic_up(lines, scale)[:, 0, :, 0].T.to(dtype)
