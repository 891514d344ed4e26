"""Convolution of images with kernels that are drawn from several."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F


def blur(x: Tensor, kernels: Tensor, chance: Tensor) -> Tensor:
    """Convolve each of (N, 3, h, w) with one of `kernels` (m, k, k), chosen by `chance` (N,) in [0, 1)."""
    n, c, h, w = x.shape
    chosen = kernels.flip(-2, -1)[pick(chance, len(kernels))]  # conv2d correlates
    half = kernels.shape[-1] // 2
    framed = padded(x, half).reshape(1, n * c, h + 2 * half, w + 2 * half)
    weight = chosen[:, None, None].expand(n, c, 1, *kernels.shape[1:]).reshape(n * c, 1, *kernels.shape[1:])
    return F.conv2d(framed, weight, groups=n * c).view(n, c, h, w)


def padded(x: Tensor, width: int) -> Tensor:
    """Reflection as far as there are pixels to reflect, and the border's value beyond."""
    inner = min(width, x.shape[-1] - 1, x.shape[-2] - 1)
    framed = F.pad(x, (inner,) * 4, mode="reflect") if inner else x
    return F.pad(framed, (width - inner,) * 4, mode="replicate") if width > inner else framed


def pick(chance: Tensor, count: int) -> Tensor:
    """Indices below `count`, one for each chance in [0, 1)."""
    return (chance * count).long().clamp(max=count - 1)
