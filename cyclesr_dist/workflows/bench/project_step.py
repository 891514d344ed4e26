"""The project's step as `cyclesr bench train` times it."""

from __future__ import annotations

from torch import nn

from cyclesr_dist.config.schema import Config
from cyclesr_dist.config.systems import Phase
from cyclesr_dist.data.batch import Batch
from cyclesr_dist.distributed.build import build_backend
from cyclesr_dist.distributed.world import World
from cyclesr_dist.method.systems.build import build_system
from cyclesr_dist.method.systems.joint import JointSystem
from cyclesr_dist.workflows.bench.reference import Moments, compared


class ProjectStep:
    """The project's step, joint phase, on batches given."""

    def __init__(self, config: Config) -> None:
        world = World()
        system = build_system(config, build_backend(config, world), world)
        assert isinstance(system, JointSystem)
        self.system = system

    def step(self, batch: Batch) -> object:
        return self.system.step(batch, Phase.JOINT)

    def first_moments(self) -> Moments:
        """As `ReferenceLoop.first_moments`."""
        g, d = (self.system.players[name] for name in ("g", "d"))
        critics = d.module.get_submodule("critics").named_children()
        nets = [(net, name, "g", name) for name, net in g.module.named_children()]
        nets += [(net, name, "d", f"critics.{name}") for name, net in critics]
        moments = {name: player.state().exp_avg for name, player in self.system.players.items()}
        return {
            name: {key: moments[player][f"{prefix}.{key}"] for key in compared(name, net)}
            for net, name, player, prefix in nets
        }

    def parts(self) -> dict[nn.Module, str]:
        """Networks and the part that each belongs to."""
        g, d = self.system.players["g"].module, self.system.players["d"].module
        parts: dict[nn.Module, str] = {
            g.get_submodule("g_s2r"): "translators",
            g.get_submodule("g_r2s"): "translators",
            g.get_submodule("g_l2h"): "sr",
        }
        parts |= dict.fromkeys(d.get_submodule("critics").children(), "discriminators")
        terms = g.sr_terms[0]  # type: ignore[index]  # JointGenerators'
        parts |= dict.fromkeys((net for net in (terms.percep, terms.texture) if net is not None), "vgg")  # type: ignore[union-attr]
        return parts
