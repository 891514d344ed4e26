"""What the networks of a new run start from, where it is not chance: read by the main rank, the same on all ranks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn

from cyclesr_dist.config.schema import Config
from cyclesr_dist.distributed.player import PlayerState, networks
from cyclesr_dist.distributed.world import World
from cyclesr_dist.errors import ConfigError, InputError
from cyclesr_dist.method.systems.base import ESTIMATED, G_L2H, System
from cyclesr_dist.models.checkpoint import Checkpoint, read
from cyclesr_dist.models.checkpoint_model import is_checkpoint, newest_checkpoint
from cyclesr_dist.models.model_file import sr_net
from cyclesr_dist.models.model_name import fingerprint
from cyclesr_dist.models.weights import check_same, check_scale, check_unseen, weights_for
from cyclesr_dist.nets.measured import MeasuredDegradation
from cyclesr_dist.runtime.files import is_file, sha256

_INIT, _RUN = "nets.sr.init", "train.start_from"
_OWN = ("g", "sr")
"""Players that hold the system's own g_l2h; another one with a g_l2h has that of the measured degradation."""
_UNSEEN = ("bicubic_skip", "res_scale", "mean_shift")


@dataclass(frozen=True)
class Start:
    """Networks by name, to be taken over by a system."""

    facts: dict[str, str]
    """For checkpoints and the report: `key` and `place` as they were given, `sha256` of what was read, `what` it is."""
    networks: dict[str, dict[str, Tensor]]


def open_start(config: Config, world: World) -> Start | None:
    """What the configuration names, if anything. The main rank reads it; others need not have it, but where they have
    another file at that path, the run is refused. All ranks call it.

    Raises ConfigError or InputError, before anything is trained, where it does not fit or cannot be read.
    """
    key, place = _named(config)
    if not place:
        return None
    found = world.together(lambda: _read(config, key, place) if world.is_main else None)
    _check_equal(key, place, world)
    facts = world.share(found.facts if found else {})
    flat = {f"{net}/{name}": t for net, state in found.networks.items() for name, t in state.items()} if found else {}
    shared: dict[str, dict[str, Tensor]] = {}
    for name, tensor in world.share_tensors({name: t.contiguous() for name, t in flat.items()}).items():
        network, _, rest = name.partition("/")
        shared.setdefault(network, {})[rest] = tensor
    return Start(facts, shared)


def begin(system: System, start: Start) -> dict[str, str]:
    """Put the networks into a system that has not been trained. Returns the facts, with `taken` and `new`, the names of
    its networks. All ranks call it.

    Optimizers stay as they are. So does what is measured between this run's photographs. Raises ConfigError, naming the
    first tensor that differs, and InputError where nothing can be taken over.
    """
    said = f"{start.facts['key']} = {start.facts['place']}"
    state = system.state()
    taken: list[str] = []
    new: list[str] = []
    for player, saved in state.players.items():
        module = system.players[player].module
        for network, prefix, net in _networks(module):
            slot = ESTIMATED if network == G_L2H and system.players[player] is _beside(system) else network
            source = start.networks.get(slot, start.networks.get(G_L2H) if slot == ESTIMATED else None)
            if source is None:
                new.append(slot)
                continue
            own = _part(saved, prefix, _measured(net))
            given = {name: tensor for name, tensor in source.items() if name not in _measured(net)}
            check_same(f"{said}: {slot}", own, given, "")
            for name, tensor in given.items():
                (saved.params if prefix + name in saved.params else saved.buffers)[prefix + name] = tensor
            taken.append(slot)
    if not taken:
        raise InputError(f"{said}: has none of this run's networks: {', '.join(new)}")
    system.load(state)
    return start.facts | {"taken": ", ".join(taken)} | ({"new": ", ".join(new)} if new else {})


def sentence(facts: Mapping[str, str]) -> str:
    """For people."""
    new = f"; drawn by seed: {facts['new']}" if facts.get("new") else ""
    return (
        f"{facts['taken']} from {facts['place']} ({facts['key']}; {facts['what']}; SHA-256 {facts['sha256'][:12]}){new}"
    )


def check_resumed(config: Config, saved: Checkpoint) -> None:
    """Raises ConfigError where the configuration names a start that a run which goes on cannot have had."""
    key, place = _named(config)
    if not place or (saved.start.get("key"), saved.start.get("place")) == (key, place):
        return
    if saved.start and _sum(key, place) in (None, saved.start["sha256"]):
        return  # it was moved, or is gone, which does no harm
    began = sentence(saved.start) if saved.start else "all networks drawn by seed"
    raise ConfigError(
        f"{key} = {place}: the run has begun already, with {began}; go on without {key}, or begin a new run in another "
        "--run-dir"
    )


def _sum(key: str, place: str) -> str | None:
    """SHA-256 of what would be read; None where there is nothing."""
    try:
        return fingerprint(str(Path(place).expanduser() if key == _INIT else _checkpoint(place)))
    except InputError:
        return None


def _named(config: Config) -> tuple[str, str]:
    return (_INIT, config.nets.sr.init) if config.nets.sr.init else (_RUN, config.train.start_from)


def _read(config: Config, key: str, place: str) -> Start:
    facts = {"key": key, "place": place}
    if key == _INIT:
        found = weights_for(key, place, config.nets.sr, config.scale)
        facts |= {"sha256": fingerprint(str(Path(place).expanduser())), "what": found.what}
        return Start(facts, {G_L2H: found.state})
    folder = _checkpoint(place)
    checkpoint, identity = read(folder)
    said = f"{key} = {place}"
    check_scale(said, config.scale, identity["scale"])
    try:
        check_unseen(said, config.nets.sr, sr_net(identity["nets"]["sr"]), _UNSEEN)
    except (ValueError, TypeError) as error:
        raise InputError(f"{said}: unusable description of the network ({error})") from error
    what = f"{identity['system']} after {checkpoint.step} steps"
    return Start(facts | {"sha256": fingerprint(str(folder)), "what": what}, _by_name(checkpoint))


def _checkpoint(place: str) -> Path:
    path = Path(place).expanduser()
    if "://" in place or not path.is_dir():
        raise InputError(f"{_RUN} = {place}: there is no such folder on this machine")
    folder = path if is_checkpoint(path) else newest_checkpoint(path)
    if folder is None:
        raise InputError(f"{_RUN} = {place}: has no checkpoint; allowed: a run's folder with one, or a checkpoint's")
    return folder


def _by_name(checkpoint: Checkpoint) -> dict[str, dict[str, Tensor]]:
    """The networks of a checkpoint that were trained, g_l2h averaged where it was."""
    found: dict[str, dict[str, Tensor]] = {}
    for player, saved in checkpoint.system.players.items():
        trained = {_split(name)[0] for name in saved.params}
        for name, tensor in (saved.params | saved.buffers).items():
            network, rest = _split(name)
            if network in trained:
                slot = ESTIMATED if network == G_L2H and player not in _OWN else network
                found.setdefault(slot, {})[rest] = tensor
    for name, tensor in checkpoint.ema.items():
        beside = name.startswith(f"{ESTIMATED}.")
        found.setdefault(ESTIMATED if beside else G_L2H, {})[name.removeprefix(f"{ESTIMATED}.")] = tensor
    return found


def _split(name: str) -> tuple[str, str]:
    """A tensor's name in a player: (network, name there)."""
    network, _, rest = name.removeprefix("critics.").partition(".")
    return network, rest


def _networks(module: nn.Module) -> Iterator[tuple[str, str, nn.Module]]:
    """Those that are trained: (name, what stands before the names of its tensors, network)."""
    prefixes = {child: f"{name}." for name, child in module.named_modules()}
    for name, net in networks(module).items():
        if any(True for _ in net.parameters()):
            yield name, prefixes[net], net


def _beside(system: System) -> object:
    return system.sr_players.get(ESTIMATED)


def _measured(net: nn.Module) -> set[str]:
    """Names of the tensors that hold a measured degradation."""
    return {
        f"{path}.{name}"
        for path, child in net.named_modules()
        if isinstance(child, MeasuredDegradation)
        for name, _ in child.named_buffers()
    }


def _part(saved: PlayerState, prefix: str, without: set[str]) -> dict[str, Tensor]:
    tensors = saved.params | saved.buffers
    names = {name: name.removeprefix(prefix) for name in tensors if name.startswith(prefix)}
    return {short: tensors[name] for name, short in names.items() if short not in without}


def _check_equal(key: str, place: str, world: World) -> None:
    path = Path(place).expanduser()
    sums = world.gather_objects(sha256(path) if is_file(path) else None)
    have = {rank: found for rank, found in enumerate(sums) if found is not None}

    def check() -> None:
        if len(set(have.values())) > 1:
            each = ", ".join(f"SHA-256 {found[:12]} on rank {rank}" for rank, found in have.items())
            raise ConfigError(f"the ranks do not run the same: {key} = {place}: {each}")

    world.together(check)
