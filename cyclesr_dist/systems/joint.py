"""`cyclesr` and `cyclesrgan`: two translators and g_l2h trained together, equation (3)."""

from __future__ import annotations

import torch

from cyclesr_dist.backends.base import MakePlayer, ParamGroup, Player
from cyclesr_dist.backends.collectives import mean_over_ranks
from cyclesr_dist.config import Config
from cyclesr_dist.nets.build import build_translator
from cyclesr_dist.nets.vgg import build_vgg
from cyclesr_dist.objectives import JointGenerators, SRTerms
from cyclesr_dist.step import StepResult, joint_step
from cyclesr_dist.systems.base import SystemState
from cyclesr_dist.systems.parts import Pools, build_g_l2h, discriminator_player, load_players
from cyclesr_dist.types import Batch, Phase
from cyclesr_dist.world import World


class JointSystem:
    """Builds the networks from `config.nets`, equally on all ranks, and steps them."""

    def __init__(self, config: Config, make_player: MakePlayer, world: World) -> None:
        torch.manual_seed(config.seed)
        nets = config.nets
        terms = _sr_terms(config, world)
        generators = JointGenerators(
            g_s2r=build_translator(nets.translator, nets.translator.noise_channels),
            g_r2s=build_translator(nets.translator),
            g_l2h=build_g_l2h(config),
            weights=config.weights,
            sr_terms=terms,
            global_mean=mean_over_ranks,
            join=config.speed.join_passes,
        )
        g_groups = (
            ParamGroup(("g_s2r.", "g_r2s."), config.optim.lr_cyclegan),
            ParamGroup(("g_l2h.",), config.optim.lr_sr),
        )
        d = discriminator_player(config, make_player, nets.d_lr, gan=terms.gan)
        self.players = {"g": make_player(generators, g_groups), "d": d}
        self.pools = Pools(config, world)

    @property
    def sr_player(self) -> Player:
        return self.players["g"]

    def step(self, batch: Batch, phase: Phase) -> StepResult:
        return joint_step(self.players["g"], self.players["d"], batch, phase, self.pools.exchange)

    def state(self) -> SystemState:
        return SystemState({name: player.state() for name, player in self.players.items()}, self.pools.state())

    def load(self, saved: SystemState) -> None:
        load_players(self.players, saved)
        self.pools.load(saved.pools)


def _sr_terms(config: Config, world: World) -> SRTerms:
    """cyclesr has the pixel-wise terms alone, whatever the other weights say. A term of weight 0 is not built."""
    if config.system == "cyclesr":
        return SRTerms()
    p, w = config.perceptual, config.weights
    return SRTerms(
        percep=build_vgg(p.source, (p.layer,)).to(world.device) if w.percep else None,
        texture=build_vgg(p.source, p.texture_layers).to(world.device) if w.texture else None,
        gan=w.advsr > 0,
    )
