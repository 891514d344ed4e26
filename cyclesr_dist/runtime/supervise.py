"""Runs a launcher as a child and makes up for what launchers lack, also as a container's first process.

torchrun turns every exit code into 1; `deepspeed` ignores SIGTERM as PID 1, does not pass it on, and exits 0 while
ranks live when its launcher for this machine is killed. So ranks started below a supervisor say which processes they
are and how they left (exit_codes.py), signals go to them directly, and the exit code is made of theirs. No process
outlives the supervisor: when it is killed, the ranks notice and save (lifeline.py), and its guard (guard.py) ends the
rest.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any

import psutil

from cyclesr_dist.errors import InputError, Preempted
from cyclesr_dist.runtime.exit_codes import FOLDER_VARIABLE, OF_RANKS
from cyclesr_dist.runtime.guard import Guard
from cyclesr_dist.runtime.lifeline import lives, started_by_this, watching
from cyclesr_dist.runtime.signals import Insistence, requests
from cyclesr_dist.runtime.streams import outlive_readers

_TICK_SECONDS = 0.1
# For ranks that have not said yet who they are (imports take seconds), and for a launcher whose ranks have left.
_PATIENCE_SECONDS = 15.0
_LAUNCHER_SECONDS = 5.0
_PR_SET_CHILD_SUBREAPER = 36


class Supervisor:
    def __init__(self, command: list[str], grace_seconds: float) -> None:
        self.command = command
        self.grace_seconds = grace_seconds
        self.asked_at: float | None = None
        self.forced = False
        self.launcher_code: int | None = None
        self.launcher_told_at: float | None = None
        self._insistence = Insistence()
        self._processes: dict[int, psutil.Process] = {}
        self._signalled: set[int] = set()
        self._launcher_asked = False
        self._left_behind: set[int] = set()
        """Processes of ranks that had not said who they are when the launcher was gone."""

    def run(self) -> int:
        """Start the command, see it to its end, and return 0, 1, 2 or 75. Raises InputError if it cannot be started."""
        # Orphans of a launcher that was killed become children of this process, which can then wait for them.
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        outlive_readers()
        for number in requests():
            signal.signal(number, self._signalled_here)
        with tempfile.TemporaryDirectory(prefix="cyclesr-supervisor-") as name:
            self.folder = Path(name)
            guard = Guard(self.folder, self.grace_seconds)
            known = {FOLDER_VARIABLE: name} | guard.environment | started_by_this("cyclesr supervise")
            try:
                # A session of its own: Ctrl-C reaches the ranks through here, once.
                launcher = subprocess.Popen(self.command, env=os.environ | known, start_new_session=True)
            except OSError as error:
                raise InputError(f"{self.command[0]} cannot be started: {error.strerror}") from error
            self.launcher = launcher.pid
            try:
                with watching(self._ask):
                    while not self._over():
                        time.sleep(_TICK_SECONDS)
            finally:
                self._end_all()
                launcher.returncode = self.launcher_code or 0  # waited for here: Popen must not do it again
            return self._code()

    def _signalled_here(self, number: int, frame: FrameType | None) -> None:
        self.forced = self._insistence.counts(number) or self.forced
        self._ask(signal.Signals(number).name)

    def _ask(self, reason: str) -> None:
        if self.asked_at is None:
            self.asked_at = time.monotonic()
            _say(f"{reason}: the ranks are asked to save and leave")

    def _over(self) -> bool:
        """One look: pass the request on, and say whether all is done or time is up."""
        self._reap()
        ranks = self._living_ranks()
        if self.launcher_code is not None and not ranks:
            return True
        if self.launcher_code is not None:
            self._ask("the launcher is gone and ranks live")
        if self.asked_at is None:
            return False
        waited = time.monotonic() - self.asked_at
        for pid in ranks - self._signalled:
            self._signalled.add(pid)
            _signal(pid, signal.SIGTERM)
        if self._signalled and not ranks and self.launcher_told_at is None:
            self.launcher_told_at = time.monotonic()
            _signal(self.launcher, signal.SIGTERM)  # torchrun might start the ranks again
        if self.launcher_told_at and time.monotonic() - self.launcher_told_at > _LAUNCHER_SECONDS:
            return True
        if not self._signalled and waited > _PATIENCE_SECONDS and not self._launcher_asked:
            self._launcher_asked = True
            _signal(self.launcher, signal.SIGTERM)  # no training, but it may have something to save
        return self.forced or waited > self.grace_seconds

    def _reap(self) -> None:
        """Wait for every child that has ended, one's own and adopted ones."""
        with suppress(ChildProcessError):
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if pid == 0:
                    return
                if pid == self.launcher:
                    self.launcher_code = os.waitstatus_to_exitcode(status)
                    self._left_behind = set() if self._last_processes() else self._ranks_below()

    def _living_ranks(self) -> set[int]:
        for record in self._records("rank"):
            pid = record["pid"]
            if pid not in self._processes:
                with suppress(psutil.NoSuchProcess):
                    self._processes[pid] = psutil.Process(pid)
        return {pid for pid, process in self._processes.items() if lives(process)}

    def _ranks_below(self) -> set[int]:
        """Living processes that a launcher has started as ranks, whether or not they have said so."""
        found = set()
        for process in psutil.Process().children(recursive=True):
            with suppress(psutil.Error):
                is_rank = any(name in process.environ() and name not in os.environ for name in OF_RANKS)
                if is_rank and self.command[-1] in process.cmdline() and lives(process):
                    found.add(process.pid)
        return found

    def _end_all(self) -> None:
        """Kill what is left below this process."""
        for process in psutil.Process().children(recursive=True):
            with suppress(psutil.NoSuchProcess):
                process.kill()
        deadline = time.monotonic() + 10
        while psutil.Process().children() and time.monotonic() < deadline:
            self._reap()
            time.sleep(_TICK_SECONDS / 10)

    def _code(self) -> int:
        codes = self._exit_codes()
        left = set(codes.values()) or self._early() - {0}
        asked = self.asked_at is not None
        if asked and not codes and not self.forced:
            code = Preempted.exit_code  # nothing had begun
        elif InputError.exit_code in left:
            code = InputError.exit_code
        elif left == {Preempted.exit_code} and not self._one_failed(codes):
            code = Preempted.exit_code  # ranks note it when all have agreed and saved: a launcher cannot undo it
        elif asked and Preempted.exit_code in codes.values():
            code = Preempted.exit_code
        elif left:
            code = 0 if left == {0} else 1
        elif self._left_behind:  # they still import their modules: nothing has begun, whatever the launcher says
            code = 1
        else:  # no rank at all: a launcher's own --help or bad usage, or another program
            code = self.launcher_code if self.launcher_code in (0, InputError.exit_code) else 1
        if code not in (0, Preempted.exit_code):
            self._print_cause(codes)
        return code

    def _one_failed(self, codes: dict[int, int | None]) -> bool:
        """Whether a rank is missing that never said who it is, and the launcher noticed a failure: it asked the others
        to stop."""
        expected = max((record["num_here"] for record in self._records("rank")), default=0)
        missing = len(codes) < expected or (not codes and Preempted.exit_code in self._early())
        return missing and self.launcher_code not in (0, Preempted.exit_code)

    def _early(self) -> set[int]:
        """Exit codes of ranks that left before they said who they are."""
        return {record["code"] for record in self._records("early")}

    def _exit_codes(self) -> dict[int, int | None]:
        """Of each rank's last process; None where it ended without a word."""
        exits = {record["pid"]: record["code"] for record in self._records("exit")}
        return {rank: exits.get(pid) for rank, pid in sorted(self._last_processes().items())}

    def _last_processes(self) -> dict[int, int]:
        """Of each rank: a launcher may have started it again."""
        return {record["rank"]: record["pid"] for record in sorted(self._records("rank"), key=_time)}

    def _print_cause(self, codes: dict[int, int | None]) -> None:
        last = self._last_processes().values()
        causes = sorted((record for record in self._records("cause") if record["pid"] in last), key=_time)
        killed = [rank for rank, code in codes.items() if code is None]
        if killed:
            _say(f"error: rank {', '.join(map(str, killed))} ended without a word, as a killed process does")
        elif self._left_behind:
            _say("error: the launcher was gone before the ranks had begun")
        elif self._one_failed(codes):
            _say("error: a rank ended before it had begun, as a killed process does")
        if causes:
            _say(f"error: {causes[0]['cause']}")

    def _records(self, kind: str) -> list[dict[str, Any]]:
        return [json.loads(path.read_text()) for path in self.folder.glob(f"{kind}-*.json")]


def _time(record: dict[str, Any]) -> float:
    return float(record["at"])


def _signal(pid: int, number: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)


def _say(text: str) -> None:
    print(f"cyclesr: {text}", file=sys.stderr, flush=True)
