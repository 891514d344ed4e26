"""A step under every backend: their settings, and a batch that all ranks can make."""

from __future__ import annotations

import torch

from cyclesr_dist.data.batch import Batch
from cyclesr_dist.data.resize import bicubic_down
from cyclesr_dist.degradation.record import Degradation
from cyclesr_dist.distributed.world import World

GLOBAL_BATCH = 4
BACKENDS = {
    "ddp": ["backend=ddp"],
    "zero0": ["backend=deepspeed", "zero_stage=0"],
    "zero1": ["backend=deepspeed", "zero_stage=1"],
    "zero2": ["backend=deepspeed", "zero_stage=2"],
    "zero3": ["backend=deepspeed", "zero_stage=3"],
}

PLAIN = ["speed.plain=true"]
"""The plain step."""
FEATURES = ["perceptual.layer=0"]
"""Of the first layer of the perceptual network: those of the next one would cost as much as all the rest."""


def batch_of(step: int, world: World, noise_channels: int = 1, size: int = GLOBAL_BATCH) -> Batch:
    """A fixed global batch of `size` samples; this rank's part of it."""
    g = torch.Generator().manual_seed(step)
    hr = torch.rand(size, 3, 32, 32, generator=g)
    real = torch.rand(size, 3, 8, 8, generator=g)
    noise = torch.randn(2, size, noise_channels, 8, 8, generator=g)
    num = size // world.num_ranks
    part = slice(world.rank * num, (world.rank + 1) * num)
    hr = hr[part]
    return Batch(bicubic_down(hr, 4), real[part], hr, noise[:, part], step * size, (), ())


def measured() -> Degradation:
    """A small degradation, as if measured."""
    g = torch.Generator().manual_seed(7)
    kernel = torch.full((2, 3, 3), 0.05)
    kernel[:, 1, 1] = torch.tensor([0.6, 0.6])
    noise = torch.randn(6, 3, 16, 16, generator=g)
    return Degradation(kernel, torch.full((3,), 0.002), torch.ones(1), torch.eye(3)[..., None, None], noise, {})
