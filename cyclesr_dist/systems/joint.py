"""`cyclesr` and `cyclesrgan`: two translators and g_l2h trained together, equation (3)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from cyclesr_dist.backends.base import MakePlayer, ParamGroup
from cyclesr_dist.backends.collectives import gather_batch, mean_over_ranks
from cyclesr_dist.config import Config
from cyclesr_dist.nets.build import build_discriminator, build_sr, build_translator
from cyclesr_dist.nets.vgg import build_vgg
from cyclesr_dist.objectives import Discriminators, JointGenerators, SRTerms
from cyclesr_dist.pool import ImagePool
from cyclesr_dist.step import StepResult, joint_step
from cyclesr_dist.systems.base import SystemState
from cyclesr_dist.types import Batch, Fakes, Phase
from cyclesr_dist.world import World


class JointSystem:
    """Builds the networks from `config.nets`, equally on all ranks, and steps them."""

    def __init__(self, config: Config, make_player: MakePlayer, world: World, saved: SystemState | None) -> None:
        torch.manual_seed(config.seed)
        nets = config.nets
        terms = _sr_terms(config, world)
        generators = JointGenerators(
            g_s2r=build_translator(nets.translator, nets.translator.noise_channels),
            g_r2s=build_translator(nets.translator),
            g_l2h=build_sr(nets.sr, config.scale),
            weights=config.weights,
            sr_terms=terms,
            global_mean=mean_over_ranks,
        )
        critics = nn.ModuleDict({"d_r": build_discriminator(nets.d_lr), "d_s": build_discriminator(nets.d_lr)})
        if terms.gan:
            critics["d_h"] = build_discriminator(nets.d_h)
        discriminators = Discriminators(critics, mean_over_ranks)
        if nets.sync_batchnorm:
            generators.g_l2h = nn.SyncBatchNorm.convert_sync_batchnorm(generators.g_l2h)  # type: ignore[no-untyped-call]  # torch's own

        g_groups = (
            ParamGroup(("g_s2r.", "g_r2s."), config.optim.lr_cyclegan),
            ParamGroup(("g_l2h.",), config.optim.lr_sr),
        )
        d_groups = [ParamGroup(("critics.d_r.", "critics.d_s."), config.optim.lr_cyclegan)]
        if terms.gan:
            d_groups.append(ParamGroup(("critics.d_h.",), config.optim.lr_sr))
        states = saved.players if saved else {}
        self.players = {
            "g": make_player(generators, g_groups, states.get("g")),
            "d": make_player(discriminators, tuple(d_groups), states.get("d")),
        }
        self.rank = world.rank
        self.pools = {name: ImagePool(name, config.pool.size, config.seed) for name in ("d_r", "d_s")}
        for name, pool in self.pools.items():
            images = saved.pools.get(name) if saved else None
            pool.load_state(None if images is None else images.to(world.device))

    def step(self, batch: Batch, phase: Phase) -> StepResult:
        return joint_step(self.players["g"], self.players["d"], batch, phase, self._show_history)

    def _show_history(self, fakes: Fakes, first_index: int) -> Fakes:
        """Exchange LR fakes with the pools; HR has none. Every rank does the whole batch and keeps its part."""
        shown = dict(fakes)
        for name, pool in self.pools.items():
            num = len(fakes[name])
            judged = pool.exchange(gather_batch(fakes[name].float()), first_index)
            shown[name] = judged[self.rank * num : (self.rank + 1) * num]
        return shown

    def state(self) -> SystemState:
        pools: dict[str, Tensor] = {}
        for name, pool in self.pools.items():
            images = pool.state()
            if images is not None:
                pools[name] = images.cpu()
        return SystemState({name: player.state() for name, player in self.players.items()}, pools)


def _sr_terms(config: Config, world: World) -> SRTerms:
    """cyclesr is MSE alone, whatever the other weights say. A term of weight zero is not built at all."""
    if config.system == "cyclesr":
        return SRTerms()
    features = None
    if config.weights.percep > 0:
        features = build_vgg(config.perceptual.source, config.perceptual.layer).to(world.device)
    return SRTerms(features=features, gan=config.weights.advsr > 0)
