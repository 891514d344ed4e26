"""Distances between images in [0, 1]. All return a scalar mean in at least single precision."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from cyclesr_dist.errors import ConfigError


def full(x: Tensor) -> Tensor:
    """Half precision to single; float32 and float64 as they are. Losses are never summed in half precision."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def _check_equal(x: Tensor, target: Tensor) -> None:
    """A smaller image would be stretched over the larger one, and trained on without a word."""
    if x.shape != target.shape:
        raise ConfigError(f"a network gives images {tuple(x.shape)} where {tuple(target.shape)} are compared with them")


def mse(x: Tensor, target: Tensor) -> Tensor:
    """Mean squared error, L_mse of equation (4). Raises ConfigError for images of different sizes."""
    _check_equal(x, target)
    return F.mse_loss(full(x), full(target))


def l1(x: Tensor, target: Tensor) -> Tensor:
    """Mean absolute error, the distance of the cycle and identity terms (CycleGAN, equations 2 and 5 there). Raises as
    `mse`."""
    _check_equal(x, target)
    return F.l1_loss(full(x), full(target))
