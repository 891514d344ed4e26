"""L_percep of equation (4)."""

from __future__ import annotations

from torch import Tensor, nn

from cyclesr_dist.losses.pixel import l1


def perceptual(features: nn.Module, x: Tensor, target: Tensor) -> Tensor:
    """L1 distance of VGG features before the ReLU (ESRGAN). x and target: (N, 3, H, W) in [0, 1]."""
    return l1(features(x), features(target))
