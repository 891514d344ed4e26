"""How far a network sees, and how its input may be cut: what tiles have to know."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from torch import nn

BICUBIC_PX = 3
"""What bicubic enlargement sees, also beside a network."""


class Reach(NamedTuple):
    """Of an SR network."""

    reach_px: int
    """LR pixels farther away than this do not change an output pixel, but for what layers sum up of the whole image."""
    grid_px: int = 1
    """A part that begins at a multiple of this is worked on as in the whole image: attention has its windows there."""
    sums_up: bool = False
    """Whether layers sum up the whole image, such as a GroupNorm: a tile then gives another result than one piece."""


def reach_of(net: nn.Module) -> Reach:
    """As if all layers followed one another at LR size: never too small for SR networks.

    Windows of attention that alternate add half a window a layer, since the next one's border lies in the middle; the
    last one adds nearly a whole window.
    """
    from torch import nn  # here: .onnx files are enlarged without torch

    from cyclesr_dist.nets.swinir import SHIFT, WINDOW, WindowAttention

    of_all = (nn.GroupNorm, nn.InstanceNorm2d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d)
    px, jump, windowed, sums_up = BICUBIC_PX, 1, False, False
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            px += jump * max(d * (k - 1) // 2 for k, d in zip(module.kernel_size, module.dilation, strict=True))
            jump *= max(module.stride)
        elif isinstance(module, WindowAttention):
            px += SHIFT
            windowed = True
        elif isinstance(module, of_all):
            sums_up |= not getattr(module, "track_running_stats", False)
    return Reach(px + (SHIFT - 1 if windowed else 0), WINDOW if windowed else 1, sums_up)
