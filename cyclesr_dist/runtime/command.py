"""From exceptions to exit codes, in one place for every command and launcher script."""

from __future__ import annotations

import argparse
import atexit
import multiprocessing
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from typing import NoReturn

from cyclesr_dist.errors import ConfigError, CycleSRError, FailedElsewhere, Preempted
from cyclesr_dist.runtime.exit_codes import leave, will_leave
from cyclesr_dist.runtime.interrupts import Interrupted, interruptible, process_ends_with_block
from cyclesr_dist.runtime.redact import redact
from cyclesr_dist.runtime.signals import requests
from cyclesr_dist.runtime.streams import outlive_readers, outlive_terminal, take_every_text
from cyclesr_dist.runtime.torchrun import tell_torchrun


class Parser(argparse.ArgumentParser):
    """Shows no credentials of the arguments that it refuses."""

    def error(self, message: str) -> NoReturn:
        super().error(redact(message))


class RankParser(Parser):
    """For what launchers start: torchrun's last lines then say what is wrong with the arguments."""

    def error(self, message: str) -> NoReturn:
        tell_torchrun(message)
        super().error(message)


def add_common_arguments(parser: argparse.ArgumentParser) -> None:
    """The switches that every command has."""
    parser.add_argument("--debug", action="store_true", help="show tracebacks")
    parser.add_argument("--quiet", action="store_true", help="no progress display; warnings and errors are shown")


def checked_overrides(texts: Sequence[str]) -> Sequence[str]:
    """The same. Raises ConfigError for an argument that is no `key.sub=value`."""
    for text in texts:
        if "=" not in text:
            raise ConfigError(f"argument {text!r} is no override; expected key.sub=value")
    return texts


def guarded(run: Callable[[], int | None], debug: bool, *, goes_on: bool = False) -> int:
    """Call `run`; print an expected failure as one line on stderr and return its exit code.

    An unexpected exception is a bug: its traceback is shown, without credentials, and the code is 1. A request to stop
    (runtime/signals.py) gives 75 if the same command, given again, `goes_on` where this one was; else 128 and the
    signal's number. A fault of the system's (OSError) is one line, too, and 1.
    """
    try:
        with interruptible():
            code = run() or 0
            sys.stdout.flush()
            return code
    except FailedElsewhere as error:
        will_leave(error.exit_code)
        time.sleep(1)  # launchers end all ranks when the first one leaves: let the main rank's line out before
        return error.exit_code
    except CycleSRError as error:
        if debug:
            show_traceback()
        kind = "stopped" if isinstance(error, Preempted) else "error"
        if error.began_here:
            tell_torchrun(str(error), kind)
        print(f"cyclesr: {kind}: {error}", file=sys.stderr, flush=True)
        return error.exit_code
    except BrokenPipeError:  # nobody reads any more, as in `cyclesr config keys | head`
        _drop_output()
        return 128 + signal.SIGPIPE
    except KeyboardInterrupt as interrupt:
        number, reason = signal.SIGINT, "SIGINT"
        if isinstance(interrupt, Interrupted):
            number, reason = signal.Signals(interrupt.number), str(interrupt)
        if goes_on:
            print(
                f"cyclesr: stopped: {reason}: what is done is kept; the same command goes on",
                file=sys.stderr,
                flush=True,
            )
            return Preempted.exit_code
        print(f"cyclesr: interrupted: {reason}", file=sys.stderr, flush=True)
        return 128 + number
    except OSError as error:
        if debug:
            show_traceback()
        line = _fault(error)
        tell_torchrun(line)
        print(f"cyclesr: error: {line}", file=sys.stderr, flush=True)
        return 1
    except Exception as error:
        return _bug(error)


def _fault(error: OSError) -> str:
    """One line for a fault of the system's that nobody expected there: which file, and the reason."""
    try:
        sys.stdout.flush()
    except OSError:  # it is the output itself that cannot be written, nor could it at the end of the process
        _drop_output()
    names = [str(name) for name in (error.filename, error.filename2) if name is not None]
    return redact(": ".join([" to ".join(names), error.strerror or str(error)] if names else [str(error)]))


def _drop_output() -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def show_traceback() -> None:
    """Of the exception that is being handled, on stderr, without credentials."""
    print(redact(traceback.format_exc()), end="", file=sys.stderr, flush=True)


def _bug(error: BaseException) -> int:
    """Show what is nobody's fault but ours. Returns the exit code."""
    show_traceback()
    tell_torchrun("".join(traceback.format_exception_only(error)).splitlines()[0])
    return 1


def own_process() -> None:
    """Say that this process does nothing but one command, which then ends in order also without its terminal."""
    take_every_text()
    outlive_terminal()
    process_ends_with_block()
    atexit.register(_deaf)


def _deaf() -> None:
    """The exit code is settled: a signal that comes while the interpreter ends, which gives signals their usual effect
    back, must not take its place."""
    for number in requests():
        signal.signal(number, signal.SIG_IGN)


def end_process(main: Callable[[], int]) -> NoReturn:
    """Call `main` and end the process with its exit code, without taking the interpreter apart.

    For processes that used torch.distributed. Its Gloo threads live on after destroy_process_group and may still hold a
    finished collective's tensors; one that is about to release them while the interpreter finalises ends in abort(),
    and a training that had succeeded would exit with SIGABRT (pytorch #179291). atexit handlers do run.
    """
    take_every_text()
    outlive_readers()
    process_ends_with_block()
    try:
        code = main()
    except SystemExit as leaving:  # argparse's own
        code = leaving.code if isinstance(leaving.code, int) else 1
    except BaseException as error:  # nothing may escape to the finalising interpreter
        code = _bug(error)
    for child in multiprocessing.active_children():
        if child.daemon:  # the exit handlers would ask loader processes to end, and wait, which these do not heed
            child.kill()
    atexit._run_exitfuncs()
    leave(code)
