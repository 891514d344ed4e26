"""A process that asks for /metrics as a Prometheus does. It imports no torch, so that it starts at once."""

from __future__ import annotations

import multiprocessing
import socket
import time
import urllib.request
from multiprocessing.synchronize import Event
from typing import Any

from cyclesr_dist.errors import CycleSRError


class Scraper:
    """Asks port `port` of this machine, which nobody else listens on, every so many seconds while `on` is set.

    A context manager. What fails to answer is an error of the process alone: `count` then stays.
    """

    def __init__(self, every_seconds: float) -> None:
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            self.port: int = s.getsockname()[1]
        context = multiprocessing.get_context("spawn")
        self.on: Event = context.Event()
        self._ready, self._count = context.Event(), context.Value("q", 0)
        arguments = (self.port, every_seconds, self._ready, self.on, self._count)
        self._process = context.Process(target=_scrape, args=arguments, daemon=True)

    @property
    def count(self) -> int:
        """Answers so far."""
        return int(self._count.value)

    def __enter__(self) -> Scraper:
        self._process.start()
        while not self._ready.wait(0.2):
            if not self._process.is_alive():
                raise CycleSRError("the process that asks for metrics has ended before it began")
        return self

    def __exit__(self, *error: object) -> None:
        self._process.kill()
        self._process.join()


def _scrape(port: int, every_seconds: float, ready: Event, on: Event, count: Any) -> None:
    due = 0.0
    ready.set()
    while on.wait():
        if (left := due - time.monotonic()) > 0:
            time.sleep(min(left, 0.05))
            continue
        due = time.monotonic() + every_seconds
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
            answer.read()
        count.value += 1
