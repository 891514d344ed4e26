"""RealPLKSR: partial large kernels (PLKSR, Lee et al. 2024), as the trainers neosr and traiNNer-redux vary them."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cyclesr_dist.nets.to_pixels import ToPixels

KERNEL = 17
PART = 4
"""One of so many channels goes through the large kernel; GroupNorm has as many groups."""
_STD = 0.02


class _PixelNorm(nn.LayerNorm):
    """LayerNorm over the channels of each pixel of (N, C, h, w)."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class _LargeKernel(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, KERNEL, padding=KERNEL // 2)

    def forward(self, x: Tensor) -> Tensor:
        part = self.conv.in_channels
        return torch.cat([self.conv(x[:, :part]), x[:, part:]], 1)


class _Gate(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.f = nn.Sequential(nn.Conv2d(channels, channels, 3, padding=1), nn.Sigmoid())

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x * self.f(x)
        return out


class _Block(nn.Module):
    def __init__(self, channels: int, layer_norm: bool) -> None:
        super().__init__()
        self.layer_norm = _PixelNorm(channels, eps=1e-6) if layer_norm else nn.Identity()
        self.channel_mixer = nn.Sequential(
            nn.Conv2d(channels, 2 * channels, 3, padding=1),
            nn.Mish(),
            nn.Conv2d(2 * channels, channels, 3, padding=1),
        )
        self.lk = _LargeKernel(channels // PART)
        self.attn = _Gate(channels)
        self.refine = nn.Conv2d(channels, channels, 1)
        self.norm = nn.Identity() if layer_norm else nn.GroupNorm(PART, channels)
        for drawn in ("channel_mixer.2", "lk.conv", "attn.f.0", "refine"):
            nn.init.trunc_normal_(self.get_parameter(f"{drawn}.weight"), std=_STD)

    def forward(self, x: Tensor) -> Tensor:
        y = self.channel_mixer(self.layer_norm(x))
        out: Tensor = x + self.norm(self.refine(self.attn(self.lk(y))))
        return out


class RealPLKSR(nn.Module):
    """(N, 3, h, w) in [0, 1] -> (N, 3, h * scale, w * scale), about [0, 1].

    Adds to the enlargement by nearest neighbours. The usual 28 blocks of 64 have 7,389,680 parameters at x4. Each block
    normalises by the whole image (GroupNorm), or with `layer_norm` each pixel by its channels, before the block; then
    with b blocks an output pixel depends on 11 b + 2 LR pixels in each direction. Layers are named as in those
    projects.

    Raises ValueError unless `channels` is a multiple of 4.
    """

    def __init__(self, channels: int, blocks: int, scale: int, layer_norm: bool = False) -> None:
        super().__init__()
        if channels % PART:
            raise ValueError(f"channels is {channels}, not a multiple of {PART}")
        self.scale = scale
        first, last = nn.Conv2d(3, channels, 3, padding=1), nn.Conv2d(channels, 3 * scale**2, 3, padding=1)
        for layer in (first, last):
            nn.init.trunc_normal_(layer.weight, std=_STD)
        # Where the identity is, those projects have a dropout.
        self.feats = nn.Sequential(first, *(_Block(channels, layer_norm) for _ in range(blocks)), nn.Identity(), last)
        self.to_img = ToPixels(scale)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.to_img(self.feats(x))
        return out + F.interpolate(x, scale_factor=self.scale, mode="nearest")
