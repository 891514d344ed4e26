"""`cyclesr` and `cyclesrgan`: two translators and g_l2h trained together, equation (3)."""

from __future__ import annotations

import math

import torch

from cyclesr_dist.config.schema import MEASURED, Config
from cyclesr_dist.config.systems import Phase, spec_of
from cyclesr_dist.data.batch import Batch
from cyclesr_dist.degradation.record import Degradation
from cyclesr_dist.distributed.collectives import mean_over_ranks
from cyclesr_dist.distributed.player import MakePlayer, ParamGroup, Player
from cyclesr_dist.distributed.world import World
from cyclesr_dist.method.objectives import JointGenerators, SRTerms
from cyclesr_dist.method.step import StepResult, joint_step, sr_step
from cyclesr_dist.method.systems.base import ESTIMATED, G_L2H
from cyclesr_dist.method.systems.parts import (
    PlayersAndPools,
    Pools,
    build_g_l2h,
    build_spectrum,
    discriminator_player,
    passes_of,
    sr_player,
    user_terms,
)
from cyclesr_dist.nets.build import build_g_s2r, build_translator
from cyclesr_dist.nets.measured import MeasuredDegradation
from cyclesr_dist.nets.vgg import TEXTURE_LAYERS, build_vgg


class JointSystem(PlayersAndPools):
    """Builds the networks from `config.nets`, equally on all ranks, and steps them.

    cyclesr with a g_s2r that starts from a measured degradation trains a second g_l2h beside, on that degradation as it
    was measured: the same network as that of `system: estimated`. So the run cannot end with a worse one.
    """

    def __init__(self, config: Config, make_player: MakePlayer, world: World, degradation: Degradation | None) -> None:
        torch.manual_seed(config.seed)
        nets = config.nets
        measured = nets.translator.kind == MEASURED
        terms = _sr_terms(config, world)
        generators = JointGenerators(
            g_s2r=build_g_s2r(config, degradation),
            g_r2s=build_translator(nets.translator),
            g_l2h=build_g_l2h(config),
            weights=config.weights,
            sr_terms=terms,
            global_mean=mean_over_ranks,
            passes=passes_of(config.speed),
            spectrum=build_spectrum(config),
            pretrain_on_fakes=measured,
        )
        g_groups = (
            ParamGroup(("g_s2r.", "g_r2s."), config.optim.lr_cyclegan),
            ParamGroup(("g_l2h.",), config.optim.lr_sr),
        )
        d = discriminator_player(config, make_player, nets.d_lr, gan=terms.gan)
        self.players = {"g": make_player(generators, g_groups), "d": d}
        if measured and spec_of(config.system).keeps_estimated:
            torch.manual_seed(config.seed)
            self.players["e"] = sr_player(config, make_player, MeasuredDegradation(degradation))
        self.pools = Pools(config.pool.size, config.seed, world)

    @property
    def sr_players(self) -> dict[str, Player]:
        own = {G_L2H: self.players["g"]}
        return own | ({ESTIMATED: self.players["e"]} if "e" in self.players else {})

    def step(self, batch: Batch, phase: Phase) -> StepResult:
        result = joint_step(self.players["g"], self.players["d"], batch, phase, self.pools.exchange)
        if "e" in self.players and all(map(math.isfinite, result.grad_norm.values())):
            beside = sr_step(self.players["e"], batch.syn, batch.hr, batch.noise[0])
            result.losses["mse_estimated"] = beside.losses["mse"]
            result.grad_norm["e"] = beside.grad_norm["g"]
        return result


def _sr_terms(config: Config, world: World) -> SRTerms:
    """cyclesr has the pixel-wise terms alone, whatever the other weights say. A term of weight 0 is not built."""
    if not spec_of(config.system).perceptual:
        return SRTerms(more=user_terms(config))
    p, w = config.perceptual, config.weights
    return SRTerms(
        percep=build_vgg(p.source, (p.layer,)).to(world.device) if w.percep else None,
        texture=build_vgg(p.source, TEXTURE_LAYERS).to(world.device) if w.texture else None,
        gan=w.advsr > 0,
        more=user_terms(config),
    )
