"""What objectives and systems hand to each other."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:  # a search knows phases, and does without the seconds that importing torch takes
    from torch import Tensor

Losses: TypeAlias = "dict[str, Tensor]"
"""Scalar loss terms by name, unweighted, and `total`, the weighted sum that is differentiated."""

Fakes: TypeAlias = "dict[str, Tensor]"
"""Generated images by the discriminator that judges them: `d_r`, `d_s`, `d_h`."""

Drift: TypeAlias = "dict[str, Tensor]"
"""Of fake_real - syn: `mean` and `std`, and `colour`, the largest mean of a colour channel less that of all. A
translator that shifts brightness has a mean, one that tints a colour, one that does nothing no std."""


class Phase(Enum):
    """Training phases (the paper's training details)."""

    PRETRAIN = "pretrain"
    """CycleGAN on unpaired LR; g_l2h on bicubic pairs, not connected with each other."""
    JOINT = "joint"
    """Equation (3): g_l2h sees only fake_real, and its gradient reaches g_s2r."""
    TRANSLATE = "translate"
    """First half of cycle_sr_separate: CycleGAN on unpaired LR; g_l2h waits."""
    SEPARATE = "separate"
    """Second half of cycle_sr_separate: g_l2h on fake_real of the frozen g_s2r."""
    CYCLEGAN = "cyclegan"
    """`system: cyclegan`: equation (2) at HR size."""
    SR = "sr"
    """`system: sr_syn` and `sr_paired`: g_l2h on pairs."""
