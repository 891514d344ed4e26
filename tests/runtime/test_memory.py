"""Memory that is freed stays, when asked to, and can be given back."""

from __future__ import annotations

import ctypes

import pytest
import torch

from cyclesr_dist.distributed.local_ranks import run_ranks
from cyclesr_dist.distributed.world import World
from cyclesr_dist.runtime import memory
from cyclesr_dist.workflows.bench.processes import resident_mb

MB = 200


def resident(world: World) -> list[float]:
    """MB beyond the beginning: after a tensor is gone, after the same with kept memory, and after giving back."""
    found = []
    begin = resident_mb("VmRSS")
    for keep in (False, True):
        if keep:
            assert memory.keep_freed()
        torch.ones(MB * 2**18)
        found.append(resident_mb("VmRSS") - begin)
    memory.give_back()
    return [*found, resident_mb("VmRSS") - begin]


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="this C library is not glibc")
def test_freed_memory_stays_with_the_process_until_it_is_given_back() -> None:
    returned, kept, given_back = run_ranks(resident, 1)[0]
    assert returned < MB / 2 < MB * 0.9 < kept
    assert given_back < MB / 2


def test_another_c_library_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda name: object())
    assert not memory.keep_freed()
    memory.give_back()
