"""`dsgan` (Fritsche, Gu and Timofte 2019): d_r judges high frequencies alone, L1 keeps the low ones; then g_l2h."""

from __future__ import annotations

import torch
from torch import Tensor

from cyclesr_dist.config.schema import Config, noise_channels
from cyclesr_dist.degradation.record import Degradation
from cyclesr_dist.distributed.player import MakePlayer
from cyclesr_dist.distributed.world import World
from cyclesr_dist.method.losses.pixel import l1
from cyclesr_dist.method.one_way import OneWay
from cyclesr_dist.method.systems.one_way import OneWaySystem
from cyclesr_dist.nets.build import build_discriminator, build_translator
from cyclesr_dist.nets.frequencies import HighFrequencies, low


class DSGANSystem(OneWaySystem):
    """g_s2r takes syn, as in the paper. L_content: L1 between the low frequencies of fake_real and of syn."""

    def __init__(self, config: Config, make_player: MakePlayer, world: World, degradation: Degradation | None) -> None:
        torch.manual_seed(config.seed)
        g_s2r = build_translator(config.nets.translator, noise_channels(config))
        objective = OneWay("g_s2r", g_s2r, config.weights, synthetic, near_low_frequencies)
        d_r = HighFrequencies(build_discriminator(config.nets.d_lr))
        self.begin(config, make_player, world, objective, d_r)


def synthetic(syn: Tensor, hr: Tensor) -> Tensor:
    return syn


def near_low_frequencies(fake_real: Tensor, given: Tensor) -> Tensor:
    return l1(low(fake_real), low(given[:, :3]))
