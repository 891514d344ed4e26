"""EDSR (Lim et al. 2017). Its mean shift is off by default: images are in [0, 1], and a bias can do the same."""

from __future__ import annotations

from torch import Tensor, nn

from cyclesr_dist.nets.upsampler import pixel_shuffle_stages

DIV2K_MEAN = (0.4488, 0.4371, 0.4040)
"""Of the colours of DIV2K's training photographs, as EDSR has it."""
_RANGE = 255.0


class _Block(nn.Module):
    def __init__(self, channels: int, res_scale: float) -> None:
        super().__init__()
        self.res_scale = res_scale
        self.body = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(channels, channels, 3, padding=1),
        )

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.res_scale * self.body(x)
        return out


class EDSR(nn.Module):
    """(N, 3, h, w) in [0, 1] -> (N, 3, h * scale, w * scale), about [0, 1].

    The baseline is 16 blocks of 64 with `res_scale` 1 (1,517,571 parameters at x4), the large one 32 of 256 with 0.1.
    With `mean_shift` the layers see 255 * (x - mean), as those of published weights do.
    """

    def __init__(self, channels: int, blocks: int, scale: int, res_scale: float, mean_shift: bool = False) -> None:
        super().__init__()
        self.mean_shift = mean_shift
        self.head = nn.Conv2d(3, channels, 3, padding=1)
        self.body = nn.Sequential(
            *(_Block(channels, res_scale) for _ in range(blocks)), nn.Conv2d(channels, channels, 3, padding=1)
        )
        self.up = pixel_shuffle_stages(channels, scale, None)
        self.tail = nn.Conv2d(channels, 3, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        if not self.mean_shift:
            return self._enlarged(x)
        mean = x.new_tensor(DIV2K_MEAN).view(1, 3, 1, 1)
        return self._enlarged((x - mean) * _RANGE) / _RANGE + mean

    def _enlarged(self, x: Tensor) -> Tensor:
        features = self.head(x)
        out: Tensor = self.tail(self.up(features + self.body(features)))
        return out
