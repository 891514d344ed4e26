"""What the machine takes from a process: pages that come from disk, memory that is awaited, a limit or heat that slows
the processor. From Linux's counters, read in less than a millisecond; a counter that is not there is left out."""

from __future__ import annotations

import itertools
import re
import resource
from collections.abc import Iterator
from dataclasses import dataclass
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
        self._sources = list(_sources())
        self._last = self._read()

    def since_last(self) -> dict[str, float]:
        """Since the last call, or since it was made. Those of NAMES that the system has."""
        now, last = self._read(), self._last
        self._last = now
        return {name: max(0.0, now[name] - last[name]) for name in NAMES if name in now and name in last}

    def _read(self) -> dict[str, float]:
        usage = resource.getrusage(resource.RUSAGE_SELF)
        found = {"major_faults": float(usage.ru_majflt), "system_seconds": usage.ru_stime}
        for source in self._sources:
            if (value := source.read()) is not None:
                found[source.name] = found.get(source.name, 0.0) + value
        return found


@dataclass(frozen=True)
class _Source:
    """A number in a file."""

    name: str
    """Of NAMES; several files of one name add up."""
    path: Path
    before: str
    """What its line begins with, as a pattern."""
    unit: float = 1.0

    def read(self) -> float | None:
        try:
            text = self.path.read_text(encoding="ascii", errors="replace")
        except OSError:
            return None
        found = re.search(rf"^{self.before}(\d+)", text, re.MULTILINE)
        return float(found[1]) * self.unit if found else None


def _sources() -> Iterator[_Source]:
    """Those that are there. They are looked up once: that takes longer than to read them."""
    unified = groups()
    found = [
        _Source("swapped_in_mb", _PAGES, "pswpin ", resource.getpagesize() / 2**20),
        _Source("heat_seconds", _HEAT, "", 1e-3),
        *(_Source("memory_limit_hits", folder / "memory.events.local", "max ") for folder in unified),
        *(_Source("memory_limit_hits", folder / "memory.failcnt", "") for folder in groups("memory")),
        *(_Source("throttled_seconds", folder / "cpu.stat", "throttled_usec ", 1e-6) for folder in unified),
        *(_Source("throttled_seconds", folder / "cpu.stat", "throttled_time ", 1e-9) for folder in groups("cpu")),
    ]
    yield from (source for source in found if source.read() is not None)
    for what in ("memory", "io"):
        # Of the process's own group where there is one: what other jobs wait for is not its own.
        places = (*(folder / f"{what}.pressure" for folder in unified), _PRESSURE / what)
        stalls = (_Source(f"{what}_stall_seconds", path, "some .*total=", 1e-6) for path in places)
        yield from itertools.islice((source for source in stalls if source.read() is not None), 1)
