"""Exponential moving average of g_l2h: what is validated and exported when `ema_decay` is positive."""

from __future__ import annotations

import torch
from torch import Tensor

from cyclesr_dist.backends.base import TensorDict


class EMA:
    """avg = decay * avg + (1 - decay) * value, from the first step on; buffers (BatchNorm statistics) are copied."""

    def __init__(self, decay: float, initial: TensorDict) -> None:
        self.decay = decay
        self.average = {name: t.detach().clone() for name, t in initial.items()}

    @torch.no_grad()
    def update(self, params: TensorDict, trainable: set[str]) -> None:
        """`params` by name; those not in `trainable` are copied."""
        for name, value in params.items():
            if name in trainable:
                self.average[name].lerp_(value.to(self.average[name].dtype), 1 - self.decay)
            else:
                self.average[name].copy_(value)

    def state(self) -> dict[str, Tensor]:
        return {name: t.cpu().clone() for name, t in self.average.items()}
