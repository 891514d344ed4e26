"""Translators between the LR domains: g_s2r and g_r2s. Shapes: N batch, C colours, h w LR size, E noise channels.

Both map (N, 3 + E, h, w) to (N, 3, h, w), images in [0, 1]; the E noise channels, if any, are unit Gaussian.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from cyclesr_dist.nets.few_outputs import FewOutputsConv
from cyclesr_dist.nets.init import init_normal
from cyclesr_dist.nets.layers import InstanceNorm


class _ResnetBlock(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.ReflectionPad2d(1),
            nn.Conv2d(channels, channels, 3),
            InstanceNorm(channels),
            nn.ReLU(inplace=True),
            nn.ReflectionPad2d(1),
            nn.Conv2d(channels, channels, 3),
            InstanceNorm(channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.body(x)
        return out


class ResnetTranslator(nn.Module):
    """CycleGAN's ResNet generator (Zhu et al. 2017; Johnson et al. 2016), the paper's translator.

    Works in [-1, 1] inside (tanh); [0, 1] outside. h and w must be multiples of 4, or the output size differs.
    9 blocks of 64: 11,378,179 parameters; 6 blocks: 7,837,699.
    """

    def __init__(self, channels: int, blocks: int, noise_channels: int = 0) -> None:
        super().__init__()
        c = channels
        layers: list[nn.Module] = [
            nn.ReflectionPad2d(3),
            nn.Conv2d(3 + noise_channels, c, 7),
            InstanceNorm(c),
            nn.ReLU(inplace=True),
        ]
        for width in (c, 2 * c):
            layers += [nn.Conv2d(width, 2 * width, 3, 2, 1), InstanceNorm(2 * width), nn.ReLU(inplace=True)]
        layers += [_ResnetBlock(4 * c) for _ in range(blocks)]
        for width in (4 * c, 2 * c):
            layers += [
                nn.ConvTranspose2d(width, width // 2, 3, 2, 1, output_padding=1),
                InstanceNorm(width // 2),
                nn.ReLU(inplace=True),
            ]
        layers += [nn.ReflectionPad2d(3), FewOutputsConv(c, 3, 7), nn.Tanh()]
        self.body = nn.Sequential(*layers)
        init_normal(self)

    def forward(self, x: Tensor) -> Tensor:
        rgb, noise = x[:, :3], x[:, 3:]
        y: Tensor = self.body(torch.cat([2 * rgb - 1, noise], 1))
        return (y + 1) / 2


class ResidualTranslator(nn.Module):
    """x + f(x): no down-sampling, no normalisation, and f starts at zero, so training starts from the identity.

    For small data and few steps, where the CycleGAN generator does not get near its input.
    """

    def __init__(self, channels: int, blocks: int, noise_channels: int = 0) -> None:
        super().__init__()
        self.head = nn.Conv2d(3 + noise_channels, channels, 3, padding=1, padding_mode="reflect")
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(channels, channels, 3, padding=1, padding_mode="reflect"),
                nn.LeakyReLU(0.2),
                nn.Conv2d(channels, channels, 3, padding=1, padding_mode="reflect"),
            )
            for _ in range(blocks)
        )
        self.tail = nn.Conv2d(channels, 3, 3, padding=1, padding_mode="reflect")
        nn.init.zeros_(self.tail.weight)
        nn.init.zeros_(self.tail.bias)  # type: ignore[arg-type]  # built with a bias

    def forward(self, x: Tensor) -> Tensor:
        y = self.head(x)
        for block in self.blocks:
            y = y + block(y)
        out: Tensor = x[:, :3] + self.tail(y)
        return out
