"""A step under every backend: their settings, and a batch that all ranks can make."""

from __future__ import annotations

import torch

from cyclesr_dist.data.batch import Batch
from cyclesr_dist.data.resize import bicubic_down
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


def batch_of(step: int, world: World, noise_channels: int = 1) -> Batch:
    """A fixed global batch; this rank's part of it."""
    g = torch.Generator().manual_seed(step)
    hr = torch.rand(GLOBAL_BATCH, 3, 64, 64, generator=g)
    real = torch.rand(GLOBAL_BATCH, 3, 16, 16, generator=g)
    noise = torch.randn(2, GLOBAL_BATCH, noise_channels, 16, 16, generator=g)
    num = GLOBAL_BATCH // world.num_ranks
    part = slice(world.rank * num, (world.rank + 1) * num)
    hr = hr[part]
    return Batch(bicubic_down(hr, 4), real[part], hr, noise[:, part], step * GLOBAL_BATCH, (), ())
