"""History of fakes shown to a discriminator (Shrivastava et al. 2017; CycleGAN: 50 images, p = 0.5)."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

_SWAP_PROBABILITY = 0.5


class ImagePool:
    """One pool for the whole job: every rank holds the same `size` images and makes the same decisions.

    A decision depends on (seed, name, index of the sample since the start of training) alone, so neither the number
    of ranks nor a restart changes it.
    """

    def __init__(self, name: str, size: int, seed: int) -> None:
        self.name = name
        self.size = size
        self.seed = seed
        self.images: list[Tensor] = []

    def exchange(self, fakes: Tensor, first_index: int) -> Tensor:
        """Put the fakes of a *global* batch in, get as many out: (B, 3, h, w) -> (B, 3, h, w), some of them older.

        first_index: index of the batch's first sample since the start of training.
        """
        if self.size == 0:
            return fakes
        shown = [self._exchange_one(image, first_index + i) for i, image in enumerate(fakes)]
        return torch.stack(shown)

    def _exchange_one(self, image: Tensor, index: int) -> Tensor:
        if len(self.images) < self.size:
            self.images.append(image.clone())
            return image
        stream = np.random.default_rng([self.seed, index, *self.name.encode()])
        if stream.random() >= _SWAP_PROBABILITY:
            return image
        slot = int(stream.integers(self.size))
        older = self.images[slot]
        self.images[slot] = image.clone()
        return older

    def state(self) -> Tensor | None:
        """The images held, (K, 3, h, w) in [0, 1], K <= size; None when empty."""
        return torch.stack(self.images) if self.images else None

    def load_state(self, images: Tensor | None) -> None:
        self.images = [] if images is None else list(images.clone())
