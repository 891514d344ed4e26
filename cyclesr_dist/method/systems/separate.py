"""`cycle_sr_separate` (the paper's Cycle+SR): CycleGAN on LR first, then frozen; then g_l2h on its fake_real."""

from __future__ import annotations

import torch

from cyclesr_dist.config.schema import Config
from cyclesr_dist.config.systems import Phase
from cyclesr_dist.data.batch import Batch
from cyclesr_dist.degradation.record import Degradation
from cyclesr_dist.distributed.player import MakePlayer, ParamGroup, Player
from cyclesr_dist.distributed.world import World
from cyclesr_dist.method.objectives import CycleGenerators
from cyclesr_dist.method.step import StepResult, joint_step, sr_step
from cyclesr_dist.method.systems.base import G_L2H
from cyclesr_dist.method.systems.parts import (
    PlayersAndPools,
    Pools,
    build_spectrum,
    discriminator_player,
    passes_of,
    sr_player,
)
from cyclesr_dist.nets.build import build_g_s2r, build_translator


class SeparateSystem(PlayersAndPools):
    """Each half is as long as a joint run, so that both parts get as many updates as they would there."""

    def __init__(self, config: Config, make_player: MakePlayer, world: World, degradation: Degradation | None) -> None:
        torch.manual_seed(config.seed)
        translators = CycleGenerators(
            build_g_s2r(config, degradation),
            build_translator(config.nets.translator),
            config.weights,
            passes_of(config.speed),
            build_spectrum(config),
        )
        groups = (ParamGroup(("g_s2r.", "g_r2s."), config.optim.lr_cyclegan),)
        self.players = {
            "g": make_player(translators, groups),
            "d": discriminator_player(config, make_player, config.nets.d_lr),
            "sr": sr_player(config, make_player),
        }
        self.g_s2r = translators.g_s2r
        self.pools = Pools(config.pool.size, config.seed, world)

    @property
    def sr_players(self) -> dict[str, Player]:
        return {G_L2H: self.players["sr"]}

    def step(self, batch: Batch, phase: Phase) -> StepResult:
        if phase is Phase.TRANSLATE:
            return joint_step(self.players["g"], self.players["d"], batch, phase, self.pools.exchange)
        return sr_step(self.players["sr"], batch.syn, batch.hr, batch.noise[0], self.g_s2r)
