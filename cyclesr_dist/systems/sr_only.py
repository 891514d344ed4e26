"""`sr_syn` and `sr_paired`: g_l2h trained alone on pairs, the paper's two reference points."""

from __future__ import annotations

import torch
from torch import nn

from cyclesr_dist.backends.base import MakePlayer, ParamGroup
from cyclesr_dist.config import Config
from cyclesr_dist.nets.build import build_sr
from cyclesr_dist.objectives import SRGenerator
from cyclesr_dist.step import StepResult, sr_step
from cyclesr_dist.systems.base import SystemState
from cyclesr_dist.types import Batch, Phase


class SROnlySystem:
    """sr_syn learns from (bicubic LR, HR), sr_paired from (real LR, HR) of the LR domain's scenes."""

    def __init__(self, config: Config, make_player: MakePlayer, saved: SystemState | None) -> None:
        torch.manual_seed(config.seed)
        self.paired = config.system == "sr_paired"
        g_l2h = build_sr(config.nets.sr, config.scale)
        if config.nets.sync_batchnorm:
            g_l2h = nn.SyncBatchNorm.convert_sync_batchnorm(g_l2h)  # type: ignore[no-untyped-call]  # torch's own
        generator = SRGenerator(g_l2h, config.weights)
        groups = (ParamGroup(("g_l2h.",), config.optim.lr_sr),)
        self.players = {"g": make_player(generator, groups, saved.players["g"] if saved else None)}

    def step(self, batch: Batch, phase: Phase) -> StepResult:
        return sr_step(self.players["g"], batch.real if self.paired else batch.syn, batch.hr)

    def state(self) -> SystemState:
        return SystemState({"g": self.players["g"].state()})
