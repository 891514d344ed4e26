"""Waiting for what happens elsewhere. Nothing else in the tests sleeps."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def until(happened: Callable[[], T], seconds: float = 300.0) -> T:
    """Ask again and again, and return the first answer that is true. Fails after `seconds` without one."""
    deadline = time.monotonic() + seconds
    while not (answer := happened()):
        assert time.monotonic() < deadline, f"it has not happened in {seconds:.0f} s"
        time.sleep(0.05)
    return answer


def stays(true: Callable[[], object], seconds: float) -> None:
    """Fails as soon as `true` is not, within `seconds`: for what must not happen, of which there is no event."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        assert true()
        time.sleep(0.05)
