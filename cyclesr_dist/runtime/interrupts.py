"""Requests to stop, for commands other than a training: an exception in the main thread, as Ctrl-C is."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from cyclesr_dist.runtime.lifeline import watching
from cyclesr_dist.runtime.signals import Insistence, requests


class Interrupted(KeyboardInterrupt):
    """`number` is the signal, `str()` the reason in words."""

    def __init__(self, number: int, reason: str) -> None:
        super().__init__(reason)
        self.number = number


class _State:
    """Of the process."""

    held = 0
    noted: Interrupted | None = None
    ends = False
    """With the block of `interruptible`."""
    gone = ""
    """Which process that started this one has ended."""


def process_ends_with_block() -> None:
    """Say that the process does nothing behind `interruptible`: a second request must not break off its last lines."""
    _State.ends = True


@contextmanager
def interruptible() -> Iterator[None]:
    """While the block runs, the first request to stop raises Interrupted in it, also that whoever started this process
    has ended. One that insists, seconds later, ends the process. In another thread than the main one nothing changes.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    insistence = Insistence()
    over = False
    swallowed: list[Interrupted] = []
    reminders: list[threading.Thread] = []

    def taken(number: int, frame: FrameType | None) -> None:
        nonlocal over
        if swallowed:
            interrupted = swallowed.pop()
        elif insistence.counts(number):
            os._exit(128 + number)
        elif over:
            return
        else:
            interrupted = Interrupted(number, _State.gone or signal.Signals(number).name)
        over = True
        if _State.held:
            _State.noted = interrupted
            return
        raise interrupted

    def ignored(fault: sys.UnraisableHookArgs) -> None:
        # Python drops what is raised in a finaliser or the callback of a weak reference; a signal can come there, too.
        if not isinstance(fault.exc_value, Interrupted):
            hook_before(fault)
            return
        swallowed.append(fault.exc_value)
        reminders.append(threading.Timer(0.01, _remind))
        reminders[-1].start()

    hook_before, sys.unraisablehook = sys.unraisablehook, ignored
    before = {number: signal.signal(number, taken) for number in requests()}
    try:
        with watching(_lost):
            yield
    finally:
        over = True
        swallowed.clear()
        for reminder in reminders:
            reminder.join()  # whose signal nobody would take later
        sys.unraisablehook = hook_before
        for number, handler in before.items() if not _State.ends else ():
            signal.signal(number, handler)


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Put a request off to the end of the block, where what is done and what is known of it agree."""
    _State.held += 1
    try:
        yield
    finally:
        _State.held -= 1
        if not _State.held and (noted := _State.noted):
            _State.noted = None
            raise noted


def _remind() -> None:
    # No signal that insists on an earlier one.
    signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR1)


def _lost(reason: str) -> None:
    _State.gone = reason
    # To the main thread, whatever it waits for.
    signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGTERM)
