"""Numbers of a step that are on the device, fetched in one copy; memory. All ranks call what is here."""

from __future__ import annotations

import resource
from dataclasses import dataclass

import torch
from torch import Tensor

from cyclesr_dist.distributed.world import World
from cyclesr_dist.method.step import StepResult
from cyclesr_dist.method.systems.base import System


@dataclass(frozen=True)
class Measured:
    """Numbers of a logged step on the host. Losses and drift are means over ranks, the rest is alike on all."""

    losses: dict[str, float]
    drift: dict[str, float]
    norms: dict[str, float]
    """Of gradients, by network."""
    loss_scales: dict[str, float]
    """By player."""


def measure(world: World, system: System, result: StepResult) -> Measured:
    """One copy from the device, one exchange between ranks."""
    players = system.players
    norms: dict[str, Tensor] = {}
    for player_name, player in players.items():
        for name, norm in player.network_norms().items():
            norms[f"{name}.{player_name}" if name in norms else name] = norm
    scales = {name: player.loss_scale() for name, player in players.items()}
    on_device = {name: scale for name, scale in scales.items() if scale is not None}
    groups: list[dict[str, Tensor]] = [result.losses, result.drift, norms, on_device]
    flat = [t.detach().float().reshape(()) for group in groups for t in group.values()]
    fetched = torch.stack(flat).tolist()
    num_means = len(result.losses) + len(result.drift)
    values = iter(world.mean(fetched[:num_means]) + fetched[num_means:])
    losses, drift, norms_, scales_ = ({name: next(values) for name in group} for group in groups)
    return Measured(losses, drift, norms_, dict.fromkeys(players, 1.0) | scales_)


def peak_memory_mb(world: World) -> float:
    """Largest over ranks: of the GPU's memory where there is one, else of the process."""
    if world.device.type == "cuda":
        of_rank = torch.cuda.max_memory_allocated(world.device) / 2**20
    else:
        of_rank = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10  # Linux counts KiB
    return float(max(world.gather_objects(of_rank)))
