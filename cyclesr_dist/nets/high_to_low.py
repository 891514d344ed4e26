"""From HR to LR in one network, for systems that degrade HR itself and not its bicubic reduction."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class HighToLow(nn.Module):
    """(N, 3 * scale**2 + E, h, w) -> (N, 3, h, w), both about [0, 1]: HR by `pixel_unshuffle`, E channels of noise.

    A translator that sees every HR pixel of an LR pixel, and starts from their average (Bulat et al. 2018 reduce by
    average pooling, too).
    """

    def __init__(self, translator: nn.Module, scale: int) -> None:
        """translator: with 3 * scale**2 + E channels of noise."""
        super().__init__()
        self.translator = translator
        self.scale = scale

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.translator(torch.cat([average(x, self.scale), x], 1))
        return out


def average(x: Tensor, scale: int) -> Tensor:
    """(N, 3 * scale**2 + E, h, w), HR by `pixel_unshuffle` first -> (N, 3, h, w), HR by average pooling."""
    return x[:, : 3 * scale**2].reshape(-1, 3, scale**2, *x.shape[-2:]).mean(2)
