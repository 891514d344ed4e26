"""Two photographs at a time: while one is enlarged, the other is read, or written."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import TypeVar

from cyclesr_dist.models.strip_memory import Room

T = TypeVar("T")
R = TypeVar("R")
IN_FLIGHT = 2
"""A third gained little on two cores, and each takes the memory of a photograph."""
_AHEAD = 1000
"""Begun, waiting or done before their turn: beside one huge photograph the other thread may enlarge many small ones."""


class Stopped(Exception):
    """This photograph is no longer wanted."""


class InFlight:
    """Threads for photographs; a context manager. Leaving it gives up those that nobody has taken yet."""

    def __init__(self, alone: bool = False) -> None:
        """`alone`: no threads, one photograph after the other."""
        self.room = Room()
        self._stop = threading.Event()
        self._pool = None if alone else ThreadPoolExecutor(IN_FLIGHT, "photo")

    def go_on(self) -> None:
        """To be called between two tiles. Raises Stopped when the result is no longer wanted."""
        if self._stop.is_set():
            raise Stopped

    def each(self, items: Sequence[T], work: Callable[[T], R]) -> Iterator[tuple[T, Callable[[], R]]]:
        """The items in their order, each with a call that gives what `work` made of it, or raises what it raised."""
        if self._pool is None:
            for item in items:
                yield item, lambda item=item: work(item)  # type: ignore[misc]  # the item of now, not the last one
            return
        begun: deque[tuple[T, Future[R]]] = deque()
        for item in items:
            begun.append((item, self._pool.submit(work, item)))
            if len(begun) == _AHEAD:
                first, future = begun.popleft()
                yield first, future.result
        for item, future in begun:
            yield item, future.result

    def __enter__(self) -> InFlight:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stop.set()
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)  # waits for those between two tiles, which then remove their files
