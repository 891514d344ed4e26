"""Total variation: what keeps noise out of a translated image."""

from __future__ import annotations

from torch import Tensor

from cyclesr_dist.method.losses.pixel import full


def tv(x: Tensor) -> Tensor:
    """Mean square of the differences of neighbours, down and across, of (N, C, H, W) (Yuan et al. 2018, equation 4)."""
    x = full(x)
    return x.diff(dim=-2).square().mean() + x.diff(dim=-1).square().mean()
