"""What a translator changes, in figures: watched, never trained on."""

from __future__ import annotations

from torch import Tensor

from cyclesr_dist.method.losses.pixel import full
from cyclesr_dist.method.types import Drift


def drift_of(fake_real: Tensor, syn: Tensor) -> Drift:
    """Of translated images and what they were made of, (N, 3, h, w) in [0, 1]; see `Drift`."""
    change = full(fake_real - syn).detach()
    mean = change.mean()
    return {"mean": mean, "std": change.std(), "colour": (change.mean(dim=(0, 2, 3)) - mean).abs().max()}
