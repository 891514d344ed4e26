"""What systems with a one-way degradation share: it learns first, then is frozen, and g_l2h learns on its output."""

from __future__ import annotations

from torch import nn

from cyclesr_dist.config.schema import Config
from cyclesr_dist.config.systems import Phase
from cyclesr_dist.data.batch import Batch
from cyclesr_dist.distributed.player import MakePlayer, ParamGroup, Player
from cyclesr_dist.distributed.world import World
from cyclesr_dist.method.one_way import OneWay
from cyclesr_dist.method.step import StepResult, joint_step, sr_step
from cyclesr_dist.method.systems.base import G_L2H
from cyclesr_dist.method.systems.parts import PlayersAndPools, Pools, critics_player, sr_player


class OneWaySystem(PlayersAndPools):
    """Each half is as long as a joint run, as with cycle_sr_separate."""

    def begin(self, config: Config, make_player: MakePlayer, world: World, degradation: OneWay, d_r: nn.Module) -> None:
        """Make the players, of networks that are drawn in the order of the arguments."""
        groups = (ParamGroup((f"{degradation.name}.",), config.optim.lr_cyclegan),)
        self.players = {
            "g": make_player(degradation, groups),
            "d": critics_player(config, make_player, {"d_r": d_r}),
            "sr": sr_player(config, make_player),
        }
        self.degradation = degradation
        self.pools = Pools(config.pool.size, config.seed, world, ("d_r",))

    @property
    def sr_players(self) -> dict[str, Player]:
        return {G_L2H: self.players["sr"]}

    def step(self, batch: Batch, phase: Phase) -> StepResult:
        if phase is Phase.TRANSLATE:
            return joint_step(self.players["g"], self.players["d"], batch, phase, self.pools.exchange)
        return self.sr_step(batch)

    def sr_step(self, batch: Batch) -> StepResult:
        """g_l2h on fake_real, made anew with the noise that the degradation learns with."""
        one = self.degradation
        made_of, net = one.made_of(batch.syn, batch.hr), one.get_submodule(one.name)
        return sr_step(self.players["sr"], made_of, batch.hr, batch.noise[0], net)
