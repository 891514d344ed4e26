"""Whether a model leaves flat colours as they are: one that tints white tints every photograph, without an error."""

from __future__ import annotations

import numpy as np

from cyclesr_dist.models.infer import upscale_image
from cyclesr_dist.models.upscaler import Upscaler

_SHOWN = {"white": 255, "light grey": 192, "mid grey": 128, "dark grey": 64, "black": 0}
_SIDE = 48
"""LR px."""
_LEVELS = 3.0
"""Of 255 that a flat colour may move by. Good runs of the demo stay below, and side by side a person sees more."""


def colour_warning(upscaler: Upscaler) -> str:
    """One line about what the model makes of flat greys, with the worst one's numbers; empty: nothing to see.

    Raises InputError when it gives values that are not finite.
    """
    worst, text = _LEVELS, ""
    for name, level in _SHOWN.items():
        flat = np.full((_SIDE, _SIDE, 3), level / 255, dtype=np.float32)
        large = np.clip(upscale_image(upscaler, flat, 0), 0, 1) * 255
        quarter = large.shape[0] // 4  # the middle: borders are another matter
        found = large[quarter:-quarter, quarter:-quarter].mean(axis=(0, 1))
        if (moved := float(np.abs(found - level).max())) > worst:
            worst = moved
            colour = ", ".join(f"{value:.0f}" for value in found)
            text = f"{name} ({level}, {level}, {level}) becomes ({colour})"
    if not text:
        return ""
    return f"model {upscaler.name}: changes colours: {text}; longer training, or another checkpoint, may not"
