"""Standard output and error that take every text, and outlive whoever reads them: a terminal that was closed, a pipe's
other end."""

from __future__ import annotations

import errno
import io
import os
import sys
from typing import Any


class _Lasting(io.FileIO):
    """What nobody can read any more is dropped. Other failures, a full disk for one, are raised."""

    def __init__(self, descriptor: int, lost: tuple[int, ...]) -> None:
        super().__init__(descriptor, "w", closefd=False)
        self.lost = lost

    def write(self, data: Any) -> int:
        try:
            return super().write(data)
        except OSError as error:
            if error.errno not in self.lost:
                error.filename = "standard output" if self.fileno() == 1 else "standard error"
                raise
            return len(memoryview(data).cast("B"))


def take_every_text() -> None:
    """Spell out what a terminal has no letters for (`\\xe9`, `\\udcff`): file names are of any alphabet, or of none.

    A stream that is closed (`>&-`, as some daemons start programs) is opened to nowhere, before a file gets its number.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # which takes the lowest number that is free
    for name, number in (("stdout", 1), ("stderr", 2)):
        if getattr(sys, name) is None:
            setattr(sys, name, io.TextIOWrapper(io.FileIO(number, "w", closefd=False), encoding="utf-8"))
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def outlive_terminal() -> None:
    """Write on when the terminal is gone, so that a stop is in order."""
    _replace(errno.EIO)


def outlive_readers() -> None:
    """The same when a pipe is not read any more: Ctrl-C ends `tee` at once, and what writes to it has to save."""
    _replace(errno.EIO, errno.EPIPE)


def _replace(*lost: int) -> None:
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if not isinstance(stream, io.TextIOWrapper):  # none at all, or somebody's own
            continue
        stream.flush()
        raw = _Lasting(stream.fileno(), lost)
        buffer: Any = raw if stream.write_through else io.BufferedWriter(raw)
        lasting = io.TextIOWrapper(
            buffer,
            encoding=stream.encoding,
            errors=stream.errors,
            line_buffering=stream.line_buffering,
            write_through=stream.write_through,
        )
        setattr(sys, name, lasting)
