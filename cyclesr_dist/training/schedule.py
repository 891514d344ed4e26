"""When what happens: phases and learning rate as functions of the step."""

from __future__ import annotations

import math
from dataclasses import dataclass

from cyclesr_dist.config.schema import Train
from cyclesr_dist.config.systems import Phase, Round
from cyclesr_dist.errors import ConfigError


@dataclass(frozen=True)
class Schedule:
    """`train` in steps. Steps and epochs count from 0.

    A round is `epochs` epochs, or `steps` steps. cycle_sr_separate has two: one for the translators, one for g_l2h; the
    others of ours have one (config/systems.py). Raises ConfigError where the warm-up takes the whole round.
    """

    train: Train
    epoch_steps: int
    rounds: tuple[Round, ...]

    def __post_init__(self) -> None:
        if 0 < self.round_steps <= self.train.warmup_steps:
            raise ConfigError(
                f"train.warmup_steps = {self.train.warmup_steps}, but the schedule has {self.round_steps} steps; "
                "allowed: less than that"
            )

    @property
    def round_steps(self) -> int:
        return self.train.steps or self.train.epochs * self.epoch_steps

    @property
    def num_steps(self) -> int:
        """Where training ends: all epochs, or `max_steps` if that is sooner."""
        whole = self.round_steps * len(self.rounds)
        return min(whole, self.train.max_steps) if self.train.max_steps else whole

    def epoch(self, step: int) -> int:
        return step // self.epoch_steps

    def phase(self, step: int) -> Phase:
        number, in_round = self._place(step)
        this = self.rounds[number]
        return this.first if this.first and in_round < self._share(self.train.pretrain_epochs) else this.phase

    def lr_factor(self, step: int) -> float:
        """1 for `constant_epochs`, then down to exactly 0 at `epochs`: on a line, as CycleGAN does it, or a cosine
        (Loshchilov and Hutter 2017, without restarts). Before that `warmup_steps` of 1/n, 2/n, ... 1.

        Each round begins anew. Changed once a step rather than once an epoch, so that short runs on small data decay
        smoothly too.
        """
        warmup = self.train.warmup_steps
        constant = max(warmup, self._share(self.train.constant_epochs))
        _, in_round = self._place(step)
        if in_round < warmup:
            return (in_round + 1) / warmup
        if in_round < constant:
            return 1.0
        left = max(0.0, (self.round_steps - in_round) / (self.round_steps - constant))
        return left if self.train.decay == "linear" else 0.5 - 0.5 * math.cos(math.pi * left)

    def _share(self, epochs: int) -> int:
        """So many of `epochs`, in steps."""
        return self.round_steps * epochs // self.train.epochs

    def _place(self, step: int) -> tuple[int, int]:
        """The round, and the step in it. What lies behind the last round is the end of that."""
        number = min(step // self.round_steps, len(self.rounds) - 1)
        return number, step - number * self.round_steps
