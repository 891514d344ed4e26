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
        for maps, channels in zip(self.features.maps(torch.cat((x, y))), self.channels, strict=True):
            a, b = (maps / (maps.square().sum(1, keepdim=True).sqrt() + 1e-10)).chunk(2)
            total += torch.einsum("nchw,c->n", (a - b).square(), channels) / (a.shape[2] * a.shape[3])
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
        both = torch.cat((x, y))
        likeness, used = x.new_zeros(x.shape[0]), 0
        for maps in chain((both,), self.features.maps(both)):
            mine = slice(used, used + maps.shape[1])
            used = mine.stop
            mean = maps.mean((2, 3), keepdim=True)
            centred = maps - mean
            (mean_x, mean_y), (x_, y_) = mean[:, :, 0, 0].chunk(2), centred.chunk(2)
            texture = (2 * mean_x * mean_y + _DISTS_C) / (mean_x.square() + mean_y.square() + _DISTS_C)
            covariance = (x_ * y_).mean((2, 3))
            variances = x_.square().mean((2, 3)) + y_.square().mean((2, 3))
            structure = (2 * covariance + _DISTS_C) / (variances + _DISTS_C)
            likeness += texture @ self.alpha[mine] + structure @ self.beta[mine]
        return 1 - likeness


def _loaded(features: FeatureMaps, weights: Mapping[str, Tensor]) -> FeatureMaps:
    own = {name for name in features.state_dict() if name.startswith("features.")}
    features.load_state_dict({name: weights[name].float() for name in own}, strict=False)
    return features
