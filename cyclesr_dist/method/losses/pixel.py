"""Distances between images in [0, 1]. All return a scalar mean in at least single precision."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def full(x: Tensor) -> Tensor:
    """Half precision to single; float32 and float64 as they are. Losses are never summed in half precision."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def mse(x: Tensor, target: Tensor) -> Tensor:
    """Mean squared error, L_mse of equation (4)."""
    return F.mse_loss(full(x), full(target))


def l1(x: Tensor, target: Tensor) -> Tensor:
    """Mean absolute error, the distance of the cycle and identity terms (CycleGAN, equations 2 and 5 there)."""
    return F.l1_loss(full(x), full(target))
