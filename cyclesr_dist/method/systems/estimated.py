"""`estimated`: g_l2h trained on the measured degradation as it is; nothing adversarial, nothing cyclic."""

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
from cyclesr_dist.nets.measured import MeasuredDegradation


class EstimatedSystem(Players):
    """What every system that learns to translate has to beat."""

    def __init__(self, config: Config, make_player: MakePlayer, world: World, degradation: Degradation | None) -> None:
        torch.manual_seed(config.seed)
        self.players = {"g": sr_player(config, make_player, MeasuredDegradation(degradation))}

    def step(self, batch: Batch, phase: Phase) -> StepResult:
        return sr_step(self.players["g"], batch.syn, batch.hr, batch.noise[0])
