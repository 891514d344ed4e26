"""`sr_syn` and `sr_paired`: g_l2h trained alone on pairs, the paper's two reference points."""

from __future__ import annotations

import torch

from cyclesr_dist.config.schema import Config
from cyclesr_dist.data.batch import Batch
from cyclesr_dist.distributed.player import MakePlayer, Player
from cyclesr_dist.method.step import StepResult, sr_step
from cyclesr_dist.method.systems.base import G_L2H, SystemState
from cyclesr_dist.method.systems.parts import load_players, sr_player
from cyclesr_dist.method.types import Phase


class SROnlySystem:
    """sr_syn learns from (bicubic LR, HR), sr_paired from (real LR, HR) of the LR domain's scenes."""

    def __init__(self, config: Config, make_player: MakePlayer) -> None:
        torch.manual_seed(config.seed)
        self.paired = config.system == "sr_paired"
        self.players = {"g": sr_player(config, make_player)}

    @property
    def sr_players(self) -> dict[str, Player]:
        return {G_L2H: self.players["g"]}

    def step(self, batch: Batch, phase: Phase) -> StepResult:
        return sr_step(self.players["g"], batch.real if self.paired else batch.syn, batch.hr)

    def state(self) -> SystemState:
        return SystemState({"g": self.players["g"].state()})

    def load(self, saved: SystemState) -> None:
        load_players(self.players, saved)
