"""From `system:` to a system."""

from __future__ import annotations

from cyclesr_dist.backends.base import MakePlayer
from cyclesr_dist.config import Config
from cyclesr_dist.systems.base import System, SystemState
from cyclesr_dist.systems.cyclegan import CycleGANSystem
from cyclesr_dist.systems.joint import JointSystem
from cyclesr_dist.systems.separate import SeparateSystem
from cyclesr_dist.systems.sr_only import SROnlySystem
from cyclesr_dist.world import World


def build_system(config: Config, make_player: MakePlayer, world: World, saved: SystemState | None = None) -> System:
    """All ranks call it. Raises ConfigError or InputError when the perceptual network cannot be had."""
    match config.system:
        case "sr_syn" | "sr_paired":
            return SROnlySystem(config, make_player, saved)
        case "cyclegan":
            return CycleGANSystem(config, make_player, world, saved)
        case "cycle_sr_separate":
            return SeparateSystem(config, make_player, world, saved)
        case "cyclesr" | "cyclesrgan":
            return JointSystem(config, make_player, world, saved)
