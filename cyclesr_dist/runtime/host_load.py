"""What the machine takes from a process: pages that come from disk, memory that is awaited, a limit or heat that slows
the processor. From Linux's counters, read in less than a millisecond; a counter that is not there is left out."""

from __future__ import annotations

import resource
from collections.abc import Mapping
from pathlib import Path

_PRESSURE = Path("/proc/pressure/memory")
_PAGES = Path("/proc/vmstat")
_GROUPS = (Path("/sys/fs/cgroup/cpu.stat"), Path("/sys/fs/cgroup/cpu/cpu.stat"))
"""Of versions 2 and 1, as a container sees its own."""
_HEAT = Path("/sys/devices/system/cpu/cpu0/thermal_throttle/package_throttle_total_time_ms")

NAMES = ("major_faults", "swapped_in_mb", "memory_stall_seconds", "throttled_seconds", "heat_seconds")
"""`major_faults`: times that this process waited for a page of memory from disk; `swapped_in_mb`: of all processes of
the machine; `memory_stall_seconds`: in which some process of the machine waited for memory; `throttled_seconds`: in
which the control group's CPU limit held threads back, added over processors; `heat_seconds`: in which the first
processor was slowed since it was hot."""


class HostLoad:
    """Growth of these counters."""

    def __init__(self) -> None:
        self._last = _read()

    def since_last(self) -> dict[str, float]:
        """Since the last call, or since it was made. Those of NAMES that the system has."""
        now, last = _read(), self._last
        self._last = now
        return {name: max(0.0, now[name] - last[name]) for name in NAMES if name in now and name in last}


def _read() -> Mapping[str, float]:
    found = {"major_faults": float(resource.getrusage(resource.RUSAGE_SELF).ru_majflt)}
    for line in _lines(_PAGES):
        if line.startswith("pswpin "):
            found["swapped_in_mb"] = float(line.split()[1]) * resource.getpagesize() / 2**20
    for line in _lines(_PRESSURE):
        if line.startswith("some ") and "total=" in line:
            found["memory_stall_seconds"] = float(line.rpartition("total=")[2]) / 1e6
    for path in _GROUPS:
        for line in _lines(path):
            name, _, value = line.partition(" ")
            if name in ("throttled_usec", "throttled_time"):
                found["throttled_seconds"] = float(value) / (1e6 if name == "throttled_usec" else 1e9)
    if heat := _lines(_HEAT):
        found["heat_seconds"] = float(heat[0]) / 1e3
    return found


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return []
