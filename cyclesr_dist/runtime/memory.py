"""What the C library does with the memory that tensors leave."""

from __future__ import annotations

import ctypes

# Of glibc's <malloc.h>.
_M_TRIM_THRESHOLD = -1
_M_MMAP_MAX = -4


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
