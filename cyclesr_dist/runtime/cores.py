"""How many threads to compute with where torch, which has its own answer, is not imported."""

from __future__ import annotations

import os
import sys
from pathlib import Path

_TOPOLOGY = "/sys/devices/system/cpu/cpu{}/topology/thread_siblings_list"


def compute_threads() -> int:
    """As many as torch takes: OMP_NUM_THREADS, or one for each core that this process may use. Where torch is
    imported, what it was told."""
    if torch := sys.modules.get("torch"):
        return int(torch.get_num_threads())
    wanted = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()  # a list is for nested regions
    return int(wanted) if wanted.isdecimal() and int(wanted) > 0 else _cores()


def _cores() -> int:
    """Hardware threads of one core count once: a second one computes nothing faster."""
    return len({_siblings(cpu) for cpu in os.sched_getaffinity(0)})


def _siblings(cpu: int) -> str:
    try:
        return Path(_TOPOLOGY.format(cpu)).read_text(encoding="ascii").strip()
    except OSError:  # a container may hide it
        return str(cpu)
