"""What the machine takes from a process: pages that come from disk, memory that is awaited, a limit or heat that slows
the processor. From Linux's counters, read in about a millisecond; a counter that is not there is left out."""

from __future__ import annotations

import itertools
import resource
from collections.abc import Iterator, Mapping
from pathlib import Path

from cyclesr_dist.runtime.control_groups import groups

_PRESSURE = Path("/proc/pressure")
_PAGES = Path("/proc/vmstat")
_HEAT = Path("/sys/devices/system/cpu/cpu0/thermal_throttle/package_throttle_total_time_ms")

NAMES = (
    "major_faults",
    "swapped_in_mb",
    "memory_stall_seconds",
    "io_stall_seconds",
    "system_seconds",
    "memory_limit_hits",
    "throttled_seconds",
    "heat_seconds",
)
"""`major_faults`: times that this process waited for a page of memory from disk; `swapped_in_mb`: of all processes of
the machine; `memory_stall_seconds`, `io_stall_seconds`: in which some process of the control group (without one, of the
machine) waited for memory, for a disk; `system_seconds`: of processors, in which the system worked for this process;
`memory_limit_hits`: times that a memory limit of its control groups was reached; `throttled_seconds`: in which their
CPU limits held threads back, added over processors; `heat_seconds`: in which the first processor was slowed since it
was hot."""


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
    usage = resource.getrusage(resource.RUSAGE_SELF)
    found = {"major_faults": float(usage.ru_majflt), "system_seconds": usage.ru_stime}
    for line in _lines(_PAGES):
        if line.startswith("pswpin "):
            found["swapped_in_mb"] = float(line.split()[1]) * resource.getpagesize() / 2**20
    unified = groups()
    for what in ("memory", "io"):
        places = (*(folder / f"{what}.pressure" for folder in unified), _PRESSURE / what)
        # Of the process's own group where there is one: what other jobs wait for is not its own.
        found |= {f"{what}_stall_seconds": stall for stall in [*itertools.chain(*map(_stall, places))][:1]}
    for name, values in (
        ("memory_limit_hits", [*_fields(unified, "memory.events.local", "max"), *_failures()]),
        ("throttled_seconds", [value / 1e6 for value in _fields(unified, "cpu.stat", "throttled_usec")]),
        ("throttled_seconds", [value / 1e9 for value in _fields(groups("cpu"), "cpu.stat", "throttled_time")]),
    ):
        if values:
            found[name] = found.get(name, 0.0) + sum(values)
    if heat := _lines(_HEAT):
        found["heat_seconds"] = float(heat[0]) / 1e3
    return found


def _stall(path: Path) -> Iterator[float]:
    for line in _lines(path):
        if line.startswith("some ") and "total=" in line:
            yield float(line.rpartition("total=")[2]) / 1e6


def _failures() -> Iterator[float]:
    for folder in groups("memory"):
        yield from (float(line) for line in _lines(folder / "memory.failcnt"))


def _fields(folders: list[Path], file: str, name: str) -> Iterator[float]:
    for folder in folders:
        for line in _lines(folder / file):
            if line.startswith(f"{name} "):
                yield float(line.split()[1])


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return []
