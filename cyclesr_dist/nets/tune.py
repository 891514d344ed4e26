"""`speed:` applied to a network: how it computes, not what."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from cyclesr_dist.config.schema import Speed
from cyclesr_dist.nets.few_outputs import FewOutputsConv
from cyclesr_dist.nets.layers import InstanceNorm
from cyclesr_dist.nets.to_pixels import BicubicSkip, ToPixels

_OUR_OWN = (InstanceNorm, FewOutputsConv, ToPixels, BicubicSkip)
_COMPILED = {"force_layout_optimization": True}
"""All convolutions in channels_last: the compiler by itself gives up where one has fewer outputs than inputs."""


def tune(net: nn.Module, speed: Speed) -> None:
    """Switch on in place what `speed` asks for. Parameters, their names and the results stay, but for rounding."""
    has_norm = any(isinstance(module, nn.InstanceNorm2d) for module in net.modules())
    for module in net.modules():
        if isinstance(module, _OUR_OWN):
            module.fast = not speed.plain
        if isinstance(module, nn.ReLU | nn.LeakyReLU) and not speed.plain and has_norm:
            module.inplace = False  # what it would overwrite is kept for the norm's backward
    if not speed.plain:
        net.register_forward_pre_hook(partial(_to_channels_last, has_norm))
    if speed.recompute:
        net.forward = partial(_recomputed, net, net.forward)
    if speed.compile:
        net.compile(dynamic=False, options=_COMPILED if torch.cuda.is_available() else None)


def _to_channels_last(has_norm: bool, _: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    """On GPUs InstanceNorm and reflection work on contiguous planes, and would copy each time: there they stay."""
    return tuple(
        x.contiguous(memory_format=torch.channels_last)
        if isinstance(x, Tensor) and x.dim() == 4 and not (has_norm and x.is_cuda)
        else x
        for x in inputs
    )


def _recomputed(net: nn.Module, forward: Any, *inputs: Any) -> Any:
    if not torch.is_grad_enabled():
        return forward(*inputs)
    return checkpoint(forward, *inputs, use_reentrant=False, context_fn=partial(_contexts, net))


def _contexts(net: nn.Module) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    return nullcontext(), _statistics_kept(net)


@contextmanager
def _statistics_kept(net: nn.Module) -> Iterator[None]:
    """The second forward leaves BatchNorm's running statistics as the first has made them."""
    norms = [m for m in net.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    before = [(norm.momentum, norm.num_batches_tracked) for norm in norms]
    for norm, (_, counter) in zip(norms, before, strict=True):
        norm.momentum, norm.num_batches_tracked = 0.0, None if counter is None else counter.clone()
    try:
        yield
    finally:
        for norm, (momentum, counter) in zip(norms, before, strict=True):
            norm.momentum, norm.num_batches_tracked = momentum, counter
