"""What objectives and systems hand to each other."""

from __future__ import annotations

from typing import TypeAlias

from torch import Tensor

Losses: TypeAlias = dict[str, Tensor]
"""Scalar loss terms by name, unweighted, and `total`, the weighted sum that is differentiated."""

Fakes: TypeAlias = dict[str, Tensor]
"""Generated images by the discriminator that judges them: `d_r`, `d_s`, `d_h`."""

Drift: TypeAlias = dict[str, Tensor]
"""Of fake_real - syn: `mean` and `std`, and `colour`, the largest mean of a colour channel less that of all. A
translator that shifts brightness has a mean, one that tints a colour, one that does nothing no std."""
