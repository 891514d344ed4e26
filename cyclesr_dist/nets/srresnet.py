"""SRResNet (Ledig et al. 2017), the paper's SR network on the NTIRE 2018 tracks."""

from __future__ import annotations

from torch import Tensor, nn

from cyclesr_dist.nets.few_outputs import FewOutputsConv
from cyclesr_dist.nets.upsampler import pixel_shuffle_stages


class _Block(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1),
            nn.BatchNorm2d(channels),
            nn.PReLU(),
            nn.Conv2d(channels, channels, 3, padding=1),
            nn.BatchNorm2d(channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.body(x)
        return out


class SRResNet(nn.Module):
    """(N, 3, h, w) in [0, 1] -> (N, 3, h * scale, w * scale), about [0, 1]. The paper's has 16 blocks of 64."""

    def __init__(self, channels: int, blocks: int, scale: int) -> None:
        super().__init__()
        self.head = nn.Sequential(nn.Conv2d(3, channels, 9, padding=4), nn.PReLU())
        self.body = nn.Sequential(
            *(_Block(channels) for _ in range(blocks)),
            nn.Conv2d(channels, channels, 3, padding=1),
            nn.BatchNorm2d(channels),
        )
        self.up = pixel_shuffle_stages(channels, scale, nn.PReLU)
        self.tail = FewOutputsConv(channels, 3, 9, padding=4)

    def forward(self, x: Tensor) -> Tensor:
        features = self.head(x)
        out: Tensor = self.tail(self.up(features + self.body(features)))
        return out
