"""One rank of a trial: `launch/train.py`'s code in a process of its own, in a folder of its own.

A process, since a training ends by leaving it (`command.end_process`), and DeepSpeed cannot be begun twice in one.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import psutil

from cyclesr_dist.runtime.lifeline import started_by_this

_PREFIX = "cyclesr-trial-"
_PR_SET_PDEATHSIG = 1
_LOG_TAIL_BYTES = 8192


class Rank:
    """Starts and watches one process. Used directly for rank 0 of a trial, as a Ray actor for the others."""

    def __init__(self) -> None:
        sweep()
        self.folder = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-"))
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def run_dir(self) -> Path:
        return self.folder / "run"

    @property
    def log(self) -> Path:
        return self.folder / "train.log"

    def start(self, config: str, overrides: list[str], environment: dict[str, str]) -> None:
        """Train with the configuration file's text `config`, resuming what `run_dir` holds: also another trial's state,
        or the shared steps, with values of its own."""
        path = self.folder / "config.yaml"
        path.write_text(config, encoding="utf-8")
        command = [sys.executable, "-m", "cyclesr_dist.training", "--config", str(path), "--run-dir", str(self.run_dir)]
        command += ["--resume-with-changes", "--quiet", *overrides]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.folder,
                env=os.environ | environment | started_by_this("the trial"),
                preexec_fn=_die_with_parent,
            )

    def exit_code(self) -> int | None:
        """None while it runs; negative: the signal that ended it."""
        assert self.process is not None, "start comes first"
        return self.process.poll()

    def last_words(self) -> str:
        """The last line that it wrote, where errors stand."""
        if not self.log.is_file():
            return ""
        with self.log.open("rb") as log:
            log.seek(max(0, log.seek(0, os.SEEK_END) - _LOG_TAIL_BYTES))
            lines = log.read().decode("utf-8", "replace").strip().splitlines()
        return lines[-1].strip() if lines else ""

    def end(self, patience_seconds: float = 0.0) -> None:
        """Kill the process, after so long, and remove the folder."""
        if self.process is not None:
            try:
                self.process.wait(patience_seconds)
            except subprocess.TimeoutExpired:
                for child in psutil.Process(self.process.pid).children(recursive=True):  # loader processes
                    child.kill()
                self.process.kill()
                self.process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)


def _die_with_parent() -> None:
    """In the child: Ray ends its workers with SIGKILL, and nobody would end the training they began."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def sweep() -> None:
    """Remove the folders of processes of this machine that are no more."""
    for folder in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*-*"):
        owner = folder.name.removeprefix(_PREFIX).split("-")[0]
        if owner.isdecimal() and not psutil.pid_exists(int(owner)):
            shutil.rmtree(folder, ignore_errors=True)


def meeting_place() -> tuple[str, int]:
    """Address and a free port of this machine, for rank 0 to be met at."""
    import ray

    host = ray.util.get_node_ip_address()
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as s:
        s.bind((host, 0))
        return host, s.getsockname()[1]
