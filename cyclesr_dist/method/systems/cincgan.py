"""`cincgan` (Yuan et al. 2018): real LR is translated to clean LR, then enlarged; two networks at inference."""

from __future__ import annotations

import torch

from cyclesr_dist.config.schema import Config, noise_channels
from cyclesr_dist.config.systems import Phase
from cyclesr_dist.data.batch import Batch
from cyclesr_dist.degradation.record import Degradation
from cyclesr_dist.distributed.player import MakePlayer, ParamGroup
from cyclesr_dist.distributed.world import World
from cyclesr_dist.method.cycle_in_cycle import CycleInCycle
from cyclesr_dist.method.objectives import SRTerms
from cyclesr_dist.method.step import StepResult, joint_step
from cyclesr_dist.method.systems.parts import PlayersAndPools, Pools, build_g_l2h, critics_player, user_terms
from cyclesr_dist.nets.build import build_discriminator, build_translator
from cyclesr_dist.nets.high_to_low import HighToLow
from cyclesr_dist.nets.translate_first import TranslateFirst


class CinCGANSystem(PlayersAndPools):
    """Its pretraining is that of `cyclesr`: the inner cycle, and SR on bicubic pairs, not connected with each other."""

    def __init__(self, config: Config, make_player: MakePlayer, world: World, degradation: Degradation | None) -> None:
        torch.manual_seed(config.seed)
        nets, scale = config.nets, config.scale
        generators = CycleInCycle(
            TranslateFirst(build_translator(nets.translator), build_g_l2h(config), scale),
            build_translator(nets.translator, noise_channels(config)),
            HighToLow(build_translator(nets.translator, 3 * scale**2), scale),
            config.weights,
            SRTerms(more=user_terms(config)),
        )
        groups = (
            ParamGroup(("g_l2h.translator.", "g_s2r.", "g_h2l."), config.optim.lr_cyclegan),
            ParamGroup(("g_l2h.sr.",), config.optim.lr_sr),
        )
        critics = {"d_s": build_discriminator(nets.d_lr), "d_h": build_discriminator(nets.d_h)}
        self.players = {
            "g": make_player(generators, groups),
            "d": critics_player(config, make_player, critics, relativistic=False),
        }
        self.pools = Pools(config.pool.size, config.seed, world, ("d_s",))

    def step(self, batch: Batch, phase: Phase) -> StepResult:
        return joint_step(self.players["g"], self.players["d"], batch, phase, self.pools.exchange)
