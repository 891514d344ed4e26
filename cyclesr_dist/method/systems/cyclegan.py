"""`cyclegan`: CycleGAN at HR size, between bicubically enlarged real LR and HR; no SR loss at all."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from cyclesr_dist.config.schema import Config, noise_channels
from cyclesr_dist.config.systems import Phase
from cyclesr_dist.data.batch import Batch
from cyclesr_dist.data.resize import bicubic_up
from cyclesr_dist.degradation.record import Degradation
from cyclesr_dist.distributed.player import MakePlayer, ParamGroup
from cyclesr_dist.distributed.world import World
from cyclesr_dist.method.objectives import EnlargedCycleGenerators
from cyclesr_dist.method.step import StepResult, joint_step
from cyclesr_dist.method.systems.parts import PlayersAndPools, Pools, discriminator_player, passes_of
from cyclesr_dist.nets.build import build_translator
from cyclesr_dist.nets.enlarge_first import EnlargeFirst, enlarged


class CycleGANSystem(PlayersAndPools):
    """Translators of `nets.translator` and discriminators of `nets.d_h`, since all images are of HR size."""

    def __init__(self, config: Config, make_player: MakePlayer, world: World, degradation: Degradation | None) -> None:
        torch.manual_seed(config.seed)
        net = config.nets.translator
        self.scale = config.scale
        g_h2l = build_translator(net, noise_channels(config))
        generators = EnlargedCycleGenerators(
            g_h2l, EnlargeFirst(build_translator(net), config.scale), config.weights, passes_of(config.speed)
        )
        groups = (ParamGroup(("g_h2l.", "g_l2h."), config.optim.lr_cyclegan),)
        self.players = {
            "g": make_player(generators, groups),
            "d": discriminator_player(config, make_player, config.nets.d_h),
        }
        self.pools = Pools(config.pool.size, config.seed, world)

    def step(self, batch: Batch, phase: Phase) -> StepResult:
        noise = _enlarged_noise(batch.noise, self.scale)
        at_hr_size = replace(batch, syn=batch.hr, real=enlarged(batch.real, self.scale), noise=noise)
        return joint_step(self.players["g"], self.players["d"], at_hr_size, phase, self.pools.exchange)


def _enlarged_noise(noise: Tensor, scale: int) -> Tensor:
    """(2, N, E, h, w) -> (2, N, E, h * scale, w * scale), as correlated as the noise of an enlarged photograph is."""
    two, n, e, h, w = noise.shape
    if not e:
        return noise.new_empty(two, n, 0, h * scale, w * scale)
    return bicubic_up(noise.flatten(0, 1), scale).view(two, n, e, h * scale, w * scale)
