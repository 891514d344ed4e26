"""When what happens: phases and learning rate as functions of the step."""

from __future__ import annotations

from dataclasses import dataclass

from cyclesr_dist.config.schema import Train
from cyclesr_dist.config.systems import Phase, Round


@dataclass(frozen=True)
class Schedule:
    """`train` in steps. Steps and epochs count from 0.

    A round is `epochs` epochs, or `steps` steps. cycle_sr_separate has two: one for the translators, one for g_l2h; the
    others of ours have one (config/systems.py).
    """

    train: Train
    epoch_steps: int
    rounds: tuple[Round, ...]

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
        """1 for `constant_epochs`, then linear in epochs to exactly 0 at `epochs`, as CycleGAN does it.

        Each round begins anew. Changed once a step rather than once an epoch, so that short runs on small data decay
        smoothly too.
        """
        constant = self._share(self.train.constant_epochs)
        _, in_round = self._place(step)
        if in_round < constant:
            return 1.0
        return max(0.0, (self.round_steps - in_round) / (self.round_steps - constant))

    def _share(self, epochs: int) -> int:
        """So many of `epochs`, in steps."""
        return self.round_steps * epochs // self.train.epochs

    def _place(self, step: int) -> tuple[int, int]:
        """The round, and the step in it. What lies behind the last round is the end of that."""
        number = min(step // self.round_steps, len(self.rounds) - 1)
        return number, step - number * self.round_steps
