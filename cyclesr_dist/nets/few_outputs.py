"""A convolution that computes what PyTorch's does, in ways that suit few outputs. It is PyTorch's until `tune` says so.

Rounding differs; gradients agree to 1e-6 (tests/nets/test_tuned.py). Effects: docs/performance.md.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class FewOutputsConv(nn.Conv2d):
    """A convolution with few outputs, the last of a network: (N, C, H, W) -> (N, O, H', W').

    A CPU convolution computes blocks of 8 or 16 outputs, of which 3 colours leave most empty. Each of the kernel's K
    rows is taken for outputs of its own instead, O * K of them with kernels 1 x K, which are then added up, each moved
    by its row. Where there are so many inputs that even O * K * K outputs are no more, see `by_taps`; on a GPU see
    `by_blocks`. Stride 1, no dilation, no groups.
    """

    fast = False

    def forward(self, x: Tensor) -> Tensor:
        padding = (int(self.padding[0]), int(self.padding[1]))
        if not self.fast or (x.device.type == "cuda" and not fits_blocks(x, self.weight, padding)):
            return super().forward(x)
        if x.device.type == "cuda":
            return by_blocks(x, self.weight, self.bias, padding[0])
        if self.out_channels * math.prod(self.kernel_size) <= self.in_channels and not torch.is_autocast_enabled("cpu"):
            return by_taps(x, self.weight, self.bias, padding)
        weight, bias = self.weight, self.bias
        if torch.is_autocast_enabled("cpu"):
            dtype = torch.get_autocast_dtype("cpu")
            x, weight, bias = x.to(dtype), weight.to(dtype), None if bias is None else bias.to(dtype)
        y: Tensor = _RowByRow.apply(x, weight, padding)  # type: ignore[no-untyped-call]  # torch's own annotation
        return y if bias is None else y + bias.view(1, -1, 1, 1)


def by_taps(x: Tensor, weight: Tensor, bias: Tensor | None, padding: tuple[int, int]) -> Tensor:
    """The same convolution: what each pixel adds to each output it is seen by, one matrix product, and their sums.
    Padding is at most the kernel's size less one."""
    _, inputs, *kernel = weight.shape
    n, _, *sides = x.shape
    taps = weight.flip(2, 3).permute(1, 0, 2, 3).reshape(inputs, -1)
    parts = (x.permute(0, 2, 3, 1).reshape(-1, inputs) @ taps).view(n, sides[0] * sides[1], -1).transpose(1, 2)
    size = tuple(side + 2 * p - k + 1 for side, p, k in zip(sides, padding, kernel, strict=True))
    y = F.fold(parts, size, tuple(kernel), padding=tuple(k - 1 - p for p, k in zip(padding, kernel, strict=True)))
    return y if bias is None else y + bias.view(1, -1, 1, 1)


def fits_blocks(x: Tensor, weight: Tensor, padding: tuple[int, int]) -> bool:
    """Whether `by_blocks` can be used: a square kernel of odd side, whole blocks, padded by one block or not at all."""
    rows, columns = weight.shape[2:]
    reach = rows // 2
    whole = reach > 0 and rows == columns == 2 * reach + 1 and not (x.shape[2] % reach or x.shape[3] % reach)
    return whole and padding in ((0, 0), (reach, reach))


def by_blocks(x: Tensor, weight: Tensor, bias: Tensor | None, padding: int) -> Tensor:
    """The same convolution over squares of b x b pixels, b the kernel's reach: a 3 x 3 kernel with b * b * C inputs and
    b * b * O outputs, which fill a GPU's matrix units as 3 outputs do not, though nearly half of the taps are zeros.
    """
    outputs, inputs, side, _ = weight.shape
    b = side // 2
    place = _places(b, weight.device).to(weight.dtype)
    taps = torch.einsum("ocpq,yuip,xvjq->oyxcijuv", weight, place, place)
    squares = F.pixel_unshuffle(x, b).contiguous(memory_format=torch.channels_last)
    every = None if bias is None else bias.repeat_interleave(b * b)
    y = F.conv2d(squares, taps.reshape(outputs * b * b, inputs * b * b, 3, 3), every, padding=padding // b)
    return F.pixel_shuffle(y, b)


def _places(b: int, device: torch.device) -> Tensor:
    """(b, 3, b, 2b + 1): 1 where output row y of a square meets row i of square u (0: above, 2: below) in tap p."""
    y, u, i = (torch.arange(n, device=device) for n in (b, 3, b))
    tap = u[None, :, None] * b + i[None, None, :] - y[:, None, None]
    return (tap[..., None] == torch.arange(2 * b + 1, device=device)).float()


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
