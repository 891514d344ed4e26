"""Samples that cannot be read: told once, counted over all ranks, and fatal on all ranks at once beyond a limit."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass

from cyclesr_dist.distributed.world import World
from cyclesr_dist.errors import FailedElsewhere, InputError, UnreachableError


@dataclass(frozen=True)
class Fault:
    """One sample that one rank could not read."""

    domain: str
    index: int
    message: str
    """Names the shard and the sample's key."""
    unreachable: bool = False
    """The storage does not answer: nothing is known of the sample."""


class FaultLog:
    """What all ranks together have met. Every rank holds the same."""

    def __init__(self, limit: int, world: World) -> None:
        self.limit = limit
        self.world = world
        self._known: set[tuple[str, int]] = set()

    def __len__(self) -> int:
        return len(self._known)

    def agree(self, found: Sequence[Fault]) -> int:
        """Share what this rank found in its part of a global batch. Returns how many are new. All ranks call it, when
        any of them found some.

        The main rank prints each new one. Raises InputError there, and FailedElsewhere on the other ranks, when there
        are more than the limit: the batch must then not be used.
        """
        shared = sorted(
            {(f.domain, f.index): f for part in self.world.gather_objects(list(found)) for f in part}.values(),
            key=lambda f: (f.domain, f.index),
        )
        new = [fault for fault in shared if (fault.domain, fault.index) not in self._known]
        self._known |= {(fault.domain, fault.index) for fault in new}
        if len(self._known) > self.limit:
            message = f"{new[0].message}; data.max_bad_samples = {self.limit}, and {len(self._known)} were met"
            error = (UnreachableError if new[0].unreachable else InputError)(message)
            raise error if self.world.is_main else FailedElsewhere(message, error.exit_code)
        if self.world.is_main:
            for fault in new:
                print(
                    f"cyclesr: warning: {fault.message}; another sample is drawn in its place "
                    f"({len(self._known)} of at most {self.limit})",
                    file=sys.stderr,
                    flush=True,
                )
        return len(new)
