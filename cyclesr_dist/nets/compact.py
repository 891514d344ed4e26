"""A small SR network without normalisation: EDSR's body (Lim et al. 2017) with ESPCN's one-convolution tail."""

from __future__ import annotations

from torch import Tensor, nn

from cyclesr_dist.nets.to_pixels import BicubicSkip, ToPixels


class Compact(nn.Module):
    """(N, 3, h, w) in [0, 1] -> (N, 3, h * scale, w * scale), about [0, 1].

    All convolutions work at LR size, which is what makes it fit a laptop. With `bicubic_skip` the network adds to the
    bicubic enlargement and starts exactly there. Having no BatchNorm, it trains alike on any number of ranks.
    """

    def __init__(self, channels: int, blocks: int, scale: int, bicubic_skip: bool) -> None:
        super().__init__()
        self.head = nn.Conv2d(3, channels, 3, padding=1)
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(channels, channels, 3, padding=1),
                nn.ReLU(inplace=True),
                nn.Conv2d(channels, channels, 3, padding=1),
            )
            for _ in range(blocks)
        )
        self.tail = nn.Conv2d(channels, 3 * scale**2, 3, padding=1)
        self.shuffle = ToPixels(scale)
        self.skip = BicubicSkip(scale) if bicubic_skip else None
        if bicubic_skip:
            nn.init.zeros_(self.tail.weight)
            nn.init.zeros_(self.tail.bias)  # type: ignore[arg-type]  # built with a bias

    def forward(self, x: Tensor) -> Tensor:
        y = self.head(x)
        for block in self.blocks:
            y = y + block(y)
        out: Tensor = self.shuffle(self.tail(y))
        return out if self.skip is None else out + self.skip(x)
