"""What this process and its descendants use."""

from __future__ import annotations

import os
from pathlib import Path


def descendants() -> set[int]:
    """This process and all that it started, directly or not."""
    parents = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit() and (fields := _stat(int(entry))):
            parents[int(entry)] = int(fields[1])
    own, grown = {os.getpid()}, True
    while grown:
        more = {pid for pid, parent in parents.items() if parent in own} - own
        own |= more
        grown = bool(more)
    return own


def cpu_seconds() -> float:
    """Processor time of this process and its living descendants so far."""
    ticks = sum(int(fields[11]) + int(fields[12]) for pid in descendants() if (fields := _stat(pid)))
    return ticks / os.sysconf("SC_CLK_TCK")


def memory_mb() -> float:
    """Proportional set size of this process and its descendants: shared pages count once."""
    total = 0
    for pid in descendants():
        try:
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        except OSError:  # it has just ended
            continue
        total += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return total / 1024


def resident_mb(key: str) -> float:
    """Of this process: `VmRSS`, resident now, or `VmHWM`, at most so far."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(key)) / 1024


def _stat(pid: int) -> list[str]:
    """Fields of /proc/pid/stat from the state on; empty if the process has ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except OSError:
        return []
