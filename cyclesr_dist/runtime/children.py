"""Commands of ours as children, which hear every request to stop and do not outlive this process."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from types import FrameType
from typing import IO

from cyclesr_dist.errors import Preempted
from cyclesr_dist.runtime.lifeline import started_by_this
from cyclesr_dist.runtime.signals import INSISTENT, taking


def run_child(
    words: Sequence[str], name: str, environment: Mapping[str, str] | None = None, output: IO[str] | None = None
) -> int:
    """Run a command of ours and wait for it; requests to stop are passed on to it as SIGTERM. Returns its exit code.

    `name` is this process's, for the child to say who has gone. `environment` is added to this process's;
    `output` takes what the child prints. Raises Preempted when a request came and has ended the child, or it was done.
    """
    children: list[subprocess.Popen[bytes]] = []
    asked: list[int] = []

    def pass_on(number: int, frame: FrameType | None = None) -> None:
        asked.append(number)
        if len(asked) > 1 and number not in INSISTENT:
            return  # the child would take it for one that insists
        for child in children:
            if child.poll() is None:
                child.terminate()

    with taking(pass_on):
        try:
            variables = {**os.environ, **(environment or {}), **started_by_this(name)}
            # A session of its own: what a terminal sends reaches it through here, once.
            child = subprocess.Popen(words, env=variables, stdout=output, stderr=output, start_new_session=True)
            children.append(child)
            if asked:  # before there was anyone to pass it on to
                child.terminate()
            code = child.wait()
        finally:
            for child in children:
                if child.poll() is None:
                    child.kill()
    ended = (-signal.SIGTERM, 128 + signal.SIGTERM)  # it had nothing to save
    if asked and code in (0, Preempted.exit_code, *ended):
        raise Preempted(f"{signal.Signals(asked[0]).name}: what is done is kept; the same command goes on")
    return code
