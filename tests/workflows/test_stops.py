"""Requests to stop, and SIGKILL, to the commands that train in processes of their own."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path

import pytest
from helpers.endless import endless
from helpers.processes import marked, outcome, started, steps_done
from helpers.waiting import until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def begun(process: subprocess.Popen[str], run: Path) -> None:
    until(lambda: steps_done(run) >= 3 or process.poll() is not None, 300)
    assert process.poll() is None, process.communicate()


@pytest.mark.parametrize("name", ["SIGINT", "SIGHUP", "SIGUSR1"])
def test_a_table_saves_the_run_at_hand_and_begins_no_other(name: str, mark, tmp_path: Path) -> None:
    table = endless("table", tmp_path)
    with started(table.words, MARK=mark) as process:
        begun(process, table.run)
        process.send_signal(signal.Signals[name])
        code, stderr = outcome(process)
        until(lambda: not marked(mark))
    assert code == 75, stderr
    assert f"{name}: what is done is kept" in stderr[-1]
    assert len(list((table.run / "checkpoints").iterdir())) == 1


def test_the_run_of_a_table_that_is_killed_saves(mark, tmp_path: Path) -> None:
    table = endless("table", tmp_path)
    with started(table.words, MARK=mark) as process:
        begun(process, table.run)
        process.kill()
        until(lambda: not marked(mark))
    assert "cyclesr table (process" in (table.run / "train.log").read_text()
    assert len(list((table.run / "checkpoints").iterdir())) == 1


@pytest.mark.parametrize("name", ["SIGHUP", "SIGKILL"])
def test_the_run_of_a_demo_saves(name: str, mark, tmp_path: Path) -> None:
    words, _, run = endless("demo", tmp_path)
    with started(words, MARK=mark) as process:
        begun(process, run)
        process.send_signal(signal.Signals[name])
        process.communicate(timeout=300)
        until(lambda: not marked(mark))
    assert process.returncode == (75 if name == "SIGHUP" else -signal.SIGKILL)
    assert len(list((run / "checkpoints").iterdir())) == 1
