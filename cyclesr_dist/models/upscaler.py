"""What enlarges an image: a network, or bicubic."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor, nn

from cyclesr_dist.data.resize import bicubic_up
from cyclesr_dist.models.reach import BICUBIC_PX, Reach, reach_of

METADATA_KEY = "cyclesr"
"""Where model files, safetensors and ONNX, hold their description."""


class Upscaler(Protocol):
    """Enlarges an image by a whole factor."""

    @property
    def name(self) -> str:
        """What the user called it."""

    @property
    def scale(self) -> int: ...

    @property
    def reach(self) -> Reach:
        """How far it sees."""

    @property
    def device(self) -> torch.device:
        """Where it computes; an `x` that is there already need not be moved."""

    def __call__(self, x: Tensor) -> Tensor:
        """(1, 3, h, w) in [0, 1] -> (1, 3, h * scale, w * scale), about [0, 1], float32, on the device of `x`."""


class BicubicUpscaler:
    """The baseline `bicubic`."""

    name = "bicubic"
    reach = Reach(BICUBIC_PX)
    device = torch.device("cpu")

    def __init__(self, scale: int) -> None:
        self.scale = scale

    def __call__(self, x: Tensor) -> Tensor:
        return bicubic_up(x, self.scale)


class NetUpscaler:
    """An SR network in eval mode, wherever its weights are."""

    def __init__(self, name: str, net: nn.Module, scale: int) -> None:
        self.name = name
        self.net = net
        self.scale = scale
        self.reach = reach_of(net)

    @property
    def device(self) -> torch.device:
        return next(self.net.parameters()).device

    @torch.no_grad()
    def __call__(self, x: Tensor) -> Tensor:
        y: Tensor = self.net(x.to(self.device))
        return y.float().to(x.device)
