"""Memory that is freed stays, when asked to, and can be given back."""

from __future__ import annotations

import ctypes
import subprocess
import sys

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


LIMITED = """
import resource
from cyclesr_dist.runtime.memory import free_on_host, taken
limit = taken().{field} + 2**30
resource.setrlimit(resource.{limit}, (limit, limit))
before = taken()
held = bytearray(300 * 2**20)
print(free_on_host() / 2**20, free_on_host(before) / 2**20)
"""


@pytest.mark.parametrize(("field", "limit"), [("addresses", "RLIMIT_AS"), ("data", "RLIMIT_DATA")])
def test_what_the_process_has_taken_itself_counts_as_free(field: str, limit: str) -> None:
    script = LIMITED.format(field=field, limit=limit)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    now, since = map(float, done.stdout.split())
    assert 700 < now < 724
    assert 1000 < since <= 1024
