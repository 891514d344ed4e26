"""Which part of an LR image and its HR original show the same: one rule for scores and for pairs of patches.

HR whose sides are no multiple of the scale is cut at the right and bottom, whether LR was rounded down or up.
"""

from __future__ import annotations

from collections.abc import Sequence

from cyclesr_dist.data.folders import Pair
from cyclesr_dist.data.images import image_size
from cyclesr_dist.errors import InputError


def covered_px(lr_px: int, hr_px: int, scale: int) -> int:
    """How many of `lr_px` rows or columns have all their `scale` HR rows or columns among `hr_px`."""
    return min(lr_px, hr_px // scale)


def covered(lr: tuple[int, ...], hr: tuple[int, ...], scale: int, named: tuple[str, str]) -> tuple[int, int]:
    """Height and width in LR px of what both show, from the top left; `scale` times as much of HR belongs to it.

    `lr` and `hr` are (height, width). LR may be H // scale px high, or one more where that leaves a remainder; wide
    alike. Raises InputError, with what the two are `named`, when the sizes do not fit.
    """
    (h, w), (height, width) = lr[:2], hr[:2]
    part = covered_px(h, height, scale), covered_px(w, width, scale)
    if abs(h * scale - height) >= scale or abs(w * scale - width) >= scale or not all(part):
        raise InputError(
            f"{named[0]}: {w}x{h} px"
            + f" enlarged x{scale} is {w * scale}x{h * scale} px" * (scale > 1)
            + f", but {named[1]} is {width}x{height} px"
            + f"; LR was enlarged before: give LR that was not, with sides of 1/{scale} of HR's (of RealSR, version 3)"
            * (scale > 1 and (h, w) == (height, width))
        )
    return part


def check_sizes(pairs: Sequence[Pair], scale: int) -> None:
    """Raise InputError, before any work, where the sizes of a pair do not fit. Only the heads of files are read."""
    for pair in pairs:
        (w, h), (width, height) = image_size(pair.lr), image_size(pair.hr)
        covered((h, w), (height, width), scale, (str(pair.lr), str(pair.hr)))
