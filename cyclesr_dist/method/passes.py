"""How objectives send images through networks, and gradients back: what changes the speed of a step, not its result."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

Passes = Callable[[nn.Module, Sequence[Tensor]], list[Tensor]]
"""A network, and sets of images (N, C, H, W) of one size -> its output for each set."""


def one_by_one(net: nn.Module, sets: Sequence[Tensor]) -> list[Tensor]:
    """One call a set, as public code does it."""
    return [net(images) for images in sets]


def joined(net: nn.Module, sets: Sequence[Tensor]) -> list[Tensor]:
    """One call for all sets: for networks that treat each image by itself, as InstanceNorm does and BatchNorm does not.

    The result is that of `one_by_one` but for rounding.
    """
    if len(sets) == 1:
        return [net(sets[0])]
    return list(net(torch.cat(list(sets))).split([len(images) for images in sets]))


def passing(x: Tensor, factor: float) -> Tensor:
    """x, whose gradient is multiplied by `factor` on its way back."""
    if factor == 1:
        return x
    held = x.detach()
    return held if factor == 0 else held + factor * (x - held)
