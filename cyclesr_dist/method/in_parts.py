"""A player's update on a batch that passes through the networks in parts of `player.micro_batch` samples.

Losses are means over samples, so the sum of the parts' losses, weighted by their samples, is the loss of the batch, and
gradients add up to its gradient. For terms that are no means see whole_batch.py. The objectives know nothing of parts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor, nn

from cyclesr_dist.distributed.player import Player
from cyclesr_dist.method.parts_of_step import part as named
from cyclesr_dist.method.types import Fakes, Losses
from cyclesr_dist.method.whole_batch import Known, Look, Replay, WholeBatch

Forward = Callable[[slice], tuple[Losses, Fakes]]
"""The forward pass of these samples of the rank's batch."""


def update_in_parts(player: Player, num: int, forward: Forward, name: str) -> tuple[Losses, Fakes, float]:
    """Update on `num` samples: losses, detached, fakes of all samples in order, and the norm of the gradient.
    `name`: the player's in a trace.

    All ranks call it; `num` and the size of parts are the same on all, or they would exchange different things.
    """
    parts = parts_of(num, player.micro_batch)
    if len(parts) == 1:
        with named(f"{name}: forward"):
            losses, fakes = forward(slice(None))
        with named(f"{name}: backward and update"):
            norm = player.update(losses["total"])
        return {term: value.detach() for term, value in losses.items()}, fakes, norm
    with named(f"{name}: look at the whole batch"):
        known = _look(player.module, parts, forward)
    sums: Losses = {}
    shown: list[Fakes] = []

    def share(part: slice) -> Tensor:
        with _replayed(player.module, known, part), named(f"{name}: forward"):
            losses, fakes = forward(part)
        weight = (part.stop - part.start) / num
        for term, value in losses.items():
            sums[term] = sums.get(term, 0) + value.detach() * weight
        shown.append(fakes)
        total: Tensor = losses["total"] * weight
        return total

    for part in parts[:-1]:
        with named(f"{name}: a part of the batch"):
            player.accumulate(partial(share, part))
    last = share(parts[-1])
    with named(f"{name}: backward and update"):
        norm = player.update(last)
    return sums, {key: torch.cat([fakes[key] for fakes in shown]) for key in shown[0]}, norm


def parts_of(num: int, size: int | None) -> list[slice]:
    """`num` samples in parts of `size`, the last of which may have fewer; None: all in one."""
    size = size or num
    return [slice(start, min(start + size, num)) for start in range(0, num, size)]


def _look(module: nn.Module, parts: list[slice], forward: Forward) -> list[Known]:
    """The terms that are no means over samples. Nothing but their own running means is changed by it."""
    whole = _whole(module)
    if whole is None:
        return []
    look = Look()
    buffers = [(buffer, buffer.clone()) for buffer in module.buffers()]
    # What a network draws inside (dropout) is drawn again, alike, when gradients are computed.
    devices = {p.device for p in module.parameters() if p.device.type == "cuda"}
    with torch.no_grad(), torch.random.fork_rng(devices=list(devices)), whole.by(look):
        for part in parts:
            look.begin_part()
            forward(part)
    for buffer, before in buffers:
        buffer.copy_(before)
    return look.terms()


@contextmanager
def _replayed(module: nn.Module, known: list[Known], part: slice) -> Iterator[None]:
    whole = _whole(module)
    if whole is None:
        yield
        return
    with whole.by(Replay(known, part)):
        yield


def _whole(module: nn.Module) -> WholeBatch | None:
    """What the objective computes terms of the whole batch with, where it has any."""
    whole: WholeBatch | None = getattr(module, "whole", None)
    return whole if whole is not None and whole.has_terms else None
