"""A request to stop is never lost, wherever it meets the main thread."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import weakref

import pytest

from cyclesr_dist.runtime.interrupts import Interrupted, interruptible


class Thing:
    """What can be referred to weakly."""


class Finalised:
    def __del__(self) -> None:
        signal.raise_signal(signal.SIGTERM)


def in_a_callback() -> None:
    thing = Thing()
    reference = weakref.ref(thing, lambda _: signal.raise_signal(signal.SIGTERM))
    del thing
    assert reference() is None


def in_a_finaliser() -> None:
    thing = Finalised()
    del thing


@pytest.mark.parametrize("request_", [in_a_callback, in_a_finaliser])
def test_where_python_drops_exceptions_it_is_raised_a_moment_later(request_) -> None:
    hook, handler = sys.unraisablehook, signal.getsignal(signal.SIGUSR1)

    def work() -> None:
        with interruptible():
            request_()
            threading.Event().wait(60)

    with pytest.raises(Interrupted, match="SIGTERM") as caught:
        work()
    assert caught.value.number == signal.SIGTERM
    assert (sys.unraisablehook, signal.getsignal(signal.SIGUSR1)) == (hook, handler)


def test_work_that_ends_first_is_done_and_no_signal_comes_later() -> None:
    with interruptible():
        in_a_finaliser()
    threading.Event().wait(0.05)  # SIGUSR1 would end the process


ENDING = """
import os, signal, sys
from cyclesr_dist.cli.main import main

class Last:
    def __del__(self, kill=os.kill, this=os.getpid(), number=signal.SIGTERM):
        kill(this, number)

last = Last()  # freed when the interpreter takes modules apart
sys.argv = ["cyclesr", "supervise", "--", "sh", "-c", "exit 2"]
sys.exit(main())
"""


def test_a_signal_while_the_interpreter_ends_does_not_change_the_exit_code() -> None:
    assert subprocess.run([sys.executable, "-c", ENDING], check=False).returncode == 2
