"""How many files a process may keep open for speed alone."""

from __future__ import annotations

import resource

_MOST, _PART = 64, 16


def most_kept_open() -> int:
    """For one shard set; a process has a few sets, and needs descriptors for much else: sockets, pipes, memory."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return _MOST if soft == resource.RLIM_INFINITY else max(1, min(_MOST, soft // _PART))
