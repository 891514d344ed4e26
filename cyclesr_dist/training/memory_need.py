"""How much memory a training step will take, before it takes any: counted on tensors that have shapes and no values.

Counted are parameters with their gradients and Adam's moments, and what the forward passes of a step keep for the
backward one; a share is added for what comes and goes between them. tests/training/test_opening.py compares it with
what runs take.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from cyclesr_dist.config.schema import Config, noise_channels
from cyclesr_dist.config.systems import Phase, spec_of
from cyclesr_dist.distributed.world import World
from cyclesr_dist.method.systems.base import System
from cyclesr_dist.nets.build import build_discriminator, build_sr, build_translator
from cyclesr_dist.nets.vgg import TEXTURE_LAYERS, build_vgg
from cyclesr_dist.runtime.memory import free_on_host, gib

_STATE_BYTES = 20
"""A parameter: itself, its gradient, two moments, and a copy (an average, a bucket of gradients)."""
_PASSING = 1.3
"""What activations take beside those that are kept: gradients of the backward pass, temporary tensors."""
_BF16 = 0.6
"""Of activations in bf16 or fp16: half of them, and parts that stay in fp32."""
_LIBRARIES_BYTES = 100 * 2**20
"""What the libraries of a CPU keep for themselves from the first step on."""
_WORKER_BYTES = 350 * 2**20
"""A loader process."""


@dataclass(frozen=True)
class _Pass:
    """How often a step keeps the forward pass of a network, in one half-step of a player."""

    build: Callable[[], nn.Module]
    channels: int
    side: int
    times: int


def step_bytes(config: Config, system: System, patch: int, rank_batch: int) -> int | None:
    """Bytes a step needs on one rank besides the process as it is, with `rank_batch` samples at once; None where it
    cannot be told (networks of others may not work on shapes alone). `patch` is the LR side in px."""
    state = sum(p.numel() for player in system.players.values() for p in player.module.parameters()) * _STATE_BYTES
    if config.backend == "deepspeed":
        state = round(state * 1.5)  # flat copies of parameters and gradients
    try:
        halves = [sum(one.times * kept_bytes(one) for one in half) for half in _halves(config, patch)]
    except (RuntimeError, NotImplementedError, TypeError, ValueError):
        return None
    activations = max(halves) * rank_batch
    if config.speed.recompute:
        activations = round(activations / 3)
    if config.precision != "fp32":
        activations = round(activations * _BF16)
    on_cpu = system_device(system).type == "cpu"
    others = _LIBRARIES_BYTES + config.data.workers * _WORKER_BYTES if on_cpu else 0
    return round(state + activations * _PASSING) + others


def kept_for_later(config: Config, system: System, patch: int, rank_batch: int) -> int:
    """Bytes of what is not there yet when a forward and a backward pass are tried: gradients, Adam's moments, copies of
    parameters; the rank's samples and fakes, which wait while parts of them pass; and loader processes."""
    num = sum(p.numel() for player in system.players.values() for p in player.module.parameters())
    waiting = 3 * 4 * (4 * patch**2 + 2 * (patch * config.scale) ** 2) * rank_batch
    on_cpu = system_device(system).type == "cpu"
    return num * (_STATE_BYTES - 4) + waiting + (config.data.workers * _WORKER_BYTES if on_cpu else 0)


def free_bytes(world: World) -> int:
    """What this rank may take: its share, with the other ranks of the machine, of what is free there now."""
    if world.device.type == "cuda":
        return int(torch.cuda.mem_get_info(world.device)[0])
    return free_on_host() // max(1, world.local_num_ranks)


def kept_bytes(one: _Pass) -> int:
    """Bytes that a forward pass of one sample keeps for the backward one."""
    kept: dict[int, int] = {}
    with torch.device("meta"):
        net = one.build()
        x = torch.empty(1, one.channels, one.side, one.side)
    own = {id(p) for p in net.parameters()}

    def keep(tensor: Tensor) -> Tensor:
        if id(tensor) not in own:
            kept[tensor.untyped_storage()._cdata] = tensor.untyped_storage().nbytes()
            alive.append(tensor)
        return tensor

    alive: list[Tensor] = []  # so that no storage is given away and counted as another
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        out = net(x)
    outs: list[Tensor] = out if isinstance(out, list) else [out]
    return sum(kept.values()) + sum(one.nbytes for one in outs)


def _halves(config: Config, patch: int) -> list[list[_Pass]]:
    """What the halves of a step keep: the generators' and the discriminators', and those that follow one another."""
    c, nets, w = config, config.nets, config.weights
    hr = patch * c.scale
    g_l2h = _Pass(lambda: build_sr(nets.sr, c.scale), 3, patch, 1)
    spec = spec_of(c.system)
    if spec.translates_first:
        first, second = _of_one_way(config, patch)
        judge = _Pass(lambda: build_discriminator(nets.d_h), 3, hr, 1)
        # The translator of real and of syn, and both ways back; SR of both.
        return [[*[first[0]] * 4, first[1], judge, replace(g_l2h, times=2)], [*second, judge, judge]]
    if spec.cycle == "none":
        one_way = spec.rounds[0].phase is Phase.TRANSLATE
        return [*(_of_one_way(config, patch) if one_way else []), [g_l2h]]
    again = int(bool(w.id)) + int(bool(w.cyc if w.cyc_backward is None else w.cyc_backward))
    noise = noise_channels(c)
    if spec.cycle == "hr":
        there = _Pass(lambda: build_translator(nets.translator, noise), 3 + noise, hr, 1 + again)
        back = _Pass(lambda: build_translator(nets.translator), 3, hr, 2 + int(bool(w.id)))
        critic = _Pass(lambda: build_discriminator(nets.d_h), 3, hr, 2)
        return [[there, back, critic], [critic, critic]]
    # Of one that starts measured the learned part, which is what is kept.
    there = _Pass(lambda: build_translator(nets.translator, noise), 3 + noise, patch, 1 + again)
    back = _Pass(lambda: build_translator(nets.translator), 3, patch, 2 + int(bool(w.id)))
    critic = _Pass(lambda: build_discriminator(nets.d_lr), 3, patch, 2)
    first, second = [there, back, critic], [critic, critic]
    if len(spec.rounds) > 1:  # g_l2h has one to itself
        return [first, second, [g_l2h]]
    first = [*first, g_l2h]
    if spec.perceptual:
        if w.advsr:
            judge = _Pass(lambda: build_discriminator(nets.d_h), 3, hr, 1)
            first, second = [*first, judge], [*second, judge, judge]
        if w.percep or w.texture:
            layers = (config.perceptual.layer,) if w.percep else TEXTURE_LAYERS
            first = [*first, _Pass(lambda: build_vgg("random", layers), 3, hr, 1 + int(bool(w.percep and w.texture)))]
    return [first, second]


def _of_one_way(config: Config, patch: int) -> list[list[_Pass]]:
    """A degradation that is learned without a way back, and its discriminator."""
    nets, noise = config.nets, noise_channels(config)
    there = _Pass(lambda: build_translator(nets.translator, noise), 3 + noise, patch, 1)
    critic = _Pass(lambda: build_discriminator(nets.d_lr), 3, patch, 1)
    return [[there, critic], [critic, critic]]


def way_out(config: Config, system: System, patch: int, num_ranks: int, free: int) -> str:
    """The settings with which a step would fit into `free` bytes a rank."""
    batch = config.global_batch
    while batch > num_ranks:
        batch = max(num_ranks, batch // 2 // num_ranks * num_ranks)
        smaller = replace(config, global_batch=batch)
        need = step_bytes(smaller, system, patch, batch // num_ranks)
        if need is not None and need < free:
            same = f"so does micro_batch={batch // num_ranks}, with which the batch stays what it is and takes longer"
            return f"global_batch={batch} fits (about {gib(need)}); {same}"
    recomputing = replace(config, global_batch=num_ranks, speed=replace(config.speed, recompute=True))
    need = step_bytes(recomputing, system, patch, 1)
    if need is not None and need < free:
        return f"global_batch={num_ranks} with speed.recompute=true fits (about {gib(need)})"
    return "smaller networks (nets.sr.channels, nets.sr.blocks) or smaller patches (shards.patch) are needed"


def system_device(system: System) -> torch.device:
    return next(parameter.device for player in system.players.values() for parameter in player.module.parameters())
