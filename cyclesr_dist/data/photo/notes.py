"""What readers of photographs tell people, on standard error."""

from __future__ import annotations

import sys

_MOST = 1000
told: set[str] = set()
"""Lines that this process has printed."""


def remark(where: str, text: str) -> None:
    """A warning about a file, unless this process has printed the same; of a thousand, no more."""
    if len(told) < _MOST:
        _tell(f"cyclesr: warning: {where}: {text}")


def say_once(text: str) -> None:
    """What is so with many files, and is said once."""
    _tell(f"cyclesr: note: {text}")


def _tell(line: str) -> None:
    if line not in told:
        told.add(line)
        print(line, file=sys.stderr, flush=True)
