"""`pdm` (Luo et al. 2022): a kernel and noise of learned distributions degrade HR, adversarially; then g_l2h."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from cyclesr_dist.config.schema import Config, noise_channels
from cyclesr_dist.degradation.record import Degradation
from cyclesr_dist.distributed.player import MakePlayer
from cyclesr_dist.distributed.world import World
from cyclesr_dist.method.losses.pixel import mse
from cyclesr_dist.method.one_way import OneWay
from cyclesr_dist.method.systems.high_to_low import unshuffled
from cyclesr_dist.method.systems.one_way import OneWaySystem
from cyclesr_dist.nets.build import build_discriminator, build_translator
from cyclesr_dist.nets.latent_degradation import LatentDegradation


class PDMSystem(OneWaySystem):
    """L_content: the mean square of the noise, which keeps it near zero."""

    def __init__(self, config: Config, make_player: MakePlayer, world: World, degradation: Degradation | None) -> None:
        torch.manual_seed(config.seed)
        t = config.nets.translator
        noise = build_translator(t, noise_channels(config) - 1)
        g_h2l = LatentDegradation(noise, t.channels, t.blocks, config.scale)
        objective = OneWay("g_h2l", g_h2l, config.weights, partial(unshuffled, config.scale), partial(near_blur, g_h2l))
        self.begin(config, make_player, world, objective, build_discriminator(config.nets.d_lr))


def near_blur(net: LatentDegradation, fake_real: Tensor, given: Tensor) -> Tensor:
    return mse(fake_real, net.blurred(given))  # with its gradient, so that the kernel learns nothing from it
