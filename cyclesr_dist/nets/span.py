"""SPAN, the swift parameter-free attention network (Wan et al. 2023)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cyclesr_dist.nets.edsr import DIV2K_MEAN
from cyclesr_dist.nets.to_pixels import ToPixels

_RANGE = 255.0
_GAIN = 2  # of channels, inside a convolution while it is trained
PUBLISHED_BLOCKS = 6


class MergedConv(nn.Module):
    """A 3 x 3 convolution whose kernel is learned in parts: 1 x 1, 3 x 3 and 1 x 1 one after the other, with twice the
    channels between them, and a 1 x 1 beside them.

    There is no activation between the parts, so they are one kernel, which each forward computes from them. Gradients
    reach the parts through it; the result is that of the parts, in a fifth of their time.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.sk = nn.Conv2d(inputs, outputs, 1)
        self.conv = nn.Sequential(
            nn.Conv2d(inputs, _GAIN * inputs, 1),
            nn.Conv2d(_GAIN * inputs, _GAIN * outputs, 3),
            nn.Conv2d(_GAIN * outputs, outputs, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):  # the product of three kernels needs single precision
            parts = [(layer.weight, layer.bias) for layer in (self.sk, *self.conv)]
            weight, bias = merged(*parts)
        return F.conv2d(x, weight, bias, padding=1)


def merged(
    beside: tuple[Tensor, Tensor],
    first: tuple[Tensor, Tensor],
    middle: tuple[Tensor, Tensor],
    last: tuple[Tensor, Tensor],
) -> tuple[Tensor, Tensor]:
    """Kernel (outputs, inputs, 3, 3) and bias (outputs,) of the convolution that the parts, each a kernel and a bias,
    are together."""
    weight = torch.einsum("oh,hgij,gc->ocij", last[0].flatten(1), middle[0], first[0].flatten(1))
    bias = last[0].flatten(1) @ (middle[0].sum((2, 3)) @ first[1] + middle[1]) + last[1]
    return weight + F.pad(beside[0], (1, 1, 1, 1)), bias + beside[1]


class _Block(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.c1_r = MergedConv(channels, channels)
        self.c2_r = MergedConv(channels, channels)
        self.c3_r = MergedConv(channels, channels)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The block's output, and what its first convolution has found."""
        early = F.silu(self.c1_r(x))
        y = self.c3_r(F.silu(self.c2_r(early)))
        return (y + x) * (torch.sigmoid(y) - 0.5), early


class SPAN(nn.Module):
    """(N, 3, h, w) in [0, 1] -> (N, 3, h * scale, w * scale), about [0, 1].

    SPAN has 6 blocks of 48 (SPAN-S: 28): 1,840,488 parameters at x4 while it is trained, which are merged into 426,288.
    With b blocks an output pixel depends on 3 b + 3 LR pixels in each direction. With `mean_shift` the layers see
    255 * (x - mean), as those of the authors' weights do; nothing is added at the end. Layers are named as in that
    project.
    """

    def __init__(self, channels: int, blocks: int, scale: int, mean_shift: bool = False) -> None:
        super().__init__()
        self.mean_shift = mean_shift
        self.blocks = blocks
        self.conv_1 = MergedConv(3, channels)
        for number in range(1, blocks + 1):
            self.add_module(f"block_{number}", _Block(channels))
        self.conv_cat = nn.Conv2d(4 * channels, channels, 1)
        self.conv_2 = MergedConv(channels, channels)
        self.upsampler = nn.Sequential(nn.Conv2d(channels, 3 * scale**2, 3, padding=1), ToPixels(scale))

    def forward(self, x: Tensor) -> Tensor:
        if self.mean_shift:
            x = (x - x.new_tensor(DIV2K_MEAN).view(1, 3, 1, 1)) * _RANGE
        features = self.conv_1(x)
        outputs, early = [features], features
        for number in range(1, self.blocks + 1):
            y, early = self.get_submodule(f"block_{number}")(outputs[-1])
            outputs.append(y)
        y = torch.cat([features, self.conv_2(outputs[-1]), outputs[1], early], 1)
        out: Tensor = self.upsampler(self.conv_cat(y))
        return out
