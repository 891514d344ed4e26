"""`estimated`: g_l2h trained on the measured degradation as it is; nothing adversarial, nothing cyclic."""

from __future__ import annotations

import torch

from cyclesr_dist.config.schema import Config
from cyclesr_dist.data.batch import Batch
from cyclesr_dist.degradation.record import Degradation
from cyclesr_dist.distributed.player import MakePlayer, Player
from cyclesr_dist.method.step import StepResult, sr_step
from cyclesr_dist.method.systems.base import G_L2H, SystemState
from cyclesr_dist.method.systems.parts import load_players, sr_player
from cyclesr_dist.method.types import Phase
from cyclesr_dist.nets.measured import MeasuredDegradation


class EstimatedSystem:
    """What every system that learns to translate has to beat."""

    def __init__(self, config: Config, make_player: MakePlayer, degradation: Degradation | None) -> None:
        torch.manual_seed(config.seed)
        self.players = {"g": sr_player(config, make_player, MeasuredDegradation(degradation))}

    @property
    def sr_players(self) -> dict[str, Player]:
        return {G_L2H: self.players["g"]}

    def step(self, batch: Batch, phase: Phase) -> StepResult:
        return sr_step(self.players["g"], batch.syn, batch.hr, batch.noise[0])

    def state(self) -> SystemState:
        return SystemState({"g": self.players["g"].state()})

    def load(self, saved: SystemState) -> None:
        load_players(self.players, saved)
