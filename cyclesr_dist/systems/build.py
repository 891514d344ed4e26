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
    """With `saved`, in that state. All ranks call it.

    Raises ConfigError or InputError when the perceptual network cannot be had.
    """
    system = _build(config, make_player, world)
    if saved is not None:
        system.load(saved)
    return system


def _build(config: Config, make_player: MakePlayer, world: World) -> System:
    match config.system:
        case "sr_syn" | "sr_paired":
            return SROnlySystem(config, make_player)
        case "cyclegan":
            return CycleGANSystem(config, make_player, world)
        case "cycle_sr_separate":
            return SeparateSystem(config, make_player, world)
        case "cyclesr" | "cyclesrgan":
            return JointSystem(config, make_player, world)
