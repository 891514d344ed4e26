"""LPIPS and DISTS: distances of two images in the feature maps of a network. 0 for equal images, lower is better.

Images are (N, 3, H, W) in [0, 1], the results (N,). Both are symmetric.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import chain

import torch
from torch import Tensor, nn

from cyclesr_dist.nets.features import VGG16, FeatureMaps, L2Pool, alexnet_layers, vgg_layers
from cyclesr_dist.scoring.perceptual.constants import constants

ALEXNET_PX, VGG16_PX = 31, 16
"""Smallest side: less leaves nothing of the deepest map."""
_ALEXNET_RELUS = (1, 4, 7, 9, 11)
_VGG16_RELUS = (3, 8, 15, 22, 29)  # conv1_2, 2_2, 3_3, 4_3, 5_3
_DISTS_C = 1e-6


class Lpips(nn.Module):
    """LPIPS 0.1 (Zhang et al. 2018): squared differences of unit-length feature vectors, weighted by channel."""

    def __init__(self, backbone: str, weights: Mapping[str, Tensor]) -> None:
        """`backbone`: alexnet or vgg16; `weights`: its convolutions, by torchvision's names."""
        super().__init__()
        layers, relus = (
            (alexnet_layers(), _ALEXNET_RELUS) if backbone == "alexnet" else (vgg_layers(VGG16), _VGG16_RELUS)
        )
        self.features = _loaded(FeatureMaps(layers, relus), weights)
        channels = (constants()[f"lpips.{backbone}.{i}"] for i in range(len(relus)))
        self.channels = nn.ParameterList(nn.Parameter(c, requires_grad=False) for c in channels)

    @torch.no_grad()
    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        total = x.new_zeros(x.shape[0])
        for a, b, channels in zip(self.features.maps(x), self.features.maps(y), self.channels, strict=True):
            difference = (_unit(a) - _unit(b)).square_()
            total += torch.einsum("nchw,c->n", difference, channels) / (a.shape[2] * a.shape[3])
        return total


class Dists(nn.Module):
    """DISTS (Ding et al. 2020): means (texture) and covariances (structure) of VGG16's feature maps and the image."""

    alpha: Tensor
    beta: Tensor

    def __init__(self, weights: Mapping[str, Tensor]) -> None:
        """`weights`: VGG16's convolutions, by torchvision's names."""
        super().__init__()
        self.features = _loaded(FeatureMaps(vgg_layers(VGG16, L2Pool), _VGG16_RELUS), weights)
        alpha, beta = (constants()[f"dists.{name}"] for name in ("alpha", "beta"))
        total = alpha.sum() + beta.sum()
        self.register_buffer("alpha", alpha / total)
        self.register_buffer("beta", beta / total)

    @torch.no_grad()
    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        likeness, used = x.new_zeros(x.shape[0]), 0
        # What an image is itself counts as the first of its maps.
        for a, b in chain(((x, y),), zip(self.features.maps(x), self.features.maps(y), strict=True)):
            mine = slice(used, used + a.shape[1])
            used = mine.stop
            mean_a, mean_b = (m.mean((2, 3), keepdim=True) for m in (a, b))
            texture = (2 * mean_a * mean_b + _DISTS_C) / (mean_a.square() + mean_b.square() + _DISTS_C)
            off_a, off_b = a - mean_a, b - mean_b
            covariance = (off_a * off_b).mean((2, 3))
            variances = off_a.square_().mean((2, 3)) + off_b.square_().mean((2, 3))
            structure = (2 * covariance + _DISTS_C) / (variances + _DISTS_C)
            likeness += texture[:, :, 0, 0] @ self.alpha[mine] + structure @ self.beta[mine]
        return 1 - likeness


def _unit(maps: Tensor) -> Tensor:
    """Of length 1 across the channels, at every pixel."""
    return maps / (maps.square().sum(1, keepdim=True).sqrt() + 1e-10)


def _loaded(features: FeatureMaps, weights: Mapping[str, Tensor]) -> FeatureMaps:
    own = {name for name in features.state_dict() if name.startswith("features.")}
    features.load_state_dict({name: weights[name].float() for name in own}, strict=False)
    return features
