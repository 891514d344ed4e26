"""The paper's modified VDSR (NTIRE 2017 track): no bicubic input, BN-ReLU-Conv blocks, pixel shuffle at the end."""

from __future__ import annotations

from torch import Tensor, nn

from cyclesr_dist.nets.upsampler import pixel_shuffle_stages


def _bn_relu_conv(channels: int) -> nn.Sequential:
    return nn.Sequential(nn.BatchNorm2d(channels), nn.ReLU(inplace=True), nn.Conv2d(channels, channels, 3, padding=1))


class VDSRMod(nn.Module):
    """(N, 3, h, w) in [0, 1] -> (N, 3, h * scale, w * scale), about [0, 1].

    VDSR's global residual is kept, in feature space, since its bicubic path is removed. 20 blocks of 64 at x4:
    1,114,051 parameters, as in the authors' code (which orders each block Conv-BN-ReLU; the paper says BN-ReLU-Conv).
    """

    def __init__(self, channels: int, blocks: int, scale: int) -> None:
        super().__init__()
        self.head = nn.Conv2d(3, channels, 3, padding=1)
        self.body = nn.Sequential(*(_bn_relu_conv(channels) for _ in range(blocks)))
        self.merge = nn.Sequential(nn.BatchNorm2d(channels), nn.Conv2d(channels, channels, 3, padding=1))
        self.up = pixel_shuffle_stages(channels, scale, None)
        self.tail = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(channels, 3, 3, padding=1),
        )

    def forward(self, x: Tensor) -> Tensor:
        features = self.head(x)
        out: Tensor = self.tail(self.up(features + self.merge(self.body(features))))
        return out
