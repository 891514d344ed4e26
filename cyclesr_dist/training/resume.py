"""From the newest checkpoint that is whole to the same state on all ranks, read by the main rank alone."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from cyclesr_dist.distributed.world import World
from cyclesr_dist.models.checkpoint import Checkpoint, flat_identity, pack, unpack
from cyclesr_dist.training.changes import Change, changes, check_resumable
from cyclesr_dist.training.checkpoint_store import CheckpointStore, newest


def load_newest(
    checkpoints: CheckpointStore,
    identity: dict[str, Any],
    world: World,
    is_good: Callable[[int], bool] = lambda step: True,
    *,
    with_changes: bool = False,
) -> tuple[Checkpoint, list[Change]] | None:
    """The newest of those whose step `is_good` says yes to, and what of the run has changed since; None when there is
    none. All ranks call it; the others need not see the checkpoints.

    Raises InputError when none can be read, ConfigError when the run does not fit, or may not go on so without
    `with_changes`.
    """

    def read() -> tuple[str, Checkpoint, list[Change]] | None:
        found = newest(checkpoints, _warn, is_good)
        if found is None:
            return None
        name, checkpoint, saved = found
        changed = changes(flat_identity(saved), flat_identity(identity))
        check_resumable(name, changed, with_changes)
        return name, checkpoint, changed

    found = world.together(lambda: read() if world.is_main else None)
    name, changed = world.share((found[0], found[2]) if found else (None, []))
    if name is None:
        return None
    packed = pack(found[1]) if found else ({}, {})
    checkpoint = unpack(world.share(packed[0]), world.share_tensors(packed[1]))
    if world.is_main:
        print(f"cyclesr: resuming at step {checkpoint.step} from {name}", file=sys.stderr)
    return checkpoint, changed


def _warn(text: str) -> None:
    print(f"cyclesr: warning: {text}", file=sys.stderr, flush=True)
