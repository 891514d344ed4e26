"""Running the project's own commands as children, each shown as a person would type it."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from cyclesr_dist.distributed.launchers import ALONE
from cyclesr_dist.errors import FailedElsewhere
from cyclesr_dist.runtime.children import run_child


def run(arguments: Sequence[str], launcher: Sequence[str] = ()) -> None:
    """Run `cyclesr ARGUMENTS`, beneath `launcher` where there is one, and wait. Requests to stop are passed on.

    Raises Preempted after a request, FailedElsewhere with its exit code when that is not 0: it has said why.
    """
    shown = [*launcher, "-m", "cyclesr_dist.cli.main", *arguments] if launcher else ["cyclesr", *arguments]
    print(f"$ {shlex.join(shown)}", flush=True)
    python = [sys.executable, "-m", "cyclesr_dist.cli.main"]
    words = [*python, *arguments]
    if launcher:  # installed beside the interpreter, which need not be on the path
        words = [*python, "supervise", "--", str(Path(sys.executable).with_name(launcher[0])), *shown[1:]]
    # Threads that wait without spinning: with anything else on the machine, steps take a third of the time.
    policy = {} if "OMP_WAIT_POLICY" in os.environ else {"OMP_WAIT_POLICY": "PASSIVE"}
    if code := run_child(words, "cyclesr fit", policy | ALONE):
        raise FailedElsewhere(f"cyclesr {arguments[0]} ended with exit code {code}", code if code > 0 else 128 - code)
