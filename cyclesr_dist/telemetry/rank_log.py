"""logs/rank<r>.log of a run folder: what this rank writes to its standard streams, a line each with its time.

The streams get the same as ever. A log that cannot be written costs a warning, no run.
"""

from __future__ import annotations

import os
import sys
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any, cast

from cyclesr_dist.runtime.redact import redact

MOST_BYTES = 2**20
"""Of a log. A full one becomes rank<r>.log.1, in the place of the one before."""


class RankLog:
    """A context manager that puts the streams back in the end. Nothing is written before `begin`."""

    def __init__(self) -> None:
        self.path: Path | None = None
        self._file: IO[bytes] | None = None
        self._lock = threading.RLock()
        self._streams: tuple[Any, Any] = (sys.stdout, sys.stderr)

    def __enter__(self) -> RankLog:
        self._streams = sys.stdout, sys.stderr
        return self

    def __exit__(self, *error: object) -> None:
        sys.stdout, sys.stderr = self._streams
        with self._lock:
            if self._file:
                self._file.close()
            self._file = None

    def begin(self, path: Path, heading: str) -> None:
        """Go on at the end of `path`, below `heading`. Its folder is made."""
        self.path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = path.open("ab", buffering=0)
        except OSError as error:
            self._give_up(error)
            return
        self.note(f"--- {heading}")
        sys.stdout, sys.stderr = (cast("Any", _Told(stream, self)) for stream in self._streams)

    def note(self, line: str) -> None:
        """A line for the log alone. Any thread may call it."""
        with self._lock:
            if self._file is None or self.path is None:
                return
            at = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S")
            try:
                if self._file.tell() > MOST_BYTES:
                    self._file.close()
                    os.replace(self.path, self.path.with_name(f"{self.path.name}.1"))
                    self._file = self.path.open("ab", buffering=0)
                self._file.write(f"{at} {redact(line)}\n".encode("utf-8", "backslashreplace"))
            except OSError as error:
                self._file.close()
                self._file = None
                self._give_up(error)

    def _give_up(self, error: OSError) -> None:
        text = f"cyclesr: warning: {self.path} cannot be written: {error.strerror or error}; this log ends here"
        print(text, file=self._streams[1], flush=True)


class _Told:
    """A stream whose lines the log gets, too."""

    def __init__(self, stream: IO[str], log: RankLog) -> None:
        self.unlogged = stream
        self.log = log
        self._rest = ""

    def write(self, text: str) -> int:
        written = self.unlogged.write(text)
        *lines, self._rest = (self._rest + text).split("\n")
        for line in lines:
            self.log.note(line.rpartition("\r")[2])  # of a bar that is drawn over itself, the last state
        self._rest = self._rest.rpartition("\r")[2]
        return written

    def __getattr__(self, name: str) -> Any:
        return getattr(self.unlogged, name)


def unlogged(stream: IO[str]) -> IO[str]:
    """The stream itself, for a view that is drawn over and over."""
    return cast("IO[str]", getattr(stream, "unlogged", stream))


def note(line: str) -> None:
    """To the log of this rank, where it has one."""
    log = getattr(sys.stderr, "log", None)
    if isinstance(log, RankLog):
        log.note(line)
