"""From the newest checkpoint that is whole to the same state on all ranks, read by the main rank alone."""

from __future__ import annotations

import sys
from typing import Any

from cyclesr_dist.train.checkpoint import Checkpoint, pack, unpack
from cyclesr_dist.train.shelf import Shelf, newest
from cyclesr_dist.world import World


def load_newest(shelf: Shelf, who: dict[str, Any], world: World) -> Checkpoint | None:
    """None when there is no checkpoint. All ranks call it; the others need not see the shelf.

    Raises InputError when none can be read, ConfigError when the run does not fit.
    """
    found = world.together(lambda: newest(shelf, who, _warn) if world.is_main else None)
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
