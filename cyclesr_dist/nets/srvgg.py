"""SRVGGNetCompact (Wang et al. 2021): the small networks of Real-ESRGAN, called "compact" in other programs."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from cyclesr_dist.nets.to_pixels import ToPixels


class SRVGGNet(nn.Module):
    """(N, 3, h, w) in [0, 1] -> (N, 3, h * scale, w * scale), about [0, 1].

    Convolutions with PReLU, all at LR size, added to the enlargement by nearest neighbours. 32 blocks of 64 at x4
    (realesr-general-x4v3): 1,213,296 parameters; 16 blocks (realesr-animevideov3): 621,424. With b blocks an output
    pixel depends on b + 2 LR pixels in each direction. Layers are named as in that project.
    """

    def __init__(self, channels: int, blocks: int, scale: int) -> None:
        super().__init__()
        self.scale = scale
        layers: list[nn.Module] = [nn.Conv2d(3, channels, 3, padding=1), nn.PReLU(channels)]
        for _ in range(blocks):
            layers += [nn.Conv2d(channels, channels, 3, padding=1), nn.PReLU(channels)]
        self.body = nn.Sequential(*layers, nn.Conv2d(channels, 3 * scale**2, 3, padding=1))
        self.shuffle = ToPixels(scale)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.shuffle(self.body(x))
        return out + F.interpolate(x, scale_factor=self.scale, mode="nearest")
