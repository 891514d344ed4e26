"""Processes that measure, and what this one and its descendants use."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from cyclesr_dist.errors import CycleSRError


def in_a_process(name: str, measure: Callable[..., dict[str, Any]], *arguments: object) -> dict[str, Any]:
    """What `measure(*arguments)` returns, called in a new process, which does not outlive this call.

    Raises CycleSRError, beginning with `name`, where it fails or the process ends without an answer.
    """
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_answer, args=(measure, arguments, sender))
    process.start()
    sender.close()
    try:
        result: dict[str, Any] | str = receiver.recv()
    except EOFError:
        process.join()
        raise CycleSRError(f"{name}: its process {ended(process.exitcode)}") from None
    finally:
        process.kill()  # it has answered, or nobody waits for an answer any more
        process.join()
        receiver.close()
    if isinstance(result, str):
        raise CycleSRError(f"{name}: {result}")
    return result


def _answer(measure: Callable[..., dict[str, Any]], arguments: tuple[object, ...], sender: Connection) -> None:
    try:
        answer: dict[str, Any] | str = measure(*arguments)
    except (CycleSRError, RuntimeError, MemoryError) as error:
        answer = reason(error)
    sender.send(answer)


def reason(error: Exception) -> str:
    """Why a measurement failed, in one line."""
    if isinstance(error, CycleSRError):
        return str(error)
    return f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no reason given'}"


def ended(code: int | None) -> str:
    """How, in words, as multiprocessing and subprocess give exit codes."""
    if code == -signal.SIGKILL:
        return "was killed (SIGKILL): the system does so where memory runs out; measure something smaller"
    if code is not None and code < 0:
        return f"was ended by {signal.Signals(-code).name}"
    return f"has ended with {code}"


def descendants() -> set[int]:
    """This process and all that it started, directly or not."""
    parents = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit() and (fields := _stat(int(entry))):
            parents[int(entry)] = int(fields[1])
    own, grown = {os.getpid()}, True
    while grown:
        more = {pid for pid, parent in parents.items() if parent in own} - own
        own |= more
        grown = bool(more)
    return own


def cpu_seconds() -> float:
    """Processor time of this process and its living descendants so far."""
    ticks = sum(int(fields[11]) + int(fields[12]) for pid in descendants() if (fields := _stat(pid)))
    return ticks / os.sysconf("SC_CLK_TCK")


def memory_mb() -> float:
    """Proportional set size of this process and its descendants: shared pages count once."""
    total = 0
    for pid in descendants():
        try:
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        except OSError:  # it has just ended
            continue
        total += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return total / 1024


def resident_mb(key: str) -> float:
    """Of this process: `VmRSS`, resident now, or `VmHWM`, at most so far."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(key)) / 1024


def _stat(pid: int) -> list[str]:
    """Fields of /proc/pid/stat from the state on; empty if the process has ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except OSError:
        return []
