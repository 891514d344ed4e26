"""A process beside a supervisor, or a search's own cluster, that ends what is left when that is killed.

It waits at a pipe whose other end the guarded process holds. What belongs to the run is known by a variable in its
environment, so also what has been handed to another parent.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from cyclesr_dist.runtime.lifeline import lives
from cyclesr_dist.runtime.signals import REQUESTS

VARIABLE = "CYCLESR_GUARDED"
"""Environment variable of all that a guard ends: the path of a folder of its own."""
_ORDERLY_SECONDS = 5.0
_TICK_SECONDS = 0.1


class Guard:
    """Of this process. Whatever is started with `environment` ends with it, ranks once they have saved, and `folder` is
    removed."""

    def __init__(self, folder: Path, grace_seconds: float) -> None:
        """`folder` is where ranks say which processes they are, see exit_codes.py; they get `grace_seconds`."""
        self.environment = {VARIABLE: str(folder)}
        words = [sys.executable, "-m", "cyclesr_dist.runtime.guard", str(folder), str(grace_seconds)]
        outside = {name: value for name, value in os.environ.items() if name != VARIABLE}
        quiet = subprocess.DEVNULL
        self.process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=quiet, env=outside, start_new_session=True)

    def close(self) -> None:
        """End what is left at once, and the guard."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


@contextmanager
def guarded_children() -> Iterator[Path]:
    """What is started in the block ends with it, and with this process, however that ends. So does the folder that it
    is given."""
    folder = Path(tempfile.mkdtemp(prefix="cyclesr-guard-"))
    guard = Guard(folder, 0.0)
    before = os.environ.get(VARIABLE)
    os.environ.update(guard.environment)
    try:
        yield folder
    finally:
        del os.environ[VARIABLE]
        if before is not None:
            os.environ[VARIABLE] = before
        guard.close()


def main() -> None:
    for number in REQUESTS:
        signal.signal(number, signal.SIG_IGN)  # it ends by itself, after the one it guards
    folder, grace_seconds = Path(sys.argv[1]), float(sys.argv[2])
    sys.stdin.buffer.read()
    known = _rank_pids(folder)
    ranks = [process for process in _guarded(folder) if process.pid in known]
    _wait(ranks, grace_seconds)  # they have noticed by themselves, see lifeline.py
    left = _guarded(folder)
    for process in left:
        _send(process, signal.SIGTERM)
    _wait(left, _ORDERLY_SECONDS)
    while left := _guarded(folder):  # again: one may have started another meanwhile
        for process in left:
            _send(process, signal.SIGKILL)
        _wait(left, _ORDERLY_SECONDS)
    shutil.rmtree(folder, ignore_errors=True)


def _rank_pids(folder: Path) -> set[int]:
    return {int(json.loads(path.read_text())["pid"]) for path in folder.glob("rank-*.json")}


def _guarded(folder: Path) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(VARIABLE) == str(folder) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except (psutil.Error, OSError):  # somebody else's, or gone
            continue
    return found


def _send(process: psutil.Process, number: int) -> None:
    with suppress(psutil.NoSuchProcess):
        process.send_signal(number)


def _wait(processes: Iterable[psutil.Process], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while any(lives(process) for process in processes) and time.monotonic() < deadline:
        time.sleep(_TICK_SECONDS)


if __name__ == "__main__":
    main()
