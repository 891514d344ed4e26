"""When what happens: phases and learning rate as functions of the step."""

from __future__ import annotations

from dataclasses import dataclass

from cyclesr_dist.config import Train
from cyclesr_dist.types import Phase


@dataclass(frozen=True)
class Schedule:
    """`train` in steps. Steps and epochs count from 0."""

    train: Train
    epoch_steps: int

    @property
    def num_steps(self) -> int:
        """Where training ends: all epochs, or `max_steps` if that is sooner."""
        whole = self.train.epochs * self.epoch_steps
        return min(whole, self.train.max_steps) if self.train.max_steps else whole

    def epoch(self, step: int) -> int:
        return step // self.epoch_steps

    def phase(self, step: int) -> Phase:
        return Phase.PRETRAIN if self.epoch(step) < self.train.pretrain_epochs else Phase.JOINT

    def lr_factor(self, step: int) -> float:
        """1 for `constant_epochs`, then linear in epochs to exactly 0 at `epochs`, as CycleGAN does it.

        Changed once a step rather than once an epoch, so that short runs on small data decay smoothly too.
        """
        constant = self.train.constant_epochs * self.epoch_steps
        whole = self.train.epochs * self.epoch_steps
        if step < constant:
            return 1.0
        return max(0.0, (whole - step) / (whole - constant))
