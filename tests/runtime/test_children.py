"""Requests to stop to commands other than a training, and to what they have started."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from helpers.processes import all_marked, marked, outcome, started
from helpers.waiting import stays, until

from cyclesr_dist.runtime.signals import REQUESTS, Insistence

TESTS = Path(__file__).parents[1]
NAMES = [number.name for number in REQUESTS]


@contextmanager
def command(folder: Path, role: str, mark: str) -> Iterator[subprocess.Popen[str]]:
    paths = os.pathsep.join([str(TESTS), *filter(None, [os.environ.get("PYTHONPATH")])])
    words = [sys.executable, "-m", "helpers.commands", str(folder), role]
    with started(words, MARK=mark, PYTHONPATH=paths) as process:
        until(lambda: (folder / ("child" if role == "parent" else role)).exists())
        yield process


@pytest.mark.parametrize("name", NAMES)
def test_a_command_that_goes_on_ends_its_child_and_says_so(name: str, tmp_path: Path) -> None:
    with all_marked() as mark, command(tmp_path, "parent", mark) as process:
        process.send_signal(signal.Signals[name])
        code, stderr = outcome(process)
        until(lambda: not marked(mark))
    assert code == 75
    assert stderr[-1] == f"cyclesr: stopped: {name}: what is done is kept; the same command goes on"


@pytest.mark.parametrize("name", NAMES)
def test_any_other_command_ends_as_a_shell_has_it(name: str, tmp_path: Path) -> None:
    number = signal.Signals[name]
    with all_marked() as mark, command(tmp_path, "child", mark) as process:
        process.send_signal(number)
        code, stderr = outcome(process)
    assert code == 128 + number
    assert stderr == [f"cyclesr: interrupted: {name}"]


def test_a_child_ends_with_a_parent_that_is_killed(tmp_path: Path) -> None:
    with all_marked() as mark, command(tmp_path, "parent", mark) as process:
        process.kill()
        _, stderr = process.communicate(timeout=180)  # to the end of the child, which writes there
        until(lambda: not marked(mark))
    assert f"cyclesr: interrupted: the parent (process {process.pid}) is gone" in stderr


def test_a_request_waits_for_what_must_not_be_broken_off(tmp_path: Path) -> None:
    with all_marked() as mark, command(tmp_path, "held", mark) as process:
        process.send_signal(signal.SIGTERM)
        until(lambda: not pending(process.pid, signal.SIGTERM))
        assert process.poll() is None
        (tmp_path / "go-on").touch()
        code, _ = outcome(process)
    assert code == 128 + signal.SIGTERM
    assert (tmp_path / "done").exists()


def pending(pid: int, number: int) -> bool:
    """Whether the kernel still holds a signal that was sent."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    waiting = next(line.split()[1] for line in lines if line.startswith("ShdPnd"))
    return bool(int(waiting, 16) >> (number - 1) & 1)


def test_which_signals_insist(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    insistence = Insistence()
    assert not insistence.counts(signal.SIGUSR1)
    now[0] += 120
    assert not insistence.counts(signal.SIGTERM)  # the end that was announced
    now[0] += 1
    assert not insistence.counts(signal.SIGINT)  # the same request on another way
    now[0] += 60
    assert not insistence.counts(signal.SIGHUP)
    assert insistence.counts(signal.SIGTERM)


def test_a_starter_on_another_machine_is_not_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """srun carries the environment to hosts where the process number means nothing."""
    monkeypatch.setenv("CYCLESR_STARTED_BY", f"elsewhere/pid:[1] {2**22 + 1} 5 cyclesr supervise")
    with all_marked() as mark, command(tmp_path, "child", mark) as process:
        stays(lambda: process.poll() is None, 3)
