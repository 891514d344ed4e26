"""What is done about gradients that are not finite: leave the step out, then go back, then stop. All ranks alike.

Gradient norms are of averaged gradients, so every rank sees the same ones and decides the same without asking.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from cyclesr_dist.config.schema import Config
from cyclesr_dist.data.batch import Batch
from cyclesr_dist.distributed.player import Player
from cyclesr_dist.distributed.world import World
from cyclesr_dist.errors import CycleSRError, FailedElsewhere, TrainingError
from cyclesr_dist.method.step import StepResult
from cyclesr_dist.nets.measured import MeasuredDegradation
from cyclesr_dist.telemetry.progress import Progress
from cyclesr_dist.training.run_folder import RunFolder, append_line

# fp16 leaves steps out while it looks for a loss scale, from 65536 down: 16 in a row are no sign of anything.
_FP16_IN_A_ROW = 20
LEFT_OUT_BEFORE = 20
"""Batches before the first bad one that are left out, too, after going back: one of them may have done the harm."""


class RollBack(Exception):
    """Go on from the last checkpoint without the batches of these steps (from 0). All ranks raise it."""

    def __init__(self, first: int, last: int) -> None:
        super().__init__(f"steps {first + 1} to {last + 1}")
        self.first, self.last = first, last


class BadNumbers:
    """Counts bad steps since the last checkpoint and says what follows."""

    def __init__(self, config: Config, world: World, folder: RunFolder, rollbacks: int) -> None:
        self.config = config
        self.world = world
        self.folder = folder
        self.rollbacks = rollbacks
        self.num_left_out = 0
        self._since_checkpoint: list[int] = []
        self._in_a_row = 0

    def found(self, result: StepResult) -> bool:
        """Whether this step was bad; then no player whose norm is not finite was changed."""
        if all(math.isfinite(norm) for norm in result.grad_norm.values()):
            self._in_a_row = 0
            return False
        self._in_a_row += 1
        return self.config.precision != "fp16" or self._in_a_row > _FP16_IN_A_ROW

    def leave_out(self, step: int, result: StepResult, batch: Batch, progress: Progress, can_go_back: bool) -> None:
        """Record the bad step (from 0) with its losses and samples. All ranks call it.

        Raises RollBack when there were more than `train.max_bad_steps` since the last checkpoint, TrainingError when
        the run has gone back `train.max_rollbacks` times already or has no checkpoint.
        """
        parts = self.world.gather_objects((_terms(result), list(batch.hr_keys), list(batch.lr_keys)))
        record = {
            "step": step + 1,
            "grad_norm": {name: str(norm) for name, norm in result.grad_norm.items()},
            "ranks": [{"losses": terms, "hr": hr, "lr": lr} for terms, hr, lr in parts],
        }
        if self.world.is_main:
            append_line(self.folder.bad_steps, record)
        self.num_left_out += 1
        self._since_checkpoint.append(step)
        what = _describe(step, result, parts)
        train = self.config.train
        if len(self._since_checkpoint) <= train.max_bad_steps:
            self._alarm(progress, f"{what}; this step is left out")
            return
        if can_go_back and self.rollbacks < train.max_rollbacks:
            self._alarm(progress, f"{what}; too many since the last checkpoint, going back to it")
            raise RollBack(self._since_checkpoint[0], step)
        tried = (
            f"after going back {self.rollbacks} times" if can_go_back else "and there is no checkpoint to go back to"
        )
        self._stop(
            f"{what}: {len(self._since_checkpoint)} bad steps since the last checkpoint, {tried}; their losses and "
            f"samples are in {self.folder.bad_steps}; a smaller learning rate or loss weight may help"
        )

    def saved(self) -> None:
        """A checkpoint was begun: count anew."""
        self._since_checkpoint = []

    def _alarm(self, progress: Progress, line: str) -> None:
        if self.world.is_main:
            progress.alarm(line)

    def _stop(self, message: str) -> None:
        error: CycleSRError = TrainingError(message)
        raise error if self.world.is_main else FailedElsewhere(message, error.exit_code)


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
