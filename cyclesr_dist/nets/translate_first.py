"""Two networks one after the other: a translator that cleans LR, then an SR network. What `cincgan` enlarges with."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_MULTIPLE = 4  # what CycleGAN's generator needs its sides to be


class TranslateFirst(nn.Module):
    """(N, 3, h, w) in [0, 1] -> (N, 3, h * scale, w * scale), about [0, 1]."""

    def __init__(self, translator: nn.Module, sr: nn.Module, scale: int) -> None:
        super().__init__()
        self.translator = translator
        self.sr = sr
        self.scale = scale

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[-2:]
        padding = (0, -width % _MULTIPLE, 0, -height % _MULTIPLE)
        if torch.compiler.is_exporting() or any(padding):  # an exported graph takes any size
            x = F.pad(x, padding, mode="replicate")
        out: Tensor = self.sr(self.translator(x)[..., :height, :width])
        return out
