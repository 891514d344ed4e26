"""The arithmetic around an upscaler's call, samples to numbers and back: what it has to offer, and NumPy's.

torch's is in torch_arithmetic.py. Both give the same samples, bit by bit, for the same numbers.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from cyclesr_dist.data.images import luma
from cyclesr_dist.data.photo.kinds import Samples


class Arithmetic(Protocol):
    """Of the arrays that an upscaler takes and gives, (1, C, h, w) float32."""

    def taken(self, values: NDArray[Any]) -> Any:
        """(h, w, C) samples, or float32 values, which stay as they are -> (1, C, h, w); samples become [0, 1]."""

    def padded(self, x: Any, below: int, right: int) -> Any:
        """With the last row and the last column repeated so often."""

    def is_finite(self, y: Any) -> bool:
        """Whether all values are."""

    def give(self, y: Any, place: NDArray[np.float32]) -> None:
        """(1, C, h, w) into (h, w, C)."""

    def give_samples(self, y: Any, place: Samples) -> None:
        """(1, C, h, w) about [0, 1] into (h, w, c), clipped and rounded to the nearest sample; c = 1 of three colours
        is their luma."""

    def gpu_free(self) -> int | None:
        """Bytes that are free on the GPU that computes; None: the CPU does."""


class NumpyArithmetic:
    """On the CPU."""

    def taken(self, values: NDArray[Any]) -> NDArray[np.float32]:
        planes = values.transpose(2, 0, 1)[None].astype(np.float32, order="C")
        if values.dtype.kind == "u":
            planes /= np.float32(np.iinfo(values.dtype).max)
        return planes

    def padded(self, x: NDArray[np.float32], below: int, right: int) -> NDArray[np.float32]:
        return np.pad(x, ((0, 0), (0, 0), (0, below), (0, right)), mode="edge")

    def is_finite(self, y: NDArray[np.float32]) -> bool:
        # Both are nan where any value is, and no mask as large as the tile is made.
        return bool(np.isfinite(y.min()) and np.isfinite(y.max()))

    def give(self, y: NDArray[np.float32], place: NDArray[np.float32]) -> None:
        place[...] = y[0].transpose(1, 2, 0)

    def give_samples(self, y: NDArray[np.float32], place: Samples) -> None:
        planes = y[0].transpose(1, 2, 0)
        if planes.shape[2] > place.shape[2]:
            planes = luma(planes)
        full = np.float32(np.iinfo(place.dtype).max)
        for channel in range(place.shape[2]):  # planes lie one behind the other, and are faster one by one
            levels = np.clip(planes[:, :, channel], 0, 1)
            levels *= full
            place[:, :, channel] = np.rint(levels, out=levels)

    def gpu_free(self) -> None:
        return None
