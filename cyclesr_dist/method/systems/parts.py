"""What several systems are made of: players for the LR discriminators and for g_l2h alone, and the pools."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor, nn

from cyclesr_dist.config.schema import Config, PatchGANNet, Speed
from cyclesr_dist.distributed.collectives import elementwise_mean_over_ranks, mean_over_ranks
from cyclesr_dist.distributed.player import MakePlayer, ParamGroup, Player
from cyclesr_dist.distributed.world import World
from cyclesr_dist.errors import ConfigError
from cyclesr_dist.method.losses.pixel import full
from cyclesr_dist.method.losses.spectrum import SpectrumMatch
from cyclesr_dist.method.objectives import Discriminators, SRGenerator, SRTerm, SRTerms
from cyclesr_dist.method.passes import Passes, joined, one_by_one
from cyclesr_dist.method.pool import ImagePool
from cyclesr_dist.method.systems.base import G_L2H, SystemState
from cyclesr_dist.method.types import Fakes
from cyclesr_dist.nets.build import build_discriminator, build_sr
from cyclesr_dist.runtime.user_modules import call_of_user, find_object


def build_g_l2h(config: Config) -> nn.Module:
    """g_l2h of `nets.sr`, with BatchNorm shared over ranks where `nets.sync_batchnorm` says so."""
    net = build_sr(config.nets.sr, config.scale)
    if config.nets.sync_batchnorm:
        net = nn.SyncBatchNorm.convert_sync_batchnorm(net)  # type: ignore[no-untyped-call]  # torch's own
    return net


def user_terms(config: Config) -> tuple[SRTerm, ...]:
    """Those of `weights.more`. Raises ConfigError where one is not there, or two have the same name."""
    terms: dict[str, SRTerm] = {}
    for path, weight in config.weights.more.items():
        name = f"more.{path.partition(':')[2]}"
        if name in terms:
            raise ConfigError(f"weights.more: {path} has the name of another term; call the function something else")
        terms[name] = SRTerm(name, float(weight), _tried(path))
    return tuple(terms.values())


def _tried(path: str) -> Callable[[Tensor, Tensor], Tensor]:
    """The loss, tried on two small images. Raises ConfigError unless it gives a scalar that can be trained on."""
    loss: Callable[[Tensor, Tensor], Tensor] = find_object("weights.more", path, "package.module:function")
    generator = torch.Generator().manual_seed(0)
    sr, hr = (torch.rand(2, 3, 32, 32, generator=generator) for _ in range(2))
    kept = hr.clone()
    value = call_of_user(f"weights.more: {path}", lambda: loss(sr.requires_grad_(), hr))
    if not isinstance(value, Tensor) or value.shape != () or not value.requires_grad or not bool(value.isfinite()):
        raise ConfigError(f"weights.more: {path} gives {value!r:.80}; allowed: a finite scalar tensor with a gradient")
    if not torch.equal(hr, kept):
        raise ConfigError(f"weights.more: {path} changes HR")
    return loss


def passes_of(speed: Speed) -> Passes:
    """How the objectives' images go through the networks."""
    return one_by_one if speed.plain else joined


def build_spectrum(config: Config) -> SpectrumMatch | None:
    """The spectral term's running means; None where its weight is zero."""
    return SpectrumMatch(elementwise_mean_over_ranks) if config.weights.spectrum else None


def sr_player(config: Config, make_player: MakePlayer, measured: nn.Module | None = None) -> Player:
    """g_l2h as a player of its own, on what `measured`, if given, makes of LR."""
    generator = SRGenerator(build_g_l2h(config), config.weights, measured, SRTerms(more=user_terms(config)))
    return make_player(generator, (ParamGroup(("g_l2h.",), config.optim.lr_sr),))


def discriminator_player(config: Config, make_player: MakePlayer, net: PatchGANNet, gan: bool = False) -> Player:
    """d_r and d_s, both of `net`, and with `gan` d_h."""
    critics = {"d_r": build_discriminator(net), "d_s": build_discriminator(net)}
    if gan:
        critics["d_h"] = build_discriminator(config.nets.d_h)
    return critics_player(config, make_player, critics)


def critics_player(
    config: Config, make_player: MakePlayer, critics: dict[str, nn.Module], relativistic: bool = True
) -> Player:
    """These discriminators, of `d_r`, `d_s` and `d_h`. relativistic: d_h's loss is RaGAN's, else LSGAN's."""
    of_lr = tuple(f"critics.{name}." for name in critics if name != "d_h")
    groups = [ParamGroup(of_lr, config.optim.lr_cyclegan)]
    if "d_h" in critics:
        groups.append(ParamGroup(("critics.d_h.",), config.optim.lr_sr))
    passes = passes_of(config.speed)
    return make_player(
        Discriminators(nn.ModuleDict(critics), mean_over_ranks, passes, relativistic=relativistic), tuple(groups)
    )


class Pools:
    """The history of fakes of d_r and of d_s, one each for the whole job. Fakes of other discriminators have none."""

    def __init__(self, size: int, seed: int, world: World, names: tuple[str, ...] = ("d_r", "d_s")) -> None:
        self.rank, self.num_ranks = world.rank, world.num_ranks
        self.device = world.device
        self.pools = {name: ImagePool(name, size, seed) for name in names}

    def exchange(self, fakes: Fakes, first_index: int) -> Fakes:
        """What the discriminators are shown. Every rank decides for the whole batch. All ranks call it."""
        return fakes | {
            name: pool.exchange(full(fakes[name]).detach(), first_index, self.rank, self.num_ranks)
            for name, pool in self.pools.items()
        }

    def load(self, saved: dict[str, Tensor]) -> None:
        for name, pool in self.pools.items():
            images = saved.get(name)
            pool.load_state(None if images is None else images.to(self.device))

    def state(self) -> dict[str, Tensor]:
        states = {name: pool.state() for name, pool in self.pools.items()}
        return {name: images.cpu() for name, images in states.items() if images is not None}


class Players:
    """What most systems share: g_l2h in player `g`, and the state of all players."""

    players: dict[str, Player]

    @property
    def sr_players(self) -> dict[str, Player]:
        return {G_L2H: self.players["g"]}

    def state(self) -> SystemState:
        return SystemState({name: player.state() for name, player in self.players.items()})

    def load(self, saved: SystemState) -> None:
        for name, player in self.players.items():
            player.load(saved.players[name])


class PlayersAndPools(Players):
    """With the history of fakes of the LR discriminators."""

    pools: Pools

    def state(self) -> SystemState:
        return replace(super().state(), pools=self.pools.state())

    def load(self, saved: SystemState) -> None:
        super().load(saved)
        self.pools.load(saved.pools)
