"""RRDBNet, the generator of ESRGAN (Wang et al. 2018)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_SCALE = 0.2  # of every residual, in ESRGAN
_STAGES = {2: (2,), 3: (3,), 4: (2, 2), 8: (2, 2, 2)}


class _Dense(nn.Module):
    """Five convolutions, each of which sees all before it."""

    def __init__(self, channels: int, growth: int) -> None:
        super().__init__()
        self.convolutions = nn.ModuleList(
            nn.Conv2d(channels + i * growth, growth if i < 4 else channels, 3, padding=1) for i in range(5)
        )

    def forward(self, x: Tensor) -> Tensor:
        seen = [x]
        for convolution in self.convolutions:
            y = convolution(torch.cat(seen, 1))
            seen.append(F.leaky_relu(y, 0.2))
        out: Tensor = x + _SCALE * y  # the last one has no activation
        return out


class _Block(nn.Module):
    def __init__(self, channels: int, growth: int) -> None:
        super().__init__()
        self.body = nn.Sequential(*(_Dense(channels, growth) for _ in range(3)))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + _SCALE * self.body(x)
        return out


class RRDBNet(nn.Module):
    """(N, 3, h, w) in [0, 1] -> (N, 3, h * scale, w * scale), about [0, 1].

    ESRGAN's has 23 blocks of 64 (16,697,987 parameters at x4); dense connections grow by half the channels.
    """

    def __init__(self, channels: int, blocks: int, scale: int) -> None:
        super().__init__()
        self.stages = _STAGES[scale]
        self.head = nn.Conv2d(3, channels, 3, padding=1)
        self.body = nn.Sequential(
            *(_Block(channels, max(1, channels // 2)) for _ in range(blocks)),
            nn.Conv2d(channels, channels, 3, padding=1),
        )
        self.up = nn.ModuleList(nn.Conv2d(channels, channels, 3, padding=1) for _ in self.stages)
        self.tail = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1), nn.LeakyReLU(0.2), nn.Conv2d(channels, 3, 3, padding=1)
        )

    def forward(self, x: Tensor) -> Tensor:
        y = self.head(x)
        y = y + self.body(y)
        for factor, convolution in zip(self.stages, self.up, strict=True):
            y = F.leaky_relu(convolution(F.interpolate(y, scale_factor=factor, mode="nearest")), 0.2)
        out: Tensor = self.tail(y)
        return out
