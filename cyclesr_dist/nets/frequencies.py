"""Low and high frequencies of images, as DSGAN separates them (Fritsche et al. 2019)."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

_PX = 5
"""Side of the square that is averaged, as in DSGAN."""


def low(x: Tensor) -> Tensor:
    """(N, C, h, w) -> (N, C, h, w): the mean of 5 x 5 pixels, at borders of those that there are."""
    return F.avg_pool2d(x, _PX, 1, _PX // 2, count_include_pad=False)


class HighFrequencies(nn.Module):
    """A discriminator, `judge`, that sees high frequencies alone, around mid grey; images (N, 3, h, w) in [0, 1]."""

    def __init__(self, judge: nn.Module) -> None:
        super().__init__()
        self.judge = judge

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.judge(0.5 + (x - low(x)) / 2)
        return out
