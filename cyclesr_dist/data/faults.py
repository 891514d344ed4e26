"""Samples that cannot be read: told once, counted over all ranks, and fatal on all ranks at once beyond a limit."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass

from cyclesr_dist.distributed.world import World
from cyclesr_dist.errors import InputError, StorageError, UnreachableError


@dataclass(frozen=True)
class Fault:
    """One sample that one rank could not read."""

    domain: str
    index: int
    message: str
    """Names the shard and the sample's key."""
    storage_code: int = 0
    """Not 0: the storage failed, and nothing is known of the sample; the exit code that follows."""


def fault_of(domain: str, index: int, error: InputError) -> Fault:
    """What `error` says of a sample."""
    return Fault(domain, index, str(error), error.exit_code if isinstance(error, StorageError) else 0)


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
        are more than the limit, and StorageError when storage failed, which is held against no sample: the batch must
        then not be used.
        """
        gathered = [fault for part in self.world.gather_objects(list(found)) for fault in part]
        for fault in gathered:  # the batch of who met it is blank, also where another rank could read the sample
            if fault.storage_code:
                kind = UnreachableError if fault.storage_code == UnreachableError.exit_code else StorageError
                raise self.world.told_once(kind(fault.message))
        shared = sorted({(f.domain, f.index): f for f in gathered}.values(), key=lambda f: (f.domain, f.index))
        new = [fault for fault in shared if (fault.domain, fault.index) not in self._known]
        self._known |= {(fault.domain, fault.index) for fault in new}
        if len(self._known) > self.limit:
            met = f"data.max_bad_samples = {self.limit}, and {len(self._known)} were met"
            raise self.world.told_once(InputError(f"{new[0].message}; {met}"))
        if self.world.is_main:
            for fault in new:
                print(
                    f"cyclesr: warning: {fault.message}; another sample is drawn in its place "
                    f"({len(self._known)} of at most {self.limit})",
                    file=sys.stderr,
                    flush=True,
                )
        return len(new)
