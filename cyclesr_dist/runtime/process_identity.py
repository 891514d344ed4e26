"""Which process a number means, and whether it still lives: numbers are used again, and mean something in one place."""

from __future__ import annotations

import os
from pathlib import Path


def machine() -> str:
    """This boot of this machine, and the container in it: where process numbers can be compared. No blanks in it; empty
    where it is not known."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot}/{os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""


def began(pid: int) -> str:
    """When a process began, in ticks since the machine did; empty when there is none, or it has ended and nobody has
    waited for it yet. Not psutil's time: it changes when the clock is set."""
    found = _stat(pid)
    return found[19] if found and found[0] not in "ZX" else ""


def lives(pid: int, since: str) -> bool:
    """Whether the process that `began` then has not ended."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # another user's, whose entry below /proc may be hidden
        return not _stat(pid) or began(pid) == since
    return began(pid) == since


def _stat(pid: int) -> list[str]:
    """What /proc/<pid>/stat says, from the state on; empty where there is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except OSError:
        return []
