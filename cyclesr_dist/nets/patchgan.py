"""PatchGAN discriminators (Isola et al. 2017): d_r, d_s on LR and d_h on HR, any image size."""

from __future__ import annotations

from torch import Tensor, nn

from cyclesr_dist.nets.few_outputs import FewOutputsConv
from cyclesr_dist.nets.init import init_normal
from cyclesr_dist.nets.layers import InstanceNorm


class PatchGAN(nn.Module):
    """(N, 3, H, W) in [0, 1] -> (N, 1, H', W'), a logit or LSGAN score for each overlapping patch.

    `layers` stride-2 convolutions: 3 gives a receptive field of 70 px and, at 64 channels, 2,764,737 parameters;
    2 gives 34 px; 1 gives 16 px. InstanceNorm has no affine part and is left out of the first and the last convolution.
    The smallest input side is 2**layers * 3 px.
    """

    def __init__(self, channels: int, layers: int) -> None:
        super().__init__()
        body: list[nn.Module] = [nn.Conv2d(3, channels, 4, 2 if layers else 1, 1), nn.LeakyReLU(0.2, inplace=True)]
        width = channels
        for i in range(1, layers + 1):
            new_width = channels * min(2**i, 8)
            body.append(nn.Conv2d(width, new_width, 4, 2 if i < layers else 1, 1))
            body.append(InstanceNorm(new_width))
            body.append(nn.LeakyReLU(0.2, inplace=True))
            width = new_width
        body.append(FewOutputsConv(width, 1, 4, 1, 1))
        self.body = nn.Sequential(*body)
        init_normal(self)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.body(2 * x - 1)
        return out
