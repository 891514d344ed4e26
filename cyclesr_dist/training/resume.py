"""From the newest checkpoint that is whole to the same state on all ranks, read by the main rank alone."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from cyclesr_dist.distributed.world import World
from cyclesr_dist.models.checkpoint import Checkpoint, pack, unpack
from cyclesr_dist.training.checkpoint_store import CheckpointStore, newest


def load_newest(
    checkpoints: CheckpointStore,
    identity: dict[str, Any],
    world: World,
    is_good: Callable[[int], bool] = lambda step: True,
) -> Checkpoint | None:
    """The newest of those whose step `is_good` says yes to; None when there is none. All ranks call it; the others need
    not see the checkpoints.

    Raises InputError when none can be read, ConfigError when the run does not fit.
    """
    found = world.together(lambda: newest(checkpoints, identity, _warn, is_good) if world.is_main else None)
    name = world.share(found[0] if found else None)
    if name is None:
        return None
    packed = pack(found[1]) if found else ({}, {})
    checkpoint = unpack(world.share(packed[0]), world.share_tensors(packed[1]))
    if world.is_main:
        print(f"cyclesr: resuming at step {checkpoint.step} from {name}", file=sys.stderr)
    return checkpoint


def _warn(text: str) -> None:
    print(f"cyclesr: warning: {text}", file=sys.stderr, flush=True)
