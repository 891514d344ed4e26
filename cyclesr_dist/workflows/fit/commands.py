"""Running the project's own commands as children, each shown as a person would type it."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from cyclesr_dist.distributed.launchers import ALONE
from cyclesr_dist.errors import FailedElsewhere

_PASSED_ON = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def run(arguments: Sequence[str], launcher: Sequence[str] = ()) -> None:
    """Run `cyclesr ARGUMENTS`, beneath `launcher` where there is one, and wait. Signals are passed on to it.

    Raises FailedElsewhere with its exit code when that is not 0: it has said why.
    """
    shown = [*launcher, "-m", "cyclesr_dist.cli.main", *arguments] if launcher else ["cyclesr", *arguments]
    print(f"$ {shlex.join(shown)}", flush=True)
    python = [sys.executable, "-m", "cyclesr_dist.cli.main"]
    words = [*python, *arguments]
    if launcher:  # installed beside the interpreter, which need not be on the path
        words = [*python, "supervise", "--", str(Path(sys.executable).with_name(launcher[0])), *shown[1:]]
    # Threads that wait without spinning: with anything else on the machine, steps take a third of the time.
    environment = {"OMP_WAIT_POLICY": "PASSIVE"} | os.environ | ALONE
    children: list[subprocess.Popen[bytes]] = []
    asked: list[int] = []

    def pass_on(number: int, frame: FrameType | None = None) -> None:
        asked.append(number)
        for child in children:
            if child.poll() is None:
                child.send_signal(signal.SIGTERM if number == signal.SIGHUP else number)

    before = {number: signal.signal(number, pass_on) for number in _PASSED_ON}
    try:
        children.append(subprocess.Popen(words, start_new_session=True, env=environment))
        for number in list(asked):  # those that came before there was anyone to pass them on to
            pass_on(number)
        code = children[0].wait()
    finally:
        for child in children:
            if child.poll() is None:
                child.kill()
        for number, handler in before.items():
            signal.signal(number, handler)
    if code:
        raise FailedElsewhere(f"cyclesr {arguments[0]} ended with exit code {code}", code if code > 0 else 128 - code)
