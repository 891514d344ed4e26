"""Who started this process, and whether they still live: a process killed with SIGKILL cannot tell those it started.

A process names itself to what it starts in an environment variable, which passes through launchers in between. Ranks
also look at the launchers above them, which may have been started by hand.
"""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import wait
from pathlib import Path

import psutil

from cyclesr_dist.runtime import process_identity
from cyclesr_dist.runtime.process_identity import began, machine

_TICK_SECONDS = 0.5
_VARIABLE = "CYCLESR_STARTED_BY"
_OF_TORCHRUN, _OF_DEEPSPEED = "TORCHELASTIC_RUN_ID", "CROSS_SIZE"
"""Environment variables that the launchers set."""
_LAUNCHERS = ("torchrun", "torch.distributed", "deepspeed")
_watching: list[object] = []
"""The blocks of `watching` that this process is in, the innermost last."""
_PARENT = os.getppid()  # now: by the time that somebody asks, it may be gone and another process in its place


@dataclass(frozen=True)
class Starter:
    """A process that this one does not outlive."""

    name: str
    pid: int
    since: str
    """When it began; empty if it had gone before anyone looked."""

    @property
    def lives(self) -> bool:
        return bool(self.since) and process_identity.lives(self.pid, self.since)


def started_by_this(name: str) -> dict[str, str]:
    """Environment variables for a child of this process, which then ends when this one, called `name`, is gone."""
    return {_VARIABLE: f"{machine()} {os.getpid()} {began(os.getpid())} {name}"}


def is_started_by(pid: int) -> bool:
    """Whether the process with that number has started this one, perhaps by way of a launcher and a supervisor, or is
    this one."""
    with suppress(psutil.Error):
        if pid == os.getpid() or any(process.pid == pid for process in psutil.Process().parents()):
            return True
    return any(starter.pid == pid for starter in _named())  # also where a launcher in between is gone


@contextmanager
def watching(lost: Callable[[str], None]) -> Iterator[None]:
    """While the block runs, call `lost` in another thread with a reason to stop, once, when one of those who started
    this process has ended: the process of ours, and the launchers.

    Of blocks within each other the innermost is told.
    """
    starters = [*_named(), *_launchers()]
    over, block = threading.Event(), object()

    def watch() -> None:
        while not over.wait(_TICK_SECONDS):
            if _watching[-1] is block and (gone := next((s for s in starters if not s.lives), None)):
                lost(f"{gone.name} (process {gone.pid}) is gone")
                return

    thread = threading.Thread(target=watch, name="starters", daemon=True)
    _watching.append(block)
    if starters:
        thread.start()
    try:
        yield
    finally:
        over.set()
        if starters:
            thread.join()
        _watching.remove(block)


def lives(process: psutil.Process) -> bool:
    """Not when it has ended and nobody has waited for it yet."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def end_with_parent() -> None:
    """In a child of multiprocessing: end as soon as the process that asked for it does.

    Its parent in the operating system's eyes may be a fork server, and a loader process notices only when idle.
    """
    parent = multiprocessing.parent_process()
    assert parent is not None, "not a child of multiprocessing"
    threading.Thread(target=_end_after, args=(parent.sentinel,), name="parent", daemon=True).start()


def _end_after(sentinel: int) -> None:
    wait([sentinel])
    os._exit(1)


def _named() -> Iterator[Starter]:
    words = os.environ.get(_VARIABLE, "").split(maxsplit=3)
    if len(words) == 4 and words[0] == machine():  # srun and mpirun carry the variable to other machines
        yield Starter(words[3], int(words[1]), words[2])


def _launchers() -> Iterator[Starter]:
    if _OF_TORCHRUN not in os.environ and _OF_DEEPSPEED not in os.environ:
        return  # the parent may be a shell, which is left while its job goes on
    if not _PARENT:
        return  # outside of the container that this process is in
    yield Starter("the launcher", _PARENT, began(_PARENT))
    with suppress(psutil.Error):
        for process in psutil.Process(_PARENT).parents():  # `deepspeed` starts a launcher for each machine
            program, *words = process.cmdline()[:4] or [""]
            # A shell whose command line names a launcher may leave it in the background.
            if "python" not in Path(program).name or not any(name in word for word in words for name in _LAUNCHERS):
                return
            yield Starter("the launcher", process.pid, began(process.pid))
