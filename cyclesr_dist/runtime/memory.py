"""Memory: what is free, and what the C library does with what tensors leave."""

from __future__ import annotations

import ctypes
import os
import resource
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from cyclesr_dist.runtime.control_groups import groups

# Of glibc's <malloc.h>.
_M_TRIM_THRESHOLD = -1
_M_MMAP_MAX = -4
_STATUS = Path("/proc/self/status")


def keep_freed() -> bool:
    """Let memory that is freed stay with this process, for its next tensors. Whether the C library can (glibc).

    By default glibc hands every block of over 32 MB back to the system, so that each page of an activation of the
    paper's sizes is fetched and zeroed again, layer by layer. The process keeps its peak from then on.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and mallopt(_M_MMAP_MAX, 0) == 1 and mallopt(_M_TRIM_THRESHOLD, -1) == 1


def give_back() -> None:
    """Hand to the system what is free now, also after `keep_freed`; nothing where the C library cannot."""
    if malloc_trim := getattr(ctypes.CDLL(None), "malloc_trim", None):
        malloc_trim(0)


def peak_growth(work: Callable[[], object]) -> int:
    """Bytes by which the process grew at most while it did `work`, by looking every millisecond."""
    before = _resident()
    most, done = [before], threading.Event()

    def watch() -> None:
        while not done.wait(0.001):
            most.append(max(most.pop(), _resident()))

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        work()
    finally:
        done.set()
        watcher.join()
    return max(most[0], _resident()) - before


def _resident() -> int:
    return int(_lines(Path("/proc/self/statm"))[0].split()[1]) * resource.getpagesize()


def gib(number: int) -> str:
    """`1.5 GB`, of 2^30 bytes; below 0.1 GB in MB."""
    return f"{number / 2**30:.1f} GB" if number >= 2**30 / 10 else f"{number / 2**20:.0f} MB"


class Taken(NamedTuple):
    """Bytes of this process: in memory, of its addresses, and of those for data."""

    resident: int
    addresses: int
    data: int


def taken() -> Taken:
    """Now."""
    return Taken(*((_field(_STATUS, field) or 0) * 1024 for field in ("VmRSS:", "VmSize:", "VmData:")))


def free_on_host(before: Taken | None = None) -> int:
    """Bytes: of the machine, of the limits of the control groups that this process is in, or of its own (`ulimit -v`),
    whichever are the fewest.

    What this process has taken since `before` counts as free, too: for work that uses again what earlier work has left.
    """
    now = taken()
    grown = Taken(*(max(0, here - then) for here, then in zip(now, before or now, strict=True)))
    free = [os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]
    if available := _field(Path("/proc/meminfo"), "MemAvailable:"):
        free = [available * 1024]
    for folder, (limit, used, cached) in _groups():
        most, in_use = (_number(folder / name) for name in (limit, used))
        if most is not None and in_use is not None:
            # What is cached of files counts as used, and goes when memory is wanted.
            free.append(max(0, most - in_use + (_field(folder / "memory.stat", cached) or 0)))
    return max(0, min([min(free) + grown.resident, *_own_limits(now, grown)]))


def _groups() -> Iterator[tuple[Path, tuple[str, str, str]]]:
    """Folders of this process's control groups, and their files' names, of both versions."""
    for controller, names in (
        ("", ("memory.max", "memory.current", "inactive_file")),
        ("memory", ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")),
    ):
        yield from ((folder, names) for folder in groups(controller))


def _own_limits(now: Taken, grown: Taken) -> Iterator[int]:
    for limit, in_use, more in (
        (resource.RLIMIT_AS, now.addresses, grown.addresses),
        (resource.RLIMIT_DATA, now.data, grown.data),
    ):
        most, _ = resource.getrlimit(limit)
        if most != resource.RLIM_INFINITY and in_use:
            yield most - in_use + more


def _field(path: Path, name: str) -> int | None:
    """The number behind `name` in a file of lines."""
    for line in _lines(path):
        if line.startswith((f"{name} ", f"{name}\t")) and line.split()[1].isdecimal():
            return int(line.split()[1])
    return None


def _number(path: Path) -> int | None:
    lines = _lines(path)
    return int(lines[0]) if lines and lines[0].isdecimal() else None


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return []
