"""Slots of shared memory that loader processes decode into, used again and again.

Handing batches over through fresh shared memory, as a DataLoader does, costs a page fault for every 4 KB of every batch
(docs/decisions/0004-streaming.md).
"""

from __future__ import annotations

import os
import shutil
from math import prod
from typing import Any

import numpy as np
import torch

from cyclesr_dist.errors import ConfigError

Shapes = dict[str, tuple[tuple[int, ...], np.dtype[Any]]]
"""Shape and type of each array, by name."""

_SHARED_MEMORY = "/dev/shm"


class SharedSlots:
    """`num_slots` sets of arrays in shared memory. Step s writes slot s modulo `num_slots`.

    The consumer must be done with step s before a writer starts on step s + num_slots; `finished` notices when that is
    broken.
    """

    def __init__(self, shapes: Shapes, num_slots: int) -> None:
        """Raises ConfigError when the machine's shared memory has no room: writing to it would end the process."""
        needed = num_slots * sum(prod(shape) * dtype.itemsize for shape, dtype in shapes.values())
        if os.path.isdir(_SHARED_MEMORY) and (free := shutil.disk_usage(_SHARED_MEMORY).free) < needed:
            raise ConfigError(
                f"data.workers and data.prefetch need {needed / 1e6:.0f} MB of shared memory a rank, "
                f"{_SHARED_MEMORY} has {free / 1e6:.0f} MB left; lower them, or give it more (containers: --shm-size)"
            )
        self.num_slots = num_slots
        self._shapes = shapes
        self._slots = {
            name: torch.zeros((num_slots, max(1, prod(shape) * dtype.itemsize)), dtype=torch.uint8).share_memory_()  # type: ignore[no-untyped-call]
            for name, (shape, dtype) in shapes.items()
        }
        self._steps = torch.full((num_slots,), -1, dtype=torch.int64).share_memory_()  # type: ignore[no-untyped-call]

    def _arrays(self, slot: int) -> dict[str, np.ndarray]:
        return {
            name: self._slots[name][slot].numpy()[: prod(shape) * dtype.itemsize].view(dtype).reshape(shape)
            for name, (shape, dtype) in self._shapes.items()
        }

    def take(self, step: int) -> dict[str, np.ndarray]:
        """The arrays of the step's slot, to be written."""
        slot = step % self.num_slots
        self._steps[slot] = -1
        return self._arrays(slot)

    def done(self, step: int) -> None:
        """Say that the step's slot is written."""
        self._steps[step % self.num_slots] = step

    def finished(self, step: int) -> dict[str, np.ndarray]:
        """A written step's arrays. Raises RuntimeError if its slot holds another step."""
        slot = step % self.num_slots
        if int(self._steps[slot]) != step:
            raise RuntimeError(f"slot {slot} holds step {int(self._steps[slot])}, not {step}: there are too few slots")
        return self._arrays(slot)
