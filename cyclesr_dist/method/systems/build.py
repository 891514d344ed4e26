"""From `system:` to a system."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from torch import nn

from cyclesr_dist.config.schema import Config
from cyclesr_dist.config.systems import SYSTEMS, spec_of
from cyclesr_dist.degradation.record import Degradation
from cyclesr_dist.distributed.player import MakePlayer
from cyclesr_dist.distributed.world import World
from cyclesr_dist.errors import ConfigError
from cyclesr_dist.method.objectives import JointGenerators
from cyclesr_dist.method.systems.base import G_L2H, System, SystemState
from cyclesr_dist.nets.enlarge_first import EnlargeFirst
from cyclesr_dist.nets.tune import tune
from cyclesr_dist.runtime.memory import keep_freed
from cyclesr_dist.runtime.user_modules import call_of_user, find_object


def build_system(
    config: Config,
    make_player: MakePlayer,
    world: World,
    saved: SystemState | None = None,
    degradation: Degradation | None = None,
) -> System:
    """With `saved`, in that state. All ranks call it.

    `degradation` is what a measured g_s2r starts from; a saved state holds it, and without either it is the identity.

    Raises ConfigError or InputError when the perceptual network cannot be had.
    """
    if not config.speed.plain and world.device.type == "cpu":
        keep_freed()
    system = _build(config, make_player, world, degradation)
    if config.speed.compile:
        _keep_compiled()
    for player in system.players.values():
        for net in _networks(player.module):
            tune(net, config.speed)
    if saved is not None:
        system.load(saved)
    return system


def _keep_compiled() -> None:
    """What torch.compile makes stays for the next run: in TORCHINDUCTOR_CACHE_DIR, or in the user's cache folder."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(Path(cache) / "cyclesr-dist" / "inductor"))


def _networks(module: nn.Module) -> Iterator[nn.Module]:
    """The networks of a player as its objective calls them, and the frozen ones beside them."""
    for child in module.children():
        if isinstance(child, nn.ModuleDict):
            yield from child.values()
        elif any(True for _ in child.parameters()):  # the measured degradation has none
            yield child.translator if isinstance(child, EnlargeFirst) else child
    if isinstance(module, JointGenerators):
        terms = module.sr_terms[0]
        yield from (net for net in (terms.percep, terms.texture) if net is not None)


def _build(config: Config, make_player: MakePlayer, world: World, degradation: Degradation | None) -> System:
    build = spec_of(config.system).build
    if isinstance(build, str):
        build = find_object("system", build)
    if config.system in SYSTEMS:
        ours: System = build(config, make_player, world, degradation)
        return ours
    named = f"system = {config.system}"
    system: System = call_of_user(named, lambda: build(config, make_player, world, degradation))
    missing = [name for name in ("players", "sr_players", "step", "state", "load") if not hasattr(system, name)]
    if missing:
        raise ConfigError(f"{named} has no {', '.join(missing)}; see method/systems/base.py")
    if not system.players or G_L2H not in system.sr_players:
        raise ConfigError(f"{named} has no players, or no {G_L2H} in sr_players")
    return system
