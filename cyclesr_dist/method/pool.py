"""History of fakes shown to a discriminator (Shrivastava et al. 2017; CycleGAN: 50 images, p = 0.5)."""

from __future__ import annotations

import torch
from torch import Tensor

from cyclesr_dist.distributed.collectives import fetch_samples
from cyclesr_dist.method.pool_draws import draw_swaps


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

    def exchange(self, fakes: Tensor, first_index: int, rank: int = 0, num_ranks: int = 1) -> Tensor:
        """Put the fakes of a global batch in, get as many out, some of them older.

        fakes: this rank's part, (N, 3, h, w) in [0, 1], without gradient; returns what this rank is to show, the same
        shape. first_index: index of the global batch's first sample since the start of training. All ranks call it.
        """
        if self.size == 0:
            return fakes
        num = len(fakes)
        shown, held = self._plan(num * num_ranks, first_index)
        added = {sample for sample in held if sample >= 0}
        shown_by = [shown[r * num : (r + 1) * num] for r in range(num_ranks)]
        found = fetch_samples(fakes, [sorted(added.union(s for s in of if s >= 0)) for of in shown_by], rank)
        now = self.images
        self.images = [found[i].clone() if i >= 0 else now[-1 - i] for i in held]
        return torch.stack([found[i] if i >= 0 else now[-1 - i] for i in shown_by[rank]])

    def _plan(self, num: int, first_index: int) -> tuple[list[int], list[int]]:
        """What is shown in place of each sample of the global batch, and what the pool holds after it.

        Both by number: a sample's place in the batch, or -1 - k for what the pool holds at place k now.
        """
        held = [-1 - k for k in range(len(self.images))]
        shown = list(range(num))
        for i, slot in enumerate(draw_swaps(self.seed, self.name, first_index, num, self.size).tolist()):
            if len(held) < self.size:
                held.append(i)
            elif slot >= 0:
                shown[i], held[slot] = held[slot], i
        return shown, held

    def state(self) -> Tensor | None:
        """The images held, (K, 3, h, w) in [0, 1], K <= size; None when empty."""
        return torch.stack(self.images) if self.images else None

    def load_state(self, images: Tensor | None) -> None:
        self.images = [] if images is None else list(images.clone())
