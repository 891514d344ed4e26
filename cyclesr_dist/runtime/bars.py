"""Progress of commands that go through a list: a bar on a terminal, in a log file a line in so many seconds."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator, Sized
from typing import TypeVar

from tqdm import tqdm

T = TypeVar("T")
LINE_SECONDS = 20.0


class Bar:
    """Counts up to `total`; a context manager. With `show` off it is silent."""

    def __init__(self, total: int | None, label: str, unit: str, show: bool = True) -> None:
        self.total, self.label, self.unit, self.done = total, label, unit, 0
        on_terminal = show and sys.stderr.isatty()
        self.bar = tqdm(total=total, desc=label, unit=unit, file=sys.stderr) if on_terminal else None
        self.lines = show and not on_terminal
        self.began = self.said = time.monotonic()

    def update(self, count: int = 1) -> None:
        self.done += count
        if self.bar is not None:
            self.bar.update(count)
        elif self.lines and time.monotonic() - self.said > LINE_SECONDS:
            self.said = time.monotonic()
            print(self._line(), file=sys.stderr, flush=True)

    def _line(self) -> str:
        many = self.unit + ("es" if self.unit.endswith("ch") else "s")
        if not self.total:
            return f"{self.label}: {self.done} {many}"
        left = (self.said - self.began) / self.done * (self.total - self.done)
        return f"{self.label}: {self.done} of {self.total} {many}, about {clock(left)} left"

    def close(self) -> None:
        if self.bar is not None:
            self.bar.close()

    def __enter__(self) -> Bar:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def each(
    items: Iterable[T], label: str, unit: str = "item", show: bool = True, total: int | None = None
) -> Iterator[T]:
    """The same items, counted."""
    if total is None and isinstance(items, Sized):
        total = len(items)
    with Bar(total, label, unit, show) as bar:
        for item in items:
            yield item
            bar.update()


def clock(seconds: float) -> str:
    """h:mm:ss, or m:ss."""
    whole = max(0, round(seconds))
    hours, minutes, rest = whole // 3600, whole % 3600 // 60, whole % 60
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
