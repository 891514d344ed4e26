"""The small numbers that the scores were published with; constants.md beside it has their sources and licences."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from torch import Tensor

from cyclesr_dist.models.tensor_file import tensors_of

_FILE = Path(__file__).with_suffix(".safetensors")


@cache
def constants() -> dict[str, Tensor]:
    """`lpips.<backbone>.0` to `.4` (channels,), `dists.alpha` and `dists.beta` (1475,), `niqe.mean` (36,) and
    `niqe.covariance` (36, 36)."""
    return tensors_of(_FILE)
