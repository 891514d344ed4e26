"""L_percep of equation (4), and the texture loss: distances of feature maps. Images are (N, 3, H, W) in [0, 1]."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cyclesr_dist.method.losses.pixel import full, l1


def perceptual(features: nn.Module, x: Tensor, target: Tensor) -> Tensor:
    """L1 distance of VGG features before the ReLU (ESRGAN). `features` gives a list of maps; their mean is taken."""
    return torch.stack([l1(a, b) for a, b in zip(features(x), features(target), strict=True)]).mean()


def texture(features: nn.Module, x: Tensor, target: Tensor) -> Tensor:
    """Mean squared distance of the Gram matrices of VGG features behind the ReLU (Gatys et al. 2016; as a loss for
    super-resolution EnhanceNet, Sajjadi et al. 2017). `features` gives a list of maps; their mean is taken."""
    pairs = zip(features(x), features(target), strict=True)
    return torch.stack([F.mse_loss(gram(F.relu(a)), gram(F.relu(b))) for a, b in pairs]).mean()


def gram(features: Tensor) -> Tensor:
    """(N, C, H, W) -> (N, C, C): mean over pixels of the products of channels, in at least single precision."""
    flat = full(features).flatten(2)
    return flat @ flat.transpose(1, 2) / flat.shape[2]
