"""MSRResNet: SRResNet without BatchNorm, as ESRGAN's authors train it (mmsr, BasicSR)."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

_SLOPE = 0.1
_STAGES = {2: (2,), 3: (3,), 4: (2, 2), 8: (2, 2, 2)}


class _Block(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.conv2(F.relu(self.conv1(x)))
        return out


class MSRResNet(nn.Module):
    """(N, 3, h, w) in [0, 1] -> (N, 3, h * scale, w * scale), about [0, 1].

    Adds to the bilinear enlargement. The usual 16 blocks of 64 have 1,517,571 parameters at x4; with b blocks an output
    pixel depends on 2 b + 3 LR pixels in each direction. Layers are named as in BasicSR, which has no x8.
    """

    def __init__(self, channels: int, blocks: int, scale: int) -> None:
        super().__init__()
        self.scale = scale
        self.stages = _STAGES[scale]
        self.conv_first = nn.Conv2d(3, channels, 3, padding=1)
        self.body = nn.Sequential(*(_Block(channels) for _ in range(blocks)))
        for number, factor in enumerate(self.stages, 1):
            self.add_module(f"upconv{number}", nn.Conv2d(channels, channels * factor**2, 3, padding=1))
        self.conv_hr = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv_last = nn.Conv2d(channels, 3, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.body(F.leaky_relu(self.conv_first(x), _SLOPE))
        for number, factor in enumerate(self.stages, 1):
            y = F.leaky_relu(F.pixel_shuffle(self.get_submodule(f"upconv{number}")(y), factor), _SLOPE)
        y = self.conv_last(F.leaky_relu(self.conv_hr(y), _SLOPE))
        out: Tensor = y + F.interpolate(x, scale_factor=self.scale, mode="bilinear", align_corners=False)
        return out
