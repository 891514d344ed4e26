"""Requests to stop: a signal to this process, the end of whoever started it, or word from another rank of either.

The signal is taken by a thread, since the training thread may be waiting in a collective for ranks that have not heard
of it. What follows is up to the loop: all ranks agree on a step, save, and leave with exit code 75.
"""

from __future__ import annotations

import signal
import socket
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from cyclesr_dist.errors import Preempted
from cyclesr_dist.runtime.exit_codes import leave_now
from cyclesr_dist.runtime.lifeline import watching
from cyclesr_dist.runtime.signals import Insistence, requests

T = TypeVar("T")


class StopRequest:
    """Whether, since when and why to stop. Any thread may read and set it."""

    def __init__(self) -> None:
        self.reason = ""
        self.grace_seconds = 25.0
        """Time from the request to the forced end; the configuration sets it as soon as it is read."""
        self.training = False
        """Whether there is something to save. Before that a request ends the process at once."""
        self._since: float | None = None
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._grace = threading.Thread(target=self._enforce, name="grace", daemon=True)

    @property
    def requested(self) -> bool:
        return self._since is not None

    def request(self, reason: str) -> None:
        """Ask to stop; the first reason stays."""
        with self._lock:
            if not self.training:
                print(f"cyclesr: stopped: {reason}: training had not begun", file=sys.stderr, flush=True)
                leave_now(Preempted.exit_code)
            if self._since is None:
                self.reason, self._since = reason, time.monotonic()
                self._grace.start()

    def until(self, items: Iterable[T]) -> Iterator[T]:
        """The items, up to the moment of a request."""
        for item in items:
            if self.requested:
                return
            yield item

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Take the signals while the block runs; the main thread calls it."""
        reader, writer = socket.socketpair()
        writer.setblocking(False)
        before = {number: signal.signal(number, lambda *_: None) for number in requests()}
        wakeup = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
        listener = threading.Thread(target=self._listen, args=(reader, tuple(before)), name="signals", daemon=True)
        listener.start()
        try:
            with watching(self.request):
                yield
        finally:
            self._over.set()
            signal.set_wakeup_fd(wakeup)
            for number, handler in before.items():
                signal.signal(number, handler)
            writer.close()
            listener.join()
            reader.close()
            if self._grace.ident is not None:  # begun: it would end this process later
                self._grace.join()

    def _listen(self, reader: socket.socket, taken: tuple[int, ...]) -> None:
        insistence = Insistence()
        while received := reader.recv(1):
            if received[0] not in taken:
                continue
            name = signal.Signals(received[0]).name
            if insistence.counts(received[0]):
                print(f"cyclesr: a second {name}: leaving without saving", file=sys.stderr, flush=True)
                leave_now(1)
            self.request(name)

    def _enforce(self) -> None:
        assert self._since is not None
        while (left := self._since + self.grace_seconds - time.monotonic()) > 0:
            if self._over.wait(left):  # the rank leaves by itself
                return
        print(
            f"cyclesr: error: {self.reason}: could not save in the {self.grace_seconds:g} s of train.grace_seconds; "
            "earlier checkpoints are intact",
            file=sys.stderr,
            flush=True,
        )
        leave_now(1)
