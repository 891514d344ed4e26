"""A translator at HR size behind bicubic enlargement: g_l2h of `system: cyclegan`."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cyclesr_dist.data.resize import bicubic_up

_MULTIPLE = 4  # what CycleGAN's generator needs its sides to be


def enlarged(x: Tensor, scale: int) -> Tensor:
    """(N, 3, h, w) in [0, 1] -> (N, 3, h * scale, w * scale) in [0, 1]: overshoot is clipped, as in a file."""
    return bicubic_up(x, scale).clamp(0, 1)


class EnlargeFirst(nn.Module):
    """(N, 3, h, w) in [0, 1] -> (N, 3, h * scale, w * scale), about [0, 1]."""

    def __init__(self, translator: nn.Module, scale: int) -> None:
        super().__init__()
        self.translator = translator
        self.scale = scale

    def forward(self, x: Tensor) -> Tensor:
        wide = enlarged(x, self.scale)
        height, width = wide.shape[-2:]
        padding = (0, -width % _MULTIPLE, 0, -height % _MULTIPLE)
        if torch.compiler.is_exporting() or any(padding):  # an exported graph takes any size
            wide = F.pad(wide, padding, mode="replicate")
        out: Tensor = self.translator(wide)
        return out[..., :height, :width]
