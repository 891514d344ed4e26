"""What enlarges an image: a network, or bicubic. torch is imported when one of these two is used, not before: an .onnx
file needs none."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from cyclesr_dist.models.arithmetic import Arithmetic

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
    def reach_px(self) -> int:
        """LR pixels farther away than this do not change an output pixel."""

    @property
    def arithmetic(self) -> Arithmetic:
        """Whose arrays it takes and gives."""

    def __call__(self, x: Any) -> Any:
        """(1, 3, h, w) in [0, 1] -> (1, 3, h * scale, w * scale), about [0, 1], float32, on the device of `x`."""


class BicubicUpscaler:
    """The baseline `bicubic`."""

    name = "bicubic"
    reach_px = 3

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
        self.reach_px = _reach_px(net)

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


def _reach_px(net: nn.Module) -> int:
    """Receptive radius in LR px if all convolutions followed one another at LR size: never too small for SR networks.

    The 3 px more are those of a bicubic skip.
    """
    from torch import nn

    reach, jump = 3, 1
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            reach += jump * max(d * (k - 1) // 2 for k, d in zip(module.kernel_size, module.dilation, strict=True))
            jump *= max(module.stride)
    return reach
