"""What is done about gradients that are not finite: leave the step out, then go back, then stop. All ranks alike.

Gradient norms are of averaged gradients, so every rank sees the same ones and decides the same without asking.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import Any

from torch import Tensor, nn

from cyclesr_dist.config.schema import Train
from cyclesr_dist.data.batch import Batch
from cyclesr_dist.distributed.player import Player
from cyclesr_dist.distributed.world import World
from cyclesr_dist.errors import TrainingError
from cyclesr_dist.method.step import StepResult
from cyclesr_dist.models.checkpoint import Checkpoint
from cyclesr_dist.nets.measured import MeasuredDegradation
from cyclesr_dist.telemetry.progress import Progress
from cyclesr_dist.training.run_folder import RunFolder, append_line

# fp16 leaves steps out while it looks for a loss scale, from 65536 down: that is no sign of anything until even
# gradients that are this much smaller than they should be overflow. The scale grows again after 2000 good steps only,
# so it cannot hide more than 20 steps, and one more in each 2000.
_SMALLEST_LOSS_SCALE = 2.0**-4
LEFT_OUT_BEFORE = 20
"""Batches before the first bad one that are left out, too, after going back: one of them may have done the harm."""
_SETTLED_AFTER = 20
_WINDOW = 200
"""Of the last so many steps at most a tenth may be bad, whatever the checkpoints are: with more, the run learns from
what it happens to survive. Where `train.max_bad_steps` is more than a tenth of them, it is of ten times as many."""
_SHARE = 0.1


class RollBack(Exception):
    """Go on from the last good checkpoint without the batches of these steps (from 0). All ranks raise it.

    `bad_steps`: all of the run that were bad.
    """

    def __init__(self, first: int, last: int, bad_steps: Collection[int]) -> None:
        super().__init__(f"steps {first + 1} to {last + 1}")
        self.first, self.last = first, last
        self.bad_steps = frozenset(bad_steps)


def is_settled(step: int, bad_steps: Collection[int]) -> bool:
    """Whether a checkpoint after `step` steps may be gone back to: none of the 20 before it was bad (from 0)."""
    return not any(step - _SETTLED_AFTER <= bad < step for bad in bad_steps)


class BadNumbers:
    """Counts bad steps, over the whole run and its resumes, and says what follows."""

    def __init__(self, train: Train, world: World, folder: RunFolder, saved: Checkpoint) -> None:
        """`saved` is what the run goes on from."""
        self.train = train
        self.world = world
        self.folder = folder
        self.rollbacks = saved.rollbacks
        self.steps = set(saved.bad_steps)
        """All bad ones of the run, from 0; after going back also some that come again."""
        self.good_step = saved.good_step
        """Of the newest checkpoint that the run may go back to; 0: none."""
        self._left_out = set(saved.left_out)

    def found(self, result: StepResult, players: Mapping[str, Player]) -> bool:
        """Whether this step was bad; then no player whose norm is not finite was changed. An overflow by which fp16
        finds its loss scale is none."""
        if all(math.isfinite(norm) for norm in result.grad_norm.values()):
            return False
        scales = [scale for player in players.values() if (scale := player.loss_scale()) is not None]
        return not scales or min(map(float, scales)) < _SMALLEST_LOSS_SCALE

    def leave_out(self, step: int, result: StepResult, batch: Batch, progress: Progress) -> None:
        """Record the bad step (from 0) with its losses and samples. All ranks call it.

        Raises RollBack when there were more than `train.max_bad_steps` since the last checkpoint that can be gone back
        to, TrainingError when the run has gone back `train.max_rollbacks` times already or has no such checkpoint, and
        when more than a tenth of the last steps were bad.
        """
        parts = self.world.gather_objects((_terms(result), list(batch.hr_keys), list(batch.lr_keys)))
        record = {
            "step": step + 1,
            "grad_norm": {name: str(norm) for name, norm in result.grad_norm.items()},
            "ranks": [{"losses": terms, "hr": hr, "lr": lr} for terms, hr, lr in parts],
        }
        if self.world.is_main:
            append_line(self.folder.bad_steps, record)
        self.steps.add(step)
        what = _describe(step, result, parts)
        train = self.train
        since = self._counting(self.good_step, step)
        if len(since) > train.max_bad_steps:
            if self.good_step and self.rollbacks < train.max_rollbacks:
                progress.warn(f"{what}; too many since the last good checkpoint, going back to it")
                raise RollBack(since[0], step, self.steps)
            tried = (
                f"after going back {self.rollbacks} times"
                if self.good_step
                else "and there is no good checkpoint to go back to"
            )
            self._stop(f"{what}: {len(since)} bad steps since the last good checkpoint, {tried}")
        window = max(_WINDOW, round(train.max_bad_steps / _SHARE))
        first = max(0, step + 1 - window)
        recent = self._counting(first, step)
        if len(recent) > max(train.max_bad_steps, int(_SHARE * (step + 1 - first))):
            self._stop(f"{what}: {len(recent)} of the last {step + 1 - first} steps were bad, and a tenth may be")
        progress.warn(f"{what}; this step is left out")

    def saved(self, step: int) -> None:
        """A checkpoint after `step` steps is begun."""
        if self.is_settled(step):
            self.good_step = step

    def is_settled(self, step: int) -> bool:
        return is_settled(step, self.steps)

    def _counting(self, first: int, last: int) -> list[int]:
        """The bad steps from `first` to `last`, without those that going back has dealt with."""
        return sorted(bad for bad in self.steps - self._left_out if first <= bad <= last)

    def _stop(self, why: str) -> None:
        message = (
            f"{why}; their losses and samples are in {self.folder.bad_steps}; a smaller learning rate or loss weight "
            "may help"
        )
        raise self.world.told_once(TrainingError(message))


Kept = list[tuple[nn.Module, str, Tensor, Tensor]]
"""A module, the name of a buffer of its own, the buffer and a copy of it."""


def keep_buffers(players: Mapping[str, Player]) -> Kept:
    """Copies of all BatchNorm statistics and running means: the forward pass changes them, also when the step is then
    left out. What was measured once never changes."""
    return [
        (module, name, buffer, buffer.clone())
        for player in players.values()
        for module in player.module.modules()
        if not isinstance(module, MeasuredDegradation)
        for name, buffer in module.named_buffers(recurse=False)
    ]


def restore_buffers(kept: Kept) -> None:
    for module, name, buffer, copy in kept:
        buffer.copy_(copy)
        setattr(module, name, buffer)  # the first step may have put another one in its place


def _terms(result: StepResult) -> dict[str, str]:
    """As text, since JSON has no NaN."""
    return {name: f"{float(value):.6g}" for name, value in result.losses.items()}


def _describe(step: int, result: StepResult, parts: list[tuple[dict[str, str], Any, Any]]) -> str:
    player = next(name for name, norm in result.grad_norm.items() if not math.isfinite(norm))
    bad = sorted({name for terms, _, _ in parts for name, text in terms.items() if not math.isfinite(float(text))})
    of = f"not finite: {', '.join(bad)}" if bad else "all losses are finite"
    return f"step {step + 1}: the gradient of player {player} is not finite ({of})"
