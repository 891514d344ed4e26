"""Layers that have a way of their own, against PyTorch's."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def both(layer: nn.Module, x: Tensor) -> list[list[Tensor]]:
    """Output and gradients of `x` and of the parameters, plain and fast."""
    results = []
    for fast in (False, True):
        layer.fast = fast  # type: ignore[assignment]
        own = x.detach().clone(memory_format=torch.preserve_format).requires_grad_()
        y = layer(own)
        weights = torch.sin(torch.arange(y.numel(), dtype=y.dtype)).view(y.shape)
        results.append([y, *torch.autograd.grad((y * weights).sum(), [own, *layer.parameters()])])
    return results
