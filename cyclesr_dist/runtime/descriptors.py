"""How many files a process may keep open for speed alone."""

from __future__ import annotations

import errno
import resource
from collections.abc import Callable

FULL = (errno.EMFILE, errno.ENFILE)
"""Too many open files, of the process or of the machine."""
_MOST, _PART = 64, 16
_closers: list[Callable[[], None]] = []


def kept_open_by(close: Callable[[], None]) -> None:
    """Say how to close what is kept open for speed, should descriptors run out."""
    _closers.append(close)


def close_kept() -> None:
    """Descriptors have run out: close all that is kept open for speed."""
    for close in _closers:
        close()


def most_kept_open() -> int:
    """For one shard set; a process has a few sets, and needs descriptors for much else: sockets, pipes, memory."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return _MOST if soft == resource.RLIM_INFINITY else max(1, min(_MOST, soft // _PART))
