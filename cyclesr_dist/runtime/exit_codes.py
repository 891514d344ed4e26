"""How a rank leaves, and what it leaves to know for `cyclesr supervise`: its process, its exit code, the first cause.

Launchers do not pass exit codes on (torchrun makes 1 of all, deepspeed may make 0), so every rank writes its own into
the folder that the supervisor named in the environment. Without a supervisor nothing is written.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

FOLDER_VARIABLE = "CYCLESR_SUPERVISOR"
OF_RANKS = ("RANK", "LOCAL_RANK")
"""Environment variables that launchers set for ranks."""
_LAST_SECONDS = 3.0
_rank: int | None = None
_last: list[Callable[[], None]] = []


def started_as(rank: int, num_here: int = 1) -> None:
    """Tell the supervisor, if there is one, which process this rank is, and how many ranks this machine has."""
    global _rank
    _rank = rank
    _write("rank", num_here=num_here)


def cause(text: str) -> None:
    """Leave the first cause of a failure for the supervisor to print last."""
    if _rank is not None:
        _write("cause", cause=text)


def will_leave(code: int) -> None:
    """Note the exit code ahead of leaving: some launchers kill the others as soon as the first rank leaves.

    Also that of a process which a launcher started as a rank, and which leaves before it has said which one it is.
    """
    if _rank is not None:
        _write("exit", code=code)
    elif any(name in os.environ for name in OF_RANKS):
        _write("early", code=code)


def leave(code: int) -> NoReturn:
    """End the process without taking the interpreter apart; see `command.end_process`."""
    sys.stdout.flush()
    sys.stderr.flush()
    leave_now(code)


def leave_now(code: int) -> NoReturn:
    """The same from a thread that finds the training thread stuck: no lock is waited for."""
    will_leave(code)
    calls = [threading.Thread(target=call, daemon=True) for call in _last]
    for call in calls:
        call.start()
    deadline = time.monotonic() + _LAST_SECONDS
    for call in calls:
        call.join(max(0.0, deadline - time.monotonic()))
    os._exit(code)


def at_leaving(call: Callable[[], None]) -> None:
    """Have `call` made when the process is left in the middle of something. It gets three seconds."""
    _last.append(call)


def not_at_leaving(call: Callable[[], None]) -> None:
    """The reverse; nothing happens where it is not waiting."""
    _last[:] = [other for other in _last if other != call]


def _write(kind: str, **more: object) -> None:
    folder = os.environ.get(FOLDER_VARIABLE)
    if not folder:
        return
    record = {"rank": _rank, "pid": os.getpid(), "at": time.monotonic(), **more}
    path = Path(folder) / f"{kind}-{os.getpid()}.json"
    temporary = path.with_suffix(".tmp")
    try:
        temporary.write_text(json.dumps(record))
        os.replace(temporary, path)
    except OSError as error:  # the supervisor is gone; training does not depend on it
        print(f"cyclesr: warning: {path} cannot be written: {error}", file=sys.stderr)
