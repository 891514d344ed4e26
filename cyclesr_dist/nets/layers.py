"""InstanceNorm as PyTorch's, in another way on CPUs. It is PyTorch's until `tune` says so.

Rounding differs; gradients agree to 1e-6 (tests/nets/test_tuned.py). Effects: docs/performance.md.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class InstanceNorm(nn.InstanceNorm2d):
    """Without affine part and running statistics. PyTorch's own goes through BatchNorm, and through a copy where its
    input is channels_last."""

    fast = False

    def forward(self, x: Tensor) -> Tensor:
        if not self.fast or x.device.type == "cuda":  # whose kernels keep bf16, with statistics in fp32
            return super().forward(x)
        if _is_channels_last(x):
            y: Tensor = _PixelNorm.apply(x, self.eps)  # type: ignore[no-untyped-call]  # torch's own annotation
            return y
        return F.group_norm(x, x.shape[1], eps=self.eps)  # groups of one channel: the same


class _PixelNorm(torch.autograd.Function):
    """InstanceNorm that keeps (N, C, H, W) in channels_last memory; statistics in at least single precision."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, eps: float) -> Tensor:
        pixels = _pixels(x)
        wide = pixels.float() if pixels.dtype in (torch.float16, torch.bfloat16) else pixels
        y = wide - wide.mean(1, keepdim=True)
        scale = y.square().mean(1, keepdim=True).add_(eps).rsqrt_()
        y = y.mul_(scale).to(x.dtype)
        ctx.save_for_backward(y, scale)
        return _image(y, x)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        y, scale = ctx.saved_tensors
        grad = _pixels(grads[0].contiguous(memory_format=torch.channels_last)).to(scale.dtype)
        along = (grad * y).mean(1, keepdim=True)
        dx = (grad - grad.mean(1, keepdim=True)).addcmul_(y, along, value=-1).mul_(scale)
        return _image(dx.to(y.dtype), grads[0]), None


def _is_channels_last(x: Tensor) -> bool:
    return x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()


def _pixels(x: Tensor) -> Tensor:
    """channels_last (N, C, H, W) -> (N, H * W, C), a view."""
    return x.permute(0, 2, 3, 1).flatten(1, 2)


def _image(pixels: Tensor, like: Tensor) -> Tensor:
    """The reverse of `_pixels`."""
    n, c, h, w = like.shape
    return pixels.view(n, h, w, c).permute(0, 3, 1, 2)
