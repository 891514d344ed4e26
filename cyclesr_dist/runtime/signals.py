"""Which signals ask a process to end, and when a second one insists on it."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

REQUESTS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2)
"""All mean the same. SIGUSR1 and SIGUSR2 are what Slurm and other schedulers send ahead of the end."""
_OF_TERMINALS = (signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)
# A warning ahead of time is followed by SIGTERM, and a closed terminal often is: that is no second request.
INSISTENT = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)
# Ctrl-C in a terminal reaches the rank and its launcher, and the launcher passes it on at once: one request, not two.
_SAME_REQUEST_SECONDS = 3.0


def requests() -> tuple[signal.Signals, ...]:
    """Those of REQUESTS to take here.

    Not those of a terminal that this process was started to ignore: `nohup` and a shell's background jobs mean it.
    """
    return tuple(n for n in REQUESTS if n not in _OF_TERMINALS or signal.getsignal(n) is not signal.SIG_IGN)


@contextmanager
def taking(handler: signal._HANDLER, numbers: Iterable[int] | None = None) -> Iterator[None]:
    """Have `handler` called for `numbers`, or all `requests`, while the block runs. Nothing changes in another thread
    than the main one, which alone can take signals."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, handler) for number in (requests() if numbers is None else numbers)}
    try:
        yield
    finally:
        for number, earlier in before.items():
            signal.signal(number, earlier)


@contextmanager
def deaf_children() -> Iterator[None]:
    """What the calling thread starts in the block never gets a request, nor what that starts in turn.

    For helpers of this process that do not ask for it: schedulers send a signal to every process of a job, and a fork
    server that it ends takes its children for dead.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, REQUESTS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class Insistence:
    """Tells a second request from the first one that came in several ways."""

    def __init__(self) -> None:
        self._since: float | None = None

    def counts(self, number: int) -> bool:
        """Whether this signal, just received, insists on an earlier one."""
        if number not in INSISTENT:
            return False
        now = time.monotonic()
        if self._since is None:
            self._since = now
        return now - self._since > _SAME_REQUEST_SECONDS
