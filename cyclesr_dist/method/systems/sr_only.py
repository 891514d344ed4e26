"""`sr_syn` and `sr_paired`: g_l2h trained alone on pairs, the paper's two reference points."""

from __future__ import annotations

import torch

from cyclesr_dist.config.schema import Config
from cyclesr_dist.config.systems import Phase
from cyclesr_dist.data.batch import Batch
from cyclesr_dist.degradation.record import Degradation
from cyclesr_dist.distributed.player import MakePlayer
from cyclesr_dist.distributed.world import World
from cyclesr_dist.method.step import StepResult, sr_step
from cyclesr_dist.method.systems.parts import Players, sr_player


class SyntheticSystem(Players):
    """sr_syn: g_l2h learns from (bicubic LR, HR)."""

    def __init__(
        self, config: Config, make_player: MakePlayer, world: World, degradation: Degradation | None = None
    ) -> None:
        torch.manual_seed(config.seed)
        self.players = {"g": sr_player(config, make_player)}

    def step(self, batch: Batch, phase: Phase) -> StepResult:
        return sr_step(self.players["g"], batch.syn, batch.hr)


class PairedSystem(SyntheticSystem):
    """sr_paired: the same network on (real LR, HR) of the LR domain's scenes."""

    def step(self, batch: Batch, phase: Phase) -> StepResult:
        return sr_step(self.players["g"], batch.real, batch.hr)
