"""Sub-pixel enlargement (Shi et al. 2016) shared by the SR networks."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn


def pixel_shuffle_stages(channels: int, scale: int, activation: Callable[[], nn.Module] | None) -> nn.Sequential:
    """Convolution + pixel shuffle by 2, log2(scale) times (once by 3 for scale 3); keeps `channels`.

    Raises ValueError for a scale that is neither 3 nor a power of two.
    """
    if scale == 3:
        factors = [3]
    elif scale >= 1 and scale & (scale - 1) == 0:
        factors = [2] * (scale.bit_length() - 1)
    else:
        raise ValueError(f"scale {scale} is neither 3 nor a power of two")
    stages: list[nn.Module] = []
    for factor in factors:
        stages += [nn.Conv2d(channels, channels * factor**2, 3, padding=1), nn.PixelShuffle(factor)]
        if activation is not None:
            stages.append(activation())
    return _Stages(*stages)


class _Stages(nn.Sequential):
    """Activations, which treat all values alike, are taken before the shuffle that follows the convolution: the same
    values, while they lie as the convolution has left them."""

    def forward(self, x: Tensor) -> Tensor:
        shuffle: nn.Module | None = None
        for module in self:
            if isinstance(module, nn.PixelShuffle):
                shuffle = module
                continue
            if isinstance(module, nn.Conv2d) and shuffle is not None:
                x, shuffle = shuffle(x), None
            x = module(x)
        return x if shuffle is None else shuffle(x)
