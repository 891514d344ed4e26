"""What a step is given.

Shape legend: N samples of this rank, s scale, h w LR patch size, E noise channels. Images are in [0, 1].
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Batch:
    """One rank's share of a global batch."""

    syn: Tensor
    """I^L_syn (N, 3, h, w), made of `hr` as `data.downsampling` says, on the 8-bit grid."""
    real: Tensor
    """I^L_real (N, 3, h, w), of scenes unrelated to `hr` (for sr_paired: of the same scene)."""
    hr: Tensor
    """I^H (N, 3, s * h, s * w)."""
    noise: Tensor
    """Unit Gaussian noise for g_s2r (2, N, E, h, w): [0] beside syn, [1] beside real and r2s(real)."""
    index: int
    """Index of the global batch's first sample since the start of training."""
    hr_keys: tuple[str, ...]
    lr_keys: tuple[str, ...]
