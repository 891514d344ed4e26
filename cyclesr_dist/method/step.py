"""One training step, as the paper has it. It knows players and a batch, no backend, no ranks' plumbing."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from torch import Tensor, nn

from cyclesr_dist.config.systems import Phase
from cyclesr_dist.data.batch import Batch
from cyclesr_dist.distributed.player import Player
from cyclesr_dist.method.drift import drift_of
from cyclesr_dist.method.in_parts import update_in_parts
from cyclesr_dist.method.objectives import Discriminators
from cyclesr_dist.method.parts_of_step import part as named
from cyclesr_dist.method.types import Drift, Fakes, Losses

ShowHistory = Callable[[Fakes, int], Fakes]
"""Exchanges this rank's fakes with the pools: (fakes, index of the global batch's first sample) -> fakes to judge."""


@dataclass
class StepResult:
    losses: Losses
    """Unweighted terms of this rank's samples, detached."""
    grad_norm: dict[str, float]
    """Norm before clipping by player, `g` and `d`."""
    drift: Drift


def joint_step(g: Player, d: Player, batch: Batch, phase: Phase, show_history: ShowHistory) -> StepResult:
    """Update the generators, then the discriminators on the same fakes: one backward a player, or one a part of the
    batch (in_parts.py).

    The discriminators are frozen while the generators are updated: a gradient that reached them there would be added
    to their own by DDP's and ZeRO's hooks (docs/decisions/0001-two-players.md).
    """
    assert isinstance(d.module, Discriminators)
    critics, num = d.module.critics, len(batch.hr)

    def generate(part: slice) -> tuple[Losses, Fakes]:
        made: tuple[Losses, Fakes] = g(
            batch.syn[part], batch.real[part], batch.hr[part], batch.noise[:, part], phase, critics
        )
        return made

    def discriminate(part: slice) -> tuple[Losses, Fakes]:
        own = {name: images[part] for name, images in judged.items()}
        return d(batch.syn[part], batch.real[part], batch.hr[part], own), {}

    with frozen(d.module):
        losses, fakes, norm_g = update_in_parts(g, num, generate, "generators")
    drift = drift_of(fakes["d_r"], batch.syn) if "d_r" in fakes else {}
    if not math.isfinite(norm_g):
        # Nothing was updated, on any rank: such fakes must reach neither the pools nor the discriminators.
        return StepResult(_terms(losses), {"g": norm_g}, drift)
    with named("pools"):
        judged = show_history(fakes, batch.index)
    losses_d, _, norm_d = update_in_parts(d, num, discriminate, "discriminators")

    terms = {name: value for name, value in losses_d.items() if name != "total"}
    return StepResult(_terms(losses) | terms, {"g": norm_g, "d": norm_d}, drift)


def sr_step(
    g: Player, lr: Tensor, hr: Tensor, noise: Tensor | None = None, g_s2r: nn.Module | None = None
) -> StepResult:
    """Update g_l2h on pairs, of which a frozen `g_s2r`, if given, translates LR first."""

    def generate(part: slice) -> tuple[Losses, Fakes]:
        return g(lr[part], hr[part], None if noise is None else noise[part], g_s2r), {}

    losses, _, norm_g = update_in_parts(g, len(hr), generate, "SR network")
    return StepResult(_terms(losses), {"g": norm_g}, {})


def _terms(losses: Losses) -> Losses:
    """The generators' terms, their sum by the player's name."""
    return {"g" if name == "total" else name: value for name, value in losses.items()}


@contextmanager
def frozen(module: nn.Module) -> Iterator[None]:
    """Keep gradients out of `module`'s parameters; gradients still flow through it to its input."""
    module.requires_grad_(False)
    try:
        yield
    finally:
        module.requires_grad_(True)
