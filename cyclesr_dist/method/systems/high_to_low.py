"""`high_to_low` (Bulat, Yang and Tzimiropoulos 2018): a GAN degrades HR itself, one way; then g_l2h on its output."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F

from cyclesr_dist.config.schema import Config, noise_channels
from cyclesr_dist.degradation.record import Degradation
from cyclesr_dist.distributed.player import MakePlayer
from cyclesr_dist.distributed.world import World
from cyclesr_dist.method.losses.pixel import mse
from cyclesr_dist.method.one_way import OneWay
from cyclesr_dist.method.systems.one_way import OneWaySystem
from cyclesr_dist.nets.build import build_discriminator, build_translator
from cyclesr_dist.nets.high_to_low import HighToLow, average


class HighToLowSystem(OneWaySystem):
    """g_h2l takes HR and noise. L_content: MSE between fake_real and HR by average pooling."""

    def __init__(self, config: Config, make_player: MakePlayer, world: World, degradation: Degradation | None) -> None:
        torch.manual_seed(config.seed)
        channels = 3 * config.scale**2 + noise_channels(config)
        g_h2l = HighToLow(build_translator(config.nets.translator, channels), config.scale)
        content = partial(near_average, config.scale)
        objective = OneWay("g_h2l", g_h2l, config.weights, partial(unshuffled, config.scale), content)
        self.begin(config, make_player, world, objective, build_discriminator(config.nets.d_lr))


def unshuffled(scale: int, syn: Tensor, hr: Tensor) -> Tensor:
    """HR as (N, 3 * scale**2, h, w): all its pixels, at LR size."""
    return F.pixel_unshuffle(hr, scale)


def near_average(scale: int, fake_real: Tensor, given: Tensor) -> Tensor:
    return mse(fake_real, average(given, scale))
