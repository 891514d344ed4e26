"""The two collectives of training besides gradient averaging. Alone, both are the plain operation."""

from __future__ import annotations

from collections.abc import Sequence
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


def fetch_samples(x: Tensor, wanted: Sequence[Sequence[int]], rank: int) -> dict[int, Tensor]:
    """Samples of all ranks' batches, by number, without gradient: sample i is row i % N of rank i // N's x, (N, ...).

    wanted[r]: the numbers that rank r asks for, the same lists on every rank. Only these travel. All ranks call it.
    """
    x, num = x.detach(), len(x)
    mine = {i: x[i % num] for i in wanted[rank] if i // num == rank}
    asked = [[i for i in wanted[rank] if i // num == r != rank] for r in range(len(wanted))]
    given = [[i % num for i in of if i // num == rank != r] for r, of in enumerate(wanted)]
    if all(i // num == r for r, of in enumerate(wanted) for i in of):
        return mine
    numbers = [i for of in asked for i in of]
    got = x.new_empty(len(numbers), *x.shape[1:])
    rows = x[[row for of in given for row in of]].contiguous()  # what travels is memory, whatever its layout
    dist.all_to_all_single(got, rows, [len(of) for of in asked], [len(of) for of in given])
    return mine | dict(zip(numbers, got, strict=True))
