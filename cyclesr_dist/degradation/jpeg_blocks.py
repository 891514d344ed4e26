"""JPEG as a part of a degradation: images through its blocks and back, on any device, in batches.

As the IJG's library does it: YCbCr of ITU-R BT.601, colours at half the resolution both ways, tables K.1 and K.2 of
ITU-T T.81 scaled by the quality. Its integer arithmetic differs by rounding.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from cyclesr_dist.degradation.jpeg import luminance_table

_CHROMA = """
17 18 24 47 99 99 99 99  18 21 26 66 99 99 99 99  24 26 56 99 99 99 99 99  47 66 99 99 99 99 99 99
99 99 99 99 99 99 99 99  99 99 99 99 99 99 99 99  99 99 99 99 99 99 99 99  99 99 99 99 99 99 99 99
"""  # table K.2, row by row
_TO_YCC = ((0.299, 0.587, 0.114), (-0.168736, -0.331264, 0.5), (0.5, -0.418688, -0.081312))


def through_jpeg(x: Tensor, quality: int) -> Tensor:
    """(N, 3, h, w) in [0, 1] -> the same as a JPEG file of `quality`, 1 to 100, would have it. No gradient passes."""
    with torch.no_grad():
        h, w = x.shape[-2:]
        to_ycc = x.new_tensor(_TO_YCC)
        whole = F.pad(x.clamp(0, 1) * 255, (0, -w % 16, 0, -h % 16), mode="replicate")
        ycc = torch.einsum("ij,njhw->nihw", to_ycc, whole)
        y = _quantised(ycc[:, :1] - 128, _table("y", quality, x)) + 128
        cc = _quantised(F.avg_pool2d(ycc[:, 1:], 2), _table("c", quality, x))
        cc = F.interpolate(cc, scale_factor=2, mode="bilinear", align_corners=False)
        back = torch.linalg.inv(to_ycc.double()).to(x.dtype)
        made = torch.einsum("ij,njhw->nihw", back, torch.cat([y, cc], 1))
        return (made[..., :h, :w].round().clamp(0, 255) / 255).to(x.dtype)


def _quantised(x: Tensor, steps: Tensor) -> Tensor:
    """(N, C, h, w), multiples of 8 -> the same with the coefficients of its blocks rounded to multiples of `steps`."""
    n, c, h, w = x.shape
    d = _dct().to(x)
    blocks = x.view(n, c, h // 8, 8, w // 8, 8).transpose(3, 4)
    coefficients = d @ blocks @ d.T
    back = d.T @ ((coefficients / steps).round() * steps) @ d
    return back.transpose(3, 4).reshape(n, c, h, w)


@lru_cache
def _dct() -> Tensor:
    """(8, 8) orthonormal."""
    k, i = torch.arange(8.0)[:, None], torch.arange(8.0)[None]
    d = torch.cos(math.pi * (2 * i + 1) * k / 16) / 2
    d[0] /= math.sqrt(2)
    return d


def _table(which: str, quality: int, like: Tensor) -> Tensor:
    return torch.from_numpy(_steps(which, quality)).to(like)


@lru_cache
def _steps(which: str, quality: int) -> np.ndarray:
    if which == "y":
        return luminance_table(quality).astype(np.float64)
    scale = 5000 // quality if quality < 50 else 200 - 2 * quality
    base = np.array(_CHROMA.split(), dtype=np.int64).reshape(8, 8)
    return ((base * scale + 50) // 100).clip(1, 255).astype(np.float64)
