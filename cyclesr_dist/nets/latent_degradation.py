"""A degradation whose kernel and noise are drawn: equation (1) with learned distributions (Luo et al. 2022, PDM)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cyclesr_dist.errors import ConfigError

_LATENT = 64
"""Numbers that a kernel is made of, as in PDM."""
_REACH = 2
"""LR pixels that a kernel reaches to each side of the one that it makes: 20 px at x4, PDM has 21."""


class LatentDegradation(nn.Module):
    """(N, 3 * scale**2 + E, h, w) -> (N, 3, h, w), about [0, 1]: HR by `pixel_unshuffle`, E >= 2 channels of noise.

    y = (x * k)↓ + n. k is made of 64 numbers of the last channel of noise, not negative and of sum 1, one for a sample;
    n of the other channels and of the blurred image. It starts with a Gaussian kernel and without noise.
    """

    def __init__(self, noise: nn.Module, channels: int, blocks: int, scale: int) -> None:
        """noise: a translator with E - 1 channels of noise. channels, blocks: of the kernel's network."""
        super().__init__()
        self.scale = scale
        self.side = (2 * _REACH + 1) * scale
        layers: list[nn.Module] = [nn.Linear(_LATENT, channels), nn.LeakyReLU(0.2)]
        for _ in range(blocks):
            layers += [nn.Linear(channels, channels), nn.LeakyReLU(0.2)]
        last = nn.Linear(channels, self.side**2)
        nn.init.zeros_(last.weight)
        away = torch.arange(self.side) - (self.side - 1) / 2
        with torch.no_grad():
            last.bias.copy_((-(away[:, None].square() + away.square()) / (2 * (scale / 2) ** 2)).flatten())
        self.kernel = nn.Sequential(*layers, last)
        self.noise = noise

    def forward(self, x: Tensor) -> Tensor:
        blurred = self.blurred(x)
        out: Tensor = self.noise(torch.cat([blurred.detach(), x[:, 3 * self.scale**2 : -1]], 1))
        return blurred + (out - blurred.detach())

    def blurred(self, x: Tensor) -> Tensor:
        """The same without n."""
        n = len(x)
        hr = F.pixel_shuffle(x[:, : 3 * self.scale**2], self.scale)
        k = self.kernels(x).view(n, 1, 1, self.side, self.side).expand(n, 3, 1, self.side, self.side)
        pad = _REACH * self.scale
        wide = F.pad(hr, (pad, pad, pad, pad), mode="reflect").flatten(0, 1)[None]
        out = F.conv2d(wide, k.flatten(0, 1).to(wide.dtype), stride=self.scale, groups=3 * n)
        return out.view(n, 3, *x.shape[-2:])

    def kernels(self, x: Tensor) -> Tensor:
        """(N, side * side), of sum 1. Raises ConfigError for LR of fewer than 64 pixels."""
        latent = x[:, -1].flatten(1)[:, :_LATENT]
        if latent.shape[1] < _LATENT:
            raise ConfigError(f"LR patches of {tuple(x.shape[-2:])} px with system = pdm; allowed: 8 x 8 px or more")
        drawn: Tensor = self.kernel(latent)
        return drawn.softmax(1)
