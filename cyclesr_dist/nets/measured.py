"""g_s2r that starts from a measured degradation (`nets.translator.kind: degradation`).

Shapes: N batch, h w LR size. Input (N, 6, h, w): images in [0, 1] and three channels of unit Gaussian noise, which
decide all that is drawn. Output (N, 3, h, w), about [0, 1].
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cyclesr_dist.degradation.apply import DRAW_CHANNELS, translate
from cyclesr_dist.degradation.record import NAMES, Degradation
from cyclesr_dist.nets.buffers import StateSized
from cyclesr_dist.nets.translator import ResidualTranslator

_LOCAL_PX = 9


class MeasuredDegradation(StateSized):
    """k * x + n as it was estimated; nothing in it is trained. Without an estimate it is the identity.

    The estimate lies in buffers, so that checkpoints hold it; their sizes are those of the state that is loaded.
    """

    def __init__(self, degradation: Degradation | None = None) -> None:
        super().__init__()
        if degradation is None:
            white = torch.eye(3)[..., None, None]
            degradation = Degradation(
                torch.ones(1, 1, 1), torch.zeros(3), torch.ones(1), white, torch.zeros(0, 3, 1, 1), {}
            )
        for name, tensor in degradation.tensors().items():
            self.register_buffer(name, tensor.clone())

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):  # noise of half a level would be rounded away
            return translate(x[:, :3].float(), x[:, 3:].float(), **{name: getattr(self, name) for name in NAMES})

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        if any(prefix + name in state_dict for name in NAMES):
            state_dict.setdefault(prefix + "jpeg", torch.zeros(0))  # states of before have none
        super()._load_from_state_dict(state_dict, prefix, *rest)


class DegradationTranslator(nn.Module):
    """The measured degradation, and a residual network behind it that starts at zero and learns what is left.

    What it adds has no local mean: brightness and colour are those of the input, whatever a discriminator asks for.
    """

    def __init__(self, channels: int, blocks: int, degradation: Degradation | None = None) -> None:
        super().__init__()
        self.measured = MeasuredDegradation(degradation)
        self.residual = ResidualTranslator(channels, blocks, DRAW_CHANNELS)

    def forward(self, x: Tensor) -> Tensor:
        measured: Tensor = self.measured(x)
        added = self.residual(torch.cat([measured, x[:, 3:]], 1)) - measured
        half = min(_LOCAL_PX // 2, min(x.shape[-2:]) - 1)
        mean = F.avg_pool2d(F.pad(added, (half,) * 4, mode="reflect"), 2 * half + 1, stride=1)
        made: Tensor = measured + added - mean
        return made
