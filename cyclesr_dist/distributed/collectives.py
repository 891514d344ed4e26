"""The two collectives of training besides gradient averaging. Alone, both are the plain operation."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


class _MeanOverRanks(torch.autograd.Function):
    """y = mean_r x_r on every rank. Backward: the mean of everybody's gradient.

    With gradients averaged over ranks afterwards, as DDP and ZeRO do, this yields the gradient of the mean loss.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return _all_reduce_mean(x)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        return _all_reduce_mean(grads[0])


def _all_reduce_mean(x: Tensor) -> Tensor:
    total = x.detach().clone()
    dist.all_reduce(total)
    return total / dist.get_world_size()


def mean_over_ranks(x: Tensor) -> Tensor:
    """Mean over all elements of all ranks' x (equal shapes), a differentiable scalar. All ranks call it."""
    if dist.get_world_size() == 1:
        return x.mean()
    mean: Tensor = _MeanOverRanks.apply(x.mean())  # type: ignore[no-untyped-call]  # torch's own annotation
    return mean


def elementwise_mean_over_ranks(x: Tensor) -> Tensor:
    """The mean of all ranks' x, element by element, differentiable. All ranks call it."""
    if dist.get_world_size() == 1:
        return x
    mean: Tensor = _MeanOverRanks.apply(x)  # type: ignore[no-untyped-call]  # torch's own annotation
    return mean


def gather_batch(x: Tensor) -> Tensor:
    """(N, ...) of each rank -> (ranks * N, ...) in rank order, without gradient. All ranks call it."""
    if dist.get_world_size() == 1:
        return x.detach()
    parts = [torch.empty_like(x) for _ in range(dist.get_world_size())]
    dist.all_gather(parts, x.detach().contiguous())
    return torch.cat(parts)
