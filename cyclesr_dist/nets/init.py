"""Weight initialisation shared by the networks."""

from __future__ import annotations

from torch import nn


def init_normal(net: nn.Module, std: float = 0.02) -> None:
    """Draw convolution weights from N(0, std^2) and zero their biases: CycleGAN's initialisation."""
    for module in net.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.normal_(module.weight, 0.0, std)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
