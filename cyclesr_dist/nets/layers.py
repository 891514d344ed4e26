"""Layers that compute what PyTorch's do, in another way where that is faster. They are PyTorch's until `tune` says so.

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
        if not self.fast:
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
        dx = (grad - grad.mean(1, keepdim=True)).sub_(y * along).mul_(scale)
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


class FewOutputsConv(nn.Conv2d):
    """A convolution with a large kernel and few outputs, the last of a network: (N, C, H, W) -> (N, O, H', W').

    A CPU convolution computes blocks of 16 outputs, of which 3 colours leave 13 empty. Each of the kernel's K rows is
    taken for outputs of its own instead, O * K of them with kernels 1 x K, which are then added up, each moved by its
    row. Stride 1, no dilation, no groups.
    """

    fast = False

    def forward(self, x: Tensor) -> Tensor:
        if not self.fast or x.device.type != "cpu":
            return super().forward(x)
        weight, bias = self.weight, self.bias
        if torch.is_autocast_enabled("cpu"):
            dtype = torch.get_autocast_dtype("cpu")
            x, weight, bias = x.to(dtype), weight.to(dtype), None if bias is None else bias.to(dtype)
        padding = (int(self.padding[0]), int(self.padding[1]))
        y: Tensor = _RowByRow.apply(x, weight, padding)  # type: ignore[no-untyped-call]  # torch's own annotation
        return y if bias is None else y + bias.view(1, -1, 1, 1)


class _RowByRow(torch.autograd.Function):
    """z[o, k] = x * weight[o, :, k]; y[o, i] = sum over k of z[o, k, i + k].

    Backward: the input's gradient is a convolution of the output's with the kernel turned round, the weight's K matrix
    products over all pixels, one a kernel row.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, padding: tuple[int, int]) -> Tensor:
        o, c, k, _ = weight.shape
        ctx.save_for_backward(x, weight)
        ctx.padding = padding
        z = F.conv2d(x, weight.transpose(1, 2).reshape(o * k, c, 1, -1), padding=padding)
        height = z.shape[2] - k + 1
        y = z[:, ::k, :height].clone(memory_format=torch.contiguous_format)
        for row in range(1, k):
            y += z[:, row::k, row : row + height]
        return y

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        x, weight = ctx.saved_tensors
        grad, (py, px) = grads[0], ctx.padding
        dx = d_weight = None
        if ctx.needs_input_grad[0]:
            turned = weight.flip(2, 3).transpose(0, 1)
            dx = F.conv2d(grad, turned, padding=(weight.shape[2] - 1 - py, weight.shape[3] - 1 - px))
        if ctx.needs_input_grad[1]:
            d_weight = _weight_gradient(F.pad(x, (px, px, py, py)), grad, weight.shape)
        return dx, d_weight, None


def _weight_gradient(x: Tensor, grad: Tensor, shape: torch.Size) -> Tensor:
    """sum over n, i, j of grad[n, o, i, j] x[n, c, i + a, j + b], as (O, C, A, B); x (N, C, H, W) is padded already.

    Pixels are numbered through all images, so that a kernel row is a shift of W; `moved` has the columns' shifts in it,
    and zeros where an image has no output.
    """
    o, c, rows, columns = shape
    n, _, h, w = x.shape
    flat = x.contiguous(memory_format=torch.channels_last).permute(0, 2, 3, 1).reshape(-1, c)
    moved = grad.new_zeros(o, columns, n, h, w)
    for column in range(columns):
        moved[:, column, :, : h - rows + 1, column : column + w - columns + 1] = grad.transpose(0, 1)
    moved = moved.view(o * columns, -1)
    used = moved.shape[1] - (rows - 1) * w
    parts = [moved[:, :used] @ flat[row * w : row * w + used] for row in range(rows)]
    return torch.stack(parts).view(rows, o, columns, c).permute(1, 3, 0, 2).contiguous()
