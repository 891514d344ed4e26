"""What enlarges an image: a network, or bicubic. torch is imported when one of these two is used, not before: an .onnx
file needs none."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from cyclesr_dist.models.arithmetic import Arithmetic
from cyclesr_dist.models.reach import BICUBIC_PX, Reach, reach_of

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

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
    def arithmetic(self) -> Arithmetic:
        """Whose arrays it takes and gives."""

    def __call__(self, x: Any) -> Any:
        """(1, 3, h, w) in [0, 1] -> (1, 3, h * scale, w * scale), about [0, 1], float32, on the device of `x`."""


class BicubicUpscaler:
    """The baseline `bicubic`."""

    name = "bicubic"
    reach = Reach(BICUBIC_PX)

    def __init__(self, scale: int) -> None:
        self.scale = scale

    @property
    def device(self) -> torch.device:
        import torch

        return torch.device("cpu")

    @property
    def arithmetic(self) -> Arithmetic:
        return _of_torch(self.device)

    def __call__(self, x: Tensor) -> Tensor:
        from cyclesr_dist.data.resize import bicubic_up

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

    @property
    def arithmetic(self) -> Arithmetic:
        return _of_torch(self.device)

    def __call__(self, x: Tensor) -> Tensor:
        import torch

        with torch.no_grad():
            y: Tensor = self.net(x.to(self.device))
            return y.float().to(x.device)


def _of_torch(device: torch.device) -> Arithmetic:
    from cyclesr_dist.models.torch_arithmetic import TorchArithmetic

    return TorchArithmetic(device)
